//! What the supervisor tells about itself: metrics, their exposition formats, the log.
//!
//! ```text
//! hot path ── ServerMetrics, Metrics (atomic adds only) ──┐
//! scrape ──── hooks (set gauges from the owners' state) ──┴── gather ── exposition ── HTTP
//! ```
//!
//! Invariants:
//! - every label set is closed: `server` holds configured names only, every other label is an enum
//!   of [`labels`]; nothing a client or a worker sends becomes a label value;
//! - recording never blocks and never fails: handles are looked up once and kept;
//! - a series appears when the thing it counts exists, so there are no constant zeros for features
//!   that a host does not use.
//!
//! Deliberately not here: a tenant label (its values are not bounded), and the HTTP side, which is the admin listener's. Spans of single
//! requests leave by `otlp`, made of what is kept of each request anyway.

pub mod audit;
mod exemplars;
pub mod exposition;
mod failures;
mod held;
pub mod labels;
mod log_fields;
mod log_filter;
mod log_line;
mod logging;
mod metrics;
mod otlp;
mod process;
mod recent_requests;
mod registration;
mod request_progress;
mod request_span;
mod server;
mod server_families;
mod stderr;
mod totals;
mod trace;
mod trace_part;
mod warnings;

pub use exemplars::Exemplars;
pub use failures::request_failed;
pub use log_filter::{
    FilterError, FilterInForce, log_filter, set_log_filter, take_log_filter_back,
};
pub use log_line::LogFormat;
pub use logging::{
    LOG_FILTER_ENV, LoggingError, init as init_logging, init_quietly as init_logging_quietly,
};
pub use metrics::Metrics;
pub use otlp::{
    Exporter, ExporterError, Settings as ExportSettings, exported as exported_traces,
    exports_spans, join_trace, request_over, start as export_spans,
};
pub use recent_requests::{NOTABLE, RECENT, RequestTrace, SLOW, remember, request, requests};
pub use request_progress::{Passed, Progress};
pub use request_span::{RequestSpan, in_request, of_request, while_in_request};
pub use server::ServerMetrics;
pub use stderr::{flush_stderr, log_lines_dropped, say_on_stderr};
pub use totals::Totals;
pub use trace::{TraceLine, TraceRecorder};
pub use trace_part::{CallError, Carrier, MAX_FACT, TracePart, Waking};
pub use warnings::Warnings;

//! Spans of requests, sent to a collector by OTLP over HTTP.
//!
//! ```text
//!  request ── join_trace ──▶ TracePart: sampled? ── its way: Progress ──▶ over ── a bounded queue ──▶ exporter task
//!                                                                                     │ full: counted        │
//!                                                                                     ▼                      ▼
//!                                                                                  dropped          spans ── POST /v1/traces
//! ```
//!
//! Invariants: without a collector there is no task, and a request without a context of its own has nothing made for it; no request waits
//! for the exporter, whatever the collector does; spans are made of what is kept of each request anyway, once it is over, in the
//! exporter's task, and of sampled requests alone.
//!
//! Deliberately not here: metrics and logs by OTLP, which collectors scrape and read themselves; gRPC.

mod exporter;
mod sampling;
mod settings;
mod spans;

use std::sync::{Arc, OnceLock};

use tokio::sync::mpsc;

use self::exporter::{Counts, MAX_QUEUED};
pub use self::exporter::{Exporter, ExporterError};
use self::sampling::Sampler;
pub use self::settings::Settings;
use super::request_span::RequestSpan;
use super::trace_part::{Carrier, TracePart};
use crate::protocol::TraceContext;

/// The exporter of this process, if there is one.
static EXPORT: OnceLock<Export> = OnceLock::new();

struct Export {
    sampler: Sampler,
    queue: mpsc::Sender<Arc<RequestSpan>>,
    counts: Arc<Counts>,
}

/// Begins to export spans; once in a process.
///
/// # Errors
/// [`ExporterError`] when nothing can be sent to that address, or spans are exported already.
pub fn start(settings: Settings) -> Result<Exporter, ExporterError> {
    let sampler = Sampler::new(settings.sample_ratio);
    let (queue, waiting) = mpsc::channel(MAX_QUEUED);
    let counts = Arc::new(Counts::default());
    let exporter = Exporter::start(settings, waiting, Arc::clone(&counts))?;
    let export = Export {
        sampler,
        queue,
        counts,
    };
    match EXPORT.set(export) {
        Ok(()) => Ok(exporter),
        Err(_) => Err(ExporterError::Twice),
    }
}

/// Whether spans of sampled requests are exported.
pub fn exports_spans() -> bool {
    EXPORT.get().is_some()
}

/// Makes the request a part of the trace that its message or else its head names, or, where spans are exported, of one that begins with it. Of several
/// messages the first decides.
pub fn join_trace(request: &RequestSpan, of_message: Option<TraceContext>) {
    let of_head = request.head_context();
    let export = EXPORT.get();
    if (export.is_none() && of_message.is_none() && of_head.is_none()) || request.trace().is_some()
    {
        return;
    }
    let of_head = of_head.cloned();
    let (parent, link) = match of_message {
        Some(context) => {
            let link = of_head.filter(|of_head| of_head.span != context.span);
            (Some((context, Carrier::Message)), link)
        }
        None => (of_head.map(|context| (context, Carrier::Head)), None),
    };
    let part = match (export, parent) {
        (Some(export), parent) => export.sampler.part(parent, link),
        (None, Some((parent, carrier))) => TracePart::passed_on(parent, carrier),
        (None, None) => return,
    };
    request.set_trace(part);
}

/// Hands a request that is over to the exporter, if it is sampled; the second time nothing.
pub fn request_over(request: &Arc<RequestSpan>) {
    if request.sampled().is_some_and(|part| !part.hand_over())
        && let Some(export) = EXPORT.get()
    {
        export.take(request);
    }
}

impl Export {
    fn take(&self, request: &Arc<RequestSpan>) {
        if self.queue.try_send(Arc::clone(request)).is_err() {
            self.counts.dropped_full();
        }
    }
}

/// Requests whose spans a collector took since the start, and those whose spans were dropped, in the order of
/// [`SpanDrop`](super::labels::SpanDrop); `None` where none are exported.
pub fn exported() -> Option<(u64, [u64; super::labels::SpanDrop::ALL.len()])> {
    EXPORT.get().map(|export| export.counts.read())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_into_the_queue_is_dropped_and_counted() {
        let (queue, mut waiting) = mpsc::channel(2);
        let export = Export {
            sampler: Sampler::new(1.0),
            queue,
            counts: Arc::default(),
        };
        for _ in 0..5 {
            export.take(&RequestSpan::begin());
        }
        assert_eq!(export.counts.read(), (0, [3, 0]));
        assert!(waiting.try_recv().is_ok());
        export.take(&RequestSpan::begin());
        assert_eq!(export.counts.read(), (0, [3, 0]));
        drop(waiting);
        export.take(&RequestSpan::begin());
        assert_eq!(export.counts.read(), (0, [4, 0]));
    }
}

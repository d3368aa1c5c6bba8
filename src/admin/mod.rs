//! The operator's side: metrics, the state of everything, and a few actions, over HTTP.
//!
//! ```text
//! request -> guard: Host, Origin, token -> router -> Supervisor (implemented by the daemon)
//!                                                 -> Metrics
//! ```
//!
//! Invariants:
//! - a listener that is not loopback has a token, or there is no router ([`router()`] refuses);
//! - a web page cannot act or read through the operator's browser: on loopback only loopback
//!   `Host`s are answered (DNS rebinding), and an action with an `Origin` is refused (CSRF);
//! - what is a credential or a tenant's secret is not here: session ids appear as a
//!   [`Fingerprint`], of a command line only the program; of one worker's its arguments too, without what is known for a secret;
//! - what is answered as JSON has its control characters written out (`\\u009b`), which workers may have written: JSON is read on
//!   terminals, and a parser reads equal values;
//! - every error is JSON, `{"error": "what, why", "reason": "word"}`.
//!
//! Deliberately not here: the listener itself, users and roles (one token, all rights), and
//! anything that changes pool.toml: it can be read again, and beside it stand the tenants of the
//! state store.

mod account_routes;
mod accounts;
mod error;
mod guard;
mod index;
mod json;
mod log_filter;
pub mod minutes;
mod model;
pub mod overview;
mod overview_routes;
mod rendered;
mod requests;
mod router;
mod site;
mod state;
mod stream;
mod supervisor;
#[cfg(test)]
pub(crate) mod tests;
mod timeline;
mod unread;
mod usage;
mod worker_ids;

pub use accounts::{
    AccountError, Accounting, Act, GrantDetails, LinkDetails, MadeToken, NewToken, Reply,
    SecretDetails, TenantDetails, TokenDetails, seconds,
};
pub use log_filter::{LogFilterRow, NewLogFilter};
pub use model::{
    BarredRow, CircuitRow, CircuitState, EndedRow, Event, EventKind, Fingerprint, LastError,
    LimitsInForce, LogLine, LongestWait, MAX_CONFIGURATIONS, MAX_OBSERVED, ObservedServer,
    OpenConfiguration, PrimedStarts, REMEMBERED_OF_ALL, REMEMBERED_OF_TENANT, RuleCheck, ServerRow,
    SessionRow, StartCounts, StartRow, Status, SupervisorState, TemplateRow, TenantRow,
    WorkerCounts, WorkerRow,
};
pub use requests::{RequestFilter, RequestRow, RequestState};
pub use router::{AdminError, Options, router};
pub use supervisor::{
    EventFollow, LogFollow, NotHibernated, NotReloaded, Reload, Supervisor, UsageNotRead,
    UsageReading,
};
pub use timeline::{Timeline, TimelineRow};
pub use usage::{UsageReport, UsageRow};

//! The pool at a glance, for a page that looks at it: one bounded answer, however much there is.
//!
//! ```text
//!  the supervisor, at most once a tick ──▶ Frame: all there is ── OverviewQuery: filter, sort, limit ──▶ Overview, below 64 KiB
//!                                            └── one for all who look ──┘
//! ```
//!
//! Invariants:
//! - an [`Overview`] is at most [`MAX_BYTES`] as JSON; its lists say how many rows there are beyond those that they have;
//! - nothing is counted here: a [`Frame`] has what the supervisor knows, rows are ranked and left out.
//!
//! Pure but for its routes: no clock, no I/O. Deliberately not here: history ([`super::minutes`]), and lists that are whole (`/api/v1/workers`
//! and its like).

mod answer;
mod bounds;
mod frame;
mod query;
mod ranking;
mod rows;
mod tables;
#[cfg(test)]
mod tests;

pub use answer::Overview;
pub use bounds::MAX_BYTES;
pub use frame::Frame;
pub(in crate::admin) use query::Parameters;
pub use query::{MAX_LIMIT, OverviewQuery, Sort};
pub use rows::{
    Binding, CircuitInWords, Evictions, GrantInDanger, InstallRow, Lately, MemoryUse, Mix, Rates,
    Rejection, ServerUse, TenantUse, WorkerUse,
};
pub use tables::{ServerFacts, TenantFacts, UsedLately, servers, tenants};

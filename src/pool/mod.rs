//! The pool: which process serves whom, when one is started, and when it goes.
//!
//! [`policy`] decides and is pure; [`Pool`] carries out what it says and keeps the time for it.
//!
//! ```text
//!            Start                  Ready                   Retire, nothing in flight
//!  (nothing) ─────▶ Starting ─────────────▶ Ready ──────────────────────────────▶ Stopping ─▶ gone
//!                      │  StartFailed         │ ▲ grant, release                      ▲     Exited
//!                      └──────────────────────┼─┴──────── evicted, idle, lifetime ─────┘
//!                                             └─ Exited (crash) ──────────────────────────▶ gone
//! ```
//!
//! A worker counts against every limit from its start until the last process of its tree is gone.
//!
//! Invariants, checked after every event in debug builds and in every property test:
//! - never more workers than `max_workers`, nor than a tenant's or server's own limit, nor more
//!   starting than `max_starting` (a limit lowered meanwhile is reached by not starting more);
//! - never more in flight on a worker than its `max_in_flight`, nor two owners on an exclusive one;
//! - every ticket is answered once;
//! - never more processes of one key than `max_workers_per_key`, whichever configuration they were started with;
//! - what is in flight or pinned is not evicted, and what is in flight ends early only where others have waited for the
//!   next worker of its key for `drain_timeout`.
//!
//! The pool deliberately knows neither HTTP nor MCP, and not what a worker is: a [`Launcher`] starts and
//! stops them. Refusals and ends are values ([`Refusal`], [`StopReason`]): the words, codes and labels for them are
//! in `upstream::outcomes`.

mod launcher;
mod lease;
pub mod policy;
mod runtime;
#[cfg(test)]
mod runtime_tests;
mod snapshot;

pub use launcher::{AcquireRequest, ExitCause, Launcher, NoObserver, Observer, Stop};
pub use lease::Lease;
pub use policy::{
    CircuitChange, CircuitOf, CircuitTransition, Claim, Grants, KeyFacts, LongestWait,
    NotHibernated, PoolLimits, Predecessor, Refusal, StartFailure, StopReason, Warmth,
    share_of_session,
};
pub use runtime::Pool;
pub use snapshot::{OpenCircuit, OpenConfiguration, Snapshot, WorkerState, WorkerView};

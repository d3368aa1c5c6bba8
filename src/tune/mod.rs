//! What other pool limits would have cost: the pool's own policy, driven on virtual time.
//!
//! ```text
//!  trace | synthetic ─▶ calls, in order ─▶ simulate (policy, an agenda, a clock that jumps) ─▶ Outcome
//!                                             for each Setting, side by side ─▶ report, plot
//! ```
//!
//! The policy is the one that serves, unchanged. What the simulation assumes: a start takes as long
//! as its server's starts do, however many run at once; a worker holds what its server's workers
//! hold, awake or asleep; a call takes as long as it took.
//!
//! Invariants: equal traces, settings and seeds have equal outcomes; every call of a trace is served, refused or counted as
//! waiting at the end.
//!
//! The simulation deliberately starts no process and changes no config: it says what would have been.

mod plot;
mod report;
mod setting;
mod simulate;
mod synthetic;
mod trace;
mod workload;

pub use plot::{html, svg};
pub use report::{Goal, render};
pub use setting::{Grid, Setting};
pub use simulate::{Outcome, simulate, simulate_all};
pub use synthetic::{Load, synthetic};
pub use trace::{TraceError, read_trace};
pub use workload::{Call, Profile, Workload};

#[cfg(test)]
mod tests;

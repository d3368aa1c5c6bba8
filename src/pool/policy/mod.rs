//! Admission, fairness, eviction, recycling and back-off as one state machine: events in, actions
//! out. No clock, no I/O, no async; randomness only from a seed.
//!
//! ```text
//!  ticket:  Acquire ─▶ waits ─▶ granted ─▶ released          worker:  see the [pool](super)
//!              │         └─▶ refused: too late, displaced, cancelled, the key's start has failed
//!              └─▶ granted or refused at once
//!
//!  memory of a ready worker:  Awake ── idle for long, or for another's start ──▶ FallingAsleep ── paged out ──▶ Asleep
//!                               ▲                                                    └─ needed ──┐                │
//!                               └────────────────────────────────────────────────────────────────┴─── needed ─────┘
//! ```
//!
//! How a [`Event::Acquire`] is served, first that fits:
//! 1. a ready worker of the key with a free slot, the least loaded;
//! 2. a new worker, if the key may have another and the limits allow;
//! 3. if only a limit on workers stands in the way (`schedule`), an idle worker is evicted (`eviction_choice`): of the tenant or
//!    server whose own limit it is, else of tenants over their weighted share first, then
//!    the one that is missed least of the least recently used; its capacity is free when its processes are gone;
//! 4. it waits. Start permits go to tenants by weighted round-robin, within a tenant to its keys
//!    one after the other, within a key first come, first served.
//!
//! One tenant does not take all that is shared: of the start permits another gets one more
//! (`start_permits`), of a worker's slots a session has a share ([`KeyFacts::max_of_session`]), and the
//! failures of one tenant close the server to that tenant alone (`circuit`).
//!
//! A worker counts for its key, and for those that follow it (`lineage`), until nothing of it is left.
//!
//! A start also needs room for what it will hold in memory. Where that lacks, idle workers fall
//! asleep (their memory is paged out) or go, whichever costs the next caller less per byte.
//!
//! Warm workers go on serving their own key while others wait, up to [`PoolLimits::yield_after`]: when
//! a ticket has waited that long for capacity and no worker is idle, one of the tenant that holds
//! most for its weight gets no new requests until it is idle and can be evicted. So nobody starves
//! behind workers that are never idle.
//!
//! Invariants, checked after every event in debug builds and in every property test (`invariants`; those of the limits stand
//! at the [pool](super)):
//! - every count (of a tenant, a server, a key, a lineage, of what starts and stops) is that of the workers and tickets there are;
//! - an idle worker is ready, has nothing in flight and no pin, and is not retiring; a worker that works is awake;
//! - a ticket that waits stands at its key, and its tenant in the round;
//! - what is charged for memory is the sum of what is charged for each worker.
//!
//! The policy deliberately does not know what a worker or a request is, does nothing itself (the actions are for
//! [`Pool`](super::Pool) to carry out), and forms no text: a [`Refusal`] is a value.

mod admit;
mod backoff;
mod circuit;
mod circuit_change;
mod dispatch;
mod event;
mod eviction_choice;
mod footprint;
mod grants;
mod hibernate;
mod invariants;
mod lifecycle;
mod limits;
mod lineage;
mod lineage_wait;
mod memory;
mod page_out;
mod refusal;
mod schedule;
mod spares;
mod start_failure;
mod start_permits;
mod state;
mod stock;

pub use admit::LongestWait;
pub use circuit_change::{CircuitChange, CircuitOf, CircuitTransition};
pub use event::{Action, Claim, Event, StopReason, TicketId};
pub use footprint::Sleep;
pub use grants::Grants;
pub use hibernate::NotHibernated;
pub use limits::{KeyFacts, PoolLimits, share_of_session};
pub use refusal::{Predecessor, Refusal};
pub use start_failure::StartFailure;
pub use state::{Phase, Policy, Warmth, WorkerRecord};
pub use stock::Stock;

#[cfg(test)]
mod tests;

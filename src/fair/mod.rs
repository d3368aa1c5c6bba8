//! Fair shares of the time of the runtime's threads, between tenants.
//!
//! ```text
//!  Scheduler (who runs beside whom; grants turns)
//!    └─ Flow (the work done for one tenant, or for one other party; cheap to clone)
//!         └─ Gate (of one task: polls what it guards when its flow may run)
//!
//!  a task:  polled at once ── its flow used more than its part, others run too ──▶ waits for its flow's turn
//!                 ▲                                                                      │
//!                 └──────────────── granted, polled ── or dropped: gives the turn up ◀───┘
//! ```
//!
//! A queue in the order of arrival belongs to whoever sends most. So the polls of tasks that do a
//! tenant's work are timed and charged to its flow. A flow that used little of late runs at once: it pays two looks at a clock.
//! One that used more than its part, while others run too, waits for turns, which flows get one after the other, a little at
//! a time, each time that the runtime has looked for new events. So nothing of the processor is left unused, and whoever asks little
//! waits for a bounded time however much others ask.
//!
//! Invariants:
//! - flows that always want to run get the same time, whatever one poll of each takes (deficit round robin, Shreedhar and
//!   Varghese 1995): a poll is granted for what the flow's polls took of late, and charged for what it takes;
//! - a flow within its allowance never waits (the generic cell rate algorithm, ITU-T I.371);
//! - while one flow runs alone, nothing waits.
//!
//! The scheduler cannot end a poll: whoever is polled must give way after a bounded piece of work ([`large`] for what cannot). A flow is charged
//! for time on a processor, not for wall time: a thread that other processes keep from running charges nobody.
//!
//! This module deliberately knows no tenant and no request: a flow is a number, and whoever makes it says whose work it is. It
//! bounds no memory ([`held`](crate::held)) and nothing beside the runtime.
//!
//! Turns share the runtime's threads, not the machine: what is copied at full speed keeps the kernel and the peer's processes
//! busy too. So what a party sends is also taken in at a bounded pace ([`Flow::pace`]), whoever else wants to run.

mod allowance;
mod gate;
mod large;
mod pace;
mod rotation;
mod scheduler;
mod time;

pub use gate::Gate;
pub use large::{LARGE, Offloaded, Permit, large, lost, poll_offloaded};
pub use scheduler::{Flow, Scheduler};

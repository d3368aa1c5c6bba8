//! One worker as its callers see it, and how it starts and ends.
//!
//! ```text
//!            call ──▶ WorkerConnection ── bridge::Mux ──▶ worker
//!  Outbox ◀── answer, progress ──┘ └── ConnectionEvent ──▶ whoever knows the sessions
//!
//!  pool ── start ──▶ starting ── handshake ──▶ serves ◀── hibernate, wake ──▶ asleep
//!                       │                        │
//!                       └─ refused, silent ──▶ ended ◀─ exit, stop ─┘
//! ```
//!
//! A [`WorkerConnection`] is a multiplexer under one small lock, a process, and the calls that wait for it. A spare's
//! process changes hands through its spare slot. What is not a connection's own business it tells by one narrow trait
//! (`ConnectionEvents`); what it has to know of a session that calls is another (`Attachment`).
//!
//! Invariants:
//! - what goes to a worker is queued under the lock of its connection, in the order that was decided; all else comes after it;
//! - every call holds its lease until the worker answered, died, or was given up on;
//! - an outbox takes in every answer; it never makes a writer wait;
//! - no lock is held across an await, and a connection's lock is never taken while another's is.
//!
//! This module deliberately does not know sessions, does not choose a worker, and sends nothing a second time.

mod attachment;
mod broadcast;
mod connection;
mod events;
mod failed_start;
mod launcher;
mod lease;
mod outbound_message;
mod outbox;
mod outcomes;
mod package_events;
mod packages;
mod page_out;
mod response;
mod services;
mod spare_slot;
mod start;
mod template_set;
mod templates;
mod waiting;
mod worker_events;
mod worker_launcher;
mod workers;
mod written_files;

pub use connection::{Life, LifeEntry, LifeStage, WorkerConnection};
pub use outbound_message::{OutboundMessage, WhenFull};
pub use outbox::{Outbox, Reader};
pub use template_set::ShownTemplate;
pub use worker_events::{PackageEvent, WorkerEvent, WorkerEventSink};
pub use worker_launcher::WorkerLauncher;
pub use workers::Workers;

pub(crate) use attachment::Attachment;
pub(crate) use broadcast::{Audience, Broadcast, BroadcastStep};
pub(crate) use connection::own_tools::NotKept;
pub(crate) use connection::{CallRefused, Called, SessionRequest, ToolFilter};
pub(crate) use events::{ConnectionEvent, ConnectionEvents};
pub(crate) use lease::{WorkerLease, WorkerPool};
pub(crate) use outbound_message::{Pushed, Topic};
pub(crate) use outcomes::{circuit_changed, exit_reason, refused, start_failed};
pub(crate) use response::error_response;
pub(crate) use workers::WorkerDependencies;

//! Sessions: what must be known of a client whichever worker serves it.
//!
//! ```text
//!  opened ──▶ there: attached to workers, told on its outbox ──▶ ended: by its client, its server's or tenant's removal,
//!    ▲                          │                                       the death of the process that held its state
//!    └── taken up again ◀── restart
//! ```
//!
//! A [`Session`] is a record: principal, revision, client, log level, subscriptions. A session is virtual: it is attached to a worker
//! when it first calls it, loses that when the worker ends, and the next worker is brought to that session's point. Its
//! `SessionKind` decides what else it has.
//!
//! Invariants:
//! - a session id is worth nothing to anyone but the principal it was made for;
//! - whoever ends a session marks it first and visits its workers then; whoever attaches it looks at the mark afterwards;
//! - what is subscribed to takes its place before a worker is asked.
//!
//! This module deliberately sends nothing to a worker, and does not decide when a session ends.

mod attachment;
mod directory;
mod ended;
mod id;
pub(crate) mod persistence;
mod record;
mod replay;
mod reserved;
mod roots;
mod routes;
mod subscriptions;
mod weight;

pub use id::SessionId;
pub use record::{InUse, Session};
pub use replay::{EventId, Replay};

pub(crate) use directory::{Directory, MAX_SESSIONS, TooMany};
pub(crate) use ended::{Ended, session_not_found};
pub(crate) use record::{Scope, SessionIdentity, SessionKind};
pub(crate) use reserved::Reserved;
pub(crate) use roots::SELF;

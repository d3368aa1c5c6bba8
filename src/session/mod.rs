//! Sessions that many clients hold, bound to workers that come and go.
//!
//! ```text
//!  front ── request ──▶ Sessions ── route: pool key, launch order ──▶ pool.acquire
//!                          │                                             │ lease
//!                          ▼                                             ▼
//!                       Session (record, outbox)      Link (mux + process) ── call ──▶ worker
//!                          ▲                                             │
//!                          └───── Exchange (one POST's mailbox) ◀── answer, progress
//! ```
//!
//! A [`Session`] is a record: principal, revision, client, log level, subscriptions. It takes a
//! seat at a worker when it first calls it and loses the seat when the worker ends; the next
//! worker is brought to the same point. Only a server declared `stateful` ends its sessions with
//! its worker.
//!
//! Invariants:
//! - a session id is worth nothing to anyone but the principal it was made for;
//! - every call holds its lease until the worker answered, died, or was given up on;
//! - dropping an [`Exchange`] at any point cancels what it still waits for;
//! - no lock is held across an await, and a link's lock is never taken while another link's is.
//!
//! It deliberately does not parse HTTP and does not decide who may start what: that is the
//! front's and the pool's.

mod aggregate;
mod alone;
mod berth;
mod bindings;
mod bound_calls;
mod callers;
mod catalog;
mod directory;
mod ended;
mod eras;
mod exchange;
mod keep;
mod known_tools;
mod late_lists;
mod launchpad;
mod lease;
mod link;
mod mailbox;
mod offer;
mod packages;
mod record;
mod replay;
mod request;
mod response;
mod roots;
mod route;
mod rules;
mod service;
mod shared;
mod stateless;
mod subscriptions;
mod suspended;
mod tool_list;
mod written;

pub use aggregate::Lister;
pub use exchange::{Exchange, Next, TimeLimit, Way};
pub use keep::Records;
pub use launchpad::Launchpad;
pub use link::Link;
pub use mailbox::{Mailbox, Parcel, Reader, WhenFull};
pub use packages::{Install, Outlook};
pub use record::{InUse, Session, SessionId};
pub use replay::{EventId, Replay};
pub use route::{Order, Setup};
pub use rules::Finding;
pub use service::{Initialized, Sessions, WeakSessions};
pub use shared::{Happening, PackageEvent, Shared, Watcher};
pub use stateless::{Listener, Wants};
pub use suspended::{Purpose, Suspended};

pub(crate) use service::session_not_found;

//! What the front asks for: sessions opened, requests sent, notifications passed on, whichever worker serves them.
//!
//! ```text
//!  front ── request ──▶ send ── tool_view: may it, what is added ── acquire: route, package, lease ──▶ upstream
//!    ▲                                                                                               │
//!    └── ResponseStream ◀── outbox ◀── answers, progress                                             │
//!  sessions' own streams ◀── connection_events, fanout: to whom the bridge says ◀── ConnectionEvent ────────────┘
//! ```
//!
//! Five handles, each narrow enough for its users:
//! - [`Gateway`] opens sessions and sends what they say; it names the others;
//! - [`SessionTable`] knows all sessions, of every kind, and ends them: for DELETE, expiry, the admin API, and
//!   whoever removes a server or a tenant, and sends no request;
//! - [`AggregateView`] says what all servers as one are to a caller, by the pool.toml that it was made from: no session, no worker;
//! - [`Aggregate`] serves requests and lists of all servers as one, through members and their gateway;
//! - [`StatelessCallers`] finds the sessions that stand for callers without any.
//!
//! Code that looks at workers alone, such as the sampling of memory, has [`Workers`](crate::upstream::Workers). `change_listener` serves those
//! who only listen, `suspend` keeps calls that wait for their client, `resend` sends what waited for a package or for roots and
//! what a dead worker left, `end` ends sessions of every kind.
//!
//! Invariants:
//! - dropping a [`ResponseStream`] at any point cancels what it still waits for;
//! - whatever was said of a request once, its client does not hear twice: only what was not answered at all is sent again;
//! - no session, answer or event of one tenant reaches another.
//!
//! The gateway deliberately does not parse HTTP, and does not decide who may start what: that is the front's and the pool's.

mod acquire;
mod aggregate;
mod aggregate_lists;
mod aggregate_view;
mod bound_calls;
mod change_listener;
mod connection_events;
mod end;
mod fanout;
mod gateway_event;
mod known_tools;
mod late_lists;
mod lister;
mod open_session;
mod packages;
mod pending_session;
mod resend;
mod response_stream;
mod roots;
mod rules;
mod send;
mod service;
mod session_table;
mod state;
mod stateless;
mod stateless_sessions;
mod suspend;
mod suspended;
mod tool_view;
mod wait_reason;
mod wait_steps;

pub use aggregate::Aggregate;
pub use aggregate_view::AggregateView;
pub use change_listener::ChangeListener;
pub use gateway_event::{EventSink, GatewayEvent};
pub use lister::Lister;
pub use open_session::Initialized;
pub use packages::Install;
pub use response_stream::{Next, ResponseStream, TimeLimit, WorkerRoute};
pub use rules::Finding;
pub use service::{Observers, Records};
pub use session_table::SessionTable;
pub use state::{Gateway, WeakGateway};
pub use stateless::{StatelessCallers, Wants};
pub use suspended::{Purpose, Suspended};
pub use wait_steps::{WaitSteps, waiting_progress};

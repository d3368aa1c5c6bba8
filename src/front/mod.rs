//! The HTTP front door: Streamable HTTP for the revisions 2025-03-26 to 2025-11-25
//! (basic/transports, "Streamable HTTP"), the stateless revision 2026-07-28 at the same addresses,
//! and HTTP+SSE for clients of 2024-11-05.
//!
//! ```text
//!  net        a connection: TLS, heads, time-outs, what it holds
//!   │ a request that can be read in one way only
//!   ▼
//!  dispatch   CORS; the few paths that nearly all requests go to. The rest: router ─▶ api
//!   │ Head
//!   ▼
//!  endpoint   guard ─▶ authenticate ─▶ target ─▶ client config of address and headers      (phases of `pipeline`)
//!   │ Inbound
//!   ├─ GET, DELETE ─────────────────────────────────────────────▶ transport: a session's stream, or its end
//!   ▼
//!  post       negotiate ─▶ limits ─▶ receive ─▶ parse ─▶ client config of the message ─▶ session ─▶ transport ─▶ response
//! ```
//!
//! Imports go one way: `response` knows nobody, `net` knows `response`, `pipeline` both, `transport` those three, and the
//! files that stand here all of them. What handlers share is in `state`: it has the types of phases and streams, and is
//! named by whatever handles a request. No two files import each other in a circle.
//!
//! A POST is answered with `application/json` if its results are what comes first; it becomes an
//! event stream when a notification or a worker's request precedes them, or after two seconds (`transport::live_stream`,
//! `response::late`), so that nothing on the way takes the connection for dead.
//!
//! Invariants: a status is chosen before the first byte; what a caller may not see is as absent
//! as what is not there; a client of 2026-07-28 that goes away cancels what it waited for, one of an earlier revision does
//! not, and can go on from a place in a stream that it knows (`transport::parked`), but over HTTP+SSE, where the session ends with its
//! stream.
//!
//! The front deliberately knows nothing of processes: it speaks to [`crate::gateway`] alone.

mod addresses;
mod api;
mod dispatch;
mod endpoint;
mod net;
mod pipeline;
mod post;
mod response;
mod router;
mod state;
mod transport;

pub use addresses::Addresses;
pub use dispatch::Dispatch;
pub use net::listener::Listener;
pub use net::tls::{Tls, TlsError};
pub use net::{Ambiguous, ConnectionLimits, ConnectionSlots, Framing, FramingError};
pub(crate) use pipeline::discard::take_unread;
pub use pipeline::guard::Guard;
pub use pipeline::limits::RateLimits;
pub use state::Front;
pub use transport::channels::Channels;
pub use transport::parked::Parked;

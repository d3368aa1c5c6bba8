//! The HTTP front door: Streamable HTTP for the revisions 2025-03-26 to 2025-11-25
//! (basic/transports, "Streamable HTTP"), the stateless revision 2026-07-28 at the same addresses
//! (`stateless`), and HTTP+SSE for clients of 2024-11-05 (`http_sse`).
//!
//! ```text
//!  request ─▶ guard (Host, Origin) ─▶ authenticate ─▶ server ─▶ POST    ─▶ messages ─▶ JSON or SSE
//!                                                            ├▶ GET     ─▶ the session's stream
//!                                                            └▶ DELETE  ─▶ the session ends
//! ```
//!
//! A POST is answered with `application/json` if its results are what comes first; it becomes an
//! event stream when a notification or a worker's request precedes them, or after two seconds (`stream`, `late`),
//! so that nothing on the way takes the connection for dead.
//!
//! Invariants: a status is chosen before the first byte; what a caller may not see is as absent
//! as what is not there; a client of 2026-07-28 that goes away cancels what it waited for, one of an earlier revision does
//! not, and can go on from a place in a stream that it knows (`resume`).
//!
//! It deliberately knows nothing of processes: it speaks to [`crate::session`] alone.

mod addresses;
mod aggregate;
mod body;
mod client_config;
mod config_handles;
mod conversation;
mod cors;
mod dispatch;
mod entrance;
mod errors;
mod frames;
mod guard;
mod holding;
mod http_sse;
mod incoming;
mod late;
mod limits;
mod listener;
mod net;
mod oauth;
mod post;
mod reply;
mod resume;
mod router;
mod stateless;
mod stateless_call;
mod stream;
mod telling;
mod tls;
mod trail;
mod well_known;

pub use addresses::Addresses;
pub use dispatch::Dispatch;
pub use guard::Guard;
pub use http_sse::Channels;
pub use limits::RateLimits;
pub use listener::Listener;
pub use net::{ConnectionLimits, Places};
pub use resume::Parked;
pub use router::Front;
pub use tls::{Tls, TlsError};

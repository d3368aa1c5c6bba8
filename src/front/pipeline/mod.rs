//! What each request passes before anything answers it, one phase a file.
//!
//! ```text
//!  head          what is looked at more than once of a head, read once           ─▶ Head
//!  guard, cors   `Host` and `Origin`
//!  authenticate  credentials ─▶ Caller (principal, runtime); a refusal is answered, counted, written down
//!  challenge     how a refused caller is told to get credentials
//!  target        the tenant, server and transport that a path names
//!  client_config what a request sets for its server                              ─▶ Inbound
//!  negotiate     revision, `Accept`, `Content-Type`
//!  limits        how much tenants and users may ask, with a bucket each          ─▶ Permit
//!  receive       the body: body (reading), body_buffer (what has come), pacing (how fast), discard (what is refused)
//!  parse         what is wrong with a message that cannot be read
//!  session       the session that a request names
//! ```
//!
//! [`inbound::Inbound`] is the one value that goes on from phase to phase; [`context::RequestContext`] goes with each
//! request of it to its end, streams included, and with it [`audit`].
//!
//! Invariants: a phase refuses with a [`Failure`](crate::protocol::Failure) and remembers nothing of what it refused;
//! nothing is read of a body before its caller is known and admitted, but for what a refusal needs to be told.
//!
//! The phases deliberately know no transport: which ones a request passes, and in which order, is said by
//! [`endpoint`](super::endpoint) and [`post`](super::post).

pub(super) mod audit;
pub(super) mod authenticate;
pub(super) mod body;
mod body_buffer;
mod bucket;
pub(super) mod challenge;
pub(super) mod client_config;
pub(super) mod context;
pub(super) mod cors;
pub(super) mod discard;
pub(super) mod guard;
pub(super) mod head;
pub(super) mod inbound;
pub(super) mod limits;
pub(super) mod negotiate;
pub(super) mod pacing;
pub(super) mod parse;
pub(super) mod quotas;
pub(super) mod receive;
pub(super) mod session;
pub(super) mod target;
mod trace_context;

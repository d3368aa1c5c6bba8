//! What a client's message means for a worker, and back. Pure: bytes and events in, actions out.
//!
//! One [`Mux`] stands in front of one worker and lets many sessions share it:
//!
//! ```text
//!  sessions                      Mux                                worker
//!  ───────── request(id "a") ──▶ call 7: session 1, id "a" ── id 7 ──▶
//!  ◀─ answer(id "a") ─────────── call 7 is over            ◀─ id 7 ───
//!  ◀─ progress(token "p") ────── token 7 is call 7's       ◀─ token 7 ─
//!  ◀─ ask("w3-2") ────────────── ask 2: owner, id raw      ◀─ request ─
//!  ── answer("w3-2") ──────────▶ ask 2 is over             ── id raw ──▶
//! ```
//!
//! A call is `Open`, then `Cancelled` if its caller gave up, and gone when the worker answered or
//! the runtime lost patience ([`Mux::forget`]).
//!
//! Invariants, held for any interleaving:
//! - a call's answer and progress reach the session that made it and no other, under the id and
//!   token that session chose, and at most one answer is delivered;
//! - a worker's request goes to the one session that can have caused it, or is refused; never to
//!   one of several;
//! - a client's answer is passed on only by the session that was asked, once;
//! - the first message a worker sees is stdiopool's own: `initialize`, or `server/discover`.
//!
//! `client_side` is the way from clients to the worker, `worker_side` back: whose a notification or a question is, is decided there.
//! `stateless` stands between the eras, `input_required` asks clients for what a server of the modern era requires, `aggregate` makes one of all servers.
//!
//! The bridge deliberately knows no clock (the runtime decides when a call has taken too long), no
//! sockets, and nothing of the pool: who may call a worker was decided before.

mod action;
mod additions;
mod addressed;
pub mod aggregate;
mod call;
mod canonical;
mod client_info;
mod client_request;
mod client_side;
mod dialect;
mod discovery;
mod era;
mod for_worker;
mod handshake;
mod input_required;
mod level;
mod listening;
mod listing;
mod malformed;
mod member_names;
mod members;
mod mux;
mod names;
mod notices;
mod numbers;
mod params;
mod repeat;
mod roots;
mod roots_question;
mod rounds;
mod server_info;
pub mod stateless;
mod subscribers;
mod subscriptions;
mod suspicion;
mod suspicion_table;
mod trace_meta;
mod worker_side;

pub use action::{Action, Anomaly, Malformed, MalformedOutcome};
pub use additions::{Additions, NotAdded, with_additions};
pub use addressed::{Addressed, NotAccepted, Unreadable, addressed, advertised};
pub use client_info::{ClientInfo, MAX_INTRODUCTION, NotIntroduced, weight_of};
pub use client_request::{ClientRequest, RequestOutcome};
pub use dialect::{Dialect, DialectRecord, EraRefusal};
pub use discovery::HandshakeError;
pub use era::Era;
pub use handshake::{Handshake, initialize_request};
pub use level::Level;
pub use listing::{Listing, Shown, offered_tools};
pub use mux::Mux;
pub use names::{CLIENT_CONFIG, CONFIG, IDENTITY};
pub use numbers::{AskRef, CallId, SessionNo};
pub use params::{asked_level, progress_token_of, subscribed_uri};
pub use repeat::{called_tool, repeatable_tools};
pub use roots::{ClientRoots, MAX_ROOTS, RootsError};
pub use server_info::{ServerInfo, ServerInfoError};
pub use subscriptions::{MAX_SUBSCRIBED, MAX_SUBSCRIPTIONS};
pub use trace_meta::{call_error, target_of, trace_context_of, with_trace_context};

#[cfg(test)]
mod combinations_tests;
#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod rounds_property_tests;
#[cfg(test)]
mod rounds_tests;
#[cfg(test)]
mod tests;

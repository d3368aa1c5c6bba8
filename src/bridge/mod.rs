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
//! It deliberately knows no clock (the runtime decides when a call has taken too long), no
//! sockets, and nothing of the pool: who may call a worker was decided before.

mod additions;
mod addressed;
pub mod aggregate;
mod client_side;
mod era;
mod initialize;
mod keys;
mod level;
mod listing;
mod malformed;
mod members;
mod mux;
mod numbers;
mod params;
mod repeat;
mod roots;
mod rounds;
pub mod stateless;
mod subscriptions;
mod suspected;
mod suspicion;
mod watchers;
mod worker_side;

pub use additions::{Additions, NotAdded, with_additions};
pub use addressed::{
    Addressed, CLIENT_CONFIG, CONFIG, IDENTITY, NotAccepted, Unreadable, addressed, advertised,
};
pub use client_side::{ClientRequest, Opened};
pub use era::Era;
pub use initialize::{
    ClientHello, Greeting, Hello, HelloError, MAX_INTRODUCTION, NotIntroduced, initialize_request,
    weight_of,
};
pub use level::Level;
pub use listing::{Listing, Shown, offered_tools};
pub use mux::{
    Action, Anomaly, AskRef, CallId, MAX_SUBSCRIBED, MAX_SUBSCRIPTIONS, Malformed,
    MalformedOutcome, Mux, NotGreeted, SessionNo,
};
pub use params::{asked_level, progress_token_of, subscribed_uri};
pub use repeat::{called_tool, repeatable_tools};
pub use roots::{ClientRoots, MAX_ROOTS, RootsError};

#[cfg(test)]
mod combinations_tests;
#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod rounds_tests;
#[cfg(test)]
mod tests;

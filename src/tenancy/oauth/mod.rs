//! What tenants have authorised upstream: OAuth 2.0 authorization code with PKCE (RFC 6749, RFC 7636,
//! with the advice of RFC 9700), and the access tokens that follow from it.
//!
//! ```text
//!  link ─▶ Pending (10 min, one try) ─▶ browser ─▶ provider ─▶ callback: state, browser, iss, code
//!                                                                   │
//!        ┌── refreshed ahead, while a worker uses it ◀──┐           ▼
//!        ▼                                              │     refresh token, sealed
//!   access token (in memory) ── due ──▶ Schedule ───────┤           │
//!        ▲                                              ├─ unused ─▶ let go
//!        └────────────── on demand ◀────────────────────┴─ refused: the authorisation is over
//! ```
//!
//! Invariants: a new refresh token is on disk before the old one is forgotten; everything that changes
//! an authorisation holds its lock, so that a refresh token is used once; what is asked of a
//! provider goes on when whoever wanted it has gone, as its answer may hold the only valid refresh token;
//! no code, verifier or token is in a log line, an error or a `Debug`.
//!
//! This module deliberately restarts nothing: it says which tokens have changed ([`Grants::take_changed`]).

mod answer;
mod authorise;
mod grants;
mod pending;
mod provider;
mod refresh;
mod request;
mod schedule;
mod stored_grant;

pub use grants::{Finished, GrantEvent, GrantEventSink, GrantInfo, Grants};
pub use pending::{LINK_LIFETIME, Link, LinkError, OpenedLink};
pub use provider::NotTold;
pub use schedule::Outlook;

//! Connections of a listener: how many there may be, how long each may keep its slot, and whether what
//! a connection brings can be read in one way only.
//!
//! ```text
//!  accepted ─▶ waits for its first request ─▶ serves ─▶ idle ─▶ finishing ─▶ closed
//!                     │ head_timeout            ▲ │ ▲     │ idle_timeout: GOAWAY, or the end
//!                     ▼                         │ ▼ │     ▼
//!                  closed                       idle└── a request
//! ```
//!
//! A peer that takes nothing of what is written to it for `write_timeout` is cut off: the connection where the
//! socket takes nothing, the one stream where its window over HTTP/2 is used up.
//!
//! Memory of a connection beyond what each has is charged to whoever answers for it ([`charges`]).
//!
//! Invariants: a slot is given back when its connection's task ends, however it ends; a connection with a request
//! of a known caller under way is never closed to make room.
//!
//! This module deliberately knows no path and no credentials: who reads those says whom a connection is known to, and what is
//! served is whatever implements [`listener::Serve`].

mod activity;
mod charges;
mod clock;
pub(super) mod connection;
mod connection_slots;
mod framing;
mod handshake;
mod held_bytes;
pub(super) mod listener;
pub(super) mod peer;
mod progress;
mod request;
mod streams;
pub(super) mod tls;
mod untaken;
mod victims;
mod watched;

pub(super) use activity::Activity;
pub(super) use connection::STREAM_WINDOW;
pub use connection_slots::{ConnectionLimits, ConnectionSlots};
pub use framing::{Ambiguous, Framing, FramingError};
pub(super) use request::{Served, Unclear, framing_error_of_body, unambiguous};

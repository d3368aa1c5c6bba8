//! What a client is told, and how it is written: bodies, JSON, failures, event streams, answers that are late.
//!
//! Invariants: a failure becomes a JSON-RPC error response in [`errors`] alone, and an event of a stream in [`sse`] alone;
//! a body that is there as a whole needs no box.
//!
//! This module deliberately knows no request: handlers say what is told.

pub(super) mod body;
pub(super) mod errors;
pub(super) mod late;
pub(super) mod reply;
pub(super) mod sse;

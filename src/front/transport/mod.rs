//! How messages are answered, once their caller, server and text are known.
//!
//! | files | transport |
//! | --- | --- |
//! | `streamable`, `batch` | Streamable HTTP with sessions, 2025-03-26 to 2025-11-25 |
//! | `post_stream`, `live_stream`, `parked` | its reply to a POST as a stream: what is told, by which connection, and how it waits for a client that is gone |
//! | `session_stream` | a session's own stream, of its GET |
//! | `stateless`, `stateless_one`, `stateless_all`, `stateless_listen` | the stateless revision 2026-07-28: its requests, of one server or of all |
//! | `stateless_begin`, `stateless_call`, `stateless_stream` | its calls: on their way to a worker, under way, as a stream |
//! | `http_sse`, `channels` | HTTP+SSE of 2024-11-05 |
//! | `local` | answers that need no worker |
//!
//! ```text
//!  a reply to a POST:   told by a connection ─▶ waits (its client is gone) ─▶ told by another ─▶ over
//!                                                 └ 60 s, or its tenant needs the room: cancelled
//! ```
//!
//! Invariants: each request has one outcome in its [`RequestContext`](super::pipeline::context::RequestContext), whoever
//! tells it; a stream that is given away is told by one connection only.
//!
//! This module deliberately decides nothing about who may ask what: the pipeline has when a message comes here.

pub(super) mod batch;
pub(super) mod channels;
pub(super) mod http_sse;
pub(super) mod live_stream;
pub(super) mod local;
pub(super) mod parked;
pub(super) mod post_stream;
pub(super) mod session_stream;
pub(super) mod stateless;
pub(super) mod stateless_all;
pub(super) mod stateless_begin;
pub(super) mod stateless_call;
pub(super) mod stateless_listen;
pub(super) mod stateless_one;
pub(super) mod stateless_stream;
pub(super) mod streamable;
pub(super) mod wait_progress;

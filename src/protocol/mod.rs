//! The words of the protocol: JSON-RPC envelopes, MCP revisions, and the tables of outcomes.
//!
//! Everything here is data and pure functions. Bodies are never re-serialised: an [`Envelope`]
//! borrows from the bytes it was read from, and [`splice`] replaces the few spans a bridge must change.
//!
//! Invariants: no bytes make it panic; each outcome has one row (`outcomes`), from which its HTTP status, JSON-RPC code,
//! reason, metric label and exit code follow.
//!
//! This module deliberately knows no session and no worker: what a message means for whom is for [`crate::bridge`].

mod envelope;
mod failure;
mod host;
mod id_scanner;
mod method;
mod object;
mod outcomes;
mod pointer;
mod portable;
mod repair;
mod revision;
mod scan;
pub mod sse;
mod trace_context;
mod writer;

pub use envelope::{
    Envelope, EnvelopeError, Kind, MAX_KEPT_ID, RawId, RawJson, Unlisted, one_line, quoted,
    replaced, span_of, splice,
};
pub use failure::Failure;
pub use host::{host_name, is_loopback_name};
pub use id_scanner::{IdScanner, MAX_ID_LEN, Scanned};
pub use method::{Method, Since};
pub(crate) use object::members_of;
pub use outcomes::{
    ApiReason, CommandEnd, ExitClass, ExitReason, FailureStatus, FaultKind, HttpRefusal, Reason,
};
pub(crate) use pointer::{name_of, step_to};
pub use portable::{NotPortable, portable};
pub use repair::{
    Broken, Flaw, Joined, Line, LongLine, MAX_UNNAMED, Mended, MessageLines, Says, is_usual_error,
    wrapped_number,
};
pub use revision::Revision;
pub use scan::{Listed, Named, each_member};
pub use trace_context::{SpanId, TraceContext, TraceFlags, TraceId};
pub use writer::{
    bare_notification, bare_request, error_response, notification, progress_notification,
    raw_error_response, request, request_of_pieces, result_response,
};

/// JSON-RPC error codes (<https://www.jsonrpc.org/specification#error_object>).
pub mod code {
    /// The body is not JSON.
    pub const PARSE_ERROR: i32 = -32700;
    /// The JSON is not a valid request object.
    pub const INVALID_REQUEST: i32 = -32600;
    /// The method does not exist.
    pub const METHOD_NOT_FOUND: i32 = -32601;
    /// The parameters do not fit the method.
    pub const INVALID_PARAMS: i32 = -32602;
    /// The server failed.
    pub const INTERNAL_ERROR: i32 = -32603;
    /// A header is not what the body says (2026-07-28, basic/transports/streamable-http).
    pub const HEADER_MISMATCH: i32 = -32020;
    /// The client did not declare a capability that is needed (2026-07-28, basic).
    pub const MISSING_CAPABILITY: i32 = -32021;
    /// A revision that is not served (2026-07-28, basic/versioning).
    pub const UNSUPPORTED_VERSION: i32 = -32022;
    /// No such resource (up to 2025-11-25, server/resources).
    pub const RESOURCE_NOT_FOUND: i32 = -32002;
    /// Pages must be visited first (2025-11-25, client/elicitation).
    pub const URL_ELICITATION_REQUIRED: i32 = -32042;
    /// First of the implementation-defined server errors; stdiopool's own failures use it.
    pub const SERVER_ERROR: i32 = -32000;
}

//! The tables of outcomes: what callers, operators and scripts are told of what did not come about, by status, code, reason,
//! label and exit code.
//!
//! Invariants: statuses and codes of errors of MCP and of the admin API stand here alone. Requests that are refused before a message
//! is read (`front/net`), `/readyz` and pages for browsers have statuses of their own. A row cannot be left out, for the row makes the
//! variant; what the rows come to is held by a snapshot, and written to `docs/errors.md` by a test.

use std::process::ExitCode;

use super::code;

/// By what the client learns that its request has failed, unless `http.failure_status` says otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ToldBy {
    /// The message that answers it, whose status is 200: nothing is wrong with the form of the request, nor with its
    /// session or its credentials, for which the specification has statuses.
    Answer,
    /// The HTTP status.
    Status,
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])* $variant:ident = $text:literal, $status:literal, $code:expr, $told:ident;)*) => {
        /// Why stdiopool itself did not pass a request on; `data.reason` of the JSON-RPC error.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Reason { $($(#[doc = $doc])* $variant,)* }

        impl Reason {
            /// Every reason, in the table's order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// As it stands in `data.reason`, in the label `reason` of `rejections_total`, and in the audit log.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// The HTTP status of a failure that answers no request. Of one that does: `status_of_answer`.
            pub const fn http_status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }

            /// The JSON-RPC error code.
            pub const fn rpc_code(self) -> i32 {
                match self { $(Self::$variant => $code,)* }
            }

            const fn told_by(self) -> ToldBy {
                match self { $(Self::$variant => ToldBy::$told,)* }
            }

            /// The situation in which the reason is given, for people.
            pub const fn about(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),*),)* }
            }
        }
    };
}

reasons! {
    /// No slot within the queue timeout, or the queue is full.
    PoolExhausted = "pool_exhausted", 503, code::SERVER_ERROR, Answer;
    /// The package of its server is still being installed; the failure says how far that is.
    Installing = "installing", 503, code::SERVER_ERROR, Answer;
    /// The process is there, and has not answered its first request within the caller's wait.
    Starting = "starting", 503, code::SERVER_ERROR, Answer;
    /// All processes that may serve it have as many requests as they may.
    Busy = "busy", 503, code::SERVER_ERROR, Answer;
    /// The tenant's own limit.
    TenantLimit = "tenant_limit", 429, code::SERVER_ERROR, Answer;
    /// The tenant has used all that it may in this month; the failure says when the next begins.
    QuotaExhausted = "quota_exhausted", 429, code::SERVER_ERROR, Answer;
    /// All tenants together hold as much memory as they may.
    MemoryExhausted = "memory_exhausted", 503, code::SERVER_ERROR, Answer;
    /// The body stopped coming.
    BodyTimeout = "body_timeout", 408, code::INVALID_REQUEST, Status;
    /// The process exited before it was ready, or never answered.
    StartFailed = "start_failed", 502, code::SERVER_ERROR, Answer;
    /// The server failed repeatedly; the failure says when it will be tried again.
    CircuitOpen = "circuit_open", 503, code::SERVER_ERROR, Answer;
    /// The process ended with this request in flight.
    WorkerExited = "worker_exited", 502, code::SERVER_ERROR, Answer;
    /// No answer in time; the worker was told that the request is cancelled.
    RequestTimeout = "request_timeout", 504, code::SERVER_ERROR, Answer;
    /// The config does not fit the server's schema, or a needed value is missing.
    ConfigInvalid = "config_invalid", 400, code::INVALID_PARAMS, Answer;
    /// No credentials, or not valid ones.
    Unauthorized = "unauthorized", 401, code::SERVER_ERROR, Status;
    /// The issuer's keys are not to be had, so that nobody's token can be checked; or a provider gives no
    /// access token for a server.
    AuthUnavailable = "auth_unavailable", 503, code::SERVER_ERROR, Answer;
    /// Valid credentials that may not be used for this.
    InsufficientScope = "insufficient_scope", 403, code::SERVER_ERROR, Status;
    /// Known caller, not allowed.
    Forbidden = "forbidden", 403, code::SERVER_ERROR, Status;
    /// No such thing, or not the caller's.
    NotFound = "not_found", 404, code::SERVER_ERROR, Status;
    /// The session has ended while this request of it was under way.
    SessionEnded = "session_ended", 404, code::SERVER_ERROR, Answer;
    /// A body or message over its bound.
    MessageTooLarge = "message_too_large", 413, code::INVALID_REQUEST, Answer;
    /// The body is not JSON.
    ParseError = "parse_error", 400, code::PARSE_ERROR, Status;
    /// JSON, but not a request this endpoint accepts.
    InvalidRequest = "invalid_request", 400, code::INVALID_REQUEST, Status;
    /// The parameters do not fit any method, or could be read in more than one way.
    InvalidParams = "invalid_params", 400, code::INVALID_PARAMS, Answer;
    /// The worker answered with something that is no message.
    AnswerInvalid = "answer_invalid", 502, code::SERVER_ERROR, Answer;
    /// The worker's answer is over its bound.
    AnswerTooLarge = "answer_too_large", 502, code::SERVER_ERROR, Answer;
    /// Neither `initialize` nor a session id. The code is the one that makes a client which tries
    /// the stateless revisions first fall back to `initialize` (2026-07-28, basic/versioning).
    SessionRequired = "session_required", 400, code::SERVER_ERROR, Status;
    /// `MCP-Protocol-Version` names a revision that is not served; the code as above.
    UnsupportedVersion = "unsupported_version", 400, code::SERVER_ERROR, Status;
    /// `Accept` excludes what the endpoint answers with.
    NotAcceptable = "not_acceptable", 406, code::INVALID_REQUEST, Status;
    /// The body's media type is not `application/json`.
    UnsupportedMediaType = "unsupported_media_type", 415, code::INVALID_REQUEST, Status;
    /// stdiopool is shutting down.
    Draining = "draining", 503, code::SERVER_ERROR, Answer;
    /// A fault of stdiopool.
    Internal = "internal", 500, code::INTERNAL_ERROR, Answer;
}

/// The HTTP status of the answer to a request that failed.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum FailureStatus {
    /// 200 where the reason is the pool's, a worker's or a limit's: clients that are told so by a status end their
    /// session, or show their user the status only (docs/clients.md).
    #[default]
    Auto,
    /// The status of the table, for balancers that look at it.
    Http,
}

impl Reason {
    /// The status of the answer to a request that failed for it. A failure that answers none has always that of the
    /// table: nothing else tells it.
    pub const fn status_of_answer(self, statuses: FailureStatus) -> u16 {
        match (statuses, self.told_by()) {
            (FailureStatus::Auto, ToldBy::Answer) => 200,
            (FailureStatus::Auto, ToldBy::Status) | (FailureStatus::Http, _) => self.http_status(),
        }
    }

    /// Whether the log may have the message of a failure for it: one of a config quotes what its caller set.
    pub const fn may_be_logged(self) -> bool {
        !matches!(self, Self::ConfigInvalid)
    }
}

macro_rules! faults {
    ($($(#[doc = $doc:literal])* $variant:ident = $status:literal, $code:expr;)*) => {
        /// A fault of a request of the stateless revisions, by the codes that those have for it. Its error has no
        /// `data.reason`.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum FaultKind { $($(#[doc = $doc])* $variant,)* }

        impl FaultKind {
            /// Every kind, in the table's order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The HTTP status.
            pub const fn http_status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }

            /// The JSON-RPC error code.
            pub const fn rpc_code(self) -> i32 {
                match self { $(Self::$variant => $code,)* }
            }

            /// The situation in which the fault is told, for people.
            pub const fn about(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),*),)* }
            }
        }
    };
}

faults! {
    /// A response, which clients of these revisions do not send.
    InvalidRequest = 400, code::INVALID_REQUEST;
    /// The parameters or their metadata do not fit the method.
    InvalidParams = 400, code::INVALID_PARAMS;
    /// The request names a tool, prompt or resource of none of the servers on offer.
    Unaddressed = 200, code::INVALID_PARAMS;
    /// The method is unknown, or the server has not got what it belongs to.
    NoMethod = 404, code::METHOD_NOT_FOUND;
    /// A header is not what the body says.
    HeaderMismatch = 400, code::HEADER_MISMATCH;
    /// The client did not declare a capability that the server needs.
    MissingCapability = 400, code::MISSING_CAPABILITY;
    /// The revision is not served.
    UnsupportedVersion = 400, code::UNSUPPORTED_VERSION;
}

macro_rules! http_refusals {
    ($($(#[doc = $doc:literal])* $variant:ident = $status:literal;)*) => {
        /// Why nothing of a request is looked at but its head, where HTTP has a status for that. A message says
        /// [`Reason::InvalidRequest`] then.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum HttpRefusal { $($(#[doc = $doc])* $variant,)* }

        impl HttpRefusal {
            /// Every refusal, in the table's order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The HTTP status.
            pub const fn http_status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }

            /// The situation in which the refusal is given, for people.
            pub const fn about(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),*),)* }
            }
        }
    };
}

http_refusals! {
    /// The head or the length of the body can be read in two ways, or the host is missing.
    Ambiguous = 400;
    /// `Expect` says something else than `100-continue` (RFC 9110, 10.1.1).
    Expectation = 417;
    /// `Transfer-Encoding` names a coding that is not understood (RFC 9112, 6.1).
    Coding = 501;
    /// The peer has as many connections as it may. What is told is no message.
    Connections = 503;
}

macro_rules! exits {
    ($($(#[doc = $doc:literal])* $variant:ident = $text:literal, $class:ident;)*) => {
        /// Why a worker is gone; the label `reason` of `worker_exits_total`, and `reason` of events and of workers that have
        /// ended.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum ExitReason { $($(#[doc = $doc])* $variant,)* }

        impl ExitReason {
            /// Every reason, in the table's order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// As it stands in labels and in the admin API.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// Of what kind such an end is.
            pub const fn class(self) -> ExitClass {
                match self { $(Self::$variant => ExitClass::$class,)* }
            }

            /// The situation in which the reason is given, for people.
            pub const fn about(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),*),)* }
            }
        }
    };
}

/// Of what kind the end of a worker is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExitClass {
    /// As the pool is meant to work.
    Normal,
    /// What the operator did, or a change of what it is started with.
    Operator,
    /// A fault of the worker's own.
    Failure,
}

exits! {
    /// Idle for `idle_timeout`.
    Idle = "idle", Normal;
    /// Made room for another key: a place, memory, or a limit that was lowered.
    Evicted = "evicted", Normal;
    /// Older than `max_lifetime`.
    Lifetime = "lifetime", Normal;
    /// Served `max_requests`.
    Requests = "requests", Normal;
    /// Over its memory limit.
    Memory = "memory", Failure;
    /// More processes than it may have.
    LimitPids = "limit_pids", Failure;
    /// The worker's folders take more of the disk than they may.
    LimitDisk = "limit_disk", Failure;
    /// Ended by itself after it was ready.
    Crashed = "crashed", Failure;
    /// Did not answer a request that was cancelled, and could not be trusted with another.
    Unanswered = "unanswered", Failure;
    /// Never became ready.
    StartFailed = "start_failed", Failure;
    /// Did not speak the protocol's era of its client, and was replaced by one that is spoken to in the other.
    Declined = "declined", Normal;
    /// The server's or tenant's config changed.
    Config = "config", Operator;
    /// The supervisor is shutting down.
    Drained = "drained", Operator;
    /// Stopped through the admin API.
    Admin = "admin", Operator;
    /// The worker's only session or request ended (`share = "session"` or `"request"`).
    Released = "released", Normal;
}

impl AsRef<str> for ExitReason {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

macro_rules! api_reasons {
    ($($(#[doc = $doc:literal])* $variant:ident = $text:literal, $status:literal;)*) => {
        /// Why the admin API refuses something; `reason` of its errors.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum ApiReason { $($(#[doc = $doc])* $variant,)* }

        impl ApiReason {
            /// Every reason, in the table's order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// As it stands in `reason`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// The HTTP status.
            pub const fn http_status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }

            /// The situation in which the reason is given, for people.
            pub const fn about(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),*),)* }
            }
        }
    };
}

api_reasons! {
    /// The body, the query or an id cannot be read.
    InvalidRequest = "invalid_request", 400;
    /// The admin token is missing or wrong.
    Unauthorized = "unauthorized", 401;
    /// From a web page, or by a name that is not this machine's.
    Forbidden = "forbidden", 403;
    /// There is no such thing.
    NotFound = "not_found", 404;
    /// The endpoint has another method.
    MethodNotAllowed = "method_not_allowed", 405;
    /// pool.toml has mistakes: nothing was changed.
    ConfigInvalid = "config_invalid", 409;
    /// There is one of that name already.
    Exists = "exists", 409;
    /// The request cannot be carried out as stdiopool is set up.
    Unavailable = "unavailable", 409;
    /// The disk, the system, or a fault of stdiopool.
    Internal = "internal", 500;
}

/// How a command ends: its exit code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum CommandEnd {
    /// The command did what was asked for.
    Done = 0,
    /// What was asked for failed.
    Failed = 1,
    /// The command line cannot be understood as it was written.
    Usage = 2,
}

impl From<CommandEnd> for ExitCode {
    fn from(end: CommandEnd) -> Self {
        Self::from(end as u8)
    }
}

#[cfg(test)]
#[path = "outcomes_tests.rs"]
mod tests;

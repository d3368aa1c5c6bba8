//! The one table of failures a caller can see: reason, HTTP status, JSON-RPC code.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::code;
use crate::held::Full;
use crate::ids::RequestId;

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $text:literal, $status:literal, $code:expr;)*) => {
        /// Why stdiopool itself did not pass a request on; `data.reason` of the JSON-RPC error.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Reason { $($(#[$doc])* $variant,)* }

        impl Reason {
            /// Every reason, in the table's order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// As it stands in `data.reason` and in metric labels.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// The HTTP status when nothing has been sent yet.
            pub const fn http_status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }

            /// The JSON-RPC error code.
            pub const fn rpc_code(self) -> i32 {
                match self { $(Self::$variant => $code,)* }
            }
        }
    };
}

reasons! {
    /// No slot within the queue timeout, or the queue is full.
    PoolExhausted = "pool_exhausted", 503, code::SERVER_ERROR;
    /// The package of its server is still being installed; the failure says how far that is.
    Installing = "installing", 503, code::SERVER_ERROR;
    /// The process is there, and has not answered its first request within the caller's wait.
    Starting = "starting", 503, code::SERVER_ERROR;
    /// All processes that may serve it have as many requests as they may.
    Busy = "busy", 503, code::SERVER_ERROR;
    /// The tenant's own limit.
    TenantLimit = "tenant_limit", 429, code::SERVER_ERROR;
    /// All tenants together hold as much memory as they may.
    MemoryExhausted = "memory_exhausted", 503, code::SERVER_ERROR;
    /// The body stopped coming.
    BodyTimeout = "body_timeout", 408, code::INVALID_REQUEST;
    /// The process exited before it was ready, or never answered.
    StartFailed = "start_failed", 502, code::SERVER_ERROR;
    /// It failed repeatedly; the failure says when it will be tried again.
    CircuitOpen = "circuit_open", 503, code::SERVER_ERROR;
    /// The process ended with this request in flight.
    WorkerExited = "worker_exited", 502, code::SERVER_ERROR;
    /// No answer in time; the worker was told that the request is cancelled.
    RequestTimeout = "request_timeout", 504, code::SERVER_ERROR;
    /// The config does not fit the server's schema, or a needed value is missing.
    ConfigInvalid = "config_invalid", 400, code::INVALID_PARAMS;
    /// No credentials, or not valid ones.
    Unauthorized = "unauthorized", 401, code::SERVER_ERROR;
    /// The issuer's keys are not to be had, so that nobody's token can be checked; or a provider gives no
    /// access token for a server.
    AuthUnavailable = "auth_unavailable", 503, code::SERVER_ERROR;
    /// Valid credentials that may not be used for this.
    InsufficientScope = "insufficient_scope", 403, code::SERVER_ERROR;
    /// Known caller, not allowed.
    Forbidden = "forbidden", 403, code::SERVER_ERROR;
    /// No such thing, or not the caller's.
    NotFound = "not_found", 404, code::SERVER_ERROR;
    /// The session has ended while this request of it was under way.
    SessionEnded = "session_ended", 404, code::SERVER_ERROR;
    /// A body or message over its bound.
    MessageTooLarge = "message_too_large", 413, code::INVALID_REQUEST;
    /// The body is not JSON.
    ParseError = "parse_error", 400, code::PARSE_ERROR;
    /// JSON, but not a request this endpoint accepts.
    InvalidRequest = "invalid_request", 400, code::INVALID_REQUEST;
    /// The parameters do not fit any method, or could be read in more than one way.
    InvalidParams = "invalid_params", 400, code::INVALID_PARAMS;
    /// The worker answered with something that is no message.
    AnswerInvalid = "answer_invalid", 502, code::SERVER_ERROR;
    /// The worker's answer is over its bound.
    AnswerTooLarge = "answer_too_large", 502, code::SERVER_ERROR;
    /// Neither `initialize` nor a session id. The code is the one that makes a client which tries
    /// the stateless revisions first fall back to `initialize` (2026-07-28, basic/versioning).
    SessionRequired = "session_required", 400, code::SERVER_ERROR;
    /// `MCP-Protocol-Version` names a revision that is not served; the code as above.
    UnsupportedVersion = "unsupported_version", 400, code::SERVER_ERROR;
    /// `Accept` excludes what the endpoint answers with.
    NotAcceptable = "not_acceptable", 406, code::INVALID_REQUEST;
    /// The body's media type is not `application/json`.
    UnsupportedMediaType = "unsupported_media_type", 415, code::INVALID_REQUEST;
    /// stdiopool is shutting down.
    Draining = "draining", 503, code::SERVER_ERROR;
    /// A fault of stdiopool.
    Internal = "internal", 500, code::INTERNAL_ERROR;
}

/// Which HTTP status the answer to a request has that failed.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum FailureStatus {
    /// 200 where the reason is the pool's, a worker's or a limit's: clients that are told so by a status end their
    /// session, or show their user the status only (docs/clients.md).
    #[default]
    Auto,
    /// That of the table, for balancers that look at it.
    Http,
}

impl Reason {
    /// The status of the answer to a request that failed for it. A failure that answers none has always that of the
    /// table: nothing else tells it.
    pub const fn status_of_answer(self, statuses: FailureStatus) -> u16 {
        match statuses {
            FailureStatus::Auto if self.is_told_by_message() => 200,
            FailureStatus::Auto | FailureStatus::Http => self.http_status(),
        }
    }

    /// Whether the log may have the message of a failure for it: one of a config quotes what its caller set.
    pub const fn may_be_logged(self) -> bool {
        !matches!(self, Self::ConfigInvalid)
    }

    /// Whether nothing is wrong with the form of the request, nor with its session or its credentials, for which the
    /// specification has statuses.
    const fn is_told_by_message(self) -> bool {
        match self {
            Self::PoolExhausted
            | Self::Installing
            | Self::Starting
            | Self::Busy
            | Self::TenantLimit
            | Self::MemoryExhausted
            | Self::StartFailed
            | Self::CircuitOpen
            | Self::WorkerExited
            | Self::SessionEnded
            | Self::RequestTimeout
            | Self::AuthUnavailable
            | Self::ConfigInvalid
            | Self::InvalidParams
            | Self::AnswerInvalid
            | Self::AnswerTooLarge
            | Self::MessageTooLarge
            | Self::Draining
            | Self::Internal => true,
            Self::BodyTimeout
            | Self::Unauthorized
            | Self::InsufficientScope
            | Self::Forbidden
            | Self::NotFound
            | Self::ParseError
            | Self::InvalidRequest
            | Self::SessionRequired
            | Self::UnsupportedVersion
            | Self::NotAcceptable
            | Self::UnsupportedMediaType => false,
        }
    }
}

/// A failure on its way to a caller: what happened, why, and what to do about it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The class it falls into.
    pub reason: Reason,
    /// A lowercase fragment with the actual value, the limit and the key to change.
    pub message: String,
    /// When a retry can help: how long to wait first.
    pub retry_after: Option<Duration>,
    /// The scopes that would be enough, blanks between them.
    pub needed_scope: Option<String>,
    /// What programs may want to read of it; becomes part of `error.data`.
    pub details: Option<Box<Map<String, Value>>>,
    /// The request whose failure it is, once the log has it too.
    pub request: Option<RequestId>,
}

impl Failure {
    /// A failure that a retry will not mend by itself.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            retry_after: None,
            needed_scope: None,
            details: None,
            request: None,
        }
    }

    /// Says that a retry after `wait` may succeed.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Says which scopes would be enough, blanks between them.
    #[must_use]
    pub fn needing(mut self, scope: &str) -> Self {
        self.needed_scope = Some(scope.to_owned());
        self
    }

    /// Adds a member to `error.data`.
    #[must_use]
    pub fn detail(mut self, name: &str, value: Value) -> Self {
        let details = self.details.get_or_insert_default();
        details.insert(name.to_owned(), value);
        self
    }

    /// Says which request it is that failed.
    #[must_use]
    pub fn of_request(mut self, request: RequestId) -> Self {
        self.request = Some(request);
        self
    }

    /// `Retry-After` in whole seconds, rounded up (RFC 9110, 10.2.3).
    pub fn retry_after_seconds(&self) -> Option<u64> {
        self.retry_after
            .map(|d| d.as_secs() + u64::from(d.subsec_nanos() > 0))
    }

    /// The JSON-RPC error response. `id` is raw JSON; `None` becomes `null`.
    pub fn to_response(&self, id: Option<&str>) -> String {
        let mut data = json!({ "reason": self.reason.as_str() });
        for (name, value) in self.details.iter().flat_map(|details| details.iter()) {
            data[name] = value.clone();
        }
        if let Some(wait) = self.retry_after {
            // Rounded up: whoever comes back then must not be too early.
            let millis = u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
            data["retryAfterMs"] = Value::from(millis);
        }
        if let Some(request) = self.request {
            data["requestId"] = Value::from(request.to_string());
        }
        let error = json!({
            "code": self.reason.rpc_code(),
            "message": self.message,
            "data": data,
        });
        format!(
            r#"{{"jsonrpc":"2.0","id":{},"error":{error}}}"#,
            id.unwrap_or("null")
        )
    }
}

/// How long whoever was refused memory waits before it asks again: nobody knows when others give theirs back.
const RETRY_FULL: Duration = Duration::from_secs(1);

impl From<Full> for Failure {
    /// The failure of a request whose bytes were not taken in. It says nothing of what others hold.
    fn from(full: Full) -> Self {
        let (reason, why) = match full {
            Full::OfTenant { held, limit } => (
                Reason::TenantLimit,
                format!(
                    "what is held for this tenant (bodies of requests, callers, configs, lists of servers) takes {held} bytes of memory already, of the {limit} that it may (send less at once, or raise `limits.memory_held`)"
                ),
            ),
            Full::OfAll { limit, .. } => (
                Reason::MemoryExhausted,
                format!(
                    "what all tenants together may make stdiopool hold, {limit} bytes, is used up (raise `http.memory`)"
                ),
            ),
        };
        Self::new(reason, why).retry_after(RETRY_FULL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_reasons_is_a_contract() {
        let table: String = Reason::ALL
            .iter()
            .map(|r| format!("{} {} {}\n", r.as_str(), r.http_status(), r.rpc_code()))
            .collect();
        insta::assert_snapshot!(table, @r"
        pool_exhausted 503 -32000
        installing 503 -32000
        starting 503 -32000
        busy 503 -32000
        tenant_limit 429 -32000
        memory_exhausted 503 -32000
        body_timeout 408 -32600
        start_failed 502 -32000
        circuit_open 503 -32000
        worker_exited 502 -32000
        request_timeout 504 -32000
        config_invalid 400 -32602
        unauthorized 401 -32000
        auth_unavailable 503 -32000
        insufficient_scope 403 -32000
        forbidden 403 -32000
        not_found 404 -32000
        session_ended 404 -32000
        message_too_large 413 -32600
        parse_error 400 -32700
        invalid_request 400 -32600
        invalid_params 400 -32602
        answer_invalid 502 -32000
        answer_too_large 502 -32000
        session_required 400 -32000
        unsupported_version 400 -32000
        not_acceptable 406 -32600
        unsupported_media_type 415 -32600
        draining 503 -32000
        internal 500 -32603
        ");
    }

    #[test]
    fn what_is_wrong_with_a_request_is_told_by_a_status_whatever_is_set() {
        let of = |reason: Reason| {
            let of = |statuses| reason.status_of_answer(statuses);
            (of(FailureStatus::Auto), of(FailureStatus::Http))
        };
        assert_eq!(of(Reason::Busy), (200, 503));
        assert_eq!(of(Reason::TenantLimit), (200, 429));
        assert_eq!(of(Reason::NotFound), (404, 404));
        assert_eq!(of(Reason::ConfigInvalid), (200, 400));
        assert_eq!(of(Reason::MessageTooLarge), (200, 413));
        assert_eq!(of(Reason::AnswerTooLarge), (200, 502));
        for reason in Reason::ALL {
            assert_eq!(of(*reason).1, reason.http_status());
            let is_of_request = (400..=415).contains(&reason.http_status());
            assert!(is_of_request || of(*reason).0 == 200, "{reason:?}");
        }
    }

    #[test]
    fn whoever_is_refused_memory_is_told_whose_limit_it_was() {
        let full = Full::OfTenant { held: 7, limit: 9 };
        let failure = Failure::from(full);
        assert_eq!(failure.reason, Reason::TenantLimit);
        assert!(
            failure.message.contains("`limits.memory_held`"),
            "{failure}"
        );
        assert!(failure.retry_after.is_some());
        let full = Full::OfAll {
            held: 12_345,
            limit: 23_456,
        };
        let failure = Failure::from(full);
        assert_eq!(failure.reason, Reason::MemoryExhausted);
        assert!(failure.message.contains("`http.memory`"), "{failure}");
        assert!(
            !failure.message.contains("12345"),
            "what others hold: {failure}"
        );
    }

    #[test]
    fn a_response_carries_id_reason_and_wait() {
        let failure = Failure::new(Reason::PoolExhausted, "queue full")
            .retry_after(Duration::from_millis(1500));
        let response: Value =
            serde_json::from_str(&failure.to_response(Some("\"a\""))).expect("is JSON");
        assert_eq!(response["id"], "a");
        assert_eq!(response["error"]["data"]["reason"], "pool_exhausted");
        assert_eq!(response["error"]["data"]["retryAfterMs"], 1500);
        assert_eq!(failure.retry_after_seconds(), Some(2));
    }
}

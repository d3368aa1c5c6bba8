//! A failure on its way to its caller.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::outcomes::Reason;
use super::writer::error_response;
use crate::held::Full;
use crate::ids::RequestId;

/// How soon whoever comes to a stdiopool that shuts down is told to try again.
const RETRY_DRAINED: Duration = Duration::from_secs(5);

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

    /// What whoever comes is told while stdiopool shuts down.
    pub fn draining() -> Self {
        Self::new(Reason::Draining, "stdiopool is shutting down").retry_after(RETRY_DRAINED)
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
        error_response(id.unwrap_or("null"), &error)
    }
}

/// How long whoever was refused memory waits before it asks again: nobody knows when others give theirs back.
const RETRY_FULL: Duration = Duration::from_secs(1);

impl From<Full> for Failure {
    /// The failure of a request whose bytes were not taken in. The text says nothing of what others hold.
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

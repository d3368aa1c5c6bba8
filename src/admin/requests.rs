//! Single requests of late, as the API tells of them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::worker_ids::optional_worker_id;
use crate::ids::{ServerName, TenantId, WorkerId};
use crate::telemetry::{RequestTrace, SLOW};

/// Rows that are told when `limit` is not given, and at the most.
pub(super) const DEFAULT_ROWS: usize = 100;
/// As many as are remembered.
pub(super) const MAX_ROWS: usize = crate::telemetry::RECENT + crate::telemetry::NOTABLE;

/// Which requests are asked for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RequestFilter {
    /// Of that tenant.
    pub tenant: Option<String>,
    /// For that server.
    pub server: Option<String>,
    /// In that state.
    pub state: Option<RequestState>,
    /// So many at the most.
    pub limit: usize,
}

/// What a request is asked for by, beside names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RequestState {
    /// Requests that are not over.
    Open,
    /// Requests that failed, or that nobody waited for.
    Failed,
    /// Requests that took a second or more, or are open for as long.
    Slow,
}

impl RequestState {
    /// `open`, `failed` or `slow`.
    pub fn of(text: &str) -> Option<Self> {
        match text {
            "open" => Some(Self::Open),
            "failed" => Some(Self::Failed),
            "slow" => Some(Self::Slow),
            _ => None,
        }
    }
}

impl RequestFilter {
    /// Whether that request is asked for.
    pub fn is_meant(&self, request: &RequestTrace) -> bool {
        let is_it = |wanted: &Option<String>, is: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| is == Some(wanted))
        };
        let took = request.passed.ended.unwrap_or(request.age);
        let is_failed = || {
            let outcome = request.passed.outcome.map(|outcome| outcome.as_str());
            matches!(outcome, Some("failed" | "cancelled"))
        };
        is_it(&self.tenant, request.tenant.as_ref().map(TenantId::as_str))
            && is_it(
                &self.server,
                request.server.as_ref().map(ServerName::as_str),
            )
            && self.state.is_none_or(|state| match state {
                RequestState::Open => request.is_open(),
                RequestState::Failed => is_failed(),
                RequestState::Slow => took >= SLOW,
            })
    }
}

/// One request and its way. Times are in milliseconds; those of phases that it has not come to are missing.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct RequestRow {
    /// `data.requestId` of an error, `request{id=…}` in the log.
    pub id: String,
    /// When it came, in UTC.
    pub began: String,
    /// How long ago that is.
    pub age_ms: f64,
    /// The tenant, once its credentials were looked at.
    pub tenant: Option<TenantId>,
    /// The server.
    pub server: Option<ServerName>,
    /// What it asks for; `several` for a batch of different ones.
    pub method: Option<String>,
    /// The session of the request, as the log calls it.
    pub session: Option<String>,
    /// The trace that it is part of (`traceparent`), in hexadecimal digits.
    #[serde(default)]
    pub trace_id: Option<String>,
    /// The worker that it was handed to.
    #[serde(with = "optional_worker_id")]
    pub worker: Option<WorkerId>,
    /// `open`, or what became of it: `ok`, `error` (the server's), `failed` (stdiopool's) or `cancelled`.
    pub outcome: String,
    /// Why it failed.
    pub reason: Option<String>,
    /// Until it was handed to a worker, without the wait for one: its body, credentials, limits and way.
    pub before_ms: Option<f64>,
    /// The request waited for a worker: for a place, its start, its waking, the install of its package.
    pub waited_ms: f64,
    /// From when its worker had it until the last answer came.
    pub worker_ms: Option<f64>,
    /// From then until the answer was handed on.
    pub after_ms: Option<f64>,
    /// All of it; of an open one, until now.
    pub total_ms: f64,
}

impl From<RequestTrace> for RequestRow {
    fn from(request: RequestTrace) -> Self {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let passed = request.passed;
        let outcome = match (passed.ended, passed.outcome) {
            (Some(_), Some(outcome)) => outcome.as_str(),
            _ => "open",
        };
        Self {
            id: request.id.to_string(),
            began: humantime::format_rfc3339_millis(request.began).to_string(),
            age_ms: ms(request.age),
            tenant: request.tenant,
            server: request.server,
            method: request.method.map(str::to_owned),
            session: request.session,
            trace_id: request.trace.map(|id| id.to_string()),
            worker: passed.worker,
            outcome: outcome.to_owned(),
            reason: passed.reason.map(str::to_owned),
            before_ms: passed.before().map(ms),
            waited_ms: ms(passed.waited),
            worker_ms: passed.at_worker().map(ms),
            after_ms: passed.after().map(ms),
            total_ms: ms(passed.ended.unwrap_or(request.age)),
        }
    }
}

//! The last requests, for whoever asks what became of one.
//!
//! Two queues, both bounded: all requests of late, and those that were pushed out of it while they were open, had failed
//! or had been slow. A request is put there when it begins, so that what hangs is found as well.

use std::collections::VecDeque;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::labels::Outcome;
use super::request_progress::Passed;
use super::request_span::RequestSpan;
use crate::ids::{RequestId, ServerName, TenantId};
use crate::protocol::TraceId;

/// Requests that are remembered whatever became of them. Each takes some 300 bytes, and more where it is part of a trace.
pub const RECENT: usize = 4096;
/// Requests that are remembered besides: open ones, failed ones and slow ones that came before those.
pub const NOTABLE: usize = 1024;
/// From which time on a request is slow.
pub const SLOW: Duration = Duration::from_secs(1);

/// The recent requests of this process: ids of requests are a process's own, too.
static REQUESTS: LazyLock<Mutex<RecentRequests>> =
    LazyLock::new(|| Mutex::new(RecentRequests::new(RECENT, NOTABLE)));

/// Remembers a request that begins, or that is refused before; the second time nothing.
pub fn remember(span: &Arc<RequestSpan>) {
    if span.set_remembered() {
        return;
    }
    let span = Arc::clone(span);
    let forgotten = REQUESTS.lock().put(span);
    // Not while others wait for the lock.
    drop(forgotten);
}

/// The request with that id, as far as it has come; `None` if it is not remembered.
pub fn request(id: RequestId) -> Option<RequestTrace> {
    let span = REQUESTS.lock().find(id)?;
    Some(RequestTrace::of(&span))
}

/// The requests that are remembered and meant, the latest first, `most` at the most.
pub fn requests(most: usize, is_meant: impl Fn(&RequestTrace) -> bool) -> Vec<RequestTrace> {
    let spans = REQUESTS.lock().all();
    let traces = spans.iter().rev().map(|span| RequestTrace::of(span));
    traces.filter(is_meant).take(most).collect()
}

/// What is known of one request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RequestTrace {
    /// The id of the request.
    pub id: RequestId,
    /// When it came.
    pub began: SystemTime,
    /// How long ago that is.
    pub age: Duration,
    /// The tenant of the request, if that was found out.
    pub tenant: Option<TenantId>,
    /// The server of the request, if that was found out.
    pub server: Option<ServerName>,
    /// What it asks for, if that was read.
    pub method: Option<&'static str>,
    /// The session of the request as it may be shown.
    pub session: Option<String>,
    /// The trace that it is part of, if it is one of one.
    pub trace: Option<TraceId>,
    /// How far it has come.
    pub passed: Passed,
}

impl RequestTrace {
    fn of(span: &RequestSpan) -> Self {
        let age = Instant::now().saturating_duration_since(span.began());
        let now = SystemTime::now();
        Self {
            id: span.id(),
            began: now.checked_sub(age).unwrap_or(now),
            age,
            tenant: span.tenant().cloned(),
            server: span.server().cloned(),
            method: span.method(),
            session: span.session_fingerprint(),
            trace: span.trace_id(),
            passed: span.progress().now(),
        }
    }

    /// Whether it is not over.
    pub fn is_open(&self) -> bool {
        self.passed.ended.is_none()
    }
}

/// Bounded memory of requests.
#[derive(Debug)]
struct RecentRequests {
    recent: VecDeque<Arc<RequestSpan>>,
    notable: VecDeque<Arc<RequestSpan>>,
    most_recent: usize,
    most_notable: usize,
}

impl RecentRequests {
    fn new(most_recent: usize, most_notable: usize) -> Self {
        Self {
            recent: VecDeque::new(),
            notable: VecDeque::new(),
            most_recent,
            most_notable,
        }
    }

    /// Puts one in; the one that is forgotten for it.
    fn put(&mut self, span: Arc<RequestSpan>) -> Option<Arc<RequestSpan>> {
        let old = match self.recent.len() < self.most_recent {
            true => None,
            false => self.recent.pop_front(),
        };
        self.recent.push_back(span);
        let old = old?;
        if !is_notable(&old.progress().now()) {
            return Some(old);
        }
        self.notable.push_back(old);
        match self.notable.len() > self.most_notable {
            true => self.notable.pop_front(),
            false => None,
        }
    }

    fn find(&self, id: RequestId) -> Option<Arc<RequestSpan>> {
        let mut all = self.recent.iter().chain(&self.notable);
        all.find(|span| span.id() == id).cloned()
    }

    /// All, the oldest first.
    fn all(&self) -> Vec<Arc<RequestSpan>> {
        self.notable.iter().chain(&self.recent).cloned().collect()
    }
}

/// Whether somebody may ask for a request later than for others.
fn is_notable(passed: &Passed) -> bool {
    let is_slow = passed.ended.is_none_or(|ended| ended >= SLOW);
    is_slow || matches!(passed.outcome, Some(Outcome::Failed | Outcome::Cancelled))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_was_slow_or_is_open_is_kept_longer_and_all_is_bounded() {
        let mut kept = RecentRequests::new(2, 3);
        let mut begin = |outcome: Option<(Outcome, u64)>| {
            let span = RequestSpan::begin();
            if let Some((outcome, ms)) = outcome {
                span.progress()
                    .ended(Duration::from_millis(ms), outcome, None);
            }
            kept.put(Arc::clone(&span));
            span.id()
        };
        let quick = begin(Some((Outcome::Ok, 1)));
        let failed = begin(Some((Outcome::Failed, 1)));
        let slow = begin(Some((Outcome::Ok, 1_000)));
        let open = begin(None);
        let error_of_server = begin(Some((Outcome::Error, 1)));
        let last = [begin(Some((Outcome::Ok, 1))), begin(Some((Outcome::Ok, 1)))];
        for id in [failed, slow, open, last[0], last[1]] {
            assert!(kept.find(id).is_some());
        }
        for id in [quick, error_of_server] {
            assert!(kept.find(id).is_none());
        }
        let ids: Vec<_> = kept.all().iter().map(|span| span.id()).collect();
        assert_eq!(ids, [failed, slow, open, last[0], last[1]]);
        for _ in 0..10 {
            kept.put(RequestSpan::begin());
        }
        assert_eq!(kept.all().len(), 5);
    }

    #[test]
    fn one_is_found_by_its_id_with_all_that_is_known_of_it() {
        let span = RequestSpan::begin();
        span.is_of(&TenantId::new("acme"));
        remember(&span);
        remember(&span);
        let found = request(span.id()).expect("just remembered");
        assert_eq!(found.tenant, Some(TenantId::new("acme")));
        assert!(found.is_open());
        span.progress().ended(found.age, Outcome::Ok, None);
        assert!(!request(span.id()).expect("still").is_open());
        let listed = requests(10, |trace| trace.id == span.id());
        assert_eq!(listed.len(), 1);
    }
}

//! The request that a log line is of.
//!
//! A span of `tracing` would say so too, and cost each call more than all else that the supervisor logs of it
//! (docs/decisions/038-spans-of-requests.md). So what a request is known by is kept beside the task that polls it, and is
//! read when something is logged, which it hardly ever is.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};

use serde_json::{Map, Value};
use tokio::time::Instant;

use super::labels::Method;
use super::request_progress::Progress;
use super::trace_part::TracePart;
use crate::ids::{RequestId, ServerName, TenantId, session_fingerprint};
use crate::protocol::{TraceContext, TraceId};

tokio::task_local! {
    static CURRENT: Arc<RequestSpan>;
}

/// No message has said its method.
const NO_METHOD: u8 = u8::MAX;
/// Several messages have said different ones.
const SEVERAL: u8 = u8::MAX - 1;

/// The span of one HTTP request of the front door, as far as it is known yet.
pub struct RequestSpan {
    id: RequestId,
    tenant: OnceLock<TenantId>,
    server: OnceLock<ServerName>,
    /// The place of its method among [`Method::ALL`].
    method: AtomicU8,
    /// The id of its session, which is never shown.
    session: OnceLock<Arc<str>>,
    began: Instant,
    progress: Progress,
    is_remembered: AtomicBool,
    /// The context in its headers. Boxed, as few have one.
    head_context: OnceLock<Box<TraceContext>>,
    /// The request's part of a trace, if there is one.
    trace: OnceLock<Box<TracePart>>,
}

impl RequestSpan {
    /// Of a request that has just come.
    pub fn begin() -> Arc<Self> {
        Arc::new(Self {
            id: RequestId::next(),
            tenant: OnceLock::new(),
            server: OnceLock::new(),
            method: AtomicU8::new(NO_METHOD),
            session: OnceLock::new(),
            began: Instant::now(),
            progress: Progress::default(),
            is_remembered: AtomicBool::new(false),
            head_context: OnceLock::new(),
            trace: OnceLock::new(),
        })
    }

    /// The span of the request that the calling code runs for; `None` where it runs for none, as in a worker's tasks.
    pub fn current() -> Option<Arc<Self>> {
        CURRENT.try_with(Arc::clone).ok()
    }

    /// Shows the current one to `say`, if there is one.
    pub fn with_current(say: impl FnOnce(&Self)) {
        // Without one there is nothing to say it of.
        let _none = CURRENT.try_with(|span| say(span));
    }

    /// The number of the current one.
    pub fn current_id() -> Option<RequestId> {
        CURRENT.try_with(|span| span.id).ok()
    }

    /// When the current one came.
    pub fn current_began() -> Option<Instant> {
        CURRENT.try_with(|span| span.began).ok()
    }

    /// What the worker is told with the current one of the trace that it is part of; `None`: its message goes on as it is.
    pub fn trace_for_worker() -> Option<TraceContext> {
        CURRENT
            .try_with(|span| span.trace()?.for_worker())
            .ok()
            .flatten()
    }

    /// The request's id.
    pub fn id(&self) -> RequestId {
        self.id
    }

    /// When the request came.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// Notes that the request is remembered; whether it was before.
    pub(super) fn set_remembered(&self) -> bool {
        self.is_remembered.swap(true, Ordering::Relaxed)
    }

    /// How far the request has come.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// The request's tenant, if that is known.
    pub fn tenant(&self) -> Option<&TenantId> {
        self.tenant.get()
    }

    /// Notes that the request is of that tenant.
    pub fn is_of(&self, tenant: &TenantId) {
        self.tenant.get_or_init(|| tenant.clone());
    }

    /// Notes that the request is for that server.
    pub fn is_for(&self, server: &ServerName) {
        self.server.get_or_init(|| server.clone());
    }

    /// A message of it asks for that.
    pub fn asks(&self, method: Method) {
        // The variants are their own indices, of which there are few.
        let method = u8::try_from(method as usize).unwrap_or(SEVERAL);
        let first =
            self.method
                .compare_exchange(NO_METHOD, method, Ordering::Relaxed, Ordering::Relaxed);
        if first.is_err_and(|before| before != method) {
            self.method.store(SEVERAL, Ordering::Relaxed);
        }
    }

    /// Notes that the request belongs to the session with that id.
    pub fn is_in(&self, session: &Arc<str>) {
        self.session.get_or_init(|| Arc::clone(session));
    }

    /// Notes the context in its headers.
    pub fn came_with(&self, context: TraceContext) {
        self.head_context.get_or_init(|| Box::new(context));
    }

    /// The context in its headers, if they have one.
    pub(super) fn head_context(&self) -> Option<&TraceContext> {
        self.head_context.get().map(|context| &**context)
    }

    /// Notes which part of a trace it is.
    pub(super) fn set_trace(&self, part: TracePart) {
        self.trace.get_or_init(|| Box::new(part));
    }

    /// The request's part of a trace, if there is one.
    pub fn trace(&self) -> Option<&TracePart> {
        self.trace.get().map(|part| &**part)
    }

    /// The request's part of a trace, if its spans are exported once it is over.
    pub fn sampled(&self) -> Option<&TracePart> {
        self.trace().filter(|part| part.is_sampled())
    }

    /// The trace that it is part of, if it is one of one.
    pub fn trace_id(&self) -> Option<TraceId> {
        let of_head = || self.head_context().map(|context| context.trace);
        self.trace().map(TracePart::id).or_else(of_head)
    }

    /// The request's server, if that is known.
    pub fn server(&self) -> Option<&ServerName> {
        self.server.get()
    }

    /// The session of the request as it may be shown, if it has one.
    pub fn session_fingerprint(&self) -> Option<String> {
        self.session.get().map(|id| session_fingerprint(id))
    }

    /// What the request asks for; `several` if its messages ask for different things, `None` if no message was read.
    pub fn method(&self) -> Option<&'static str> {
        match self.method.load(Ordering::Relaxed) {
            NO_METHOD => None,
            SEVERAL => Some("several"),
            at => Method::ALL
                .get(usize::from(at))
                .map(|method| method.as_str()),
        }
    }

    /// The span's fields, in their order, as far as they are known.
    fn fields(&self) -> impl Iterator<Item = (&'static str, String)> {
        let session = self.session_fingerprint();
        let fields = [
            ("id", Some(self.id.to_string())),
            ("tenant", self.tenant.get().map(ToString::to_string)),
            ("server", self.server.get().map(ToString::to_string)),
            ("method", self.method().map(str::to_owned)),
            ("session", session),
            ("trace_id", self.trace_id().map(|id| id.to_string())),
        ];
        fields
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
    }

    /// The span's fields for programs.
    pub(super) fn to_json(&self) -> Value {
        let fields = self.fields();
        let fields = fields.map(|(name, value)| (name.to_owned(), Value::from(value)));
        Value::Object(fields.collect::<Map<_, _>>())
    }
}

impl fmt::Display for RequestSpan {
    /// As spans stand in a log: `request{id=… tenant=…}`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("request{")?;
        for (at, (name, value)) in self.fields().enumerate() {
            let blank = if at == 0 { "" } else { " " };
            write!(f, "{blank}{name}={value}")?;
        }
        f.write_str("}")
    }
}

impl fmt::Debug for RequestSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Log lines of `future`, and those when it is dropped, are of that request; without one, of none.
///
/// # Cancel-Safety
/// As that of `future`.
pub async fn in_request<F: Future>(span: Option<Arc<RequestSpan>>, future: F) -> F::Output {
    match span {
        Some(span) => CURRENT.scope(span, future).await,
        None => future.await,
    }
}

/// As [`in_request`], without a layer of its own where there is always a request.
pub fn of_request<F: Future>(
    span: Arc<RequestSpan>,
    future: F,
) -> impl Future<Output = F::Output> + use<F> {
    CURRENT.scope(span, future)
}

/// What `work` logs is of that request.
pub fn while_in_request<R>(span: &Arc<RequestSpan>, work: impl FnOnce() -> R) -> R {
    CURRENT.sync_scope(Arc::clone(span), work)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_runs_for_a_request_knows_it_and_nothing_else_does() {
        assert!(RequestSpan::current().is_none());
        let (one, other) = (RequestSpan::begin(), RequestSpan::begin());
        let seen = of_request(Arc::clone(&one), async {
            let inner = in_request(Some(Arc::clone(&other)), async {
                tokio::task::yield_now().await;
                RequestSpan::current_id()
            });
            let inner = inner.await;
            let elsewhere = tokio::spawn(async { RequestSpan::current_id() });
            let elsewhere = elsewhere.await.expect("no panic");
            (RequestSpan::current_id(), inner, elsewhere)
        });
        assert_eq!(seen.await, (Some(one.id()), Some(other.id()), None));
        assert_eq!(
            while_in_request(&one, RequestSpan::current_id),
            Some(one.id())
        );
        assert!(RequestSpan::current().is_none());
    }

    #[test]
    fn it_shows_what_is_known_and_never_the_id_of_a_session() {
        let span = RequestSpan::begin();
        let id = span.id();
        assert_eq!(span.to_string(), format!("request{{id={id}}}"));
        span.is_of(&TenantId::new("acme"));
        span.is_for(&ServerName::new("demo"));
        span.asks(Method::ToolsCall);
        span.is_in(&"0123456789abcdef".into());
        let shown = session_fingerprint("0123456789abcdef");
        assert_eq!(
            format!("{span:?}"),
            format!("request{{id={id} tenant=acme server=demo method=tools/call session={shown}}}")
        );
        assert_eq!(span.to_json()["session"], *shown);
        span.asks(Method::ToolsCall);
        assert_eq!(span.to_json()["method"], "tools/call");
        span.asks(Method::Ping);
        assert_eq!(span.to_json()["method"], "several");
    }
}

//! What is kept of a request, as spans: the request, and below it who was let in, the wait, the start or the waking, the worker's part, the answer.
//!
//! Names and attributes are those of OpenTelemetry's semantic conventions for MCP (semantic-conventions-genai, `docs/gen-ai/mcp.md`,
//! on semantic conventions 1.41, status "Development"); what they do not name begins with `stdiopool.`. No argument, result, config, secret, address
//! of a resource or id of a session becomes one.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use tokio::time::Instant;

use super::sampling::random_span;
use crate::protocol::{SpanId, TraceContext};
use crate::telemetry::labels::Outcome;
use crate::telemetry::request_progress::Passed;
use crate::telemetry::request_span::RequestSpan;
use crate::telemetry::trace_part::{CallError, OwnSpans, SpanFacts, TracePart};

/// `flags` of a span or link: it is known whether its parent, or what it links to, is of another process (OTLP, `SpanFlags`).
const KNOWS_REMOTE: u32 = 0x100;
/// `flags` of a span or link: its parent, or what it links to, is of another process.
const IS_REMOTE: u32 = 0x200;

/// Makes batches of spans, each with what they are of.
#[derive(Debug)]
pub(super) struct Encoder {
    resource: Resource,
    scope: InstrumentationScope,
}

impl Encoder {
    /// Of that service, with these attributes of its resource beside those that are always there.
    pub(super) fn new(service: String, further: Vec<(String, String)>) -> Self {
        let version = env!("CARGO_PKG_VERSION");
        let own = [
            ("service.name", service),
            ("service.version", version.to_owned()),
            ("service.instance.id", crate::ids::run().to_owned()),
        ];
        let is_own = |name: &str| own.iter().any(|(known, _)| *known == name);
        let further = further.into_iter().filter(|(name, _)| !is_own(name));
        let further: Vec<_> = further.collect();
        let own = own.map(|(name, value)| text(name, value));
        let attributes = own.into_iter();
        let attributes = attributes.chain(
            further
                .iter()
                .map(|(name, value)| text(name, value.clone())),
        );
        Self {
            resource: Resource {
                attributes: attributes.collect(),
                ..Resource::default()
            },
            scope: InstrumentationScope {
                name: "stdiopool".to_owned(),
                version: version.to_owned(),
                ..InstrumentationScope::default()
            },
        }
    }

    /// The spans of those requests.
    pub(super) fn encode(&self, requests: &[Arc<RequestSpan>]) -> ExportTraceServiceRequest {
        let spans = requests.iter().flat_map(|request| spans_of(request));
        let of_scope = ScopeSpans {
            scope: Some(self.scope.clone()),
            spans: spans.collect(),
            schema_url: String::new(),
        };
        ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                resource: Some(self.resource.clone()),
                scope_spans: vec![of_scope],
                schema_url: String::new(),
            }],
        }
    }
}

fn text(name: &str, value: impl Into<String>) -> KeyValue {
    attribute(name, Value::StringValue(value.into()))
}

fn attribute(name: &str, value: Value) -> KeyValue {
    KeyValue {
        key: name.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

/// The request's spans, its own first; none if it is not sampled.
fn spans_of(request: &RequestSpan) -> Vec<Span> {
    let Some(part) = request.trace().filter(|part| part.is_sampled()) else {
        return Vec::new();
    };
    let Some(own) = &part.own else {
        return Vec::new();
    };
    let facts = part.facts.lock();
    let age = Instant::now().saturating_duration_since(request.began());
    let now = SystemTime::now();
    let way = Way {
        request,
        part,
        own,
        facts: &facts,
        passed: request.progress().now(),
        began: now.checked_sub(age).unwrap_or(now),
        age,
    };
    let mut spans = vec![way.whole()];
    spans.extend(way.auth());
    spans.extend(way.queue());
    spans.extend(way.start());
    spans.extend(way.call());
    spans.extend(way.waking());
    spans.extend(way.answer());
    spans
}

/// One request's way. Times are since it came.
struct Way<'a> {
    request: &'a RequestSpan,
    part: &'a TracePart,
    own: &'a OwnSpans,
    facts: &'a SpanFacts,
    passed: Passed,
    /// When it came.
    began: SystemTime,
    age: Duration,
}

impl Way<'_> {
    fn end(&self) -> Duration {
        self.passed.ended.unwrap_or(self.age)
    }

    /// A span of that name and time, without attributes; `parent` is another of the request's.
    fn span(&self, name: String, id: SpanId, parent: SpanId, time: (Duration, Duration)) -> Span {
        let nanos = |at: Duration| {
            let since = (self.began + at).duration_since(UNIX_EPOCH);
            u64::try_from(since.unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
        };
        let state = self.part.parent.as_ref();
        let state = state.and_then(|(parent, _)| parent.state.as_deref());
        Span {
            trace_id: self.part.trace.bytes().to_vec(),
            span_id: id.bytes().to_vec(),
            parent_span_id: parent.bytes().to_vec(),
            trace_state: state.unwrap_or_default().to_owned(),
            flags: u32::from(self.part.flags.byte()) | KNOWS_REMOTE,
            name,
            kind: SpanKind::Internal.into(),
            start_time_unix_nano: nanos(time.0),
            end_time_unix_nano: nanos(time.1.max(time.0)),
            ..Span::default()
        }
    }

    fn phase(&self, name: &str, time: (Duration, Duration)) -> Span {
        self.span(name.to_owned(), random_span(), self.own.request, time)
    }

    /// `tools/call NAME`; names that no worker was asked for may be anything, and are left out.
    fn name(&self) -> String {
        let method = self.request.method().unwrap_or("request");
        match &self.facts.target {
            Some(target) if self.passed.sent.is_some() => format!("{method} {target}"),
            _ => method.to_owned(),
        }
    }

    fn method(&self) -> Option<KeyValue> {
        let method = self.request.method()?;
        Some(text("mcp.method.name", method))
    }

    /// The tool or prompt that is asked for.
    fn target(&self) -> impl Iterator<Item = KeyValue> {
        let target = self.facts.target.as_deref();
        let of_method = match self.request.method() {
            Some("tools/call") => [
                target.map(|tool| text("gen_ai.tool.name", tool)),
                Some(text("gen_ai.operation.name", "execute_tool")),
            ],
            Some("prompts/get") => [
                target.map(|prompt| text("gen_ai.prompt.name", prompt)),
                None,
            ],
            _ => [None, None],
        };
        of_method.into_iter().flatten()
    }

    /// How it failed, if it did: as attributes, and as a status.
    fn failure(&self) -> (Vec<KeyValue>, Option<Status>) {
        let reason = match self.passed.outcome {
            Some(Outcome::Failed) => Some(self.passed.reason.unwrap_or("_OTHER")),
            _ => None,
        };
        let (mut attributes, error) = match (reason, self.facts.error) {
            (Some(reason), _) => (Vec::new(), reason.to_owned()),
            (None, Some(CallError::Tool)) => (Vec::new(), "tool_error".to_owned()),
            (None, Some(CallError::Code(code))) => {
                let code = code.to_string();
                (vec![text("rpc.response.status_code", code.clone())], code)
            }
            (None, None) => return (Vec::new(), None),
        };
        attributes.push(text("error.type", error.clone()));
        let status = Status {
            // Messages may quote what a caller or a server wrote.
            message: error,
            code: StatusCode::Error.into(),
        };
        (attributes, Some(status))
    }

    /// The whole request.
    fn whole(&self) -> Span {
        let time = (Duration::ZERO, self.end());
        let mut span = self.span(self.name(), self.own.request, self.own.request, time);
        span.parent_span_id = Vec::new();
        if let Some((parent, _)) = &self.part.parent {
            span.parent_span_id = parent.span.bytes().to_vec();
            span.flags |= IS_REMOTE;
        }
        span.kind = SpanKind::Server.into();
        span.links = self.part.link.iter().map(link).collect();
        let request = self.request;
        let outcome = self.passed.outcome.map_or("cancelled", Outcome::as_str);
        let (of_failure, status) = self.failure();
        let known = [
            self.method(),
            self.facts
                .id
                .as_deref()
                .map(|id| text("jsonrpc.request.id", id)),
            request
                .session_fingerprint()
                .map(|id| text("mcp.session.id", id)),
            Some(text("network.transport", "tcp")),
            Some(text("network.protocol.name", "http")),
            Some(text("stdiopool.request.id", request.id().to_string())),
            request
                .tenant()
                .map(|it| text("stdiopool.tenant", it.as_str())),
            request
                .server()
                .map(|it| text("stdiopool.server", it.as_str())),
            Some(text("stdiopool.outcome", outcome)),
        ];
        span.attributes = known.into_iter().flatten().collect();
        span.attributes.extend(self.target());
        span.attributes.extend(of_failure);
        span.status = status;
        span
    }

    /// Until it was known who asks.
    fn auth(&self) -> Option<Span> {
        let admitted = self.passed.admitted?;
        Some(self.phase("auth", (Duration::ZERO, admitted)))
    }

    /// When it began to wait for a worker, and until when it did.
    fn waited(&self) -> Option<(Duration, Duration)> {
        let until = self.passed.sent.unwrap_or(self.end());
        let waited = self.passed.waited;
        (!waited.is_zero()).then_some((until.saturating_sub(waited), until))
    }

    /// When the worker that it got was being started while it waited.
    fn started(&self) -> Option<(Duration, Duration)> {
        let (from, until) = self.waited()?;
        let (began, ready) = self.facts.start?;
        let since = |at: Instant| at.saturating_duration_since(self.request.began());
        let (began, ready) = (since(began).max(from), since(ready).min(until));
        (began < ready).then_some((began, ready))
    }

    /// The wait for a place, an install, or a start that is not its own.
    fn queue(&self) -> Option<Span> {
        let (from, until) = self.waited()?;
        let until = self.started().map_or(until, |(began, _)| began);
        Some(self.phase("queue", (from, until)))
    }

    fn start(&self) -> Option<Span> {
        let time = self.started()?;
        let mut span = self.span("start".to_owned(), self.own.start, self.own.request, time);
        span.attributes.extend(self.worker());
        Some(span)
    }

    fn worker(&self) -> Option<KeyValue> {
        let worker = self.passed.worker?;
        Some(text("stdiopool.worker.id", worker.to_string()))
    }

    /// What the worker had it for.
    fn call(&self) -> Option<Span> {
        let sent = self.passed.sent?;
        let time = (sent, self.passed.answered.unwrap_or(self.end()));
        let mut span = self.span(self.name(), self.own.call, self.own.request, time);
        span.kind = SpanKind::Client.into();
        let known = [
            self.method(),
            Some(text("network.transport", "pipe")),
            self.request
                .server()
                .map(|it| text("stdiopool.server", it.as_str())),
            self.worker(),
        ];
        let (of_failure, status) = self.failure();
        span.attributes = known.into_iter().flatten().collect();
        span.attributes.extend(self.target());
        span.attributes.extend(of_failure);
        span.status = status;
        Some(span)
    }

    /// Until a worker that slept said its first word.
    fn waking(&self) -> Option<Span> {
        let waking = self.facts.waking.as_ref()?;
        let since = waking.since.saturating_duration_since(self.request.began());
        let from = since.max(self.passed.sent?);
        let until = since.saturating_add(*waking.took.get()?);
        let span = self.span(
            "wake".to_owned(),
            random_span(),
            self.own.call,
            (from, until),
        );
        Some(span)
    }

    /// From the worker's last answer until it was handed on.
    fn answer(&self) -> Option<Span> {
        let answered = self.passed.answered?;
        Some(self.phase("answer", (answered, self.end())))
    }
}

fn link(context: &TraceContext) -> Link {
    Link {
        trace_id: context.trace.bytes().to_vec(),
        span_id: context.span.bytes().to_vec(),
        trace_state: context.state.as_deref().unwrap_or_default().to_owned(),
        flags: u32::from(context.flags.byte()) | KNOWS_REMOTE | IS_REMOTE,
        ..Link::default()
    }
}

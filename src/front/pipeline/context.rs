//! What goes with a request to its end: by which its outcome is counted, and written to the audit log.

use std::sync::Arc;

use http::Response;
use smallvec::SmallVec;
use tokio::time::Instant;

use super::audit::RequestAudit;
use crate::bridge::{call_error, target_of, trace_context_of};
use crate::front::response::body::Body;
use crate::front::response::reply;
use crate::gateway::ResponseStream;
use crate::ids::ServerName;
use crate::protocol::{Envelope, Failure, FailureStatus, Reason};
use crate::telemetry::labels::{Method, Outcome};
use crate::telemetry::{Metrics, RequestSpan, ServerMetrics, join_trace, remember, request_over};
use crate::upstream::OutboundMessage;
use crate::usage::Meter;

/// The requests of one POST on their way: counts them and their outcomes, and writes both down.
pub(in crate::front) struct RequestContext {
    metrics: Arc<Metrics>,
    of_server: Arc<ServerMetrics>,
    /// Counts for the caller what is counted for the server. Boxed, as this value is moved about in futures.
    meter: Box<Meter>,
    arrived: Instant,
    /// Methods still without an outcome, in the order asked. In a batch the pairing of outcomes
    /// with methods is by order. Nearly always one.
    asked: SmallVec<[Method; 1]>,
    last_answer: Option<Instant>,
    /// When the last outcome was noted.
    settled: Option<Instant>,
    /// The HTTP statuses that failures have.
    statuses: FailureStatus,
    /// Writes requests and outcomes to the audit log, if there is one.
    audit: Option<RequestAudit>,
    /// The HTTP request that they came with.
    request: Option<Arc<RequestSpan>>,
}

impl RequestContext {
    pub(in crate::front) fn new(
        metrics: &Arc<Metrics>,
        meter: Meter,
        server: &ServerName,
        arrived: Instant,
        statuses: FailureStatus,
        audit: Option<RequestAudit>,
    ) -> Self {
        Self {
            statuses,
            audit,
            request: RequestSpan::current(),
            of_server: metrics.server(server),
            metrics: Arc::clone(metrics),
            meter: Box::new(meter),
            arrived,
            asked: SmallVec::new(),
            last_answer: None,
            settled: None,
        }
    }

    pub(in crate::front) fn asks(&mut self, envelope: &Envelope<'_>) {
        let method = Method::of(envelope.method.as_deref().unwrap_or_default());
        self.asked.push(method);
        if let Some(request) = &self.request {
            request.asks(method);
            join_trace(request, trace_context_of(envelope));
            if let Some(sampled) = request.sampled() {
                let id = envelope.id.map_or("null", |id| id.get());
                sampled.asks_for(target_of(envelope).as_deref(), id);
            }
            remember(request);
        }
        if let Some(audit) = &mut self.audit {
            audit.asks(envelope);
        }
    }

    /// Bytes of the body that they came in.
    pub(in crate::front) fn came_in(&mut self, bytes: usize) {
        self.meter.came_in(bytes as u64);
    }

    /// The HTTP request that they came with.
    pub(in crate::front) fn request(&self) -> Option<Arc<RequestSpan>> {
        self.request.clone()
    }

    /// Notes which of all servers is asked.
    pub(in crate::front) fn is_of(&mut self, server: &ServerName) {
        self.of_server = self.metrics.server(server);
        self.meter.is_of(server);
    }

    pub(in crate::front) fn answered(&mut self, is_error: bool) {
        self.settled(is_error, None);
    }

    fn settled(&mut self, is_error: bool, bytes: Option<usize>) {
        let outcome = if is_error {
            Outcome::Error
        } else {
            Outcome::Ok
        };
        self.outcome(outcome, None, bytes);
    }

    pub(in crate::front) fn failed(&mut self, reason: Reason) {
        self.metrics.rejected(reason);
        self.outcome(Outcome::Failed, Some(reason), None);
    }

    /// The response to a request with that id (raw JSON) that failed.
    pub(in crate::front) fn refuse(&mut self, failure: &Failure, id: &str) -> Response<Body> {
        self.answer(failure, Some(id))
    }

    /// The response to a request that failed; `None` as `id` where it is not known.
    pub(in crate::front) fn answer(
        &mut self,
        failure: &Failure,
        id: Option<&str>,
    ) -> Response<Body> {
        self.failed(failure.reason);
        reply::answer(failure, id, self.statuses)
    }

    fn outcome(&mut self, outcome: Outcome, reason: Option<Reason>, bytes: Option<usize>) {
        let now = Instant::now();
        let took = now.saturating_duration_since(self.arrived);
        self.settled = Some(now);
        if let Some(request) = &self.request {
            let at = now.saturating_duration_since(request.began());
            let reason = reason.map(Reason::as_str);
            request.progress().ended(at, outcome, reason);
        }
        if let Some(audit) = &mut self.audit {
            let reason = reason.map(Reason::as_str);
            audit.outcome(outcome.as_str(), reason, bytes, took);
        }
        if !self.asked.is_empty() {
            let method = self.asked.remove(0);
            self.of_server.request(method, outcome, took);
            if let Some(sampled) = self.request.as_ref().and_then(|it| it.sampled()) {
                self.of_server.exemplar(method, sampled.id(), took);
            }
            self.charge(method, outcome, bytes);
        }
    }

    /// Charges a request to its caller.
    fn charge(&mut self, method: Method, outcome: Outcome, bytes: Option<usize>) {
        let is_error = matches!(outcome, Outcome::Error | Outcome::Failed);
        self.meter.told(bytes.unwrap_or(0) as u64);
        self.meter.request(method.is_call(), is_error);
    }

    pub(in crate::front) fn note(&mut self, outbound: &OutboundMessage) {
        match outbound {
            OutboundMessage::Message(message) => self.meter.told(message.len() as u64),
            OutboundMessage::Answer {
                at,
                is_error,
                message,
            } => {
                self.last_answer = Some(*at);
                self.note_error(message);
                self.settled(*is_error, Some(message.len()));
            }
            OutboundMessage::Failed { failure, .. } => self.failed(failure.reason),
        }
    }

    /// Has the request's spans say how its worker answered, if that was no success.
    fn note_error(&self, answer: &[u8]) {
        let sampled = self.request.as_ref().and_then(|request| request.sampled());
        if let Some(sampled) = sampled
            && let Some(error) = call_error(answer)
        {
            sampled.went_wrong(error);
        }
    }

    /// Notes the time the POST spent inside stdiopool: until its last request was sent, less the
    /// wait for a worker, and since the last answer came.
    pub(in crate::front) fn finish(&mut self, response_stream: &ResponseStream) {
        if let Some(audit) = &mut self.audit {
            audit.was_of(response_stream.worker());
        }
        if let Some(request) = &self.request
            && let Some(answered) = self.last_answer
        {
            let at = answered.saturating_duration_since(request.began());
            request.progress().answered(at);
        }
        let times = (response_stream.sent_at(), self.last_answer, self.settled);
        if let (Some(sent), Some(answered), Some(settled)) = times {
            let before = sent.saturating_duration_since(self.arrived);
            let after = settled.saturating_duration_since(answered);
            self.metrics
                .overhead(before.saturating_sub(response_stream.waited()) + after);
        }
    }
}

impl Drop for RequestContext {
    fn drop(&mut self) {
        // Whoever asked is gone.
        while !self.asked.is_empty() {
            self.outcome(Outcome::Cancelled, None, None);
        }
        if let Some(request) = &self.request {
            request_over(request);
        }
    }
}

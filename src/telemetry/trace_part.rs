//! The part of a distributed trace that one request is: whose child it is, and by which ids what comes after it is its child.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::protocol::{SpanId, TraceContext, TraceFlags, TraceId};

/// Where a request's context came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Carrier {
    /// The headers of the HTTP request.
    Head,
    /// `_meta` of the message.
    Message,
}

/// The ids of the spans that others may become children of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct OwnSpans {
    /// The span of the whole request.
    pub(super) request: SpanId,
    /// The start of a worker for it.
    pub(super) start: SpanId,
    /// The worker's part.
    pub(super) call: SpanId,
}

/// A waking of a hibernated worker.
#[derive(Debug)]
pub struct Waking {
    /// When the worker was needed.
    pub since: Instant,
    /// How long it took until the worker's first word, once that has come.
    pub took: OnceLock<Duration>,
}

/// Why a request counts as failed, beside stdiopool's own reasons.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CallError {
    /// The worker answered with a JSON-RPC error of that code.
    Code(i64),
    /// The worker's result says that its tool failed.
    Tool,
}

/// What the spans of a request say beside what is known of each request.
#[derive(Debug, Default)]
pub(super) struct SpanFacts {
    /// The tool or prompt that the request names.
    pub(super) target: Option<Box<str>>,
    /// The id of the request in JSON-RPC, as its client wrote it, without quotes.
    pub(super) id: Option<Box<str>>,
    /// When the worker that it got was begun to be started, and when that was ready.
    pub(super) start: Option<(Instant, Instant)>,
    /// The worker that it got slept before.
    pub(super) waking: Option<Arc<Waking>>,
    /// How its worker answered, if that was no success.
    pub(super) error: Option<CallError>,
}

/// The part of a trace that one request is.
#[derive(Debug)]
pub struct TracePart {
    pub(super) trace: TraceId,
    pub(super) flags: TraceFlags,
    /// The span that the request continues; `None`: the trace begins here.
    pub(super) parent: Option<(TraceContext, Carrier)>,
    /// The context of the HTTP request, where the message has one of its own.
    pub(super) link: Option<TraceContext>,
    /// `None` where stdiopool exports no spans, and only passes on what came.
    pub(super) own: Option<OwnSpans>,
    pub(super) facts: Mutex<SpanFacts>,
    is_handed_over: AtomicBool,
}

impl TracePart {
    /// Of a request that came with that context, where no spans are exported.
    pub(super) fn passed_on(parent: TraceContext, carrier: Carrier) -> Self {
        Self {
            trace: parent.trace,
            flags: parent.flags,
            parent: Some((parent, carrier)),
            link: None,
            own: None,
            facts: Mutex::default(),
            is_handed_over: AtomicBool::new(false),
        }
    }

    /// Of a request of which spans are made if `flags` say that it is sampled.
    pub(super) fn recorded(
        trace: TraceId,
        flags: TraceFlags,
        parent: Option<(TraceContext, Carrier)>,
        link: Option<TraceContext>,
        own: OwnSpans,
    ) -> Self {
        Self {
            trace,
            flags,
            parent,
            link,
            own: Some(own),
            facts: Mutex::default(),
            is_handed_over: AtomicBool::new(false),
        }
    }

    /// Notes that the request is handed to the exporter; whether it was before.
    pub(super) fn hand_over(&self) -> bool {
        self.is_handed_over.swap(true, Ordering::Relaxed)
    }

    /// The trace.
    pub fn id(&self) -> TraceId {
        self.trace
    }

    /// Whether the request's spans are exported once it is over.
    pub fn is_sampled(&self) -> bool {
        self.own.is_some() && self.flags.is_sampled
    }

    /// What the worker is told with the request; `None`: what the request's message says itself goes on as it is.
    pub fn for_worker(&self) -> Option<TraceContext> {
        self.continued(|own| own.call, Carrier::Head)
    }

    /// What a worker is told that is started for the request.
    pub fn for_start(&self) -> Option<TraceContext> {
        self.continued(|own| own.start, Carrier::Message)
    }

    fn continued(
        &self,
        span: impl Fn(&OwnSpans) -> SpanId,
        least: Carrier,
    ) -> Option<TraceContext> {
        let parent = self.parent.as_ref();
        let Some(own) = &self.own else {
            let (context, carrier) = parent?;
            let goes_on = least == Carrier::Message || *carrier == Carrier::Head;
            return goes_on.then(|| context.clone());
        };
        Some(TraceContext {
            trace: self.trace,
            span: span(own),
            flags: self.flags,
            state: parent.and_then(|(parent, _)| parent.state.clone()),
        })
    }

    /// Notes what the request names, and its id, as its client wrote it. Both are cut to [`MAX_FACT`] bytes.
    pub fn asks_for(&self, target: Option<&str>, id: &str) {
        let mut facts = self.facts.lock();
        facts.target = target.map(cut);
        facts.id = Some(cut(id.trim_matches('"')));
    }

    /// Notes of the worker that the request got when it was begun to be started and ready, and that it slept before.
    pub fn got_worker(&self, start: Option<(Instant, Instant)>, waking: Option<Arc<Waking>>) {
        let mut facts = self.facts.lock();
        facts.start = start;
        facts.waking = waking;
    }

    /// Notes that the worker answered with an error.
    pub fn went_wrong(&self, error: CallError) {
        self.facts.lock().error = Some(error);
    }
}

/// Longest name or id of a client that a span has, in bytes.
pub const MAX_FACT: usize = 128;

fn cut(text: &str) -> Box<str> {
    let mut end = text.len().min(MAX_FACT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].into()
}

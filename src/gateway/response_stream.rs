//! One POST: the calls it made, and what comes back for it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use smallvec::SmallVec;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::wait_steps::WaitSteps;
use crate::bridge::{CallId, Era, Level};
use crate::ids::WorkerId;
use crate::protocol::{Failure, RawId, Reason};
use crate::session::{Reserved, Session};
use crate::telemetry::{RequestSpan, in_request};
use crate::tenancy::{ClientConfig, Principal};
use crate::upstream::{OutboundMessage, Outbox, WhenFull, WorkerConnection, WorkerLease};

/// Longest that a call waits for its client's next request, whatever its server may take.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// The calls of one POST and the outbox their answers come to. Dropping it cancels whatever is
/// still unanswered, so that a client that goes away costs its worker nothing more.
#[derive(Debug)]
pub struct ResponseStream {
    pub(super) outbox: Arc<Outbox>,
    /// Nearly always one.
    open: SmallVec<[(Arc<WorkerConnection>, CallId); 1]>,
    /// How long the worker may take, counted from the last sign of life of the call.
    timeout: Duration,
    deadline: Option<Instant>,
    /// When the request's time is over however alive it is, and how long that time was: of the first of its calls.
    ceiling: Option<(Instant, Duration)>,
    /// Log lines that its caller, who has no session to set a level in, wants.
    pub(super) level: Option<Level>,
    /// In the words of which era its request is, if its caller has no session.
    era: Era,
    /// The worker that knows something of its request.
    pub(super) prefers: Option<WorkerId>,
    /// A worker that was leased before the request was sent, to find out how it is spoken to.
    leased: Option<WorkerLease>,
    /// The worker that was handed the last call.
    worker: Option<WorkerId>,
    /// The config that the request sets for its server, if it is not its session's.
    pub(super) config: Option<Arc<ClientConfig>>,
    /// The caller of its requests, if the credentials say other things of it than when the session
    /// began.
    pub(super) principal: Option<Principal>,
    /// When the last call was handed to its worker.
    sent: Option<Instant>,
    /// How long the pool took to provide workers.
    pub(super) waited: Duration,
    /// Messages in the outbox reach a client.
    pub(super) has_client: bool,
    /// The only request of the POST, while it may be sent once more.
    pub(super) repeat: Option<Repeat>,
    /// The request while it is sent once more: until it has reached a worker.
    pub(super) repeating: Option<PendingResend>,
    /// Places for what it subscribes to.
    pub(super) reserved: Vec<Reserved>,
    /// Counts what its client was told before its worker had it; of one that had to wait.
    pub(super) steps: Option<WaitSteps>,
}

/// A request that may be sent once more if its worker dies before it said anything about it.
#[derive(Debug)]
pub(super) struct Repeat {
    pub(super) by: Arc<dyn Resend>,
    pub(super) session: Arc<Session>,
    pub(super) message: Bytes,
}

/// Sends kept requests once more.
pub(super) trait Resend: fmt::Debug + Send + Sync {
    /// Whether that request of the session may be sent a second time.
    fn may_resend(self: Arc<Self>, session: &Session, message: &[u8]) -> bool;

    /// Sends it, with what comes back arriving in `again`.
    fn resend(
        self: Arc<Self>,
        kept: StoredRequest,
        again: ResponseStream,
    ) -> BoxFuture<'static, Result<ResponseStream, Failure>>;
}

/// A request that was kept to be sent once more.
#[derive(Debug)]
pub(super) struct StoredRequest {
    /// The session whose request it is.
    pub(super) session: Arc<Session>,
    /// The message.
    pub(super) message: Bytes,
}

impl Repeat {
    fn is_allowed(&self) -> bool {
        Arc::clone(&self.by).may_resend(&self.session, &self.message)
    }

    pub(super) fn send(
        self,
        again: ResponseStream,
    ) -> BoxFuture<'static, Result<ResponseStream, Failure>> {
        let Self {
            by,
            session,
            message,
        } = self;
        by.resend(StoredRequest { session, message }, again)
    }
}

/// A request that is being sent to another worker, or to its first while that is not to be had at once. Kept here so that a
/// dropped [`ResponseStream::next`] loses nothing, and in a task of its own: what the pool gives it is taken whether or
/// not its client is there to ask what comes next.
pub(super) struct PendingResend {
    id: RawId,
    sent: AbortOnDropHandle<Result<ResponseStream, Failure>>,
}

impl fmt::Debug for PendingResend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingResend").finish_non_exhaustive()
    }
}

/// The era that a request has to be written in, and the worker it goes to where that is known.
#[derive(Debug)]
pub struct WorkerRoute {
    /// In the words of which era.
    pub era: Era,
    /// The worker that was started to find that out.
    pub(super) leased: Option<WorkerLease>,
    /// How long the pool took to provide it.
    pub(super) waited: Duration,
}

/// The item that [`ResponseStream::next`] yields.
#[derive(Debug)]
pub enum Next {
    /// Something to write.
    OutboundMessage(OutboundMessage),
    /// Every request is answered.
    Done,
    /// The worker took longer than it may: the calls were cancelled.
    TimedOut {
        /// The time that is over.
        limit: TimeLimit,
        /// The ids of the requests without an answer, as raw JSON.
        unanswered: Vec<RawId>,
    },
}

/// The item that [`ResponseStream::last`] yields.
#[derive(Debug)]
pub(super) enum Last {
    /// The answer.
    Answer {
        /// The message.
        message: Bytes,
        /// Whether the answer is an error.
        is_error: bool,
    },
    /// No worker was to be had, or it ended.
    Failed(Failure),
    /// The worker took longer than it may.
    TimedOut(TimeLimit),
    /// Nothing: the call was cancelled.
    Nothing,
}

/// A time that a request may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimeLimit {
    /// Without a sign of life: `request_timeout`.
    Quiet(Duration),
    /// In all: `max_request_time`.
    Whole(Duration),
}

impl TimeLimit {
    /// The failure of a request that took longer.
    pub fn failure(self) -> Failure {
        let (what, limit, key) = match self {
            Self::Quiet(limit) => ("no answer and no progress", limit, "request_timeout"),
            Self::Whole(limit) => (
                "no answer, whatever progress there was,",
                limit,
                "max_request_time",
            ),
        };
        let limit = humantime::format_duration(limit);
        let why = format!(
            "{what} within {limit}; the server was told that the request is cancelled (raise the server's `{key}`)"
        );
        Failure::new(Reason::RequestTimeout, why)
    }
}

impl ResponseStream {
    /// A response stream without calls.
    pub fn new() -> Self {
        Self {
            outbox: Arc::new(Outbox::new(WhenFull::DropNewest)),
            open: SmallVec::new(),
            timeout: Duration::MAX,
            deadline: None,
            ceiling: None,
            level: None,
            era: Era::default(),
            prefers: None,
            leased: None,
            worker: None,
            config: None,
            principal: None,
            sent: None,
            waited: Duration::ZERO,
            has_client: true,
            repeat: None,
            repeating: None,
            reserved: Vec::new(),
            steps: None,
        }
    }

    /// For a caller without sessions, who wants log lines from that level on and whose request is
    /// in the words of that era.
    pub fn stateless(level: Option<Level>, era: Era) -> Self {
        let mut response_stream = Self::new();
        response_stream.level = level;
        response_stream.era = era;
        response_stream
    }

    /// For a request of such a caller in the words of the worker that was found for it.
    pub fn on(level: Option<Level>, route: WorkerRoute) -> Self {
        let mut response_stream = Self::stateless(level, route.era);
        response_stream.leased = route.leased;
        response_stream.waited = route.waited;
        response_stream
    }

    /// The worker that was leased for its request, if there is one, and the request knows of none that is better.
    pub(super) fn take_lease(&mut self) -> Option<WorkerLease> {
        let prefers = self.prefers;
        let leased = self.leased.take();
        leased.filter(|lease| prefers.is_none_or(|worker| worker == lease.id()))
    }

    /// Makes it the stream of a request of stdiopool itself: no client sees what is put in its outbox.
    #[must_use]
    pub(super) fn without_client(mut self) -> Self {
        self.has_client = false;
        self
    }

    /// Makes it the stream of a request that sets something for its server.
    #[must_use]
    pub fn with_config(mut self, config: Option<Arc<ClientConfig>>) -> Self {
        self.config = config;
        self
    }

    /// Makes it the stream of a caller of whom the credentials say that now.
    #[must_use]
    pub fn asked_by(mut self, principal: &Principal, session: &Session) -> Self {
        self.principal = (*principal != session.principal).then(|| principal.clone());
        self
    }

    /// Sets the config of the next of its requests.
    pub fn set_config(&mut self, config: Option<Arc<ClientConfig>>) {
        self.config = config;
    }

    /// Whether a worker that is spoken to in that way can be sent it.
    pub(super) fn fits(&self, era: Era) -> bool {
        self.era == era
    }

    /// The config that its requests set for their server.
    pub fn config(&self) -> Option<&Arc<ClientConfig>> {
        self.config.as_ref()
    }

    /// Counts what its client is told before its worker has it.
    pub fn wait_steps(&self) -> WaitSteps {
        self.steps.clone().unwrap_or_default()
    }

    /// How long the request's workers may go without a sign of life.
    pub fn longest_wait(&self) -> Duration {
        self.timeout.min(LONGEST_WAIT)
    }

    /// The worker was waiting itself: it has its full time again.
    pub fn begin_anew(&mut self) {
        if self.deadline.is_some() {
            self.deadline = Instant::now().checked_add(self.timeout);
        }
    }

    /// Whether the request is still on its way to a worker.
    pub fn is_being_sent(&self) -> bool {
        self.repeating.is_some()
    }

    /// Whether a worker has a call of it that is not answered.
    pub fn is_under_way(&self) -> bool {
        !self.open.is_empty()
    }

    pub(super) fn opened(&mut self, connection: Arc<WorkerConnection>, call: CallId, at: Instant) {
        self.timeout = self.timeout.min(connection.plan().request_timeout);
        self.sent = Some(at);
        self.worker = Some(connection.id());
        RequestSpan::with_current(|request| {
            if let Some(sampled) = request.sampled() {
                sampled.got_worker(connection.start_times(), connection.waking());
            }
            let progress = request.progress();
            progress.waited(self.waited);
            progress.sent(
                at.saturating_duration_since(request.began()),
                connection.id(),
            );
        });
        self.deadline = at.checked_add(self.timeout);
        let most = connection.plan().max_request_time;
        // A request that is sent once more has had some of its time.
        if let Some(until) = at.checked_add(most) {
            self.ceiling.get_or_insert((until, most));
        }
        self.open.push((connection, call));
    }

    /// How long the pool took to provide workers for its calls.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// The worker that was handed the last of its calls.
    pub fn worker(&self) -> Option<WorkerId> {
        self.worker
    }

    /// When the last of its calls was handed to a worker; `None` if none was.
    pub fn sent_at(&self) -> Option<Instant> {
        self.sent
    }

    /// The next thing to write. Every message gives the worker its full time again.
    ///
    /// # Cancel-Safety
    /// A dropped call loses nothing.
    pub async fn next(&mut self) -> Next {
        loop {
            if let Some(next) = self.next_until(None).await {
                return next;
            }
        }
    }

    /// The next thing to write; `None` if nothing comes for that long. One timer for both, since every request
    /// pays for it.
    ///
    /// # Cancel-Safety
    /// A dropped call loses nothing.
    pub async fn next_within(&mut self, quiet: Duration) -> Option<Next> {
        self.next_until(Instant::now().checked_add(quiet)).await
    }

    /// The next thing to write, if it comes until that moment.
    ///
    /// # Cancel-Safety
    /// A dropped call loses nothing.
    pub async fn next_by(&mut self, until: Instant) -> Option<Next> {
        self.next_until(Some(until)).await
    }

    /// How the only request ends, for who asks in stdiopool's own name; what is said of it meanwhile goes to `heard`.
    ///
    /// # Cancel-Safety
    /// A dropped call loses what it has handed to `heard`.
    pub(super) async fn last(&mut self, mut heard: impl FnMut(&Bytes)) -> Last {
        loop {
            match self.next().await {
                Next::OutboundMessage(OutboundMessage::Message(message)) => heard(&message),
                Next::OutboundMessage(OutboundMessage::Answer {
                    message, is_error, ..
                }) => return Last::Answer { message, is_error },
                Next::OutboundMessage(OutboundMessage::Failed { failure, .. }) => {
                    return Last::Failed(failure);
                }
                Next::TimedOut { limit, .. } => return Last::TimedOut(limit),
                Next::Done => return Last::Nothing,
            }
        }
    }

    async fn next_until(&mut self, until: Option<Instant>) -> Option<Next> {
        loop {
            if let Some(repeating) = &mut self.repeating {
                // Whoever waits for an install is told how far it is.
                let sent = tokio::select! {
                    biased;
                    Some(outbound) = self.outbox.next_of_call() => return Some(Next::OutboundMessage(outbound)),
                    sent = &mut repeating.sent => sent,
                    () = elapsed(until) => return None,
                };
                let sent = sent.unwrap_or_else(|error| {
                    Err(Failure::new(
                        Reason::Internal,
                        format!("the request was not sent: {error}"),
                    ))
                });
                let id = self.repeating.take().map(|repeating| repeating.id);
                match sent {
                    // The old outbox has nothing more to come.
                    Ok(second) => {
                        *self = second;
                        // The second stream may wait for a package itself.
                        continue;
                    }
                    Err(failure) => {
                        let id = id.unwrap_or_else(|| "null".into());
                        return Some(Next::OutboundMessage(OutboundMessage::Failed {
                            id,
                            failure,
                        }));
                    }
                }
            }
            match self.next_outbound(until).await? {
                Next::OutboundMessage(outbound) => {
                    if let Some(outbound) = self.unless_repeated(outbound) {
                        return Some(Next::OutboundMessage(outbound));
                    }
                }
                next => return Some(next),
            }
        }
    }

    async fn next_outbound(&mut self, until: Option<Instant>) -> Option<Next> {
        let whole = self.ceiling.filter(|_| self.deadline.is_some());
        let over = match (self.deadline, whole) {
            (Some(deadline), Some((until, most))) if until <= deadline => {
                Some((until, TimeLimit::Whole(most)))
            }
            (deadline, _) => deadline.map(|at| (at, TimeLimit::Quiet(self.timeout))),
        };
        let ends = match (over, until) {
            (Some((over, _)), Some(until)) => Some(over.min(until)),
            (over, until) => over.map(|(at, _)| at).or(until),
        };
        let outbound = match ends {
            None => self.outbox.next_of_call().await,
            Some(at) => match tokio::time::timeout_at(at, self.outbox.next_of_call()).await {
                Ok(outbound) => outbound,
                Err(_elapsed) => match over.filter(|(over, _)| *over <= at) {
                    Some((_, limit)) => {
                        let unanswered = self.abandon("the request timed out");
                        return Some(Next::TimedOut { limit, unanswered });
                    }
                    None => return None,
                },
            },
        };
        let Some(outbound) = outbound else {
            self.open.clear();
            return Some(Next::Done);
        };
        if self.outbox.all_answered() {
            self.open.clear();
        } else if let Some(timeout) = self.deadline.and(Some(self.timeout)) {
            let now = Instant::now();
            // A worker that always has something to say is never waited for above.
            if let Some((_, most)) = self.ceiling.filter(|(until, _)| *until <= now) {
                let unanswered = self.abandon("the request timed out");
                let limit = TimeLimit::Whole(most);
                return Some(Next::TimedOut { limit, unanswered });
            }
            self.deadline = now.checked_add(timeout);
        }
        Some(Next::OutboundMessage(outbound))
    }

    /// The next message, if there is one without waiting.
    pub fn try_next(&mut self) -> Option<OutboundMessage> {
        if self.repeating.is_some() {
            return None;
        }
        let outbound = self.outbox.try_next()?;
        if self.outbox.all_answered() {
            self.open.clear();
        }
        self.unless_repeated(outbound)
    }

    /// The message, unless it is the first that is said of a request and tells that its worker
    /// died: then the request is sent once more instead.
    fn unless_repeated(&mut self, outbound: OutboundMessage) -> Option<OutboundMessage> {
        // Whatever was said once, the client must not hear twice.
        match (outbound, self.repeat.take()) {
            (OutboundMessage::Failed { id, failure }, Some(repeat))
                if failure.reason == Reason::WorkerExited && repeat.is_allowed() =>
            {
                let again = self.again();
                self.repeating = Some(PendingResend::begin(id, repeat.send(again)));
                None
            }
            (outbound, _) => Some(outbound),
        }
    }

    /// A stream for the request when it is sent once more.
    pub(super) fn again(&self) -> Self {
        let mut again = Self::stateless(self.level, self.era);
        again.waited = self.waited;
        again.has_client = self.has_client;
        again.prefers = self.prefers;
        again.ceiling = self.ceiling;
        again.config.clone_from(&self.config);
        again.principal.clone_from(&self.principal);
        again.steps.clone_from(&self.steps);
        again
    }

    /// Bytes of what has come and nobody has taken.
    pub fn kept_bytes(&self) -> usize {
        self.outbox.queued_bytes()
    }

    /// Lets go of what has come, and of what comes until it is dropped: nobody will take it.
    pub fn discard(&self) {
        self.outbox.discard();
    }

    /// Cancels what is still unanswered and returns the ids of it, as raw JSON.
    pub fn abandon(&mut self, why: &str) -> Vec<RawId> {
        self.outbox.close();
        self.open
            .drain(..)
            .filter_map(|(connection, call)| connection.abandon(call, why))
            .collect()
    }
}

async fn elapsed(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

impl PendingResend {
    pub(super) fn begin(
        id: RawId,
        sent: impl Future<Output = Result<ResponseStream, Failure>> + Send + 'static,
    ) -> Self {
        // Boxed first, because what a task begins with is moved about.
        let sent = in_request(RequestSpan::current(), Box::pin(sent));
        let sent = AbortOnDropHandle::new(tokio::spawn(sent));
        Self { id, sent }
    }
}

impl Default for ResponseStream {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for ResponseStream {
    fn drop(&mut self) {
        if !self.open.is_empty() {
            self.abandon("the client went away");
        }
    }
}

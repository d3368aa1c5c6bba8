//! One POST: the calls it made, and what comes back for it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use smallvec::SmallVec;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::link::{Link, LinkLease};
use super::mailbox::{Mailbox, Parcel, WhenFull};
use super::packages::told_until_settled;
use super::record::Session;
use super::service::Sessions;
use super::subscriptions::Reserved;
use crate::bridge::{CallId, Era, Level};
use crate::ids::WorkerId;
use crate::launch::packages::Slot;
use crate::protocol::{Envelope, Failure, RawId, Reason};
use crate::telemetry::{RequestSpan, in_request};
use crate::tenancy::{ClientConfig, Principal};

/// Longest that a call waits for its client's next request, whatever its server may take.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// The calls of one POST and the mailbox their answers come to. Dropping it cancels whatever is
/// still unanswered, so that a client that goes away costs its worker nothing more.
#[derive(Debug)]
pub struct Exchange {
    pub(super) mailbox: Arc<Mailbox>,
    /// Nearly always one.
    open: SmallVec<[(Arc<Link>, CallId); 1]>,
    /// How long the worker may take, counted from the last sign of life of the call.
    timeout: Duration,
    deadline: Option<Instant>,
    /// When its time is over however alive it is, and how long that time was: of the first of its calls.
    ceiling: Option<(Instant, Duration)>,
    /// Log lines that its caller, who has no session to set a level in, wants.
    pub(super) level: Option<Level>,
    /// In the words of which era its request is, if its caller has no session.
    era: Era,
    /// The worker that knows something of its request.
    pub(super) prefers: Option<WorkerId>,
    /// A worker that was leased before the request was sent, to find out how it is spoken to.
    leased: Option<LinkLease>,
    /// The worker that was handed the last call.
    worker: Option<WorkerId>,
    /// What its request sets for its server, if that is not what its session does.
    pub(super) config: Option<Arc<ClientConfig>>,
    /// Who makes its requests, if the credentials say other things of them than when the session
    /// began.
    pub(super) principal: Option<Principal>,
    /// When the last call was handed to its worker.
    sent: Option<Instant>,
    /// How long the pool took to provide workers.
    pub(super) waited: Duration,
    /// What is put in its mailbox reaches its client.
    pub(super) has_client: bool,
    /// The only request of the POST, while it may be sent once more.
    repeat: Option<Repeat>,
    /// It is on its way to a worker.
    repeating: Option<Repeating>,
    /// Places for what it subscribes to.
    pub(super) reserved: Vec<Reserved>,
}

/// A request that may be sent once more if its worker dies before it said anything about it.
#[derive(Debug)]
struct Repeat {
    sessions: Sessions,
    session: Arc<Session>,
    message: Bytes,
}

/// The request's way to another worker, or to its first while that is not to be had at once. Kept here so that a
/// dropped [`Exchange::next`] loses nothing, and in a task of its own: what the pool gives it is taken whether or
/// not its client is there to ask what comes next.
struct Repeating {
    id: RawId,
    sent: AbortOnDropHandle<Result<Exchange, Failure>>,
}

impl fmt::Debug for Repeating {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Repeating").finish_non_exhaustive()
    }
}

/// How a request goes to its worker.
#[derive(Debug)]
pub struct Way {
    /// In the words of which era.
    pub era: Era,
    /// The worker that was started to find that out.
    pub(super) leased: Option<LinkLease>,
    /// How long the pool took to provide it.
    pub(super) waited: Duration,
}

/// What [`Exchange::next`] yields.
#[derive(Debug)]
pub enum Next {
    /// Something to write.
    Parcel(Parcel),
    /// Every request is answered.
    Done,
    /// The worker took longer than it may: the calls were cancelled.
    TimedOut {
        /// Which time is over.
        limit: TimeLimit,
        /// The ids of the requests without an answer, as raw JSON.
        unanswered: Vec<RawId>,
    },
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
    /// What is said of a request that took longer.
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

impl Exchange {
    /// An exchange without calls.
    pub fn new() -> Self {
        Self {
            mailbox: Arc::new(Mailbox::new(WhenFull::DropNewest)),
            open: SmallVec::new(),
            timeout: Duration::MAX,
            deadline: None,
            ceiling: None,
            level: None,
            era: Era::Initialize,
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
        }
    }

    /// For a caller without sessions, who wants log lines from that level on and whose request is
    /// in the words of that era.
    pub fn stateless(level: Option<Level>, era: Era) -> Self {
        let mut exchange = Self::new();
        exchange.level = level;
        exchange.era = era;
        exchange
    }

    /// For a request of such a caller in the words of the worker that was found for it.
    pub fn on(level: Option<Level>, way: Way) -> Self {
        let mut exchange = Self::stateless(level, way.era);
        exchange.leased = way.leased;
        exchange.waited = way.waited;
        exchange
    }

    /// The worker that was leased for its request, if there is one, and the request knows of none that is better.
    pub(super) fn take_lease(&mut self) -> Option<LinkLease> {
        let prefers = self.prefers;
        let leased = self.leased.take();
        leased.filter(|lease| prefers.is_none_or(|worker| worker == lease.id()))
    }

    /// The same for a request of stdiopool itself: no client sees what is put in its mailbox.
    #[must_use]
    pub(super) fn without_client(mut self) -> Self {
        self.has_client = false;
        self
    }

    /// The same for a request that sets something for its server.
    #[must_use]
    pub fn with_config(mut self, config: Option<Arc<ClientConfig>>) -> Self {
        self.config = config;
        self
    }

    /// The same for a caller of whom the credentials say that now.
    #[must_use]
    pub fn asked_by(mut self, principal: &Principal, session: &Session) -> Self {
        self.principal = (*principal != session.principal).then(|| principal.clone());
        self
    }

    /// What the next of its requests sets for its server.
    pub fn set_config(&mut self, config: Option<Arc<ClientConfig>>) {
        self.config = config;
    }

    /// Whether a worker that is spoken to in that way can be sent it.
    pub(super) fn fits(&self, era: Era) -> bool {
        self.era == era
    }

    /// How long its workers may go without a sign of life.
    pub fn patience(&self) -> Duration {
        self.timeout.min(LONGEST_WAIT)
    }

    /// The worker was waiting itself: it has its full time again.
    pub fn begin_anew(&mut self) {
        if self.deadline.is_some() {
            self.deadline = Instant::now().checked_add(self.timeout);
        }
    }

    /// Keeps the request, the only one of its POST, so that it can be sent once more if its worker
    /// dies.
    pub(super) fn keep(&mut self, sessions: Sessions, session: Arc<Session>, message: Bytes) {
        self.repeat = Some(Repeat {
            sessions,
            session,
            message,
        });
    }

    /// Sends the request that was [kept](Self::keep) once that package is installed, and tells its
    /// client how far that is, by the progress token (raw JSON).
    pub(super) fn wait_for(&mut self, slot: Arc<Slot>, token: &str, envelope: &Envelope<'_>) {
        let Some(repeat) = self.repeat.take() else {
            return;
        };
        let id = envelope.id.map_or("null", |id| id.get()).into();
        // It is open until the answer is in the mailbox of the request itself.
        self.mailbox.expect_answer();
        let (mailbox, token) = (Arc::clone(&self.mailbox), token.to_owned());
        let again = self.again();
        let sent = async move {
            let since = Instant::now();
            let settled = async {
                told_until_settled(&slot, &token, &mailbox).await;
                Ok(())
            };
            repeat.session.unless_ended(settled).await?;
            let mut exchange = repeat.send(again).await?;
            exchange.waited += since.elapsed();
            Ok(exchange)
        };
        self.repeating = Some(Repeating::begin(id, sent));
    }

    /// Sends the only request of a POST in its own time. Whatever keeps a worker from being had comes out of
    /// [`Exchange::next`].
    pub(super) fn send_later(
        &mut self,
        sessions: &Sessions,
        session: &Arc<Session>,
        message: &Bytes,
        id: RawId,
    ) {
        let (sessions, session) = (sessions.clone(), Arc::clone(session));
        let (message, mut exchange) = (message.clone(), self.again());
        let sent = async move {
            let envelope = Envelope::parse(&message)
                .map_err(|error| Failure::new(Reason::Internal, error.to_string()))?;
            let sent = sessions.request_once(&session, &message, &envelope, &mut exchange);
            session.unless_ended(sent).await?;
            Ok(exchange)
        };
        self.repeating = Some(Repeating::begin(id, sent));
    }

    /// Whether its request is still on its way to a worker.
    pub fn is_being_sent(&self) -> bool {
        self.repeating.is_some()
    }

    /// Whether a worker has a call of it that is not answered.
    pub fn is_under_way(&self) -> bool {
        !self.open.is_empty()
    }

    /// Sends the request that was [kept](Self::keep) once the roots of the session's client are known; false if none
    /// was.
    pub(super) fn wait_for_roots(
        &mut self,
        sessions: &Sessions,
        session: &Arc<Session>,
        envelope: &Envelope<'_>,
    ) -> bool {
        let Some(repeat) = self.repeat.take() else {
            return false;
        };
        let id = envelope.id.map_or("null", |id| id.get()).into();
        // It is open until the answer is in the mailbox of the request itself.
        self.mailbox.expect_answer();
        let mut again = self.again();
        again.keep(
            repeat.sessions.clone(),
            Arc::clone(&repeat.session),
            repeat.message.clone(),
        );
        let (sessions, session) = (sessions.clone(), Arc::clone(session));
        let mailbox = Arc::clone(&self.mailbox);
        let sent = async move {
            let learnt = async {
                sessions.learn_roots(&session, Some(&mailbox)).await;
                Ok(())
            };
            session.unless_ended(learnt).await?;
            repeat.send(again).await
        };
        self.repeating = Some(Repeating::begin(id, sent));
        true
    }

    pub(super) fn opened(&mut self, link: Arc<Link>, call: CallId, at: Instant) {
        self.timeout = self.timeout.min(link.order().request_timeout);
        self.sent = Some(at);
        self.worker = Some(link.id());
        self.deadline = at.checked_add(self.timeout);
        let most = link.order().max_request_time;
        // A request that is sent once more has had some of its time.
        if let Some(until) = at.checked_add(most) {
            self.ceiling.get_or_insert((until, most));
        }
        self.open.push((link, call));
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

    /// The next thing to write. Every parcel gives the worker its full time again.
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

    /// The same; `None` if nothing comes for that long. One timer for both, since every request
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

    async fn next_until(&mut self, until: Option<Instant>) -> Option<Next> {
        loop {
            if let Some(repeating) = &mut self.repeating {
                // Whoever waits for an install is told how far it is.
                let sent = tokio::select! {
                    biased;
                    Some(parcel) = self.mailbox.next_of_call() => return Some(Next::Parcel(parcel)),
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
                    // The old mailbox has nothing more to come.
                    Ok(second) => {
                        *self = second;
                        // It may wait for a package itself.
                        continue;
                    }
                    Err(failure) => {
                        let id = id.unwrap_or_else(|| "null".into());
                        return Some(Next::Parcel(Parcel::Failed { id, failure }));
                    }
                }
            }
            match self.next_parcel(until).await? {
                Next::Parcel(parcel) => {
                    if let Some(parcel) = self.unless_repeated(parcel) {
                        return Some(Next::Parcel(parcel));
                    }
                }
                next => return Some(next),
            }
        }
    }

    async fn next_parcel(&mut self, until: Option<Instant>) -> Option<Next> {
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
        let parcel = match ends {
            None => self.mailbox.next_of_call().await,
            Some(at) => match tokio::time::timeout_at(at, self.mailbox.next_of_call()).await {
                Ok(parcel) => parcel,
                Err(_elapsed) => match over.filter(|(over, _)| *over <= at) {
                    Some((_, limit)) => {
                        let unanswered = self.abandon("the request timed out");
                        return Some(Next::TimedOut { limit, unanswered });
                    }
                    None => return None,
                },
            },
        };
        let Some(parcel) = parcel else {
            self.open.clear();
            return Some(Next::Done);
        };
        if self.mailbox.all_answered() {
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
        Some(Next::Parcel(parcel))
    }

    /// What can be written without waiting.
    pub fn try_next(&mut self) -> Option<Parcel> {
        if self.repeating.is_some() {
            return None;
        }
        let parcel = self.mailbox.try_next()?;
        if self.mailbox.all_answered() {
            self.open.clear();
        }
        self.unless_repeated(parcel)
    }

    /// The parcel, unless it is the first that is said of a request and tells that its worker
    /// died: then the request is sent once more instead.
    fn unless_repeated(&mut self, parcel: Parcel) -> Option<Parcel> {
        // Whatever was said once, the client must not hear twice.
        match (parcel, self.repeat.take()) {
            (Parcel::Failed { id, failure }, Some(repeat))
                if failure.reason == Reason::WorkerExited && repeat.is_allowed() =>
            {
                let again = self.again();
                self.repeating = Some(Repeating::begin(id, repeat.send(again)));
                None
            }
            (parcel, _) => Some(parcel),
        }
    }

    /// One for the same request, when it is sent once more.
    fn again(&self) -> Self {
        let mut again = Self::stateless(self.level, self.era);
        again.waited = self.waited;
        again.has_client = self.has_client;
        again.prefers = self.prefers;
        again.ceiling = self.ceiling;
        again.config.clone_from(&self.config);
        again.principal.clone_from(&self.principal);
        again
    }

    /// Bytes of what has come and nobody has taken.
    pub fn kept_bytes(&self) -> usize {
        self.mailbox.queued_bytes()
    }

    /// Lets go of what has come, and of what comes until it is dropped: nobody will take it.
    pub fn discard(&self) {
        self.mailbox.discard();
    }

    /// Cancels what is still unanswered and returns the ids of it, as raw JSON.
    pub fn abandon(&mut self, why: &str) -> Vec<RawId> {
        self.mailbox.close();
        self.open
            .drain(..)
            .filter_map(|(link, call)| link.abandon(call, why))
            .collect()
    }
}

async fn elapsed(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

impl Repeat {
    fn is_allowed(&self) -> bool {
        Envelope::parse(&self.message).is_ok_and(|envelope| {
            self.sessions
                .may_repeat(&self.session, &self.message, &envelope)
        })
    }

    async fn send(self, mut second: Exchange) -> Result<Exchange, Failure> {
        let envelope = Envelope::parse(&self.message)
            .map_err(|error| Failure::new(Reason::Internal, error.to_string()))?;
        tracing::debug!(server = %self.session.server, method = envelope.method.as_deref(), "the request that was kept is sent");
        let request = self
            .sessions
            .request(&self.session, &self.message, &envelope, &mut second);
        request.await?;
        Ok(second)
    }
}

impl Repeating {
    fn begin(
        id: RawId,
        sent: impl Future<Output = Result<Exchange, Failure>> + Send + 'static,
    ) -> Self {
        // Boxed first, because what a task begins with is moved about.
        let sent = in_request(RequestSpan::current(), Box::pin(sent));
        let sent = AbortOnDropHandle::new(tokio::spawn(sent));
        Self { id, sent }
    }
}

impl Default for Exchange {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if !self.open.is_empty() {
            self.abandon("the client went away");
        }
    }
}

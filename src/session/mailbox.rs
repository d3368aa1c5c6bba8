//! A bounded queue between a worker's reader and one HTTP stream.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use parking_lot::Mutex;
use rustc_hash::FxHashSet;
use tokio::time::Instant;

use crate::held::{self, Account, Charge, Full};
use crate::ids::ServerName;
use crate::protocol::{Envelope, Failure, RawId};

/// Most notifications that wait for one slow stream.
const MAX_QUEUED: usize = 256;
/// Most bytes of notifications that wait for one slow stream. One message is let in whatever its
/// size, so that a large one is not lost for ever.
const MAX_QUEUED_BYTES: usize = 1 << 20;
/// Most streams that are read from one mailbox at once. Those of connections that broke without a sign are among them
/// until writing to them fails.
const MAX_READERS: usize = 4;
/// What a place in the queue takes beside its message, in bytes.
const PLACE: usize = size_of::<Queued>();

/// What is to be written to a stream.
#[derive(Debug)]
pub enum Parcel {
    /// A notification or a worker's request, or an answer that needed no worker.
    Message(Bytes),
    /// The worker's answer to one of the stream's requests.
    Answer {
        /// The response under the client's id.
        message: Bytes,
        /// When the worker gave it.
        at: Instant,
        /// Whether it is a JSON-RPC error.
        is_error: bool,
    },
    /// Why one of the stream's requests has no answer.
    Failed {
        /// The client's id as raw JSON.
        id: RawId,
        /// What went wrong.
        failure: Failure,
    },
}

/// What happens to a notification that finds the queue full.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WhenFull {
    /// It is dropped: progress and log lines of a running call age faster than they help.
    DropNewest,
    /// The oldest goes: what a session's own stream carries replaces what came before.
    DropOldest,
}

/// Says of a notification what it tells: while one waits that tells the same, another is not needed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Topic(u64);

impl Topic {
    /// The topic of notifications with that method about that thing, if any.
    pub fn of(method: &str, thing: Option<&str>) -> Self {
        use std::hash::{BuildHasher, RandomState};
        use std::sync::OnceLock;
        // With a key of this process: nobody outside can make two things the same.
        static KEY: OnceLock<RandomState> = OnceLock::new();
        Self(KEY.get_or_init(RandomState::new).hash_one((method, thing)))
    }

    /// The topic of the same about a thing of that server, where several tell on one stream.
    #[must_use]
    pub fn of_server(self, server: &ServerName) -> Self {
        use std::hash::{BuildHasher, BuildHasherDefault};
        let hasher = BuildHasherDefault::<rustc_hash::FxHasher>::default();
        Self(self.0.rotate_left(1) ^ hasher.hash_one(server.as_str()))
    }
}

/// Any number of writers, never a wait for a writer. Each message goes to one reader: the latest, for an older one may
/// be on a connection that is broken already (2025-11-25, basic/transports, "Multiple Connections": a message must be
/// sent on one of the streams only).
///
/// Answers are always taken in: there are at most as many as the stream has requests. What waits is charged
/// to the mailbox's tenant; a long answer for which there is no room is replaced by a failure that says so.
#[derive(Debug)]
pub struct Mailbox {
    when_full: WhenFull,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    queue: VecDeque<Queued>,
    /// Of notifications, whatever they are charged.
    queued_bytes: usize,
    /// Requests of this stream that have no answer yet.
    unanswered: usize,
    /// Those that read it, the latest last.
    readers: Vec<Reading>,
    /// Counts readers.
    last_reader: u64,
    closed: bool,
    /// Of the caller that waits for its answers.
    waker: Option<Waker>,
    /// What the queued notifications tell, as far as that is known.
    topics: FxHashSet<Topic>,
    /// Whose messages they are, and what those take that do not carry their charge.
    held: Option<Held>,
}

#[derive(Debug)]
struct Queued {
    parcel: Parcel,
    topic: Option<Topic>,
}

/// A reader of a session's own stream.
#[derive(Debug)]
struct Reading {
    no: u64,
    /// What it reads on: the same for one that goes on where another broke off.
    stream: u64,
    waker: Option<Waker>,
}

/// Reads a session's own stream until it is dropped.
#[derive(Debug)]
pub struct Reader {
    mailbox: Arc<Mailbox>,
    no: u64,
    stream: u64,
}

impl Reader {
    /// Names what it reads on.
    pub fn stream(&self) -> u64 {
        self.stream
    }

    /// The next parcel; `None` when the mailbox is closed, or others have taken this reader's place.
    ///
    /// # Cancel-Safety
    /// A dropped call takes nothing out.
    pub async fn next(&self) -> Option<Parcel> {
        poll_fn(|cx| self.mailbox.inner.lock().poll_next(self.no, cx)).await
    }

    /// What is queued right now, if it is for this reader.
    pub fn try_next(&self) -> Option<Parcel> {
        let mut inner = self.mailbox.inner.lock();
        let latest = inner.readers.last()?;
        (latest.no == self.no).then(|| inner.pop()).flatten()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut inner = self.mailbox.inner.lock();
        inner.readers.retain(|reading| reading.no != self.no);
        // The one before is the latest now.
        inner.wake();
    }
}

#[derive(Debug)]
struct Held {
    messages: Charge,
    answers: Charge,
}

/// What became of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pushed {
    /// It is in the queue.
    Whole,
    /// One that tells the same waits already.
    Known,
    /// It is in the queue, and older ones are not any more.
    InPlaceOfOlder,
    /// It was dropped: the mailbox is closed, or full, or its tenant holds as much as it may.
    Refused,
}

impl Pushed {
    /// Whether something was lost by it.
    pub fn is_loss(self) -> bool {
        matches!(self, Self::InPlaceOfOlder | Self::Refused)
    }
}

impl Mailbox {
    /// An empty, open mailbox. Nobody is charged for what waits in it until [`Mailbox::charge_to`].
    pub fn new(when_full: WhenFull) -> Self {
        Self {
            when_full,
            inner: Mutex::default(),
        }
    }

    /// An empty, open mailbox of that tenant.
    pub fn of(when_full: WhenFull, account: &Account) -> Self {
        let mailbox = Self::new(when_full);
        mailbox.charge_to(account);
        mailbox
    }

    /// What comes from now on is charged to that tenant, unless another is already.
    pub fn charge_to(&self, account: &Account) {
        self.inner.lock().held.get_or_insert_with(|| Held {
            messages: account.nothing(held::Kind::Message),
            answers: account.nothing(held::Kind::Answer),
        });
    }

    /// Whose messages they are, once that is known.
    pub fn account(&self) -> Option<Account> {
        let inner = self.inner.lock();
        let held = inner.held.as_ref()?;
        Some(held.messages.account().clone())
    }

    /// One more answer is to come.
    pub fn expect_answer(&self) {
        self.inner.lock().unanswered += 1;
    }

    /// Puts a message in the queue, if there is room or room can be made.
    pub fn push(&self, message: Bytes) -> Pushed {
        let message = match self.hold(held::Kind::Message, message) {
            Ok(message) => message,
            Err(_full) => return Pushed::Refused,
        };
        self.push_held(message, None)
    }

    /// Puts a message in the queue that was [held](Account::hold) before, for one or for several mailboxes of
    /// its tenant.
    pub fn push_held(&self, message: Bytes, topic: Option<Topic>) -> Pushed {
        let mut inner = self.inner.lock();
        if inner.closed {
            return Pushed::Refused;
        }
        if topic.is_some_and(|topic| inner.topics.contains(&topic)) {
            return Pushed::Known;
        }
        let size = message.len();
        let is_full = inner.queue.len() >= MAX_QUEUED
            || (inner.queued_bytes + size > MAX_QUEUED_BYTES && inner.queued_bytes > 0);
        if is_full {
            match self.when_full {
                WhenFull::DropNewest => return Pushed::Refused,
                WhenFull::DropOldest => inner.make_room(size),
            }
        }
        let mut in_place = is_full;
        while inner.take_weight(&message).is_err() {
            if self.when_full == WhenFull::DropNewest || !inner.drop_oldest() {
                return Pushed::Refused;
            }
            in_place = true;
        }
        inner.queued_bytes += size;
        inner.topics.extend(topic);
        inner.queue.push_back(Queued {
            parcel: Parcel::Message(message),
            topic,
        });
        inner.wake();
        if in_place {
            Pushed::InPlaceOfOlder
        } else {
            Pushed::Whole
        }
    }

    /// Puts the worker's answer in the queue. In place of a long one for which its tenant has no room, the
    /// caller is told that.
    pub fn answer(&self, message: Bytes, is_error: bool) {
        let at = Instant::now();
        let parcel = match self.hold(held::Kind::Answer, message.clone()) {
            Ok(message) => Parcel::Answer {
                message,
                at,
                is_error,
            },
            Err(full) => {
                let envelope = Envelope::parse(&message).ok();
                let id = envelope.and_then(|envelope| envelope.id);
                Parcel::Failed {
                    id: id.map_or("null", |id| id.get()).into(),
                    failure: full.into(),
                }
            }
        };
        drop(message);
        self.settle(parcel);
    }

    /// Puts the reason for which a request will have no answer in the queue.
    pub fn fail(&self, id: RawId, failure: Failure) {
        self.settle(Parcel::Failed { id, failure });
    }

    /// Puts the last words on a request in the queue that have waited in another mailbox of the same tenant,
    /// or were [held](Account::hold) for it.
    pub fn pass_on(&self, parcel: Parcel) {
        match parcel {
            Parcel::Message(message) => {
                self.push_held(message, None);
            }
            Parcel::Answer { .. } | Parcel::Failed { .. } => self.settle(parcel),
        }
    }

    /// A request ended without anything to say to its caller.
    pub fn give_up(&self) {
        let mut inner = self.inner.lock();
        inner.unanswered = inner.unanswered.saturating_sub(1);
        inner.wake();
    }

    fn hold(&self, kind: held::Kind, message: Bytes) -> Result<Bytes, Full> {
        if held::weight(&message) > 0 {
            return Ok(message);
        }
        match self.account() {
            Some(account) => account.hold(kind, message),
            None => Ok(message),
        }
    }

    fn settle(&self, parcel: Parcel) {
        let mut inner = self.inner.lock();
        inner.unanswered = inner.unanswered.saturating_sub(1);
        if !inner.closed {
            // As many as there were requests; a short one is let in whatever the limits.
            let weight = PLACE + weight_of(&parcel);
            if let Some(held) = &mut inner.held {
                held.answers.grow_anyway(weight);
            }
            let topic = None;
            inner.queue.push_back(Queued { parcel, topic });
        }
        inner.wake();
    }

    /// No more is taken in; the reader gets what is queued, then the end.
    pub fn close(&self) {
        let mut inner = self.inner.lock();
        inner.closed = true;
        inner.wake();
        for waker in inner
            .readers
            .iter_mut()
            .filter_map(|reading| reading.waker.take())
        {
            waker.wake();
        }
    }

    /// Lets go of what is queued, and takes no more in: nobody will read it.
    pub fn discard(&self) {
        self.close();
        let mut inner = self.inner.lock();
        while inner.pop().is_some() {}
    }

    /// Bytes of the messages that are queued.
    pub fn queued_bytes(&self) -> usize {
        let inner = self.inner.lock();
        let lengths = inner.queue.iter().map(|queued| match &queued.parcel {
            Parcel::Message(message) | Parcel::Answer { message, .. } => message.len(),
            Parcel::Failed { .. } => 0,
        });
        lengths.sum()
    }

    /// A reader of the session's own stream, beside those that are there. One that goes on with a stream ends the
    /// reader that had it; of too many, the oldest ends.
    pub fn read(self: &Arc<Self>, goes_on_with: Option<u64>) -> Reader {
        let mut inner = self.inner.lock();
        inner.last_reader += 1;
        let no = inner.last_reader;
        let stream = goes_on_with.unwrap_or(no);
        let mut ended: Vec<_> = inner
            .readers
            .extract_if(.., |reading| reading.stream == stream)
            .collect();
        if inner.readers.len() >= MAX_READERS {
            ended.push(inner.readers.remove(0));
        }
        inner.readers.push(Reading {
            no,
            stream,
            waker: None,
        });
        drop(inner);
        for waker in ended.into_iter().filter_map(|reading| reading.waker) {
            waker.wake();
        }
        Reader {
            mailbox: Arc::clone(self),
            no,
            stream,
        }
    }

    /// How many readers of the session's own stream there are.
    pub fn readers(&self) -> usize {
        self.inner.lock().readers.len()
    }

    /// How much is queued.
    pub fn len(&self) -> usize {
        self.inner.lock().queue.len()
    }

    /// Whether nothing is queued.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether every request of the stream is answered (the answers may still be queued).
    pub fn all_answered(&self) -> bool {
        self.inner.lock().unanswered == 0
    }

    /// The next parcel for the stream of a POST; `None` when every request is answered.
    ///
    /// # Cancel-Safety
    /// A dropped call takes nothing out.
    pub async fn next_of_call(&self) -> Option<Parcel> {
        poll_fn(|cx| {
            let mut inner = self.inner.lock();
            if let Some(parcel) = inner.pop() {
                return Poll::Ready(Some(parcel));
            }
            if inner.unanswered == 0 || inner.closed {
                return Poll::Ready(None);
            }
            inner.waker = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// What is queued right now, if anything.
    pub fn try_next(&self) -> Option<Parcel> {
        self.inner.lock().pop()
    }
}

/// What a parcel's text takes in the queue, in bytes, unless it carries its charge.
fn weight_of(parcel: &Parcel) -> usize {
    match parcel {
        Parcel::Message(message) | Parcel::Answer { message, .. } => held::weight(message),
        Parcel::Failed { id, failure } => id.len() + failure.message.len(),
    }
}

impl Inner {
    fn pop(&mut self) -> Option<Parcel> {
        let queued = self.queue.pop_front()?;
        Some(self.taken_out(queued))
    }

    fn taken_out(&mut self, Queued { parcel, topic }: Queued) -> Parcel {
        if let Some(topic) = topic {
            self.topics.remove(&topic);
        }
        let weight = PLACE + weight_of(&parcel);
        match &parcel {
            Parcel::Message(message) => {
                self.queued_bytes -= message.len();
                if let Some(held) = &mut self.held {
                    held.messages.shrink(weight);
                }
            }
            Parcel::Answer { .. } | Parcel::Failed { .. } => {
                if let Some(held) = &mut self.held {
                    held.answers.shrink(weight);
                }
            }
        }
        parcel
    }

    fn take_weight(&mut self, message: &[u8]) -> Result<(), Full> {
        match &mut self.held {
            Some(held) => held.messages.grow(PLACE + held::weight(message)),
            None => Ok(()),
        }
    }

    /// Drops the oldest notification; false if there is none. Answers stay: there are as many as there were
    /// requests, and each is waited for.
    fn drop_oldest(&mut self) -> bool {
        let is_message = |queued: &Queued| matches!(queued.parcel, Parcel::Message(_));
        let oldest = self.queue.iter().position(is_message);
        let Some(oldest) = oldest.and_then(|at| self.queue.remove(at)) else {
            return false;
        };
        self.taken_out(oldest);
        true
    }

    fn make_room(&mut self, size: usize) {
        while self.queue.len() >= MAX_QUEUED
            || (self.queued_bytes > 0 && self.queued_bytes + size > MAX_QUEUED_BYTES)
        {
            if !self.drop_oldest() {
                break;
            }
        }
    }

    fn poll_next(&mut self, reader: u64, cx: &mut Context<'_>) -> Poll<Option<Parcel>> {
        let latest = self.readers.last().map(|reading| reading.no);
        if latest == Some(reader)
            && let Some(parcel) = self.pop()
        {
            return Poll::Ready(Some(parcel));
        }
        let of_it = |reading: &&mut Reading| reading.no == reader;
        match self.readers.iter_mut().find(of_it) {
            Some(reading) if !self.closed => {
                reading.waker = Some(cx.waker().clone());
                Poll::Pending
            }
            Some(_) | None => Poll::Ready(None),
        }
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        let latest = self.readers.last_mut();
        if let Some(waker) = latest.and_then(|reading| reading.waker.take()) {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn body(parcel: Option<Parcel>) -> Bytes {
        match parcel {
            Some(Parcel::Message(m) | Parcel::Answer { message: m, .. }) => m,
            other => panic!("expected a message, got {other:?}"),
        }
    }

    #[test]
    fn a_full_call_stream_drops_notifications_but_never_the_answer() {
        let mailbox = Mailbox::new(WhenFull::DropNewest);
        mailbox.expect_answer();
        for n in 0..MAX_QUEUED {
            assert_eq!(mailbox.push(n.to_string().into()), Pushed::Whole);
        }
        assert_eq!(mailbox.push("late".into()), Pushed::Refused);
        mailbox.answer("answer".into(), false);
        for n in 0..MAX_QUEUED {
            assert_eq!(body(mailbox.try_next()), n.to_string());
        }
        assert_eq!(body(mailbox.try_next()), "answer");
        let end = mailbox.next_of_call().now_or_never();
        assert!(matches!(end, Some(None)), "all is answered");
    }

    #[test]
    fn a_full_session_stream_drops_the_oldest() {
        let mailbox = Mailbox::new(WhenFull::DropOldest);
        let half = vec![b'x'; MAX_QUEUED_BYTES / 2];
        assert_eq!(mailbox.push("first".into()), Pushed::Whole);
        assert_eq!(mailbox.push(half.clone().into()), Pushed::Whole);
        assert_eq!(mailbox.push(half.into()), Pushed::InPlaceOfOlder);
        assert_eq!(mailbox.push("last".into()), Pushed::InPlaceOfOlder);
        let mut left = vec![];
        while let Some(parcel) = mailbox.try_next() {
            left.push(body(Some(parcel)));
        }
        assert_eq!(left.last().expect("not empty"), "last");
        assert!(!left.contains(&Bytes::from("first")));
    }

    #[test]
    fn a_full_session_stream_keeps_its_answers() {
        let mailbox = Mailbox::new(WhenFull::DropOldest);
        mailbox.expect_answer();
        mailbox.answer("answer".into(), false);
        for n in 0..2 * MAX_QUEUED {
            mailbox.push(n.to_string().into());
        }
        assert_eq!(body(mailbox.try_next()), "answer");
        assert_ne!(body(mailbox.try_next()), "0");
    }

    #[test]
    fn an_oversized_message_is_taken_in_when_nothing_waits() {
        let mailbox = Mailbox::new(WhenFull::DropNewest);
        let large = Bytes::from(vec![b'x'; 2 * MAX_QUEUED_BYTES]);
        assert_eq!(mailbox.push(large), Pushed::Whole);
    }

    fn account(limit: u64) -> Account {
        let limits = held::Limits {
            of_tenant: limit,
            of_all: limit,
        };
        held::Ledger::new(limits).account(&crate::ids::TenantId::new("t"))
    }

    #[test]
    fn what_waits_is_charged_until_it_is_taken() {
        let account = account(1 << 20);
        let mailbox = Mailbox::of(WhenFull::DropNewest, &account);
        mailbox.expect_answer();
        mailbox.push("short".into());
        mailbox.push(vec![b'x'; 10_000].into());
        mailbox.answer(vec![b'y'; 20_000].into(), false);
        let places = 3 * PLACE as u64;
        assert_eq!(account.held(), 30_005 + places);
        mailbox.try_next().expect("short");
        mailbox.try_next().expect("long");
        let answer = body(mailbox.try_next());
        assert_eq!(account.held(), 20_000, "its bytes carry it");
        drop(answer);
        assert_eq!(account.held(), 0);
        mailbox.push("left".into());
        drop(mailbox);
        assert_eq!(account.held(), 0);
    }

    #[test]
    fn an_answer_without_room_becomes_a_failure_that_says_so() {
        let account = account(10_000);
        let mailbox = Mailbox::of(WhenFull::DropNewest, &account);
        mailbox.expect_answer();
        let long = format!(r#"{{"jsonrpc":"2.0","id":"a","result":"{:x>10000}"}}"#, "");
        mailbox.answer(long.into(), false);
        let Some(Parcel::Failed { id, failure }) = mailbox.try_next() else {
            panic!("not failed")
        };
        assert_eq!((&*id, failure.reason.as_str()), ("\"a\"", "tenant_limit"));
        mailbox.expect_answer();
        mailbox.answer("short".into(), false);
        assert_eq!(body(mailbox.try_next()), "short");
    }

    #[test]
    fn a_tenant_at_its_limit_loses_its_oldest_notifications() {
        let account = account(20 * PLACE as u64);
        let mailbox = Mailbox::of(WhenFull::DropOldest, &account);
        for n in 0..9 {
            assert_eq!(mailbox.push(n.to_string().into()), Pushed::Whole);
        }
        assert_eq!(mailbox.push("last".into()), Pushed::InPlaceOfOlder);
        assert_eq!(body(mailbox.try_next()), "1");
        let of_call = Mailbox::of(WhenFull::DropNewest, &account);
        of_call.push("a".into());
        assert_eq!(of_call.push("b".into()), Pushed::Refused);
    }

    #[test]
    fn what_waits_is_not_told_twice() {
        let mailbox = Mailbox::new(WhenFull::DropOldest);
        let changed = Topic::of("changed", None);
        let other = Topic::of("changed", Some("uri"));
        let push = |text: &'static str, topic| mailbox.push_held(text.into(), Some(topic));
        assert_eq!(push("first", changed), Pushed::Whole);
        assert_eq!(push("again", changed), Pushed::Known);
        assert_eq!(push("other", other), Pushed::Whole);
        assert_eq!(body(mailbox.try_next()), "first");
        assert_eq!(push("later", changed), Pushed::Whole);
        assert_eq!(body(mailbox.try_next()), "other");
        assert_eq!(body(mailbox.try_next()), "later");
        assert!(mailbox.is_empty() && mailbox.inner.lock().topics.is_empty());
    }

    #[tokio::test]
    async fn each_message_goes_to_the_latest_reader_alone() {
        let mailbox = Arc::new(Mailbox::new(WhenFull::DropOldest));
        let old = mailbox.read(None);
        let mut waiting = Box::pin(old.next());
        assert!((&mut waiting).now_or_never().is_none());
        let new = mailbox.read(None);
        mailbox.push("for the new one".into());
        assert!((&mut waiting).now_or_never().is_none());
        assert!(old.try_next().is_none());
        assert_eq!(body(new.next().await), "for the new one");
        assert!(new.next().now_or_never().is_none());
        // Once that is gone, the old one is the latest again, and is woken.
        let waited = tokio::spawn({
            let mailbox = Arc::clone(&mailbox);
            async move {
                let mut text = None;
                let reader = mailbox.read(None);
                drop(new);
                drop(reader);
                mailbox.push("for the old one".into());
                text.get_or_insert("pushed");
            }
        });
        assert_eq!(body(waiting.await), "for the old one");
        waited.await.expect("no panic");
        assert_eq!(mailbox.readers(), 1);
    }

    #[tokio::test]
    async fn a_reader_that_goes_on_with_a_stream_ends_the_one_before() {
        let mailbox = Arc::new(Mailbox::new(WhenFull::DropOldest));
        let broken = mailbox.read(None);
        let beside = mailbox.read(None);
        let waiting = broken.next();
        let resumed = mailbox.read(Some(broken.stream()));
        assert!(waiting.await.is_none());
        assert_eq!(resumed.stream(), broken.stream());
        assert!(beside.next().now_or_never().is_none(), "goes on");
        let more: Vec<_> = (0..MAX_READERS).map(|_| mailbox.read(None)).collect();
        assert_eq!(mailbox.readers(), MAX_READERS);
        assert!(beside.next().await.is_none(), "one of too many");
        mailbox.push("last words".into());
        mailbox.close();
        assert!(more[0].next().await.is_none());
        let latest = more.last().expect("some");
        assert_eq!(body(latest.next().await), "last words");
        assert!(latest.next().await.is_none());
    }
}

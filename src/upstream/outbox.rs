//! A bounded queue of messages for a client, read by the stream of one call, or by up to four of a session.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use parking_lot::Mutex;
use rustc_hash::FxHashSet;
use tokio::time::Instant;

use super::outbound_message::{OutboundMessage, Pushed, Topic, WhenFull};
use crate::held::{self, Account, Charge, Full};
use crate::protocol::{Envelope, Failure, RawId};

/// Most notifications that wait for one slow stream.
const MAX_QUEUED: usize = 256;
/// Most bytes of notifications that wait for one slow stream. One message is let in whatever its
/// size, so that a large one is not lost for ever.
const MAX_QUEUED_BYTES: usize = 1 << 20;
/// Most streams that are read from one outbox at once. Streams of connections that broke without a sign are among them
/// until writing to them fails.
const MAX_READERS: usize = 4;
/// What an entry of the queue takes beside its message, in bytes.
const ENTRY: usize = size_of::<Queued>();

/// Any number of writers, never a wait for a writer. Each message goes to one reader: the latest, for an older one may
/// be on a connection that is broken already (2025-11-25, basic/transports, "Multiple Connections": a message must be
/// sent on one of the streams only).
///
/// Answers are always taken in: there are at most as many as the stream has requests. Messages that wait are charged
/// to the outbox's tenant; a long answer for which there is no room is replaced by a failure that says so.
#[derive(Debug)]
pub struct Outbox {
    when_full: WhenFull,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    queue: VecDeque<Queued>,
    /// Bytes of notifications, whatever of them is charged.
    queued_bytes: usize,
    /// Requests of this stream that have no answer yet.
    unanswered: usize,
    /// The readers of the outbox, the latest last.
    readers: Vec<Reading>,
    /// Counts readers.
    last_reader: u64,
    closed: bool,
    /// The waker of the caller that waits for its answers.
    waker: Option<Waker>,
    /// What the queued notifications tell, as far as that is known.
    topics: FxHashSet<Topic>,
    /// The account of the messages, and what those take that do not carry their charge.
    charges: Option<OutboxCharges>,
}

#[derive(Debug)]
struct Queued {
    outbound: OutboundMessage,
    topic: Option<Topic>,
}

/// A reader of a session's own stream.
#[derive(Debug)]
struct Reading {
    no: u64,
    /// The stream that the reader reads on; a reader that goes on where another broke off has that one's.
    stream: u64,
    waker: Option<Waker>,
}

/// Reads a session's own stream until it is dropped.
#[derive(Debug)]
pub struct Reader {
    outbox: Arc<Outbox>,
    no: u64,
    stream: u64,
}

impl Reader {
    /// Names what it reads on.
    pub fn stream(&self) -> u64 {
        self.stream
    }

    /// The next message; `None` when the outbox is closed, or others have taken this reader's place.
    ///
    /// # Cancel-Safety
    /// A dropped call takes nothing out.
    pub async fn next(&self) -> Option<OutboundMessage> {
        poll_fn(|cx| self.outbox.inner.lock().poll_next(self.no, cx)).await
    }

    /// The message that is queued right now, if it is for this reader.
    pub fn try_next(&self) -> Option<OutboundMessage> {
        let mut inner = self.outbox.inner.lock();
        let latest = inner.readers.last()?;
        (latest.no == self.no).then(|| inner.pop()).flatten()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut inner = self.outbox.inner.lock();
        inner.readers.retain(|reading| reading.no != self.no);
        // The one before is the latest now.
        inner.wake();
    }
}

#[derive(Debug)]
struct OutboxCharges {
    messages: Charge,
    answers: Charge,
}

impl Outbox {
    /// An empty, open outbox. Nobody is charged for what waits in it until [`Outbox::charge_to`].
    pub fn new(when_full: WhenFull) -> Self {
        Self {
            when_full,
            inner: Mutex::default(),
        }
    }

    /// An empty, open outbox of that tenant.
    pub fn of(when_full: WhenFull, account: &Account) -> Self {
        let outbox = Self::new(when_full);
        outbox.charge_to(account);
        outbox
    }

    /// Messages are charged to that tenant from now on, unless another is already.
    pub fn charge_to(&self, account: &Account) {
        self.inner
            .lock()
            .charges
            .get_or_insert_with(|| OutboxCharges {
                messages: account.nothing(held::Kind::Message),
                answers: account.nothing(held::Kind::Answer),
            });
    }

    /// The account of the messages, once that is known.
    pub fn account(&self) -> Option<Account> {
        let inner = self.inner.lock();
        let charges = inner.charges.as_ref()?;
        Some(charges.messages.account().clone())
    }

    /// Notes that one more answer is to come.
    pub fn expect_answer(&self) {
        self.inner.lock().unanswered += 1;
    }

    /// Puts a message in the queue, if there is room or room can be made.
    pub fn push(&self, message: Bytes) -> Pushed {
        let message = match self.hold(held::Kind::Message, message) {
            Ok(message) => message,
            Err(full) => return Pushed::NoRoom(full),
        };
        self.push_held(message, None)
    }

    /// Puts a message in the queue that was [held](Account::hold) before, for one or for several outboxes of
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
        while let Err(full) = inner.take_weight(&message) {
            if self.when_full == WhenFull::DropNewest || !inner.drop_oldest() {
                return Pushed::NoRoom(full);
            }
            in_place = true;
        }
        inner.queued_bytes += size;
        inner.topics.extend(topic);
        inner.queue.push_back(Queued {
            outbound: OutboundMessage::Message(message),
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
        let outbound = match self.hold(held::Kind::Answer, message.clone()) {
            Ok(message) => OutboundMessage::Answer {
                message,
                at,
                is_error,
            },
            Err(full) => {
                let envelope = Envelope::parse(&message).ok();
                let id = envelope.and_then(|envelope| envelope.id);
                OutboundMessage::Failed {
                    id: id.map_or("null", |id| id.get()).into(),
                    failure: full.into(),
                }
            }
        };
        drop(message);
        self.settle(outbound);
    }

    /// Puts the reason for which a request will have no answer in the queue.
    pub fn fail(&self, id: RawId, failure: Failure) {
        self.settle(OutboundMessage::Failed { id, failure });
    }

    /// Puts the last words on a request in the queue that have waited in another outbox of its tenant,
    /// or were [held](Account::hold) for it.
    pub fn pass_on(&self, outbound: OutboundMessage) {
        match outbound {
            OutboundMessage::Message(message) => {
                self.push_held(message, None);
            }
            OutboundMessage::Answer { .. } | OutboundMessage::Failed { .. } => {
                self.settle(outbound)
            }
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

    fn settle(&self, outbound: OutboundMessage) {
        let mut inner = self.inner.lock();
        inner.unanswered = inner.unanswered.saturating_sub(1);
        if !inner.closed {
            // As many as there were requests; a short one is let in whatever the limits.
            let weight = ENTRY + weight_of(&outbound);
            if let Some(charges) = &mut inner.charges {
                charges.answers.grow_anyway(weight);
            }
            let topic = None;
            inner.queue.push_back(Queued { outbound, topic });
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
        let lengths = inner.queue.iter().map(|queued| match &queued.outbound {
            OutboundMessage::Message(message) | OutboundMessage::Answer { message, .. } => {
                message.len()
            }
            OutboundMessage::Failed { .. } => 0,
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
            outbox: Arc::clone(self),
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

    /// The next message for the stream of a POST; `None` when every request is answered.
    ///
    /// # Cancel-Safety
    /// A dropped call takes nothing out.
    pub async fn next_of_call(&self) -> Option<OutboundMessage> {
        poll_fn(|cx| {
            let mut inner = self.inner.lock();
            if let Some(outbound) = inner.pop() {
                return Poll::Ready(Some(outbound));
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
    pub fn try_next(&self) -> Option<OutboundMessage> {
        self.inner.lock().pop()
    }
}

/// What a message's text takes in the queue, in bytes, unless it carries its charge.
fn weight_of(outbound: &OutboundMessage) -> usize {
    match outbound {
        OutboundMessage::Message(message) | OutboundMessage::Answer { message, .. } => {
            held::weight(message)
        }
        OutboundMessage::Failed { id, failure } => id.len() + failure.message.len(),
    }
}

impl Inner {
    fn pop(&mut self) -> Option<OutboundMessage> {
        let queued = self.queue.pop_front()?;
        Some(self.taken_out(queued))
    }

    fn taken_out(&mut self, Queued { outbound, topic }: Queued) -> OutboundMessage {
        if let Some(topic) = topic {
            self.topics.remove(&topic);
        }
        let weight = ENTRY + weight_of(&outbound);
        match &outbound {
            OutboundMessage::Message(message) => {
                self.queued_bytes -= message.len();
                if let Some(charges) = &mut self.charges {
                    charges.messages.shrink(weight);
                }
            }
            OutboundMessage::Answer { .. } | OutboundMessage::Failed { .. } => {
                if let Some(charges) = &mut self.charges {
                    charges.answers.shrink(weight);
                }
            }
        }
        outbound
    }

    fn take_weight(&mut self, message: &[u8]) -> Result<(), Full> {
        match &mut self.charges {
            Some(charges) => charges.messages.grow(ENTRY + held::weight(message)),
            None => Ok(()),
        }
    }

    /// Drops the oldest notification; false if there is none. Answers stay: there are as many as there were
    /// requests, and each is waited for.
    fn drop_oldest(&mut self) -> bool {
        let is_message = |queued: &Queued| matches!(queued.outbound, OutboundMessage::Message(_));
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

    fn poll_next(&mut self, reader: u64, cx: &mut Context<'_>) -> Poll<Option<OutboundMessage>> {
        let latest = self.readers.last().map(|reading| reading.no);
        if latest == Some(reader)
            && let Some(outbound) = self.pop()
        {
            return Poll::Ready(Some(outbound));
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
mod tests;

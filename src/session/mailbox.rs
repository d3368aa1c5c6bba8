//! A bounded queue between a worker's reader and one HTTP stream.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Poll, Waker};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::protocol::{Failure, RawId};

/// Most notifications that wait for one slow stream.
const MAX_QUEUED: usize = 256;
/// Most bytes of notifications that wait for one slow stream. One message is let in whatever its
/// size, so that a large one is not lost for ever.
const MAX_QUEUED_BYTES: usize = 1 << 20;

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

/// One reader, any number of writers, never a wait for a writer.
///
/// Answers are always taken in: there are at most as many as the stream has requests.
#[derive(Debug)]
pub struct Mailbox {
    when_full: WhenFull,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    queue: VecDeque<Parcel>,
    queued_bytes: usize,
    /// Requests of this stream that have no answer yet.
    unanswered: usize,
    /// Counts readers, so that a new one takes the place of an old one.
    reader: u64,
    closed: bool,
    waker: Option<Waker>,
}

/// What became of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pushed {
    /// It is in the queue.
    Whole,
    /// It is in the queue, and older ones are not any more.
    InPlaceOfOlder,
    /// It was dropped: the mailbox is closed, or full.
    Refused,
}

impl Mailbox {
    /// An empty, open mailbox.
    pub fn new(when_full: WhenFull) -> Self {
        Self {
            when_full,
            inner: Mutex::default(),
        }
    }

    /// One more answer is to come.
    pub fn expect_answer(&self) {
        self.inner.lock().unanswered += 1;
    }

    /// Puts a message in the queue, if there is room or room can be made.
    pub fn push(&self, message: Bytes) -> Pushed {
        let mut inner = self.inner.lock();
        if inner.closed {
            return Pushed::Refused;
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
        inner.queued_bytes += size;
        inner.queue.push_back(Parcel::Message(message));
        inner.wake();
        if is_full {
            Pushed::InPlaceOfOlder
        } else {
            Pushed::Whole
        }
    }

    /// Puts the worker's answer in the queue.
    pub fn answer(&self, message: Bytes, is_error: bool) {
        let at = Instant::now();
        self.settle(Parcel::Answer {
            message,
            at,
            is_error,
        });
    }

    /// Puts the reason for which a request will have no answer in the queue.
    pub fn fail(&self, id: RawId, failure: Failure) {
        self.settle(Parcel::Failed { id, failure });
    }

    /// A request ended without anything to say to its caller.
    pub fn give_up(&self) {
        let mut inner = self.inner.lock();
        inner.unanswered = inner.unanswered.saturating_sub(1);
        inner.wake();
    }

    fn settle(&self, parcel: Parcel) {
        let mut inner = self.inner.lock();
        inner.unanswered = inner.unanswered.saturating_sub(1);
        if !inner.closed {
            inner.queue.push_back(parcel);
        }
        inner.wake();
    }

    /// No more is taken in; the reader gets what is queued, then the end.
    pub fn close(&self) {
        let mut inner = self.inner.lock();
        inner.closed = true;
        inner.wake();
    }

    /// Becomes the reader; whoever was, sees the end.
    pub fn take_over(&self) -> u64 {
        let mut inner = self.inner.lock();
        inner.reader += 1;
        inner.wake();
        inner.reader
    }

    /// Whether someone waits for the next parcel.
    pub fn has_reader(&self) -> bool {
        self.inner.lock().waker.is_some()
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

    /// The next parcel for the session's own stream; `None` when it is closed or another reader
    /// has taken over.
    ///
    /// # Cancel-Safety
    /// A dropped call takes nothing out.
    pub async fn next_of_stream(&self, reader: u64) -> Option<Parcel> {
        poll_fn(|cx| {
            let mut inner = self.inner.lock();
            if inner.reader != reader {
                return Poll::Ready(None);
            }
            if let Some(parcel) = inner.pop() {
                return Poll::Ready(Some(parcel));
            }
            if inner.closed {
                return Poll::Ready(None);
            }
            inner.waker = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

impl Inner {
    fn pop(&mut self) -> Option<Parcel> {
        let parcel = self.queue.pop_front()?;
        if let Parcel::Message(message) = &parcel {
            self.queued_bytes -= message.len();
        }
        Some(parcel)
    }

    fn make_room(&mut self, size: usize) {
        while self.queue.len() >= MAX_QUEUED
            || (self.queued_bytes > 0 && self.queued_bytes + size > MAX_QUEUED_BYTES)
        {
            // Answers stay: there are as many as there were requests, and each is waited for.
            let is_message = |parcel: &Parcel| matches!(parcel, Parcel::Message(_));
            let Some(oldest) = self.queue.iter().position(is_message) else {
                break;
            };
            if let Some(Parcel::Message(message)) = self.queue.remove(oldest) {
                self.queued_bytes -= message.len();
            }
        }
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
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

    #[tokio::test]
    async fn a_new_reader_ends_the_old_one() {
        let mailbox = Mailbox::new(WhenFull::DropOldest);
        let old = mailbox.take_over();
        let waiting = mailbox.next_of_stream(old);
        let new = mailbox.take_over();
        assert!(waiting.await.is_none());
        mailbox.push("for the new one".into());
        assert_eq!(body(mailbox.next_of_stream(new).await), "for the new one");
    }
}

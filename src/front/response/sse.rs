//! Event streams on their way into a connection, piece by piece.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use super::errors;
use crate::held::{Account, Kind};
use crate::protocol::sse::{DATA, EVENT_END, put_field};
use crate::session::EventId;
use crate::upstream::OutboundMessage;

/// How long a stream that belongs to no call may say nothing before a comment keeps it alive. Proxies commonly give up
/// after 30 or 60 seconds.
pub(in crate::front) const QUIET_PERIOD: Duration = Duration::from_secs(15);
/// How long a POST waits for its result before it turns into a stream, whose first words are sent at once: httpx, which
/// clients in Python use, gives up after 5 seconds without a byte, unless it was told another time.
pub(in crate::front) const FIRST_WORDS: Duration = Duration::from_secs(2);
/// How long the stream of a call may say nothing before a comment keeps it alive, for clients that give up like those of [`FIRST_WORDS`].
pub(in crate::front) const QUIET_CALL: Duration = Duration::from_secs(4);
/// A comment, which clients ignore (WHATWG HTML, 9.2.6 "Interpreting an event stream").
pub(in crate::front) const KEEP_ALIVE: &[u8] = b": keep-alive\n\n";
/// Events are put together in one piece up to this many bytes.
const COALESCE_BYTES: usize = 64 << 10;
/// Length in bytes from which a message is not copied: it is a piece of its own, which carries its charge.
const LONG: usize = 16 << 10;

/// The message that a outbound is for its client: of a failure, the error response.
pub(in crate::front) fn message_of(outbound: OutboundMessage) -> Bytes {
    match outbound {
        OutboundMessage::Message(message) | OutboundMessage::Answer { message, .. } => message,
        OutboundMessage::Failed { id, failure } => errors::message(&failure, Some(&id)).into(),
    }
}

/// Pieces of an event stream that wait to be written.
pub(in crate::front) struct Frames {
    ready: VecDeque<Bytes>,
    open: BytesMut,
    account: Account,
}

impl fmt::Debug for Frames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frames").finish_non_exhaustive()
    }
}

impl Frames {
    /// None yet, of a stream of that tenant.
    pub(in crate::front) fn new(account: &Account) -> Self {
        Self {
            ready: VecDeque::new(),
            open: BytesMut::new(),
            account: account.clone(),
        }
    }

    /// The account that the frames are charged to.
    pub(in crate::front) fn account(&self) -> &Account {
        &self.account
    }

    /// Adds bytes as they are.
    pub(in crate::front) fn put(&mut self, bytes: &[u8]) {
        self.open.put_slice(bytes);
    }

    /// Adds an event. Messages hold no line breaks: a worker's line has none, and carriage returns are taken
    /// out of it.
    pub(in crate::front) fn put_event(&mut self, message: &Bytes) {
        if message.len() < LONG {
            self.open.reserve(message.len() + 8);
            self.open.put_slice(DATA);
            self.open.put_slice(message);
        } else {
            self.open.put_slice(DATA);
            self.finish_piece();
            self.ready.push_back(message.clone());
        }
        self.open.put_slice(EVENT_END);
    }

    /// Adds an event of that type.
    pub(in crate::front) fn put_typed(&mut self, kind: &str, message: &Bytes) {
        put_field(&mut self.open, "event", kind);
        self.put_event(message);
    }

    /// Adds an event with an id.
    pub(in crate::front) fn put_named(&mut self, id: EventId, message: &Bytes) {
        self.open.put_slice(format!("id: {id}\n").as_bytes());
        self.put_event(message);
    }

    /// Adds an event that says nothing but where the stream is (2025-11-25, basic/transports, "Sending Messages to
    /// the Server": an event id and an empty data field).
    pub(in crate::front) fn put_position(&mut self, id: EventId) {
        self.open
            .put_slice(format!("id: {id}\ndata:\n\n").as_bytes());
    }

    /// Whether more events are better put into a piece of their own.
    pub(in crate::front) fn is_full(&self) -> bool {
        !self.ready.is_empty() || self.open.len() >= COALESCE_BYTES
    }

    /// Whether nothing waits.
    pub(in crate::front) fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.open.is_empty()
    }

    /// The next piece; it is charged until it is written.
    pub(in crate::front) fn next_piece(&mut self) -> Option<Bytes> {
        if self.ready.is_empty() {
            self.finish_piece();
        }
        self.ready.pop_front()
    }

    /// Frames that wait are not to be written any more.
    pub(in crate::front) fn clear(&mut self) {
        self.ready.clear();
        self.open.clear();
    }

    fn finish_piece(&mut self) {
        if !self.open.is_empty() {
            let piece = self.open.split().freeze();
            // The messages of the piece were let in already.
            self.ready
                .push_back(self.account.hold_anyway(Kind::Answer, piece));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::held::Ledger;
    use crate::ids::TenantId;

    fn all(frames: &mut Frames) -> Vec<Bytes> {
        std::iter::from_fn(|| frames.next_piece()).collect()
    }

    #[test]
    fn short_events_are_put_together_and_long_ones_are_not_copied() {
        let account = Ledger::unlimited().account(&TenantId::new("t"));
        let mut frames = Frames::new(&account);
        let long = Bytes::from(vec![b'x'; LONG]);
        let id = |position| EventId::new(1, position);
        frames.put_named(id(1), &"a".into());
        frames.put_named(id(2), &"b".into());
        assert!(!frames.is_full());
        frames.put_named(id(3), &long);
        assert!(frames.is_full());
        frames.put_event(&"c".into());
        let pieces = all(&mut frames);
        assert_eq!(
            pieces[0],
            "id: 1-1\ndata: a\n\nid: 1-2\ndata: b\n\nid: 1-3\ndata: "
        );
        assert_eq!(pieces[1].as_ptr(), long.as_ptr(), "shared");
        assert_eq!(pieces[2..], ["\n\ndata: c\n\n"]);
        assert!(frames.is_empty() && account.held() == 0);
    }

    #[test]
    fn a_piece_of_many_events_is_charged_until_it_is_written() {
        let account = Ledger::unlimited().account(&TenantId::new("t"));
        let mut frames = Frames::new(&account);
        while !frames.is_full() {
            frames.put_event(&vec![b'x'; 1000].into());
        }
        let piece = frames.next_piece().expect("one");
        assert_eq!(account.held(), piece.len() as u64);
        drop(piece);
        assert_eq!(account.held(), 0);
    }
}

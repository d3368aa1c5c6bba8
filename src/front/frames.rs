//! Event streams on their way into a connection, piece by piece.

use std::collections::VecDeque;
use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use crate::held::{Account, Kind};
use crate::session::EventId;

/// Events are put together in one piece up to this many bytes.
const COALESCE_BYTES: usize = 64 << 10;
/// Length in bytes from which a message is not copied: it is a piece of its own, which carries its charge.
const LONG: usize = 16 << 10;

/// Pieces of an event stream that wait to be written.
pub(super) struct Frames {
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
    pub(super) fn new(account: &Account) -> Self {
        Self {
            ready: VecDeque::new(),
            open: BytesMut::new(),
            account: account.clone(),
        }
    }

    /// Whose they are.
    pub(super) fn account(&self) -> &Account {
        &self.account
    }

    /// Adds bytes as they are.
    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.open.put_slice(bytes);
    }

    /// Adds an event. Messages hold no line breaks: a worker's line has none, and carriage returns are taken
    /// out of it.
    pub(super) fn put_event(&mut self, message: &Bytes) {
        if message.len() < LONG {
            self.open.reserve(message.len() + 8);
            self.open.put_slice(b"data: ");
            self.open.put_slice(message);
        } else {
            self.open.put_slice(b"data: ");
            self.finish_piece();
            self.ready.push_back(message.clone());
        }
        self.open.put_slice(b"\n\n");
    }

    /// Adds an event with a name.
    pub(super) fn put_named(&mut self, id: EventId, message: &Bytes) {
        self.open.put_slice(format!("id: {id}\n").as_bytes());
        self.put_event(message);
    }

    /// Adds an event that says nothing but where the stream is (2025-11-25, basic/transports, "Sending Messages to
    /// the Server": an event id and an empty data field).
    pub(super) fn put_place(&mut self, id: EventId) {
        self.open
            .put_slice(format!("id: {id}\ndata:\n\n").as_bytes());
    }

    /// Whether more events are better put into a piece of their own.
    pub(super) fn is_full(&self) -> bool {
        !self.ready.is_empty() || self.open.len() >= COALESCE_BYTES
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.open.is_empty()
    }

    /// The next piece; it is charged until it is written.
    pub(super) fn next_piece(&mut self) -> Option<Bytes> {
        if self.ready.is_empty() {
            self.finish_piece();
        }
        self.ready.pop_front()
    }

    /// What waits is not to be written any more.
    pub(super) fn clear(&mut self) {
        self.ready.clear();
        self.open.clear();
    }

    fn finish_piece(&mut self) {
        if !self.open.is_empty() {
            let piece = self.open.split().freeze();
            // What it was made of was let in already.
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
        let id = |place| EventId::new(1, place);
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

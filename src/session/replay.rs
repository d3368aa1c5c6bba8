//! What a stream told lately, so that it can be told again (2025-11-25, basic/transports,
//! "Resumability and Redelivery"). Pure.

use std::collections::VecDeque;
use std::fmt;

use bytes::Bytes;

use crate::held::{self, Account, Charge, Kind};

/// Most events of one stream that are kept.
const MAX_EVENTS: usize = 256;
/// Most bytes of one stream that are kept; the last event is kept whatever its size.
const MAX_BYTES: usize = 1 << 20;

/// What a kept event takes beside its text, in bytes.
const PLACE: usize = size_of::<(u64, Bytes)>();

/// Names an event: the number of its stream in the session, and its place in the stream. The
/// session's own stream is number 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EventId {
    /// The stream.
    pub stream: u64,
    /// The place in it, from 1 on.
    pub place: u64,
}

impl EventId {
    /// Reads what a client sent in `Last-Event-ID`.
    pub fn parse(text: &str) -> Option<Self> {
        let (stream, place) = text.trim().split_once('-')?;
        Some(Self {
            stream: stream.parse().ok()?,
            place: place.parse().ok()?,
        })
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.stream, self.place)
    }
}

/// What a stream told lately. It is charged to its tenant, who loses it rather than anything else for which there
/// is no room.
#[derive(Debug)]
pub struct Replay {
    stream: u64,
    next: u64,
    kept: VecDeque<(u64, Bytes)>,
    /// Of all that is kept, whatever it is charged.
    bytes: usize,
    /// What those take that do not carry their charge.
    charge: Charge,
}

impl Replay {
    /// Of a stream of a call that has told nothing yet.
    pub fn new(stream: u64, account: &Account) -> Self {
        Self {
            stream,
            next: 1,
            kept: VecDeque::new(),
            bytes: 0,
            charge: account.nothing(Kind::Replay),
        }
    }

    /// Of a session's own stream.
    pub fn of_session(account: &Account) -> Self {
        Self::new(0, account)
    }

    /// The name of the place before the first event.
    pub fn start(&self) -> EventId {
        EventId {
            stream: self.stream,
            place: 0,
        }
    }

    /// Notes an event and names it. The last event of a call's stream is kept whatever its size: it is the answer.
    /// One of a session's own stream is not, since nobody knows how long.
    pub fn note(&mut self, message: &Bytes) -> EventId {
        let place = self.next;
        self.next += 1;
        self.keep(place, message);
        let stream = self.stream;
        EventId { stream, place }
    }

    fn keep(&mut self, place: u64, message: &Bytes) {
        let is_too_long = self.stream == 0 && message.len() > MAX_BYTES;
        let weight = PLACE + held::weight(message);
        if is_too_long || self.charge.grow(weight).is_err() {
            self.forget();
            if is_too_long || self.charge.grow(weight).is_err() {
                return;
            }
        }
        self.bytes += message.len();
        self.kept.push_back((place, message.clone()));
        while self.kept.len() > MAX_EVENTS || (self.bytes > MAX_BYTES && self.kept.len() > 1) {
            if let Some((_, old)) = self.kept.pop_front() {
                self.bytes -= old.len();
                self.charge.shrink(PLACE + held::weight(&old));
            }
        }
    }

    /// Forgets what is kept: who comes back misses it.
    fn forget(&mut self) {
        self.kept.clear();
        self.bytes = 0;
        self.charge.shrink(usize::MAX);
    }

    /// What came after a place, as far as it is kept.
    pub fn after(&self, place: u64) -> Vec<(EventId, Bytes)> {
        let stream = self.stream;
        let later = self.kept.iter().filter(|(kept, _)| *kept > place);
        later
            .map(|(place, message)| {
                let place = *place;
                (EventId { stream, place }, message.clone())
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_after_an_event_is_told_again_as_far_as_it_is_kept() {
        let mut replay = Replay::new(3, &account(u64::MAX));
        let ids: Vec<String> = (0..300)
            .map(|n| replay.note(&Bytes::from(n.to_string())).to_string())
            .collect();
        assert_eq!(ids[0], "3-1");
        let last = EventId::parse(&ids[297]).expect("reads back");
        let after: Vec<_> = replay.after(last.place);
        assert_eq!(after.len(), 2);
        assert_eq!(after[0].1, "298");
        assert_eq!(replay.after(0).len(), MAX_EVENTS);
        let large = Bytes::from(vec![b'x'; 2 * MAX_BYTES]);
        replay.note(&large);
        assert_eq!(replay.after(0).len(), 1, "the last one whatever its size");
    }

    fn account(limit: u64) -> Account {
        let limits = held::Limits {
            of_tenant: limit,
            of_all: limit,
        };
        held::Ledger::new(limits).account(&crate::ids::TenantId::new("t"))
    }

    #[test]
    fn a_tenant_without_room_loses_what_was_kept() {
        let account = account(20 * PLACE as u64);
        let mut replay = Replay::of_session(&account);
        for _ in 0..9 {
            replay.note(&"1".into());
        }
        assert_eq!(replay.after(0).len(), 9);
        let last = replay.note(&"2".into());
        assert_eq!(replay.after(0), [(last, "2".into())]);
        drop(replay);
        assert_eq!(account.held(), 0);
    }

    #[test]
    fn a_session_keeps_no_event_that_is_very_long() {
        let mut replay = Replay::of_session(&account(u64::MAX));
        replay.note(&"short".into());
        replay.note(&vec![b'x'; MAX_BYTES + 1].into());
        assert_eq!(replay.after(0), []);
    }

    #[test]
    fn only_what_was_given_out_is_an_event_id() {
        for text in [
            "",
            "3",
            "a-1",
            "1-",
            "-1",
            "1-2-3",
            "99999999999999999999-1",
        ] {
            assert_eq!(EventId::parse(text), None, "{text}");
        }
    }
}

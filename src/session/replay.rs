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
const PLACE: usize = size_of::<RetainedEvent>();

/// Names an event: the number of its stream in the session, and its place in the stream. A session's own streams are
/// number 0 together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EventId {
    /// The stream.
    pub stream: u64,
    /// The position in the stream: of an event, from 1 on; 0 is where the stream begins.
    pub position: u64,
    /// The one of a session's own streams, where no event at that place says so.
    pub told_on: Option<u64>,
}

impl EventId {
    /// The id of that place of that stream.
    pub const fn new(stream: u64, position: u64) -> Self {
        Self {
            stream,
            position,
            told_on: None,
        }
    }

    /// Reads what a client sent in `Last-Event-ID`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.trim().split('-').map(str::parse);
        let (stream, position) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
        let told_on = numbers.next().transpose().ok()?;
        // Calls have one stream each.
        let is_whole = numbers.next().is_none() && (stream == 0 || told_on.is_none());
        is_whole.then_some(Self {
            stream,
            position,
            told_on,
        })
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.stream, self.position)?;
        self.told_on
            .map_or(Ok(()), |told_on| write!(f, "-{told_on}"))
    }
}

/// An event that was told.
#[derive(Debug)]
struct RetainedEvent {
    position: u64,
    /// On which of a session's own streams; 0 on that of a call.
    told_on: u64,
    message: Bytes,
}

/// The latest events of a stream. Charged to its tenant, who loses it rather than anything else for which there
/// is no room.
#[derive(Debug)]
pub struct Replay {
    stream: u64,
    next: u64,
    kept: VecDeque<RetainedEvent>,
    /// Bytes of all that is kept, whatever of it is charged.
    bytes: usize,
    /// What those take that do not carry their charge.
    charge: Charge,
}

impl Replay {
    /// What a stream of a call keeps that has told nothing yet.
    pub fn new(stream: u64, account: &Account) -> Self {
        Self {
            stream,
            next: 1,
            kept: VecDeque::new(),
            bytes: 0,
            charge: account.nothing(Kind::Replay),
        }
    }

    /// What a session's own stream keeps.
    pub fn of_session(account: &Account) -> Self {
        Self::new(0, account)
    }

    /// The last event; before the first one, its place is 0.
    pub fn last(&self) -> EventId {
        EventId::new(self.stream, self.next - 1)
    }

    /// Where one of a session's own streams begins, or goes on.
    pub fn last_on(&self, told_on: u64) -> EventId {
        EventId {
            told_on: Some(told_on),
            ..self.last()
        }
    }

    /// Notes an event and names it. The last event of a call's stream is kept whatever its size: it is the answer.
    /// One of a session's own stream is not, since nobody knows how long.
    pub fn note(&mut self, message: &Bytes) -> EventId {
        self.note_on(0, message)
    }

    /// Notes an event of one of a session's own streams, and names it.
    pub fn note_on(&mut self, told_on: u64, message: &Bytes) -> EventId {
        let position = self.next;
        self.next += 1;
        self.keep(position, told_on, message);
        EventId::new(self.stream, position)
    }

    fn keep(&mut self, position: u64, told_on: u64, message: &Bytes) {
        let is_too_long = self.stream == 0 && message.len() > MAX_BYTES;
        let weight = PLACE + held::weight(message);
        if is_too_long || self.charge.grow(weight).is_err() {
            self.forget();
            if is_too_long || self.charge.grow(weight).is_err() {
                return;
            }
        }
        self.bytes += message.len();
        self.kept.push_back(RetainedEvent {
            position,
            told_on,
            message: message.clone(),
        });
        while self.kept.len() > MAX_EVENTS || (self.bytes > MAX_BYTES && self.kept.len() > 1) {
            if let Some(old) = self.kept.pop_front() {
                self.bytes -= old.message.len();
                self.charge.shrink(PLACE + held::weight(&old.message));
            }
        }
    }

    /// Bytes of the events that are kept.
    pub fn kept_bytes(&self) -> usize {
        self.bytes
    }

    /// Forgets what is kept: who comes back misses it.
    pub fn forget(&mut self) {
        self.kept.clear();
        self.bytes = 0;
        self.charge.shrink(usize::MAX);
    }

    /// On which of a session's own streams a client was that names its last event so, as far as that is known.
    pub fn told_on(&self, last: EventId) -> Option<u64> {
        let kept = || self.kept.iter().find(|kept| kept.position == last.position);
        last.told_on.or_else(|| Some(kept()?.told_on))
    }

    /// What came after an event, as far as it is kept: on its stream, if that is known. Events told on another stream are not
    /// told again on this one (2025-11-25, basic/transports, "Resumability and Redelivery").
    pub fn after(&self, last: EventId) -> Vec<(EventId, Bytes)> {
        let told_on = self.told_on(last);
        let is_meant = |kept: &&RetainedEvent| {
            kept.position > last.position && told_on.is_none_or(|told_on| told_on == kept.told_on)
        };
        let later = self.kept.iter().filter(is_meant);
        later
            .map(|kept| {
                let id = EventId::new(self.stream, kept.position);
                (id, kept.message.clone())
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
        let after: Vec<_> = replay.after(last);
        assert_eq!(after.len(), 2);
        assert_eq!(after[0].1, "298");
        assert_eq!(
            replay.after(EventId::new(replay.stream, 0)).len(),
            MAX_EVENTS
        );
        let large = Bytes::from(vec![b'x'; 2 * MAX_BYTES]);
        replay.note(&large);
        assert_eq!(
            replay.after(EventId::new(replay.stream, 0)).len(),
            1,
            "the last one whatever its size"
        );
    }

    fn account(limit: u64) -> Account {
        let limits = held::HeldLimits {
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
        assert_eq!(replay.after(EventId::new(replay.stream, 0)).len(), 9);
        let last = replay.note(&"2".into());
        assert_eq!(
            replay.after(EventId::new(replay.stream, 0)),
            [(last, "2".into())]
        );
        drop(replay);
        assert_eq!(account.held(), 0);
    }

    #[test]
    fn what_was_told_on_another_stream_is_not_told_again() {
        let mut replay = Replay::of_session(&account(u64::MAX));
        let (first, second) = (replay.last_on(1), replay.last_on(2));
        let on_first = replay.note_on(1, &"a".into());
        let on_second = replay.note_on(2, &"b".into());
        assert_eq!(replay.after(first), [(on_first, "a".into())]);
        assert_eq!(replay.after(second), [(on_second, "b".into())]);
        assert_eq!(replay.after(on_first), []);
        let unknown = EventId::new(0, 0);
        assert_eq!(replay.after(unknown).len(), 2, "whose it was is not known");
        assert_eq!(replay.told_on(on_second), Some(2));
        let text = second.to_string();
        assert_eq!((EventId::parse(&text), &*text), (Some(second), "0-0-2"));
    }

    #[test]
    fn a_session_keeps_no_event_that_is_very_long() {
        let mut replay = Replay::of_session(&account(u64::MAX));
        replay.note(&"short".into());
        replay.note(&vec![b'x'; MAX_BYTES + 1].into());
        assert_eq!(replay.after(EventId::new(replay.stream, 0)), []);
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
            "0-1-2-3",
            "0-1-",
            "99999999999999999999-1",
        ] {
            assert_eq!(EventId::parse(text), None, "{text}");
        }
    }
}

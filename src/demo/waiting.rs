//! Calls that are not answered yet: sleeping ones, and ones waiting for the client's answer.

use std::time::{Duration, Instant};

/// Most calls in flight at once; a further one is refused.
pub(super) const MAX_WAITING: usize = 1024;

/// A call that will be answered later. Ids and tokens are kept as written, quotes included.
pub(super) struct DelayedCall {
    pub(super) id: Box<str>,
    pub(super) what: What,
}

pub(super) enum What {
    Sleep(Sleeping),
    /// Waits for the answer to our own request with this number.
    Answer(u64),
}

pub(super) struct Sleeping {
    pub(super) since: Instant,
    pub(super) step: Duration,
    pub(super) steps: u32,
    pub(super) done: u32,
    /// Where progress goes, when the client asked for it.
    pub(super) progress: Option<Box<str>>,
}

impl Sleeping {
    /// When the call has something to do next: its next step if somebody listens, else its end.
    pub(super) fn next(&self) -> Instant {
        let steps = match self.progress {
            Some(_) => self.done + 1,
            None => self.steps,
        };
        self.since + self.step * steps
    }
}

/// The table of them. Linear scans: it holds a handful, and 1024 at the most.
#[derive(Default)]
pub(super) struct Table(Vec<DelayedCall>);

impl Table {
    pub(super) fn is_full(&self) -> bool {
        self.0.len() >= MAX_WAITING
    }

    pub(super) fn push(&mut self, waiting: DelayedCall) {
        self.0.push(waiting);
    }

    pub(super) fn has(&self, id: &str) -> bool {
        self.0.iter().any(|w| &*w.id == id)
    }

    /// Takes out the call with that id.
    pub(super) fn take(&mut self, id: &str) -> Option<DelayedCall> {
        let at = self.0.iter().position(|w| &*w.id == id)?;
        Some(self.0.remove(at))
    }

    /// Takes out the call that waits for the answer to our request `number`.
    pub(super) fn take_asker(&mut self, number: u64) -> Option<DelayedCall> {
        let is = |w: &DelayedCall| matches!(w.what, What::Answer(n) if n == number);
        let at = self.0.iter().position(is)?;
        Some(self.0.remove(at))
    }

    /// The sleeping call that is due first.
    pub(super) fn first_sleeper(&mut self) -> Option<(&str, &mut Sleeping)> {
        let sleepers = self.0.iter_mut().filter_map(|w| match &mut w.what {
            What::Sleep(sleeping) => Some((&*w.id, sleeping)),
            What::Answer(_) => None,
        });
        sleepers.min_by_key(|(_, sleeping)| sleeping.next())
    }

    pub(super) fn next_wake(&self) -> Option<Instant> {
        let sleepers = self.0.iter().filter_map(|w| match &w.what {
            What::Sleep(sleeping) => Some(sleeping.next()),
            What::Answer(_) => None,
        });
        sleepers.min()
    }
}

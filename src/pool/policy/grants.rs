//! How requests came to their workers, counted.

use super::footprint::Sleep;

/// Slots that were granted since the pool began, by what their worker was before.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Grants {
    /// The worker was awake, and had served before.
    pub warm: u64,
    /// The worker hibernated, or was on the way.
    pub woken: u64,
    /// The worker had served nobody before: it was started, or adopted, not long ago.
    pub first: u64,
}

impl Grants {
    /// Counts a slot of a worker that has granted so many and sleeps so, before it is taken.
    pub(super) fn count(&mut self, sleep: Sleep, granted: u64) {
        let kind = match sleep {
            Sleep::FallingAsleep | Sleep::Asleep => &mut self.woken,
            Sleep::Awake if granted == 0 => &mut self.first,
            Sleep::Awake => &mut self.warm,
        };
        *kind += 1;
    }
}

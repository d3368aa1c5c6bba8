//! How requests came to their workers, counted.

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
    /// Counts a slot of a worker that has granted so many before, and has slept until now or not.
    pub(super) fn count(&mut self, has_slept: bool, granted: u64) {
        let kind = match (has_slept, granted) {
            (true, _) => &mut self.woken,
            (false, 0) => &mut self.first,
            (false, _) => &mut self.warm,
        };
        *kind += 1;
    }
}

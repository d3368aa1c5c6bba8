//! Calls that are suspected to have been answered by what could not be read, each suspicion under a number.

use smallvec::SmallVec;

use super::numbers::CallId;

/// Most suspicions at once; what further messages may have answered waits as if they had not come.
const MAX_SUSPICIONS: usize = 16;

/// Calls of which one may have been answered.
#[derive(Debug)]
struct Suspicion {
    number: u64,
    calls: SmallVec<[CallId; 4]>,
}

/// All suspicions of a worker. Pure; whose calls they are is for the mux.
#[derive(Debug, Default)]
pub(super) struct Suspicions {
    next: u64,
    open: SmallVec<[Suspicion; 1]>,
}

impl Suspicions {
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Suspects those of the calls that are not suspected already, under one number. `None`: there are none, or too many
    /// suspicions at once.
    pub(super) fn begin(&mut self, calls: &[CallId]) -> Option<u64> {
        let open = &self.open;
        let is_new = |call: &&CallId| !open.iter().any(|it| it.calls.contains(call));
        let calls: SmallVec<[CallId; 4]> = calls.iter().filter(is_new).copied().collect();
        if calls.is_empty() || open.len() >= MAX_SUSPICIONS {
            return None;
        }
        let number = self.next;
        self.next += 1;
        self.open.push(Suspicion { number, calls });
        Some(number)
    }

    /// Takes the suspicion from a call.
    pub(super) fn lift(&mut self, call: CallId) {
        for suspicion in &mut self.open {
            suspicion.calls.retain(|suspected| *suspected != call);
        }
    }

    /// Ends the suspicion of that number, if it is there; its calls.
    pub(super) fn end(&mut self, number: u64) -> SmallVec<[CallId; 4]> {
        match self.open.iter().position(|it| it.number == number) {
            Some(at) => self.open.remove(at).calls,
            None => SmallVec::new(),
        }
    }
}

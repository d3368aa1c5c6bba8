//! Calls that a message of which nothing can be made may have answered: they are given a little longer, and then they are
//! over.
//!
//! ```text
//! Open ── a broken message that names nobody, of several ──▶ Suspected ── its answer, progress, a question ──▶ Open
//!                                                            Suspected ── the runtime: the grace is over ──▶ failed
//! ```
//!
//! The mux knows no clock: it numbers its suspicions, and the runtime says when one is old enough
//! ([`Mux::suspicion_over`]).

use smallvec::SmallVec;

use super::client_side::cancellation;
use super::mux::{Action, CallId, MalformedOutcome, Mux, Purpose, SessionNo};

/// Most suspicions at once; what further messages may have answered waits as if they had not come.
const MAX_SUSPICIONS: usize = 16;

/// Calls of which one may have been answered.
#[derive(Debug)]
struct Suspicion {
    number: u64,
    calls: SmallVec<[CallId; 4]>,
}

/// All suspicions of a worker; see the [module](self).
#[derive(Debug, Default)]
pub(super) struct Suspicions {
    next: u64,
    open: SmallVec<[Suspicion; 1]>,
}

impl Mux {
    /// Any of these calls may have been answered by what could not be read. Those that are suspected already keep their
    /// time.
    pub(super) fn suspect(&mut self, calls: &[CallId]) -> MalformedOutcome {
        let open = &self.suspicions.open;
        let is_new = |call: &&CallId| !open.iter().any(|it| it.calls.contains(call));
        let calls: SmallVec<[CallId; 4]> = calls.iter().filter(is_new).copied().collect();
        if calls.is_empty() || open.len() >= MAX_SUSPICIONS {
            return MalformedOutcome::Dropped;
        }
        let number = self.suspicions.next;
        self.suspicions.next += 1;
        self.suspicions.open.push(Suspicion { number, calls });
        MalformedOutcome::Suspected(number)
    }

    /// Every call that the worker has not answered.
    pub(super) fn everyone(&self) -> SmallVec<[CallId; 1]> {
        let mut calls: SmallVec<[CallId; 1]> = self.calls.keys().copied().collect();
        // Those that wait for their clients are not with the worker; of stdiopool's own only the handshake matters.
        calls.retain(|call| {
            let is_own = matches!(self.calls[call].purpose, Purpose::Probe | Purpose::Own);
            !is_own && self.is_with_worker(*call)
        });
        calls.sort_unstable();
        calls
    }

    /// The worker is busy with that call: what was broken was not its answer.
    pub(super) fn shows_life(&mut self, call: CallId) {
        if self.suspicions.open.is_empty() {
            return;
        }
        for suspicion in &mut self.suspicions.open {
            suspicion.calls.retain(|suspected| *suspected != call);
        }
    }

    /// The worker asks on behalf of that session: it is busy with a call of it.
    pub(super) fn is_asked(&mut self, session: SessionNo) {
        if self.suspicions.open.is_empty() {
            return;
        }
        let calls = self.seats.get(&session).map(|seat| seat.in_flight.clone());
        for call in calls.unwrap_or_default() {
            self.shows_life(call);
        }
    }

    /// The grace of a suspicion is over: what of its calls is still open is so no more. Says what became of each; the
    /// worker is told that nobody waits.
    pub fn suspicion_over(
        &mut self,
        number: u64,
        out: &mut Vec<Action>,
    ) -> SmallVec<[MalformedOutcome; 1]> {
        let open = &mut self.suspicions.open;
        let Some(at) = open.iter().position(|it| it.number == number) else {
            return SmallVec::new();
        };
        let suspicion = open.remove(at);
        let mut outcomes = SmallVec::new();
        for call in suspicion.calls {
            if !self.is_with_worker(call) {
                continue;
            }
            let wire = self.wire_of(call);
            let is_of_session = self.caller(call).is_some();
            let outcome = self.answered_badly(call, out);
            if is_of_session {
                // It may be busy with it all the same, and ask something for it.
                self.add_orphan(call);
                out.push(cancellation(wire, "its answer could not be read"));
            }
            outcomes.push(outcome);
        }
        outcomes
    }
}

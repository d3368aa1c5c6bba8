//! Calls of which one was surely meant by a message that cannot be read: they are given a little longer, and then they are
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

use super::action::{Action, MalformedOutcome};
use super::call::Purpose;
use super::for_worker::cancellation;
use super::mux::Mux;
use super::numbers::{CallId, SessionNo};

impl Mux {
    /// Any of these calls may have been answered by what could not be read. Calls that are suspected already keep their
    /// time.
    pub(super) fn suspect(&mut self, calls: &[CallId]) -> MalformedOutcome {
        match self.suspicions.begin(calls) {
            Some(number) => MalformedOutcome::Suspected(number),
            None => MalformedOutcome::Dropped,
        }
    }

    /// Every call that the worker has not answered.
    pub(super) fn everyone(&self) -> SmallVec<[CallId; 1]> {
        let mut calls: SmallVec<[CallId; 1]> = self.calls.keys().copied().collect();
        // Calls that wait for their clients are not with the worker; of stdiopool's own only the handshake matters.
        calls.retain(|call| {
            let is_own = matches!(self.calls[call].purpose, Purpose::Probe | Purpose::Own);
            !is_own && self.is_with_worker(*call)
        });
        calls.sort_unstable();
        calls
    }

    /// The worker is busy with that call: what was broken was not its answer.
    pub(super) fn shows_life(&mut self, call: CallId) {
        self.suspicions.lift(call);
    }

    /// The worker asks on behalf of that session: it is busy with a call of it.
    pub(super) fn is_asked(&mut self, session: SessionNo) {
        if self.suspicions.is_empty() {
            return;
        }
        let calls = self
            .attached_to
            .get(&session)
            .map(|attached| attached.in_flight.clone());
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
        let mut outcomes = SmallVec::new();
        for call in self.suspicions.end(number) {
            if !self.is_with_worker(call) {
                continue;
            }
            let wire = self.wire_of(call);
            let is_of_session = self.caller(call).is_some();
            let outcome = self.answered_badly(call, out);
            if is_of_session {
                // The worker may still be busy with the call, and ask something for it.
                self.add_orphan(call);
                self.notices.sent(self.next_call);
                out.push(cancellation(wire, "its answer could not be read"));
            }
            outcomes.push(outcome);
        }
        outcomes
    }
}

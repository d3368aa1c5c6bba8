//! How a worker is told its clients' roots (2025-11-25, client/roots).
//!
//! Servers ask for roots by themselves right after `notifications/initialized`, when no call is under way that would
//! say who is meant. So the question waits until it is known whose roots they are, and is answered then.

use super::action::Action;
use super::mux::{MAX_ASKS, Mux};
use super::numbers::AskRef;
use super::roots::ClientRoots;
use crate::protocol::{RawJson, bare_notification, result_response};

impl Mux {
    /// Whether the worker may ask its clients for their roots.
    pub fn may_ask_for_roots(&self) -> bool {
        self.accepts.roots
    }

    /// How many times the worker was told roots without that a client was asked then.
    pub fn roots_answered(&self) -> u64 {
        self.worker_roots.answered
    }

    /// Whether that question of the worker is for a client's roots.
    pub fn is_about_roots(&self, ask: AskRef) -> bool {
        let question = self.asks.get(&ask.number);
        question.is_some_and(|question| question.about_roots)
    }

    /// Has the worker work with those roots: questions that wait are answered, and one that was told others is told that
    /// they have changed, and given these when it asks. Says whether the worker was sent anything.
    pub fn tell_roots(&mut self, roots: &ClientRoots, out: &mut Vec<Action>) -> bool {
        if self.worker_roots.known.as_ref() == Some(roots) {
            return false;
        }
        self.worker_roots.known = Some(roots.clone());
        let waiting = std::mem::take(&mut self.worker_roots.waiting);
        if waiting.is_empty() && self.worker_roots.asked {
            self.notices.sent(self.next_call);
            let changed = bare_notification("notifications/roots/list_changed");
            out.push(Action::ToWorker(changed.into()));
            return true;
        }
        for id in &waiting {
            self.answer_with_roots(id, roots, out);
        }
        !waiting.is_empty()
    }

    /// The worker asks for roots while its clients accept that. Says whether that is settled; else the session that
    /// must have caused it is to be asked.
    pub(super) fn roots_wanted(&mut self, raw_id: &str, out: &mut Vec<Action>) -> bool {
        self.worker_roots.asked = true;
        out.push(Action::RootsWanted);
        if !self.active.is_empty() && self.owner().is_some() && self.orphans.is_empty() {
            return false;
        }
        if let Some(roots) = self.worker_roots.known.clone() {
            self.answer_with_roots(raw_id, &roots, out);
            return true;
        }
        if self.is_unused && self.worker_roots.waiting.len() < MAX_ASKS {
            self.worker_roots.waiting.push(raw_id.into());
            return true;
        }
        false
    }

    /// A client has answered the worker's question for roots itself.
    pub(super) fn roots_given(&mut self, result: Option<RawJson<'_>>) {
        self.worker_roots.known = result.and_then(|result| ClientRoots::read(result.get()).ok());
    }

    /// The worker takes a question back; says whether it was one that waits.
    pub(super) fn roots_not_wanted(&mut self, raw_id: &str) -> bool {
        let before = self.worker_roots.waiting.len();
        self.worker_roots.waiting.retain(|id| &**id != raw_id);
        self.worker_roots.waiting.len() < before
    }

    /// Someone calls of whose roots nothing will be known.
    pub(super) fn no_roots_to_come(&mut self, out: &mut Vec<Action>) {
        for id in std::mem::take(&mut self.worker_roots.waiting) {
            self.answer_with_roots(&id, &ClientRoots::none(), out);
        }
    }

    fn answer_with_roots(&mut self, raw_id: &str, roots: &ClientRoots, out: &mut Vec<Action>) {
        self.worker_roots.answered += 1;
        let answer = result_response(raw_id, roots.result.as_bytes());
        out.push(Action::ToWorker(answer));
    }
}

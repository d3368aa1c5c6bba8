//! What a worker of the stateless revision tells of changes: one subscription of stdiopool's own, opened anew whenever
//! its sessions want other resources watched (2026-07-28, basic/patterns/subscriptions).
//!
//! ```text
//!  none ── sought ──▶ opening ── acknowledged ──▶ open ── another is sought ──▶ open, and one opening
//!    ▲                   └── an error ──▶ refused: never again                        │ acknowledged: the older is cancelled
//!    └───────────── the worker ends it ───────────────────────────────────────────────┘
//! ```

use serde_json::{Value, json};

use super::action::Action;
use super::for_worker::cancellation;
use super::numbers::CallId;
use super::stateless::{Filter, identity};
use crate::protocol::request;

/// The subscription.
#[derive(Default, Debug)]
pub(super) struct Listening {
    /// The one that the worker has acknowledged.
    open: Option<CallId>,
    /// The one that will take its place.
    opening: Option<CallId>,
    /// What was last asked for.
    asked: Option<Filter>,
    /// The worker does not take it.
    refused: bool,
}

impl Listening {
    /// Seeks a subscription of that filter, with `id` if one has to be opened; says whether it was.
    pub(super) fn seek(
        &mut self,
        filter: Filter,
        id: CallId,
        own_info: &Value,
        out: &mut Vec<Action>,
    ) -> bool {
        if self.asked.as_ref() == Some(&filter) {
            return false;
        }
        if let Some(older) = self.opening.take() {
            stop(older, out);
        }
        if filter == Filter::default() {
            if let Some(open) = self.open.take() {
                stop(open, out);
            }
            self.asked = None;
            return false;
        }
        let identity = identity(own_info, &serde_json::Map::new());
        let notifications = json!(filter);
        let params = format!(r#"{{"_meta":{{{identity}}},"notifications":{notifications}}}"#);
        let line = request(id.0, "subscriptions/listen", params);
        out.push(Action::ToWorker(line.into()));
        self.asked = Some(filter);
        self.opening = Some(id);
        true
    }

    /// The worker has acknowledged a subscription: the one before is not needed any more.
    pub(super) fn begins(&mut self, subscription: Option<u64>, out: &mut Vec<Action>) {
        if self.opening.is_none() || self.opening.map(|id| id.0) != subscription {
            return;
        }
        if let Some(before) = self.open.take() {
            stop(before, out);
        }
        self.open = self.opening.take();
    }

    /// Whether the worker's answer ends the subscription, or refuses it.
    pub(super) fn ends(&mut self, id: CallId, is_error: bool) -> bool {
        let (is_open, is_opening) = (self.open == Some(id), self.opening == Some(id));
        if is_open {
            self.open = None;
        }
        if is_opening {
            self.opening = None;
            self.refused = is_error;
        }
        if is_open || is_opening {
            // Whoever subscribes next opens it again.
            self.asked = None;
        }
        is_open || is_opening
    }

    /// Whether the worker has refused such a subscription, and is not asked for one again.
    pub(super) fn is_refused(&self) -> bool {
        self.refused
    }

    /// Whether what the worker says under that subscription counts.
    pub(super) fn is_current(&self, subscription: Option<u64>) -> bool {
        subscription.is_none_or(|id| self.open == Some(CallId(id)))
    }
}

fn stop(id: CallId, out: &mut Vec<Action>) {
    out.push(cancellation(id, "another subscription takes its place"));
}

//! What a worker of the stateless revision tells of changes: one subscription of stdiopool's own,
//! opened anew whenever its sessions want other resources watched
//! (2026-07-28, basic/patterns/subscriptions).

use serde_json::json;

use super::era::Era;
use super::mux::{Action, CallId, Mux};
use super::stateless::{Filter, identity};

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
    /// Whether what the worker says under that subscription counts.
    pub(super) fn is_current(&self, subscription: Option<u64>) -> bool {
        subscription.is_none_or(|id| self.open == Some(CallId(id)))
    }
}

impl Mux {
    /// Brings the subscription in line with what the sessions want.
    pub(super) fn listen(&mut self, out: &mut Vec<Action>) {
        let Some(hello) = self.hello.as_ref().filter(|_| self.era == Era::Stateless) else {
            return;
        };
        if self.listening.refused {
            return;
        }
        let filter = Filter {
            tools_list_changed: true,
            prompts_list_changed: true,
            resources_list_changed: true,
            resource_subscriptions: self.watchers.uris().map(ToOwned::to_owned).collect(),
        };
        let filter = filter.agreed(hello.text());
        if self.listening.asked.as_ref() == Some(&filter) {
            return;
        }
        if let Some(older) = self.listening.opening.take() {
            stop(older, out);
        }
        if filter == Filter::default() {
            if let Some(open) = self.listening.open.take() {
                stop(open, out);
            }
            self.listening.asked = None;
            return;
        }
        let id = CallId(self.next_call);
        self.next_call += 1;
        let identity = identity(&self.own_info, &serde_json::Map::new());
        let notifications = json!(filter);
        let number = id.0;
        let line = format!(
            r#"{{"jsonrpc":"2.0","id":{number},"method":"subscriptions/listen","params":{{"_meta":{{{identity}}},"notifications":{notifications}}}}}"#
        );
        out.push(Action::ToWorker(line.into()));
        self.listening.asked = Some(filter);
        self.listening.opening = Some(id);
    }

    /// The worker has taken the subscription: the one before is not needed any more.
    pub(super) fn listening_begins(&mut self, subscription: Option<u64>, out: &mut Vec<Action>) {
        if self.listening.opening.is_none() || self.listening.opening.map(|id| id.0) != subscription
        {
            return;
        }
        if let Some(before) = self.listening.open.take() {
            stop(before, out);
        }
        self.listening.open = self.listening.opening.take();
    }

    /// Whether the worker's answer ends the subscription, or refuses it.
    pub(super) fn listening_ends(&mut self, id: CallId, is_error: bool) -> bool {
        let listening = &mut self.listening;
        let (is_open, is_opening) = (listening.open == Some(id), listening.opening == Some(id));
        if is_open {
            listening.open = None;
        }
        if is_opening {
            listening.opening = None;
            listening.refused = is_error;
        }
        if is_open || is_opening {
            // Whoever subscribes next opens it again.
            listening.asked = None;
        }
        is_open || is_opening
    }
}

fn stop(id: CallId, out: &mut Vec<Action>) {
    let params = json!({ "requestId": id.0, "reason": "another subscription takes its place" });
    let line = json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": params });
    out.push(Action::ToWorker(line.to_string().into()));
}

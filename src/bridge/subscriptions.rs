//! Subscriptions of sessions to resources of a worker, and what the worker is asked for on their behalf.

use serde_json::json;

use super::action::Action;
use super::call::{AttachedSession, Purpose};
use super::era::Era;
use super::mux::Mux;
use super::numbers::{CallId, SessionNo};
use super::stateless::Filter;
use crate::protocol::code;

/// Most subscriptions of one session; further ones are refused.
pub const MAX_SUBSCRIPTIONS: usize = 1024;

/// Longest URI that a session can subscribe to, in bytes.
const MAX_URI: usize = 8 << 10;

/// Most bytes of the URIs that one session subscribes to.
pub const MAX_SUBSCRIBED: usize = 256 << 10;

impl Mux {
    /// The session subscribes to that resource.
    pub(super) fn subscribe(&mut self, session: SessionNo, uri: &str) {
        let attached = self.attached_session(session);
        if attached.subscriptions.insert(uri.to_owned()) {
            attached.subscribed += uri.len();
            self.subscribers.add(uri, session);
        }
    }

    /// The session subscribes to that resource no more.
    pub(super) fn unsubscribe(&mut self, session: SessionNo, uri: &str) {
        if let Some(attached) = self.attached_to.get_mut(&session)
            && attached.subscriptions.remove(uri)
        {
            attached.subscribed -= uri.len();
            self.subscribers.remove(uri, session);
        }
    }

    /// Why the session cannot subscribe to that resource, if it cannot.
    pub(super) fn cannot_subscribe(&self, session: SessionNo, uri: &str) -> Option<(i32, String)> {
        if uri.len() > MAX_URI {
            let len = uri.len();
            let why = format!(
                "`uri` is {len} bytes long, more than the {MAX_URI} of a resource that can be subscribed to"
            );
            return Some((code::INVALID_PARAMS, why));
        }
        let attached = self.attached_to.get(&session)?;
        if attached.subscriptions.contains(uri) {
            return None;
        }
        let (asked, asked_bytes) = self.asked_subscriptions(attached);
        if attached.subscriptions.len() + asked >= MAX_SUBSCRIPTIONS {
            let why = format!("too many subscriptions in this session ({MAX_SUBSCRIPTIONS})");
            return Some((code::SERVER_ERROR, why));
        }
        let bytes = attached.subscribed + asked_bytes;
        (bytes + uri.len() > MAX_SUBSCRIBED).then(|| {
            let why = format!("the subscriptions of this session take {bytes} bytes already, of the {MAX_SUBSCRIBED} that they may");
            (code::SERVER_ERROR, why)
        })
    }

    /// How many subscriptions of a session the worker is being asked for, and the bytes of their URIs: requests side by
    /// side must not pass the bounds together.
    fn asked_subscriptions(&self, attached: &AttachedSession) -> (usize, usize) {
        let asked = attached
            .in_flight
            .iter()
            .filter_map(|id| match self.calls.get(id)?.purpose {
                Purpose::Subscribe(ref uri) => Some(uri.len()),
                _ => None,
            });
        asked.fold((0, 0), |(count, bytes), len| (count + 1, bytes + len))
    }

    /// How many sessions subscribe to resources of this worker.
    pub fn subscribers(&self) -> usize {
        self.attached_to
            .values()
            .filter(|attached| !attached.subscriptions.is_empty())
            .count()
    }

    pub(super) fn is_subscribed(&self, uri: &str) -> bool {
        self.subscribers.has(uri)
    }

    pub(super) fn others_subscribe(&self, session: SessionNo, uri: &str) -> bool {
        self.subscribers.has_others(uri, session)
    }

    /// Drops a subscription that was granted after its session had left.
    pub(super) fn drop_unwanted(&mut self, uri: &str, out: &mut Vec<Action>) {
        if !self.is_subscribed(uri) {
            self.own_request(
                "resources/unsubscribe",
                &json!({ "uri": uri }).to_string(),
                out,
            );
        }
    }

    /// Brings the subscription of a worker of the stateless revision in line with what the sessions want.
    pub(super) fn listen(&mut self, out: &mut Vec<Action>) {
        let Some(server_info) = self
            .server_info
            .as_ref()
            .filter(|_| self.era == Era::Modern)
        else {
            return;
        };
        if self.listening.is_refused() {
            return;
        }
        let filter = Filter {
            tools_list_changed: true,
            prompts_list_changed: true,
            resources_list_changed: true,
            resource_subscriptions: self.subscribers.uris().map(ToOwned::to_owned).collect(),
        };
        let filter = filter.agreed(server_info.text());
        let id = CallId(self.next_call);
        if self.listening.seek(filter, id, &self.own_info, out) {
            self.next_call += 1;
        }
    }
}

//! `subscriptions/listen`: which changes a client wants to hear of, and how it is told
//! (basic/patterns/subscriptions).

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::meta;
use crate::protocol::{Envelope, notification, result_response};

/// The filter of a client that listens.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Filter {
    /// The list of tools.
    #[serde(skip_serializing_if = "is_off")]
    pub tools_list_changed: bool,
    /// The list of prompts.
    #[serde(skip_serializing_if = "is_off")]
    pub prompts_list_changed: bool,
    /// The list of resources.
    #[serde(skip_serializing_if = "is_off")]
    pub resources_list_changed: bool,
    /// Resources whose updates are told.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resource_subscriptions: Vec<String>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_off(flag: &bool) -> bool {
    !flag
}

impl Filter {
    /// The filter that the request asks for; `None` if it is not readable.
    pub fn asked(notifications: Option<&str>) -> Option<Self> {
        serde_json::from_str(notifications?).ok()
    }

    /// The part of the filter that a server can tell of which answered so to `initialize`.
    #[must_use]
    pub fn agreed(mut self, initialize_result: &str) -> Self {
        let server_info: Value = serde_json::from_str(initialize_result).unwrap_or(Value::Null);
        let can = |name: &str, what: &str| server_info["capabilities"][name][what] == true;
        self.tools_list_changed &= can("tools", "listChanged");
        self.prompts_list_changed &= can("prompts", "listChanged");
        self.resources_list_changed &= can("resources", "listChanged");
        if !can("resources", "subscribe") {
            self.resource_subscriptions.clear();
        }
        self
    }

    /// The first message of the stream, for request `id`.
    pub fn acknowledgement(&self, id: &str) -> Bytes {
        let filter = json!(self);
        let name = meta::SUBSCRIPTION;
        let params = format!(r#"{{"_meta":{{"{name}":{id}}},"notifications":{filter}}}"#);
        notification("notifications/subscriptions/acknowledged", params).into()
    }

    /// The last message of a stream that the server ends.
    pub fn farewell(id: &str) -> Bytes {
        let name = meta::SUBSCRIPTION;
        let result = format!(r#"{{"resultType":"complete","_meta":{{"{name}":{id}}}}}"#);
        result_response(id, result.as_bytes())
    }

    /// A worker's notification for the stream of request `id`; `None` if it was not asked for.
    pub fn passes(&self, message: &[u8], id: &str) -> Option<Bytes> {
        let envelope = Envelope::parse(message).ok()?;
        let method = envelope.method.as_deref()?;
        let is_wanted = match method {
            "notifications/tools/list_changed" => self.tools_list_changed,
            "notifications/prompts/list_changed" => self.prompts_list_changed,
            "notifications/resources/list_changed" => self.resources_list_changed,
            // Only what this stream subscribed to comes here.
            "notifications/resources/updated" => !self.resource_subscriptions.is_empty(),
            _ => false,
        };
        if !is_wanted {
            return None;
        }
        let params = envelope.params.map_or("{}", |params| params.get());
        let params: Map<String, Value> = serde_json::from_str(params).ok()?;
        let mut params = Value::Object(params);
        if !params["_meta"].is_object() {
            params["_meta"] = json!({});
        }
        params["_meta"][meta::SUBSCRIPTION] = serde_json::from_str(id).ok()?;
        Some(notification(method, params).into())
    }
}

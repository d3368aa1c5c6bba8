//! Requests that list what a server offers, and whose answers can be remembered.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::protocol::Envelope;

/// A list of a server.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Listing {
    /// `tools/list`
    Tools,
    /// `prompts/list`
    Prompts,
    /// `resources/list`
    Resources,
    /// `resources/templates/list`
    ResourceTemplates,
}

impl Listing {
    /// The list that a request asks for, if it asks for the first page of one and for nothing
    /// special: no cursor, no progress.
    pub fn asked(method: &str, params: Option<&RawValue>) -> Option<Self> {
        #[derive(Deserialize)]
        struct Params {
            cursor: Option<IgnoredAny>,
            #[serde(rename = "_meta")]
            meta: Option<Meta>,
        }
        #[derive(Deserialize)]
        struct Meta {
            #[serde(rename = "progressToken")]
            progress_token: Option<IgnoredAny>,
        }
        let listing = Self::of(method)?;
        let Some(params) = params else {
            return Some(listing);
        };
        let params: Params = serde_json::from_str(params.get()).ok()?;
        let is_special = params.cursor.is_some()
            || params
                .meta
                .is_some_and(|meta| meta.progress_token.is_some());
        (!is_special).then_some(listing)
    }

    /// The list that a method asks for.
    pub fn of(method: &str) -> Option<Self> {
        match method {
            "tools/list" => Some(Self::Tools),
            "prompts/list" => Some(Self::Prompts),
            "resources/list" => Some(Self::Resources),
            "resources/templates/list" => Some(Self::ResourceTemplates),
            _ => None,
        }
    }

    /// The method that asks for it.
    pub fn method(self) -> &'static str {
        match self {
            Self::Tools => "tools/list",
            Self::Prompts => "prompts/list",
            Self::Resources => "resources/list",
            Self::ResourceTemplates => "resources/templates/list",
        }
    }

    /// The notification that says that it has changed.
    pub fn changed(self) -> &'static str {
        match self {
            Self::Tools => "notifications/tools/list_changed",
            Self::Prompts => "notifications/prompts/list_changed",
            Self::Resources | Self::ResourceTemplates => "notifications/resources/list_changed",
        }
    }

    /// Whether a result holds the whole list: there is no next page.
    pub fn is_whole(result: &str) -> bool {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Page {
            next_cursor: Option<IgnoredAny>,
        }
        serde_json::from_str::<Page>(result).is_ok_and(|page| page.next_cursor.is_none())
    }

    /// Whether a worker's notification says that this list has changed.
    pub fn is_changed_by(self, method: &str) -> bool {
        match method {
            "notifications/tools/list_changed" => self == Self::Tools,
            "notifications/prompts/list_changed" => self == Self::Prompts,
            "notifications/resources/list_changed" => {
                matches!(self, Self::Resources | Self::ResourceTemplates)
            }
            _ => false,
        }
    }
}

/// A response to `tools/list` with only the tools that `is_offered`; `None` if it is none.
pub fn offered_tools(response: &[u8], is_offered: impl Fn(&str) -> bool) -> Option<Bytes> {
    #[derive(Deserialize)]
    struct Name<'a> {
        #[serde(borrow)]
        name: Cow<'a, str>,
    }
    let envelope = Envelope::parse(response).ok()?;
    let result: BTreeMap<Cow<'_, str>, &RawValue> =
        serde_json::from_str(envelope.result?.get()).ok()?;
    let tools: Vec<&RawValue> = serde_json::from_str(result.get("tools")?.get()).ok()?;
    let offered = tools.into_iter().filter(|tool| {
        let named = serde_json::from_str::<Name<'_>>(tool.get());
        named.is_ok_and(|tool| is_offered(&tool.name))
    });
    let offered: Vec<&str> = offered.map(RawValue::get).collect();
    let mut text = format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":{},\"result\":{{\"tools\":[{}]",
        envelope.id?.get(),
        offered.join(",")
    );
    for (name, value) in result.iter().filter(|(name, _)| *name != "tools") {
        let name = serde_json::Value::from(&**name);
        text.push_str(&format!(",{name}:{}", value.get()));
    }
    text.push_str("}}");
    Some(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(method: &str, params: &str) -> Option<Listing> {
        let params = RawValue::from_string(params.to_owned()).expect("JSON");
        Listing::asked(method, Some(&params))
    }

    #[test]
    fn only_plain_first_pages_are_taken() {
        assert_eq!(Listing::asked("tools/list", None), Some(Listing::Tools));
        assert_eq!(asked("prompts/list", "{}"), Some(Listing::Prompts));
        let with_meta = r#"{"_meta":{"traceparent":"00"}}"#;
        assert_eq!(asked("resources/list", with_meta), Some(Listing::Resources));
        assert_eq!(asked("tools/list", r#"{"cursor":"2"}"#), None);
        assert_eq!(
            asked("tools/list", r#"{"_meta":{"progressToken":1}}"#),
            None
        );
        assert_eq!(asked("tools/list", "[]"), None);
        assert_eq!(asked("tools/call", "{}"), None);
        assert!(Listing::is_whole(r#"{"tools":[]}"#));
        assert!(Listing::is_whole(r#"{"tools":[],"nextCursor":null}"#));
        assert!(!Listing::is_whole(r#"{"tools":[],"nextCursor":"2"}"#));
    }

    #[test]
    fn a_change_of_resources_concerns_their_templates_too() {
        let method = "notifications/resources/list_changed";
        assert!(Listing::Resources.is_changed_by(method));
        assert!(Listing::ResourceTemplates.is_changed_by(method));
        assert!(!Listing::Tools.is_changed_by(method));
    }
}

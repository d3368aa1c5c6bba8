//! Requests that list what a server offers, and whose answers can be remembered.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::era::Era;
use super::members::Members;
use super::stateless::identity;
use crate::protocol::{Envelope, RawJson, request, result_response};

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
    pub fn asked(method: &str, params: Option<RawJson<'_>>) -> Option<Self> {
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

    /// A request of stdiopool's own for a page of this list, by that id (raw JSON), in the words of that era: a worker of the
    /// newer one wants to know who asks.
    pub fn request(self, id: &str, words: Era, cursor: Option<&str>) -> Bytes {
        let mut params = Map::new();
        if let Some(cursor) = cursor {
            params.insert("cursor".to_owned(), cursor.into());
        }
        if words == Era::Modern {
            let own = format!("{{{}}}", identity(&Value::Null, &Map::new()));
            let own = serde_json::from_str(&own).unwrap_or_default();
            params.insert("_meta".to_owned(), own);
        }
        request(id, self.method(), Value::Object(params)).into()
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

/// How a tool is listed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Shown {
    /// Not at all.
    Hidden,
    /// Tools stand as their server describes them.
    AsItIs,
    /// Without these arguments.
    Without(Vec<String>),
}

/// A response to `tools/list` in which each tool is as `shown` says by its name; `None` if it is
/// none.
pub fn offered_tools(response: &[u8], shown: impl Fn(&str) -> Shown) -> Option<Bytes> {
    #[derive(Deserialize)]
    struct Name<'a> {
        #[serde(borrow)]
        name: Cow<'a, str>,
    }
    let envelope = Envelope::parse(response).ok()?;
    let result: BTreeMap<Cow<'_, str>, &RawValue> =
        serde_json::from_str(envelope.result?.get()).ok()?;
    let tools: Vec<&RawValue> = serde_json::from_str(result.get("tools")?.get()).ok()?;
    let offered = tools.into_iter().filter_map(|tool| {
        let named: Name<'_> = serde_json::from_str(tool.get()).ok()?;
        match shown(&named.name) {
            Shown::Hidden => None,
            Shown::AsItIs => Some(Cow::Borrowed(tool.get())),
            Shown::Without(arguments) => without(tool.get(), &arguments).map(Cow::Owned),
        }
    });
    let offered: Vec<Cow<'_, str>> = offered.collect();
    let mut text = format!("{{\"tools\":[{}]", offered.join(","));
    for (name, value) in result.iter().filter(|(name, _)| *name != "tools") {
        let name = serde_json::Value::from(&**name);
        text.push_str(&format!(",{name}:{}", value.get()));
    }
    text.push('}');
    Some(result_response(envelope.id?.get(), text.as_bytes()))
}

/// A tool's description without some of its arguments; `None` if it is none.
fn without(tool: &str, arguments: &[String]) -> Option<String> {
    let mut tool = Members::read(tool)?;
    let Some(schema) = tool.get("inputSchema").map(ToOwned::to_owned) else {
        return Some(tool.write());
    };
    let mut schema = Members::read(&schema)?;
    if let Some(properties) = schema.get("properties").map(ToOwned::to_owned) {
        let mut properties = Members::read(&properties)?;
        for argument in arguments {
            properties.take(argument);
        }
        schema.set("properties", properties.write());
    }
    if let Some(required) = schema.get("required") {
        let mut required: Vec<String> = serde_json::from_str(required).ok()?;
        required.retain(|name| !arguments.contains(name));
        schema.set("required", serde_json::json!(required).to_string());
    }
    tool.set("inputSchema", schema.write());
    Some(tool.write())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(method: &str, params: &str) -> Option<Listing> {
        let params = RawValue::from_string(params.to_owned()).expect("JSON");
        Listing::asked(method, Some((&*params).into()))
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
    fn tools_are_listed_as_they_are_hidden_or_without_arguments() {
        let response = r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"a", "x":1},{"name":"b"},{"name":"c","inputSchema":{"type":"object","properties":{"k":{ },"account":{}},"required":["account","k"]}}]}}"#;
        let shown = |name: &str| match name {
            "a" => Shown::AsItIs,
            "b" => Shown::Hidden,
            _ => Shown::Without(vec!["account".to_owned(), "other".to_owned()]),
        };
        let offered = offered_tools(response.as_bytes(), shown).expect("a list");
        assert_eq!(
            offered,
            r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"a", "x":1},{"name":"c","inputSchema":{"type":"object","properties":{"k":{ }},"required":["k"]}}]}}"#
        );
    }

    #[test]
    fn a_change_of_resources_concerns_their_templates_too() {
        let method = "notifications/resources/list_changed";
        assert!(Listing::Resources.is_changed_by(method));
        assert!(Listing::ResourceTemplates.is_changed_by(method));
        assert!(!Listing::Tools.is_changed_by(method));
    }
}

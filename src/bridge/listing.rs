//! Requests that list what a server offers, and whose answers can be remembered.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

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
        let listing = match method {
            "tools/list" => Self::Tools,
            "prompts/list" => Self::Prompts,
            "resources/list" => Self::Resources,
            "resources/templates/list" => Self::ResourceTemplates,
            _ => return None,
        };
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

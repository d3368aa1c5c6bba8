//! Shallow views of the few parameters a bridge must look at. Everything else stays bytes.

use std::borrow::Cow;
use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::level::Level;
use crate::protocol::{Envelope, RawJson, Unlisted};

/// `_meta.progressToken` of a request (basic/utilities/progress).
#[derive(Deserialize)]
struct WithMeta<'a> {
    #[serde(borrow, rename = "_meta")]
    meta: Option<Meta<'a>>,
}

#[derive(Deserialize)]
struct Meta<'a> {
    #[serde(borrow, rename = "progressToken")]
    progress_token: Option<&'a RawValue>,
}

/// Looked for in every request: built once.
static PROGRESS_TOKEN: LazyLock<Finder<'static>> =
    LazyLock::new(|| Finder::new("\"progressToken\""));

/// The raw progress token of a request's parameters, a view into them.
pub(super) fn progress_token(params: &str) -> Option<&str> {
    // Most requests carry none: a substring search is much cheaper than a walk of the JSON.
    PROGRESS_TOKEN.find(params.as_bytes())?;
    let with_meta: WithMeta<'_> = serde_json::from_str(params).ok()?;
    Some(with_meta.meta?.progress_token?.get())
}

/// The raw progress token of a request, a view into its parameters.
pub fn progress_token_of<'a>(envelope: &Envelope<'a>) -> Option<&'a str> {
    match envelope.plain_meta("progressToken") {
        Ok(token) => token,
        Err(Unlisted) => progress_token(envelope.params?.get()),
    }
}

/// `params` of `notifications/progress`.
#[derive(Deserialize)]
pub(super) struct Progress<'a> {
    #[serde(borrow, rename = "progressToken")]
    pub(super) token: &'a RawValue,
}

/// `params` of `notifications/cancelled`.
#[derive(Deserialize)]
pub(super) struct Cancelled<'a> {
    #[serde(borrow, rename = "requestId")]
    pub(super) request_id: &'a RawValue,
}

#[derive(Deserialize)]
struct WithUri<'a> {
    #[serde(borrow)]
    uri: Cow<'a, str>,
}

/// The `uri` of a subscription request or of `notifications/resources/updated`.
pub(super) fn uri(params: &str) -> Option<Cow<'_, str>> {
    serde_json::from_str::<WithUri<'_>>(params)
        .ok()
        .map(|p| p.uri)
}

#[derive(Deserialize)]
struct WithLevel<'a> {
    #[serde(borrow)]
    level: Cow<'a, str>,
}

/// The `level` of `logging/setLevel` or `notifications/message`.
pub(super) fn level(params: &str) -> Option<Level> {
    let with_level: WithLevel<'_> = serde_json::from_str(params).ok()?;
    Level::parse(&with_level.level)
}

/// The level that a client's `logging/setLevel` asks for.
pub fn asked_level(params: Option<RawJson<'_>>) -> Option<Level> {
    level(params?.get())
}

/// The resource that a request subscribes to, if it does.
pub fn subscribed_uri<'a>(envelope: &Envelope<'a>) -> Option<Cow<'a, str>> {
    (envelope.method.as_deref() == Some("resources/subscribe"))
        .then(|| uri(envelope.params?.get()))
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_found_only_where_it_counts() {
        let params = r#"{"name":"a","_meta":{"x":1,"progressToken":"p-1"}}"#;
        assert_eq!(progress_token(params), Some(r#""p-1""#));
        assert_eq!(
            progress_token(r#"{"_meta":{"progressToken":5}}"#),
            Some("5")
        );
        let in_arguments = r#"{"arguments":{"_meta":{"progressToken":5}}}"#;
        assert_eq!(progress_token(in_arguments), None);
        assert_eq!(progress_token("{}"), None);
    }
}

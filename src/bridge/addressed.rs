//! What a message says to stdiopool itself, and not to the worker: the config its caller sets for
//! the server. And the other way round: what stdiopool says to clients beside what a server says of
//! itself.

use std::borrow::Cow;
use std::sync::LazyLock;

use bytes::Bytes;
use memchr::memmem::Finder;

use super::members::Members;
use crate::protocol::{Envelope, span_of, splice};

/// Under which a config stands in `_meta`, and its schema in `capabilities.experimental`.
pub const CONFIG: &str = "dev.stdiopool/config";
/// Under which a server that asks for it is told who calls, in `_meta`. Only stdiopool says that.
pub const IDENTITY: &str = "dev.stdiopool/identity";
/// The same config as a member of the parameters.
pub const CLIENT_CONFIG: &str = "clientConfig";

/// One of these is in every message that has something for stdiopool in it. The last two begin the
/// spellings in which JSON can hide letters and the slash of a name.
static SIGNS: LazyLock<[Finder<'static>; 4]> =
    LazyLock::new(|| ["dev.stdiopool/", CLIENT_CONFIG, "\\u00", "\\/"].map(Finder::new));

/// A message without what was for stdiopool, and that.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Addressed {
    /// What the worker may see.
    pub message: Bytes,
    /// `params.clientConfig`, as raw JSON.
    pub client_config: Option<String>,
    /// `params._meta["dev.stdiopool/config"]`, as raw JSON.
    pub meta_config: Option<String>,
}

/// Parameters whose names cannot be read as text (half of a surrogate pair stands alone in one),
/// so that a worker with other ideas of text might find in them what was to be taken out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`params` or their `_meta` have a name that is no Unicode text")]
pub struct Unreadable;

/// Takes out of a message what is for stdiopool; `None` if there is nothing. For nearly every
/// message that is found without reading it.
///
/// # Errors
/// [`Unreadable`] when it cannot be said what is in it.
pub fn addressed(message: &[u8]) -> Result<Option<Addressed>, Unreadable> {
    if SIGNS.iter().all(|sign| sign.find(message).is_none()) {
        return Ok(None);
    }
    let envelope = Envelope::parse(message).ok();
    let Some(params) = envelope.and_then(|envelope| envelope.params) else {
        return Ok(None);
    };
    let params = params.get();
    if !params.starts_with('{') {
        return Ok(None);
    }
    let mut members = Members::read(params).ok_or(Unreadable)?;
    let before = members.0.len();
    let client_config = members.take(CLIENT_CONFIG);
    let mut is_changed = members.0.len() < before;
    let mut meta_config = None;
    let mut rest = Vec::with_capacity(members.0.len());
    for (name, value) in members.0 {
        if name != "_meta" || !value.starts_with('{') {
            rest.push((name, value));
            continue;
        }
        let mut meta = Members::read(&value).ok_or(Unreadable)?;
        let before = meta.0.len();
        let taken = meta.take(CONFIG).map(Cow::into_owned);
        let _claimed = meta.take(IDENTITY);
        if meta.0.len() == before {
            rest.push((name, value));
            continue;
        }
        is_changed = true;
        meta_config = taken.or(meta_config);
        // What held nothing else is as if it had not been.
        if !meta.0.is_empty() {
            let text = meta.write();
            rest.push((name, Cow::Owned(text)));
        }
    }
    if !is_changed {
        return Ok(None);
    }
    let text = Members(rest).write();
    Ok(Some(Addressed {
        message: splice(message, span_of(message, params), text.as_bytes()),
        client_config: client_config.map(Cow::into_owned),
        meta_config,
    }))
}

/// An `initialize` or `server/discover` result that tells clients what they may set: `schema` is
/// raw JSON. `None` if it is no result.
pub fn advertised(result: &[u8], schema: &str) -> Option<Bytes> {
    let mut members = Members::read(std::str::from_utf8(result).ok()?)?;
    let capabilities = members.get("capabilities").unwrap_or("{}").to_owned();
    let mut capabilities = Members::read(&capabilities)?;
    let experimental = capabilities.get("experimental").unwrap_or("{}").to_owned();
    let mut experimental = Members::read(&experimental).unwrap_or_default();
    experimental.set(CONFIG, schema);
    capabilities.set("experimental", experimental.write());
    members.set("capabilities", capabilities.write());
    Some(members.write().into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn message(params: &str) -> String {
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#)
    }

    fn taken(params: &str) -> Option<(String, Option<String>, Option<String>)> {
        let addressed = addressed(message(params).as_bytes()).expect("readable")?;
        let message = String::from_utf8(addressed.message.to_vec()).expect("UTF-8");
        Some((message, addressed.client_config, addressed.meta_config))
    }

    #[test]
    fn nothing_of_it_is_left_for_the_worker() {
        let rest = message(r#"{"name":"a","arguments":{"x": [1]}}"#);
        for params in [
            r#"{"name":"a","clientConfig":{"k":1},"arguments":{"x": [1]}}"#,
            r#"{"name":"a","arguments":{"x": [1]},"_meta":{"dev.stdiopool/config":{"k":1}}}"#,
            r#"{"name":"a","_meta" : {"dev.stdiopool/identity":{"sub":"root"}},"arguments":{"x": [1]}}"#,
            r#"{"name":"a","_meta":{"dev.stdiopool\/config":1,"dev\u002estdiopool/identity":2},"arguments":{"x": [1]}}"#,
            r#"{"name":"a","cli\u0065ntConfig":{"k":1},"clientConfig":{"k":2},"arguments":{"x": [1]}}"#,
            r#"{"name":"a","_meta":{"dev.stdiopool/config":1},"_meta":{"dev.stdiopool/config":2},"arguments":{"x": [1]}}"#,
        ] {
            assert_eq!(taken(params).expect(params).0, rest, "{params}");
        }
        let params = r#"{"name":"a","clientConfig":{"k":1},"_meta":{"progressToken": 5,"dev.stdiopool/config":"cfg_1"}}"#;
        let (rest, client, meta) = taken(params).expect("something");
        assert_eq!(rest, message(r#"{"name":"a","_meta":{"progressToken":5}}"#));
        assert_eq!(client.as_deref(), Some(r#"{"k":1}"#));
        assert_eq!(meta.as_deref(), Some(r#""cfg_1""#));
    }

    #[test]
    fn what_only_looks_like_it_is_the_workers() {
        for params in [
            "{}",
            r#"{"arguments":{"clientConfig":{},"_meta":{"dev.stdiopool/config":1}}}"#,
            r#"{"name":"clientConfig","_meta":{"x":"dev.stdiopool/config"}}"#,
            r#"{"name":"\u001b","_meta":[]}"#,
            "[]",
        ] {
            assert_eq!(taken(params), None, "{params}");
        }
        assert_eq!(addressed(b"clientConfig"), Ok(None));
        assert_eq!(addressed(br#"{"method":"clientConfig"}"#), Ok(None));
    }

    #[test]
    fn what_cannot_be_read_is_not_passed_on() {
        for params in [
            r#"{"\ud800":1,"clientConfig":{}}"#,
            r#"{"_meta":{"\ud800":1,"dev.stdiopool/identity":{}}}"#,
        ] {
            let message = message(params);
            assert_eq!(addressed(message.as_bytes()), Err(Unreadable), "{params}");
        }
    }

    #[test]
    fn a_result_gets_the_schema_beside_what_it_has() {
        let told = |result: &str| {
            let told = advertised(result.as_bytes(), r#"{"type":"object"}"#).expect("a result");
            String::from_utf8(told.to_vec()).expect("UTF-8")
        };
        assert_eq!(
            told(r#"{"capabilities":{"tools":{ },"experimental":{"x":1}},"serverInfo":{}}"#),
            r#"{"capabilities":{"tools":{ },"experimental":{"x":1,"dev.stdiopool/config":{"type":"object"}}},"serverInfo":{}}"#
        );
        assert_eq!(
            told("{}"),
            r#"{"capabilities":{"experimental":{"dev.stdiopool/config":{"type":"object"}}}}"#
        );
        assert_eq!(advertised(b"[]", "{}"), None);
    }

    /// A name as JSON can spell it.
    fn spelt(name: &'static str) -> impl Strategy<Value = String> {
        proptest::collection::vec(0_u8..3, name.len()).prop_map(move |ways| {
            let letters = name.chars().zip(ways);
            letters
                .map(|(letter, way)| match (letter, way) {
                    (_, 1) => format!("\\u{:04x}", u32::from(letter)),
                    ('/', 2) => "\\/".to_owned(),
                    _ => letter.to_string(),
                })
                .collect()
        })
    }

    proptest! {
        #[test]
        fn no_spelling_gets_past_it(
            config in spelt(CONFIG), identity in spelt(IDENTITY), client in spelt(CLIENT_CONFIG),
            meta in spelt("_meta"),
        ) {
            let params = format!(
                r#"{{"name":"a","{client}":{{"k":1}},"{meta}":{{"{config}":{{"k":2}},"{identity}":3,"kept":4}}}}"#
            );
            let (rest, client, meta) = taken(&params).expect("found");
            let rest: Value = serde_json::from_str(&rest).expect("JSON");
            prop_assert_eq!(&rest["params"], &json!({ "name": "a", "_meta": { "kept": 4 } }));
            prop_assert_eq!(client.as_deref(), Some(r#"{"k":1}"#));
            prop_assert_eq!(meta.as_deref(), Some(r#"{"k":2}"#));
        }
    }
}

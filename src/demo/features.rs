//! Resources, prompts and completions.

use serde_json::{Value, json};

use super::answer::Refusal;
use super::arguments::{self, Complete, GetPrompt, Page, Reference, Uri};
use super::catalogue::{COUNTER, ECHO_PREFIX, ECHO_TEMPLATE, GREETING};
use super::server::Server;
use crate::protocol::{RawJson, code};

/// Most resources subscribed to at once.
const MAX_SUBSCRIPTIONS: usize = 1024;

/// "Resource not found" (server/resources, "Error Handling").
const RESOURCE_NOT_FOUND: i32 = -32002;

/// Names offered for the argument of `greet`.
const NAMES: [&str; 4] = ["Ada", "Alan", "Barbara", "Grace"];

/// A list that fits on one page.
///
/// # Errors
/// -32602 for any cursor: none was ever given out.
pub(super) fn only_page(
    params: Option<RawJson<'_>>,
    list: impl FnOnce() -> Value,
) -> Result<Value, Refusal> {
    match arguments::read::<Page>(params)?.cursor {
        None => Ok(list()),
        Some(cursor) => Err(Refusal::params(format!("unknown cursor `{cursor}`"))),
    }
}

/// `resources/read`.
pub(super) fn read_resource(server: &Server, Uri { uri }: Uri) -> Result<Value, Refusal> {
    let text = contents(server, &uri)?;
    Ok(json!({"contents": [{"uri": uri, "mimeType": "text/plain", "text": text}]}))
}

fn contents(server: &Server, uri: &str) -> Result<String, Refusal> {
    match uri {
        GREETING => Ok("Hello from the demo server.".to_owned()),
        COUNTER => Ok(server.counter.to_string()),
        _ => uri
            .strip_prefix(ECHO_PREFIX)
            .and_then(percent_decoded)
            .ok_or_else(|| {
                Refusal::new(RESOURCE_NOT_FOUND, format!("no resource `{uri}`"))
                    .with(json!({"uri": uri}))
            }),
    }
}

/// `text` with its `%xx` decoded; `None` when that is no UTF-8. A stray `%` stays.
fn percent_decoded(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let hex = bytes.get(at + 1..at + 3).filter(|_| byte == b'%');
        match hex.and_then(|hex| std::str::from_utf8(hex).ok()) {
            // `from_str_radix` takes a sign, a URI does not.
            Some(hex) if hex.bytes().all(|b| b.is_ascii_hexdigit()) => {
                out.push(u8::from_str_radix(hex, 16).ok()?);
                at += 3;
            }
            _ => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8(out).ok()
}

/// `resources/subscribe`.
pub(super) fn subscribe(server: &mut Server, Uri { uri }: Uri) -> Result<Value, Refusal> {
    contents(server, &uri)?;
    if !server.subscriptions.contains(&uri) {
        if server.subscriptions.len() >= MAX_SUBSCRIPTIONS {
            let message = format!("{MAX_SUBSCRIPTIONS} subscriptions, which is the limit");
            return Err(Refusal::new(code::SERVER_ERROR, message));
        }
        server.subscriptions.push(uri);
    }
    Ok(json!({}))
}

/// `resources/unsubscribe`.
pub(super) fn unsubscribe(server: &mut Server, Uri { uri }: &Uri) -> Value {
    server.subscriptions.retain(|known| known != uri);
    json!({})
}

/// `prompts/get`.
pub(super) fn get_prompt(asked: GetPrompt) -> Result<Value, Refusal> {
    if asked.name != "greet" {
        return Err(Refusal::params(format!("no prompt `{}`", asked.name)));
    }
    let Some(name) = asked.arguments.name else {
        return Err(Refusal::params("prompt `greet` needs the argument `name`"));
    };
    Ok(json!({
        "description": "Asks the model to greet somebody.",
        "messages": [{
            "role": "user",
            "content": {"type": "text", "text": format!("Please greet {name} warmly.")},
        }],
    }))
}

/// `completion/complete`.
pub(super) fn complete(asked: Complete) -> Result<Value, Refusal> {
    let argument = asked.argument.name.as_str();
    let values: Vec<&str> = match (&asked.of, argument) {
        (Reference::Prompt { name }, "name") if name == "greet" => {
            let begun = asked.argument.value.to_lowercase();
            let fits = |name: &&str| name.to_lowercase().starts_with(&begun);
            NAMES.into_iter().filter(fits).collect()
        }
        (Reference::Resource { uri }, "text") if uri == ECHO_TEMPLATE => Vec::new(),
        (Reference::Prompt { name: of } | Reference::Resource { uri: of }, _) => {
            let message = format!("`{of}` has no argument `{argument}`");
            return Err(Refusal::params(message));
        }
    };
    Ok(json!({"completion": {"total": values.len(), "values": values, "hasMore": false}}))
}

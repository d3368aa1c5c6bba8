//! What messages say of the trace that they are part of: `traceparent` and `tracestate` in `params._meta` (SEP-414; 2026-07-28, basic,
//! "_meta"). `baggage` beside them is passed on as it is, like every other member.

use std::borrow::Cow;

use bytes::Bytes;

use super::members::Members;
use super::stateless::is_tool_error;
use crate::protocol::{Envelope, Named, TraceContext};
use crate::telemetry::CallError;

const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";

/// The context that a request says it continues; `None` if there is no valid one.
pub fn trace_context_of(envelope: &Envelope<'_>) -> Option<TraceContext> {
    // Of nearly every request that is all.
    if let Ok(parent) = envelope.plain_meta(TRACEPARENT) {
        let parent = parent?;
        if let Ok(state) = envelope.plain_meta(TRACESTATE) {
            return context(parent, state);
        }
    }
    let params = Members::read(envelope.params?.get())?;
    let meta = Members::read(params.get("_meta")?)?;
    context(meta.get(TRACEPARENT)?, meta.get(TRACESTATE))
}

/// The context in raw JSON.
fn context(parent: &str, state: Option<&str>) -> Option<TraceContext> {
    let text = |raw: &'_ str| serde_json::from_str::<String>(raw).ok();
    TraceContext::parse(&text(parent)?, state.and_then(text).as_deref())
}

/// The request with that context in place of what its `_meta` says of one; `None` where it has no room for it: its parameters, or their
/// `_meta`, are no objects.
pub fn with_trace_context(envelope: &Envelope<'_>, context: &TraceContext) -> Option<Bytes> {
    let parent = format!("\"{}\"", context.traceparent());
    // Of characters that mean nothing in JSON, but for quotes and backslashes.
    let state = context.state.as_deref().map(crate::protocol::quoted);
    let given = envelope.params.map_or("{}", |params| params.get());
    let params = match plain_place(envelope, given) {
        Some(place) => {
            let (before, after) = given.split_at(place.at);
            let mut members = format!("\"{TRACEPARENT}\":{parent}");
            if let Some(state) = &state {
                members.push_str(&format!(",\"{TRACESTATE}\":{state}"));
            }
            let comma = if place.is_last { "" } else { "," };
            match place.is_in_meta {
                true => format!("{before}{members}{comma}{after}"),
                false => format!("{before}\"_meta\":{{{members}}}{comma}{after}"),
            }
        }
        None => closely(given, &parent, state.as_deref())?,
    };
    let id = envelope.id.map(|id| id.get());
    Some(envelope.rewritten(id, Some(&params)))
}

/// Where members can be put in as they are.
struct Place {
    /// Behind an opening brace.
    at: usize,
    /// Of `_meta`, and not of the parameters.
    is_in_meta: bool,
    /// Nothing follows in that object.
    is_last: bool,
}

/// A place in parameters that are plainly written, and whose `_meta`, if there is one, says nothing of a trace.
fn plain_place(envelope: &Envelope<'_>, params: &str) -> Option<Place> {
    let listed = envelope.listed.as_ref().filter(|listed| listed.is_plain)?;
    let mut meta = listed.params().filter(|(name, _)| *name == "_meta");
    let Some((_, meta)) = meta.next() else {
        return Some(Place {
            at: 1,
            is_in_meta: false,
            is_last: listed.params().next().is_none(),
        });
    };
    let says_of_trace = |(name, _): Named<'_>| matches!(name, TRACEPARENT | TRACESTATE);
    if !meta.starts_with('{') || listed.meta().any(says_of_trace) {
        return None;
    }
    Some(Place {
        at: crate::protocol::span_of(params.as_bytes(), meta).start + 1,
        is_in_meta: true,
        is_last: listed.meta().next().is_none(),
    })
}

/// The parameters with those members in `_meta`, whatever they look like.
fn closely(params: &str, parent: &str, state: Option<&str>) -> Option<String> {
    let mut params = Members::read(params)?;
    let own = params.take("_meta");
    let own = own.filter(|own| own != "null");
    let own = own.unwrap_or(Cow::Borrowed("{}"));
    let mut meta = Members::read(&own)?;
    for name in [TRACEPARENT, TRACESTATE] {
        let _replaced = meta.take(name);
    }
    meta.set(TRACEPARENT, parent);
    if let Some(state) = state {
        meta.set(TRACESTATE, state);
    }
    let meta = meta.write();
    params.set("_meta", meta);
    Some(params.write())
}

/// The tool or prompt that a request names.
pub fn target_of<'a>(envelope: &Envelope<'a>) -> Option<Cow<'a, str>> {
    #[derive(serde::Deserialize)]
    struct Params<'a> {
        #[serde(borrow)]
        name: Cow<'a, str>,
    }
    let method = envelope.method.as_deref()?;
    let params = envelope
        .params
        .filter(|_| matches!(method, "tools/call" | "prompts/get"))?;
    let params: Params<'_> = serde_json::from_str(params.get()).ok()?;
    Some(params.name)
}

/// How an answer of a worker is no success: a JSON-RPC error, or a result that says that a tool failed.
pub fn call_error(answer: &[u8]) -> Option<CallError> {
    #[derive(serde::Deserialize)]
    struct Error {
        code: i64,
    }
    let envelope = Envelope::parse(answer).ok()?;
    if let Some(error) = envelope.error {
        let error: Option<Error> = serde_json::from_str(error.get()).ok();
        return error.map(|error| CallError::Code(error.code));
    }
    is_tool_error(envelope.result?.get()).then_some(CallError::Tool)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const OTHER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

    fn context(state: Option<&str>) -> TraceContext {
        TraceContext::parse(PARENT, state).expect("valid")
    }

    fn request(params: &str) -> String {
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call"{params}}}"#)
    }

    fn with(params: &str, state: Option<&str>) -> Option<String> {
        let text = request(params);
        let envelope = Envelope::parse(text.as_bytes()).expect("a message");
        let whole = with_trace_context(&envelope, &context(state))?;
        let whole = String::from_utf8(whole.to_vec()).expect("UTF-8");
        let rest = whole.strip_prefix(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call""#);
        Some(rest.expect("the head is as it was").to_owned())
    }

    fn of(params: &str) -> Option<String> {
        let text = request(params);
        let envelope = Envelope::parse(text.as_bytes()).expect("a message");
        trace_context_of(&envelope).map(|context| context.traceparent())
    }

    #[test]
    fn a_context_is_found_in_meta_and_nowhere_else() {
        let parent = format!("\"traceparent\":\"{PARENT}\"");
        assert_eq!(
            of(&format!(r#","params":{{"_meta":{{{parent}}}}}"#)).as_deref(),
            Some(PARENT)
        );
        let many = r#""a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1"#;
        assert_eq!(
            of(&format!(r#","params":{{"_meta":{{{many},{parent}}}}}"#)).as_deref(),
            Some(PARENT)
        );
        let escaped = parent.replace("tracep", "trace\\u0070");
        assert_eq!(
            of(&format!(r#","params":{{"_meta":{{{escaped}}}}}"#)).as_deref(),
            Some(PARENT)
        );
        for none in [
            String::new(),
            r#","params":{}"#.to_owned(),
            format!(r#","params":{{{parent}}}"#),
            format!(r#","params":{{"arguments":{{"_meta":{{{parent}}}}}}}"#),
            r#","params":{"_meta":{"traceparent":5}}"#.to_owned(),
            r#","params":{"_meta":{"traceparent":"00"}}"#.to_owned(),
            r#","params":{"_meta":null}"#.to_owned(),
        ] {
            assert_eq!(of(&none), None, "{none}");
        }
    }

    #[test]
    fn a_context_is_put_in_or_in_place_of_another_and_the_rest_stays() {
        let own = format!(r#""traceparent":"{PARENT}""#);
        for (params, becomes) in [
            ("", format!(r#","params":{{"_meta":{{{own}}}}}}}"#)),
            (
                r#","params":{}"#,
                format!(r#","params":{{"_meta":{{{own}}}}}}}"#),
            ),
            (
                r#","params":{ "name":"x"}"#,
                format!(r#","params":{{"_meta":{{{own}}}, "name":"x"}}}}"#),
            ),
            (
                r#","params":{"name":"x","_meta":{}}"#,
                format!(r#","params":{{"name":"x","_meta":{{{own}}}}}}}"#),
            ),
            (
                r#","params":{"_meta":{"baggage":"k=v"},"name":"x"}"#,
                format!(r#","params":{{"_meta":{{{own},"baggage":"k=v"}},"name":"x"}}}}"#),
            ),
            (
                r#","params":{"_meta":null,"name":"x"}"#,
                format!(r#","params":{{"name":"x","_meta":{{{own}}}}}}}"#),
            ),
        ] {
            assert_eq!(with(params, None), Some(becomes), "{params}");
        }
        let other = format!(
            r#","params":{{"_meta":{{"traceparent":"{OTHER}","tracestate":"z=1","k":1}}}}"#
        );
        assert_eq!(
            with(&other, Some("a=1")),
            Some(format!(
                r#","params":{{"_meta":{{"k":1,{own},"tracestate":"a=1"}}}}}}"#
            ))
        );
        assert_eq!(
            with(&other, None),
            Some(format!(r#","params":{{"_meta":{{"k":1,{own}}}}}}}"#))
        );
        for odd in [r#","params":[1]"#, r#","params":{"_meta":5}"#] {
            assert_eq!(with(odd, None), None, "{odd}");
        }
    }

    #[test]
    fn what_an_answer_says_of_itself() {
        let error = br#"{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"no"}}"#;
        assert_eq!(call_error(error), Some(CallError::Code(-32602)));
        let failed = br#"{"jsonrpc":"2.0","id":1,"result":{"content":[],"isError":true}}"#;
        assert_eq!(call_error(failed), Some(CallError::Tool));
        let fine = br#"{"jsonrpc":"2.0","id":1,"result":{"content":[],"isError":false}}"#;
        assert_eq!(call_error(fine), None);
    }

    proptest! {
        #[test]
        fn whatever_the_parameters_are_the_context_is_found_again_and_nothing_else_changes(
            meta in prop::option::of(prop::collection::btree_map("[a-z]{1,9}|traceparent|tracestate|\\PC{0,4}", "[ -~]{0,9}", 0..9)),
            params in prop::collection::btree_map("[a-z]{1,9}", "\\PC{0,9}", 0..9),
            state in prop::option::of("[a-z]{1,9}=[!-+.-<>-~]{1,9}"),
        ) {
            let mut params: serde_json::Map<_, _> = params.into_iter().map(|(k, v)| (k, v.into())).collect();
            if let Some(meta) = meta {
                let meta: serde_json::Map<_, _> = meta.into_iter().map(|(k, v)| (k, v.into())).collect();
                params.insert("_meta".to_owned(), meta.into());
            }
            let message = serde_json::json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params });
            let text = message.to_string();
            let envelope = Envelope::parse(text.as_bytes()).expect("a message");
            let own = context(state.as_deref());
            let whole = with_trace_context(&envelope, &own).expect("objects");
            let again = Envelope::parse(&whole).expect("a message");
            prop_assert_eq!(trace_context_of(&again), Some(own));
            let without = |mut message: serde_json::Value| {
                if let Some(meta) = message["params"]["_meta"].as_object_mut() {
                    meta.remove(TRACEPARENT);
                    meta.remove(TRACESTATE);
                }
                if message["params"]["_meta"] == serde_json::json!({}) || message["params"]["_meta"].is_null() {
                    message["params"].as_object_mut().expect("an object").remove("_meta");
                }
                message
            };
            let whole: serde_json::Value = serde_json::from_slice(&whole).expect("JSON");
            prop_assert_eq!(without(whole), without(message));
        }
    }
}

//! What requests say of the trace that they are part of: in the first line `traceparent`, in the second `tracestate`, then the parameters that the context
//! is put into. A plain reading finds a context where the strict one does, what is written is read again as it was, and nothing else of a
//! request changes.

use serde_json::{Value, json};
use stdiopool::bridge::{trace_context_of, with_trace_context};
use stdiopool::protocol::{Envelope, TraceContext};

use super::input::first_line;

pub(super) fn run(input: &[u8]) {
    let (parent, rest) = first_line(input);
    let (state, params) = first_line(rest);
    let texts = [parent, state, params].map(std::str::from_utf8);
    let [Ok(parent), Ok(state), Ok(params)] = texts else {
        return;
    };
    let context = TraceContext::parse(parent, Some(state));
    assert_eq!(context.is_some(), is_parent(parent), "`{parent}`");
    let Some(context) = context else {
        return;
    };
    let written = context.traceparent();
    let again = TraceContext::parse(&written, context.state.as_deref());
    assert_eq!(again.as_ref(), Some(&context));
    if let Some(state) = &context.state {
        assert!(
            state.len() <= 512 && state.split(',').count() <= 32,
            "{state}"
        );
    }
    put_into(&context, params);
}

/// Section 3.2 of the recommendation, as plainly as can be.
fn is_parent(text: &str) -> bool {
    let parts: Vec<&str> = text.splitn(5, '-').collect();
    let &[version, trace, span, flags, ref more @ ..] = parts.as_slice() else {
        return false;
    };
    let is_hex = |text: &str, len: usize| {
        text.len() == len && text.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'))
    };
    let is_id = |text: &str, len: usize| is_hex(text, len) && text.chars().any(|c| c != '0');
    is_hex(version, 2)
        && version != "ff"
        && is_id(trace, 32)
        && is_id(span, 16)
        && is_hex(flags, 2)
        && (more.is_empty() || version != "00")
}

fn put_into(context: &TraceContext, params: &str) {
    let message = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#);
    let Ok(envelope) = Envelope::parse(message.as_bytes()) else {
        return;
    };
    let Some(whole) = with_trace_context(&envelope, context) else {
        return;
    };
    let again = Envelope::parse(&whole).expect("it is a message still");
    assert_eq!(trace_context_of(&again).as_ref(), Some(context));
    let read = |text: &[u8]| serde_json::from_slice::<Value>(text).ok().map(without);
    // Numbers that no decoder takes are passed on; there is nothing to compare them by.
    if let Some(before) = read(message.as_bytes()) {
        assert_eq!(read(&whole), Some(before));
    }
}

/// A message without what is said of a trace.
fn without(mut message: Value) -> Value {
    let Some(params) = message["params"].as_object_mut() else {
        return message;
    };
    if let Some(meta) = params.get_mut("_meta").and_then(Value::as_object_mut) {
        meta.remove("traceparent");
        meta.remove("tracestate");
    }
    let says_nothing = |meta: &Value| meta.is_null() || *meta == json!({});
    if params.get("_meta").is_some_and(says_nothing) {
        params.remove("_meta");
    }
    if params.is_empty() {
        message
            .as_object_mut()
            .map(|message| message.remove("params"));
    }
    message
}

//! The trace that a request is part of, as its headers say (W3C Trace Context, Level 2). What its message says goes before it.

use http::{HeaderMap, HeaderName};

use crate::protocol::TraceContext;
use crate::telemetry::RequestSpan;

static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
static TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Notes the context in the headers of the current request, if there is one.
pub(super) fn note(headers: &HeaderMap) {
    if let Some(context) = of(headers) {
        RequestSpan::with_current(|request| request.came_with(context));
    }
}

/// The context in those headers; `None` if there is no valid one.
fn of(headers: &HeaderMap) -> Option<TraceContext> {
    let parent = headers.get(&TRACEPARENT)?.to_str().ok()?;
    // Of two, nobody can say which counts.
    let is_one = headers.get_all(&TRACEPARENT).iter().nth(1).is_none();
    // Several lines are one list (section 3.3).
    let states = headers.get_all(&TRACESTATE).iter();
    let states: Option<Vec<_>> = states.map(|state| state.to_str().ok()).collect();
    let state = states.map(|states| states.join(","));
    TraceContext::parse(parent.trim(), state.as_deref()).filter(|_| is_one)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn headers(all: &[(&'static str, &[u8])]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in all {
            let value = HeaderValue::from_bytes(value).expect("a value");
            headers.append(*name, value);
        }
        headers
    }

    #[test]
    fn one_valid_parent_counts_and_states_are_put_together() {
        let parent = ("traceparent", PARENT.as_bytes());
        let found = of(&headers(&[
            parent,
            ("tracestate", b"a=1"),
            ("tracestate", b"b=2"),
        ]));
        let found = found.expect("valid");
        assert_eq!(found.traceparent(), PARENT);
        assert_eq!(found.state.as_deref(), Some("a=1,b=2"));
        let found = of(&headers(&[parent, ("tracestate", b"a=\xff")]));
        assert_eq!(found.expect("valid").state, None);
        for odd in [
            headers(&[]),
            headers(&[parent, parent]),
            headers(&[("tracestate", b"a=1")]),
            headers(&[("traceparent", b"00-\xff")]),
        ] {
            assert_eq!(of(&odd), None, "{odd:?}");
        }
    }
}

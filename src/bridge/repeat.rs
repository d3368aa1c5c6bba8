//! Which requests may be sent twice.

/// Whether a request of that method can be sent again after the worker that had it died: what only
/// asks, or sets something to a value. A tool may do anything, so `tools/call` is not among them.
pub fn may_repeat(method: &str) -> bool {
    matches!(
        method,
        "tools/list"
            | "prompts/list"
            | "prompts/get"
            | "resources/list"
            | "resources/templates/list"
            | "resources/read"
            | "resources/subscribe"
            | "resources/unsubscribe"
            | "completion/complete"
            | "logging/setLevel"
    )
}

//! What the lists say: tools, resources, templates and prompts.

use serde_json::{Value, json};

use crate::protocol::Revision;

/// The greeting resource.
pub(super) const GREETING: &str = "demo://greeting";
/// The resource that shows the counter.
pub(super) const COUNTER: &str = "demo://counter";
/// The prefix of every URI of the echo template.
pub(super) const ECHO_PREFIX: &str = "demo://echo/";
/// The echo template.
pub(super) const ECHO_TEMPLATE: &str = "demo://echo/{text}";

/// Structured results and their schemas came with 2025-06-18.
pub(super) fn has_structured_results(revision: Revision) -> bool {
    revision >= Revision::V2025_06_18
}

/// The result of `tools/list`.
pub(super) fn tools(revision: Revision) -> Value {
    let text = || json!({"type": "string"});
    let mut add = tool(
        "add",
        "Adds two numbers.",
        json!({"a": {"type": "number"}, "b": {"type": "number"}}),
        &["a", "b"],
    );
    if has_structured_results(revision) {
        add["outputSchema"] = json!({
            "type": "object",
            "properties": {"sum": {"type": "number"}},
            "required": ["sum"],
        });
    }
    let levels = [
        "debug",
        "info",
        "notice",
        "warning",
        "error",
        "critical",
        "alert",
        "emergency",
    ];
    json!({"tools": [
        tool("echo", "Gives the message back.", json!({"message": text()}), &["message"]),
        add,
        tool(
            "sleep",
            "Answers after some seconds, with progress in steps to whoever asks for it.",
            json!({
                "seconds": {"type": "number", "minimum": 0, "maximum": 86400},
                "steps": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 1},
            }),
            &["seconds"],
        ),
        tool(
            "whoami",
            "Shows what this process was started and initialised with: arguments, environment, \
             pid, working directory, client.",
            json!({}),
            &[],
        ),
        tool("counter", "Counts the calls made to this process.", json!({}), &[]),
        tool(
            "log",
            "Sends a log message, if the level set by the client lets it through.",
            json!({"level": {"enum": levels}, "message": text()}),
            &["level", "message"],
        ),
        tool(
            "notify",
            "Tells the client that a list, or a resource it subscribed to, has changed.",
            json!({
                "kind": {"enum": ["tools", "prompts", "resources", "resource"]},
                "uri": {"type": "string", "default": COUNTER},
            }),
            &["kind"],
        ),
        tool(
            "ask",
            "Asks the client something and gives its answer back.",
            json!({"kind": {"enum": ["sampling", "elicitation", "roots"]}}),
            &["kind"],
        ),
        tool(
            "big",
            "Gives a text of that many bytes.",
            json!({"bytes": {"type": "integer", "minimum": 0, "maximum": 67_108_864}}),
            &["bytes"],
        ),
        tool(
            "exit",
            "Ends the process at once, without an answer.",
            json!({"code": {"type": "integer", "minimum": 0, "maximum": 255, "default": 0}}),
            &[],
        ),
    ]})
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "json! literals read better without &"
)]
fn tool(name: &str, description: &str, properties: Value, required: &[&str]) -> Value {
    let mut schema = json!({"type": "object", "properties": properties});
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    json!({"name": name, "description": description, "inputSchema": schema})
}

/// The result of `resources/list`.
pub(super) fn resources() -> Value {
    json!({"resources": [
        {"uri": GREETING, "name": "greeting", "description": "A friendly word.", "mimeType": "text/plain"},
        {"uri": COUNTER, "name": "counter", "description": "How often `counter` was called.", "mimeType": "text/plain"},
    ]})
}

/// The result of `resources/templates/list`.
pub(super) fn templates() -> Value {
    json!({"resourceTemplates": [
        {"uriTemplate": ECHO_TEMPLATE, "name": "echo", "description": "The text of its URI.", "mimeType": "text/plain"},
    ]})
}

/// The result of `prompts/list`.
pub(super) fn prompts() -> Value {
    json!({"prompts": [{
        "name": "greet",
        "description": "Asks the model to greet somebody.",
        "arguments": [{"name": "name", "description": "Whom to greet.", "required": true}],
    }]})
}

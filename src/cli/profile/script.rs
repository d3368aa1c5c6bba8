//! Reads which calls a server is profiled with.

use serde::Deserialize;
use serde_json::{Map, Value, json};

/// Most calls of a script.
const MAX_CALLS: usize = 10_000;

/// A request to the server.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Call {
    pub(super) method: String,
    pub(super) params: Value,
}

/// What every server can be asked, where no script is given.
pub(super) const USUAL: [&str; 4] = [
    "tools/list",
    "resources/list",
    "resources/templates/list",
    "prompts/list",
];

impl Call {
    /// A request without parameters.
    pub(super) fn plain(method: &str) -> Self {
        Self {
            method: method.to_owned(),
            params: json!({}),
        }
    }

    /// How the call is named to people.
    pub(super) fn name(&self) -> String {
        match (self.method.as_str(), self.params["name"].as_str()) {
            ("tools/call", Some(tool)) => tool.to_owned(),
            (method, _) => method.to_owned(),
        }
    }
}

/// Why a script is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum ScriptError {
    /// A line is neither form of a call.
    #[error(
        "line {line}: it is neither {{\"tool\": NAME, \"arguments\": {{…}}}} nor {{\"method\": NAME, \"params\": {{…}}}}: {why}"
    )]
    Line {
        /// Number of the line, from 1.
        line: usize,
        /// What the reader says.
        why: serde_json::Error,
    },
    /// Nothing in it.
    #[error("it has no calls")]
    Empty,
    /// Too much in it.
    #[error("it has more than {MAX_CALLS} calls")]
    Long,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Tool(OfTool),
    Method(OfMethod),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfTool {
    tool: String,
    #[serde(default)]
    arguments: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfMethod {
    method: String,
    #[serde(default)]
    params: Map<String, Value>,
}

/// Reads a script: a call on each line; blank lines, and those that begin with `#`, are passed over.
///
/// # Errors
/// [`ScriptError`] for the first line that is no call.
pub(super) fn read(text: &str) -> Result<Vec<Call>, ScriptError> {
    let lines = text.lines().enumerate();
    let lines = lines.map(|(n, line)| (n + 1, line.trim()));
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let calls = lines.map(|(line, text)| {
        let read = serde_json::from_str(text);
        let read = read.map_err(|why| ScriptError::Line { line, why })?;
        Ok(match read {
            Line::Tool(OfTool { tool, arguments }) => Call {
                method: "tools/call".to_owned(),
                params: json!({ "name": tool, "arguments": arguments }),
            },
            Line::Method(OfMethod { method, params }) => Call {
                method,
                params: params.into(),
            },
        })
    });
    let calls: Vec<Call> = calls.collect::<Result<_, _>>()?;
    match calls.len() {
        0 => Err(ScriptError::Empty),
        1..=MAX_CALLS => Ok(calls),
        _ => Err(ScriptError::Long),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_and_methods_are_read_and_mistakes_are_placed() {
        let text = "# reads a file\n{\"tool\": \"read\", \"arguments\": {\"path\": \"/x\"}}\n\n{\"method\": \"prompts/list\"}\n";
        let calls = read(text).expect("a script");
        assert_eq!(calls[0].name(), "read");
        assert_eq!(calls[0].params["arguments"]["path"], "/x");
        assert_eq!(calls[1], Call::plain("prompts/list"));
        for (text, why) in [
            ("{\"tool\": \"x\"}\n{\"tol\": \"x\"}", "line 2"),
            ("[]", "line 1"),
            ("{\"tool\": \"x\", \"arguments\": 1}", "line 1"),
            ("# nothing\n", "no calls"),
        ] {
            let error = read(text).expect_err(text).to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}

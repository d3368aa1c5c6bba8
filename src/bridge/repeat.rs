//! The requests that may be sent twice.

use std::borrow::Cow;

use serde::Deserialize;

use crate::protocol::RawJson;

/// The tool that a `tools/call` calls.
pub fn called_tool<'a>(method: &str, params: Option<RawJson<'a>>) -> Option<Cow<'a, str>> {
    #[derive(Deserialize)]
    struct Params<'a> {
        #[serde(borrow)]
        name: Cow<'a, str>,
    }
    let params = params.filter(|_| method == "tools/call")?;
    let params: Params<'_> = serde_json::from_str(params.get()).ok()?;
    Some(params.name)
}

/// The tools of a `tools/list` result that can be called twice by what their server says of them: they
/// change nothing, or the second call changes nothing more (2025-03-26, server/tools, "Tool
/// annotations"). The server runs for this tenant alone, so that its word is good enough for it.
pub fn repeatable_tools(result: &str) -> Vec<String> {
    #[derive(Deserialize)]
    struct Page {
        tools: Vec<Tool>,
    }
    #[derive(Deserialize)]
    struct Tool {
        name: String,
        #[serde(default)]
        annotations: Annotations,
    }
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Annotations {
        read_only_hint: bool,
        idempotent_hint: bool,
    }
    let tools = serde_json::from_str::<Page>(result).map_or(vec![], |page| page.tools);
    tools
        .into_iter()
        .filter(|tool| tool.annotations.read_only_hint || tool.annotations.idempotent_hint)
        .map(|tool| tool.name)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_is_called_twice_only_if_its_server_says_that_it_can_be() {
        let result = r#"{"tools":[
            {"name":"read","annotations":{"readOnlyHint":true}},
            {"name":"put","annotations":{"idempotentHint":true,"title":"x"}},
            {"name":"pay","annotations":{"readOnlyHint":false}},
            {"name":"bare"}]}"#;
        assert_eq!(repeatable_tools(result), ["read", "put"]);
        assert!(repeatable_tools("[]").is_empty());
        let params: Box<serde_json::value::RawValue> =
            serde_json::from_str(r#"{"name":"read"}"#).expect("JSON");
        let called = called_tool("tools/call", Some((&*params).into()));
        assert_eq!(called.as_deref(), Some("read"));
        assert_eq!(called_tool("prompts/get", Some((&*params).into())), None);
    }
}

//! Lists whose pages are odd, and pages of MCP Apps.

use serde_json::json;

use crate::envelope::{server, without_rules};
use crate::support::{Client, Stdiopool};

#[tokio::test]
async fn pages_that_are_odd_give_each_thing_once_and_say_what_is_missing() {
    let kinds = [
        "empty-cursor",
        "same-cursor",
        "number-cursor",
        "null-list",
        "nameless",
    ];
    let servers = kinds.map(|kind| without_rules(kind, &["last", "--pages", kind], ""));
    // Five servers start at once.
    let patient = "[aggregate]\nlist_timeout = \"60s\"\n";
    let pool = Stdiopool::serve(&format!("{patient}{}", servers.join("\n")));
    let all = Client::new(format!("{}/mcp", pool.url)).connect().await;
    let listed = all.ask("tools/list", json!({})).await;
    let tools = listed.result()["tools"].as_array().expect("a list");
    let mut names: Vec<_> = tools
        .iter()
        .filter_map(|tool| tool["name"].as_str())
        .collect();
    assert_eq!(names.len(), tools.len(), "each has a name");
    names.sort_unstable();
    let mut expected = vec![];
    for kind in ["empty-cursor", "nameless", "number-cursor", "same-cursor"] {
        expected.extend([format!("{kind}__one"), format!("{kind}__two")]);
    }
    assert_eq!(names, expected);
    let missing = listed.result()["_meta"]["dev.stdiopool/missing"].as_array();
    let missing = missing.expect("what is missing").iter();
    let why: std::collections::BTreeMap<_, _> = missing
        .map(|it| {
            (
                it["server"].as_str().expect("a name"),
                it["why"].as_str().expect("a text"),
            )
        })
        .collect();
    assert_eq!(
        why.keys().copied().collect::<Vec<_>>(),
        ["nameless", "null-list", "number-cursor", "same-cursor"]
    );
    assert!(why["nameless"].contains('2'), "{why:?}");
    assert!(why["null-list"].contains("`tools`"), "{why:?}");
    assert!(why["number-cursor"].contains('8'), "{why:?}");
    assert!(why["same-cursor"].contains("nextCursor"), "{why:?}");
}

/// Hosts of MCP Apps show pages of `ui://` only, and read them under the address that the tool names.
#[tokio::test]
async fn pages_of_tools_keep_their_scheme_where_all_servers_are_one() {
    let pool = Stdiopool::serve(&server("apps", &["last", "--pages", "empty-cursor"], ""));
    let all = Client::new(format!("{}/mcp", pool.url)).connect().await;
    let listed = all.ask("tools/list", json!({})).await;
    let tools = listed.result()["tools"].as_array().expect("a list");
    let tool = tools
        .iter()
        .find(|tool| tool["name"] == "apps__two")
        .expect("listed");
    let uri = tool["_meta"]["ui"]["resourceUri"].as_str().expect("a page");
    assert_eq!(uri, "ui://apps/view/one.html");
    let read = all.ask("resources/read", json!({ "uri": uri })).await;
    let contents = &read.result()["contents"][0];
    assert_eq!(contents["text"], "read ui://view/one.html");
    assert_eq!(contents["uri"], uri);
}

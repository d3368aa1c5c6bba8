use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::bridge::Listing;
use crate::ids::ServerName;
use crate::protocol::Envelope;

fn alias() -> Alias {
    Names::new("__").of(&ServerName::new("git_hub"))
}

fn addressed(method: &str, params: &Value) -> Option<(String, Value)> {
    let text = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
    let envelope = Envelope::parse(text.as_bytes()).expect("valid");
    let found = Names::new("__").addressed(text.as_bytes(), &envelope)?;
    let message: Value = serde_json::from_slice(&found.message).expect("JSON");
    Some((found.server, message["params"].clone()))
}

#[test]
fn requests_go_to_whom_they_name_in_its_own_words() {
    let call = addressed(
        "tools/call",
        &json!({"name": "git_hub__a__b", "arguments": {"name": "x__y"}}),
    );
    assert_eq!(
        call,
        Some((
            "git_hub".into(),
            json!({"name": "a__b", "arguments": {"name": "x__y"}})
        ))
    );
    let read = addressed(
        "resources/read",
        &json!({"uri": "stdiopool://git_hub/repo://a/b?c#d"}),
    );
    assert_eq!(
        read,
        Some(("git_hub".into(), json!({"uri": "repo://a/b?c#d"})))
    );
    let prompt = addressed(
        "completion/complete",
        &json!({"ref": {"type": "ref/prompt", "name": "s__p"}, "argument": {"name": "n__m", "value": ""}}),
    );
    assert_eq!(prompt.expect("named").1["ref"]["name"], "p");
    let template = addressed(
        "completion/complete",
        &json!({"ref": {"type": "ref/resource", "uri": "stdiopool://s/t://{x}"}}),
    );
    assert_eq!(template.expect("named").1["ref"]["uri"], "t://{x}");
    for (method, params) in [
        ("tools/call", json!({"name": "plain"})),
        ("tools/call", json!({"name": 7})),
        ("resources/read", json!({"uri": "repo://a__b"})),
        ("tasks/get", json!({"name": "s__t"})),
        ("tools/call", json!([])),
    ] {
        assert_eq!(addressed(method, &params), None, "{method} {params}");
    }
}

#[test]
fn whatever_names_a_resource_in_a_result_is_renamed() {
    let response = json!({"jsonrpc": "2.0", "id": 1, "result": {
        "content": [
            {"type": "text", "text": "\"uri\": not one"},
            {"type": "resource", "resource": {"uri": "a:1", "text": "x"}},
            {"type": "resource_link", "uri": "a:2", "name": "n"},
        ],
        "structuredContent": {"uri": "data, not a name"},
    }});
    let renamed = alias().response(response.to_string().into());
    let renamed: Value = serde_json::from_slice(&renamed).expect("JSON");
    let mut expected = response.clone();
    expected["result"]["content"][1]["resource"]["uri"] = json!("stdiopool://git_hub/a:1");
    expected["result"]["content"][2]["uri"] = json!("stdiopool://git_hub/a:2");
    assert_eq!(renamed, expected);
    let prompt = json!({"jsonrpc": "2.0", "id": 1, "result": {"messages": [{"role": "user", "content": {"type": "resource", "resource": {"uri": "a:3"}}}]}});
    let renamed = alias().response(prompt.to_string().into());
    assert!(renamed.windows(23).any(|w| w == b"stdiopool://git_hub/a:3"));
    let read = json!({"jsonrpc": "2.0", "id": 1, "result": {"contents": [{"uri": "a:4"}]}});
    let renamed = alias().response(read.to_string().into());
    assert!(renamed.windows(23).any(|w| w == b"stdiopool://git_hub/a:4"));
    let updated = json!({"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": "a:5"}});
    let renamed = alias().notification(updated.to_string().into());
    assert!(renamed.windows(23).any(|w| w == b"stdiopool://git_hub/a:5"));
}

#[test]
fn lists_hold_the_items_of_all_under_their_names_here() {
    let page = r#"{"tools":[{"name":"a", "inputSchema":{"b":1.0}},{"name":"v","_meta":{"ui":{"resourceUri":"ui://v"}}}],"nextCursor":"2"}"#;
    let of = |listing, page: &str| items(listing, page, &alias()).expect("a page");
    let texts = |page: Items| -> Vec<String> { page.items.into_iter().map(|(_, it)| it).collect() };
    let read = of(Listing::Tools, page);
    assert_eq!(read.next.as_deref(), Some("2"));
    let items = texts(read);
    assert_eq!(
        items[0],
        r#"{"name":"git_hub__a", "inputSchema":{"b":1.0}}"#
    );
    // Hosts of apps take no other scheme.
    assert_eq!(
        items[1],
        r#"{"name":"git_hub__v","_meta":{"ui":{"resourceUri":"ui://git_hub/v"}}}"#
    );
    let missing = Missing {
        server: "slow".into(),
        why: "no answer".into(),
    };
    let whole: Value =
        serde_json::from_str(&merged(Listing::Tools, &items, &[missing])).expect("JSON");
    assert_eq!(whole["tools"].as_array().map(Vec::len), Some(2));
    assert_eq!(whole["_meta"]["dev.stdiopool/missing"][0]["server"], "slow");
    let page = r#"{"resourceTemplates":[{"uriTemplate":"t://{x}","name":"T"}]}"#;
    assert_eq!(
        texts(of(Listing::ResourceTemplates, page)),
        [r#"{"uriTemplate":"stdiopool://git_hub/t://{x}","name":"git_hub__T"}"#]
    );
    let both = r#"{"tools":[{"name":"v","_meta":{"ui/resourceUri":"ui://a/b?c","ui":true}}]}"#;
    assert_eq!(
        texts(of(Listing::Tools, both)),
        [r#"{"name":"git_hub__v","_meta":{"ui/resourceUri":"ui://git_hub/a/b?c","ui":true}}"#]
    );
}

#[test]
fn pages_that_are_odd_are_read_as_far_as_they_can_be() {
    let read = |page: &str| items(Listing::Tools, page, &alias());
    for page in ["[]", "{}", r#"{"tools":null}"#, r#"{"tools":{}}"#, "5"] {
        assert!(read(page).is_err(), "{page}");
    }
    let page = r#"{"tools":[{"name":"a"},{"title":"no name"},{"name":5},{"name":""},"text"],"nextCursor":8}"#;
    let page = read(page).expect("a page");
    assert_eq!((page.items.len(), page.unnamed), (1, 4));
    assert_eq!((page.next, page.odd_cursor.as_deref()), (None, Some("8")));
    for end in ["\"\"", "null"] {
        let page = read(&format!(r#"{{"tools":[],"nextCursor":{end}}}"#)).expect("a page");
        assert_eq!((page.next, page.odd_cursor), (None, None), "{end}");
    }
}

#[test]
fn pages_of_tools_are_read_under_the_address_that_was_told() {
    let read = addressed("resources/read", &json!({"uri": "ui://git_hub/v/w.html?x"}));
    assert_eq!(
        read,
        Some(("git_hub".into(), json!({"uri": "ui://v/w.html?x"})))
    );
    assert_eq!(
        addressed("resources/read", &json!({"uri": "ui://alone"})),
        None
    );
    let read = json!({"jsonrpc": "2.0", "id": 1, "result": {"contents": [{"uri": "ui://v"}]}});
    let renamed = alias().response(read.to_string().into());
    assert!(renamed.windows(14).any(|w| w == b"ui://git_hub/v"));
}

proptest! {
    #[test]
    fn every_name_finds_its_server_and_itself_again(own in "\\PC{0,30}", server in "[a-z0-9][a-z0-9._-]{0,12}", separator in "(__|\\.|/|::)") {
        let names = Names::new(&separator);
        let alias = names.of(&ServerName::new(server.clone()));
        if format!("{server}{separator}").find(&separator) == Some(server.len()) {
            let name = alias.name(&own);
            prop_assert_eq!(names.split(&name), Some((&*server, &*own)));
        }
        let uri = alias.uri(&own);
        prop_assert_eq!(Names::split_uri(&uri), Some((&*server, own.as_str().into())));
        let found = alias.own_uri(&uri);
        prop_assert_eq!(found.as_deref(), Some(&*own));
        let page = format!("ui://{own}");
        let uri = alias.uri(&page);
        prop_assert!(uri.starts_with("ui://"));
        let found = alias.own_uri(&uri);
        prop_assert_eq!(found.as_deref(), Some(&*page));
    }

    #[test]
    fn any_result_stays_json(text in "\\PC{0,60}", uri in "\\PC{0,20}") {
        let response = json!({"jsonrpc": "2.0", "id": 1, "result": {"content": [{"uri": uri, "text": text}, text, {"resource": 1, "uri": 2}]}});
        let renamed = alias().response(response.to_string().into());
        let renamed: Value = serde_json::from_slice(&renamed).expect("JSON");
        prop_assert_eq!(&renamed["result"]["content"][1], &response["result"]["content"][1]);
    }
}

//! The demo server, line by line, at times that the test says.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::dispatch::Flow;
use super::server::{Identity, Server};

struct Bench {
    server: Server,
    now: Instant,
    next_id: u64,
}

impl Bench {
    fn new() -> Self {
        let identity = Identity {
            arguments: vec!["--flag".into()],
            environment: Map::from_iter([("KEY".to_owned(), json!("value"))]),
            pid: 7,
            cwd: Some("/somewhere".into()),
        };
        Self {
            server: Server::new(identity),
            now: Instant::now(),
            next_id: 1,
        }
    }

    fn initialized() -> Self {
        Self::initialized_as("2025-11-25", &json!({}))
    }

    fn initialized_as(version: &str, capabilities: &Value) -> Self {
        let mut bench = Self::new();
        let hello = bench.ask("initialize", &hello(version, capabilities));
        assert_eq!(hello["result"]["serverInfo"]["name"], "stdiopool-demo");
        bench
    }

    /// What the server says to a line.
    fn line(&mut self, line: &str) -> (Flow, Vec<Value>) {
        let mut out = Vec::new();
        let flow = self.server.on_line(line.as_bytes(), self.now, &mut out);
        (flow, messages(&out))
    }

    /// What the server says when time has passed.
    fn after(&mut self, seconds: f64) -> Vec<Value> {
        self.now += Duration::from_secs_f64(seconds);
        let mut out = Vec::new();
        self.server.on_time(self.now, &mut out);
        messages(&out)
    }

    fn send(&mut self, method: &str, params: &Value) -> Vec<Value> {
        let id = self.next_id;
        self.next_id += 1;
        let line = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        self.line(&line.to_string()).1
    }

    /// The answer to a request that is answered at once: the last message.
    fn ask(&mut self, method: &str, params: &Value) -> Value {
        self.send(method, params).pop().expect("an answer")
    }

    fn call(&mut self, tool: &str, arguments: &Value) -> Vec<Value> {
        self.send("tools/call", &json!({"name": tool, "arguments": arguments}))
    }

    /// The text of a call's result.
    fn text(&mut self, tool: &str, arguments: &Value) -> String {
        let said = self.call(tool, arguments);
        text_of(said.last().expect("an answer"))
    }

    fn error(&mut self, method: &str, params: &Value) -> i64 {
        self.ask(method, params)["error"]["code"]
            .as_i64()
            .expect("an error")
    }
}

fn hello(version: &str, capabilities: &Value) -> Value {
    json!({
        "protocolVersion": version,
        "capabilities": capabilities,
        "clientInfo": {"name": "test", "version": "1"},
    })
}

fn messages(out: &[u8]) -> Vec<Value> {
    assert!(out.is_empty() || out.ends_with(b"\n"), "whole lines");
    let lines = out
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty());
    lines
        .map(|line| serde_json::from_slice(line).expect("JSON"))
        .collect()
}

fn text_of(answer: &Value) -> String {
    let text = answer["result"]["content"][0]["text"].as_str();
    text.unwrap_or_else(|| panic!("no text: {answer}"))
        .to_owned()
}

#[test]
fn every_revision_is_agreed_and_an_unknown_one_becomes_the_latest() {
    for (asked, agreed) in [
        ("2024-11-05", "2024-11-05"),
        ("2025-03-26", "2025-03-26"),
        ("2025-06-18", "2025-06-18"),
        ("2025-11-25", "2025-11-25"),
        ("1999-01-01", "2025-11-25"),
    ] {
        let hello = Bench::new().ask("initialize", &hello(asked, &json!({})));
        assert_eq!(hello["result"]["protocolVersion"], agreed);
        let completes = hello["result"]["capabilities"].get("completions").is_some();
        assert_eq!(completes, agreed != "2024-11-05", "{agreed}");
    }
}

#[test]
fn nothing_but_ping_comes_before_initialize_which_comes_once() {
    let mut bench = Bench::new();
    assert_eq!(bench.ask("ping", &json!({}))["result"], json!({}));
    assert_eq!(bench.error("tools/list", &json!({})), -32600);
    assert_eq!(bench.error("initialize", &json!({})), -32602);
    bench.ask("initialize", &hello("2025-06-18", &json!({})));
    let again = hello("2025-06-18", &json!({}));
    assert_eq!(bench.error("initialize", &again), -32600);
}

#[test]
fn the_simple_tools() {
    let mut bench = Bench::initialized();
    assert_eq!(
        bench.text("echo", &json!({"message": "grüß dich"})),
        "grüß dich"
    );
    let sum = bench.call("add", &json!({"a": 2, "b": 0.5})).remove(0);
    assert_eq!(
        (text_of(&sum).as_str(), &sum["result"]["structuredContent"]),
        ("2.5", &json!({"sum": 2.5}))
    );
    assert_eq!(bench.text("counter", &json!({})), "1");
    assert_eq!(bench.text("counter", &json!({})), "2");
    assert_eq!(bench.text("big", &json!({"bytes": 1000})).len(), 1000);
    let whoami: Value = serde_json::from_str(&bench.text("whoami", &json!({}))).expect("JSON");
    assert_eq!(whoami["arguments"], json!(["--flag"]));
    assert_eq!(whoami["environment"], json!({"KEY": "value"}));
    assert_eq!(whoami["client"]["info"]["name"], "test");
    let exit = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "exit", "arguments": {"code": 9}}});
    assert_eq!(bench.line(&exit.to_string()), (Flow::Exit(9), vec![]));
}

#[test]
fn structured_results_came_with_2025_06_18() {
    let mut bench = Bench::initialized_as("2025-03-26", &json!({}));
    let sum = bench.call("add", &json!({"a": 1, "b": 2})).remove(0);
    assert_eq!(sum["result"].get("structuredContent"), None);
}

#[test]
fn a_sleep_reports_progress_to_whoever_asks() {
    let mut bench = Bench::initialized();
    let params = json!({
        "name": "sleep", "arguments": {"seconds": 3, "steps": 3}, "_meta": {"progressToken": "t"},
    });
    assert!(bench.send("tools/call", &params).is_empty());
    assert!(bench.after(0.9).is_empty());
    let said = bench.after(0.2);
    assert_eq!(
        said[0]["params"],
        json!({"progressToken": "t", "progress": 1, "total": 3})
    );
    let rest = bench.after(2.0);
    assert_eq!(rest.len(), 3, "two steps and the answer: {rest:?}");
    assert_eq!(text_of(&rest[2]), "slept 3 s");
    assert_eq!(bench.server.next_wake(), None);
}

#[test]
fn a_cancelled_sleep_is_never_answered() {
    let mut bench = Bench::initialized();
    let id = bench.next_id;
    assert!(bench.call("sleep", &json!({"seconds": 1})).is_empty());
    let cancel =
        json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}});
    assert!(bench.line(&cancel.to_string()).1.is_empty());
    assert!(bench.after(5.0).is_empty());
}

#[test]
fn log_messages_are_filtered_by_level() {
    let mut bench = Bench::initialized();
    bench.ask("logging/setLevel", &json!({"level": "warning"}));
    let quiet = bench.call("log", &json!({"level": "info", "message": "x"}));
    assert_eq!(quiet.len(), 1);
    let loud = bench.call("log", &json!({"level": "alert", "message": "x"}));
    assert_eq!(
        loud[0]["params"],
        json!({"level": "alert", "logger": "demo", "data": "x"})
    );
}

#[test]
fn subscribers_hear_of_the_counter() {
    let mut bench = Bench::initialized();
    assert_eq!(bench.call("counter", &json!({})).len(), 1);
    let uri = json!({"uri": "demo://counter"});
    bench.ask("resources/subscribe", &uri);
    let said = bench.call("counter", &json!({}));
    assert_eq!(
        (&said[0]["method"], &said[0]["params"]),
        (&json!("notifications/resources/updated"), &uri)
    );
    assert_eq!(
        bench.ask("resources/read", &uri)["result"]["contents"][0]["text"],
        "2"
    );
    bench.ask("resources/unsubscribe", &uri);
    assert_eq!(bench.call("counter", &json!({})).len(), 1);
    let said = bench.call("notify", &json!({"kind": "prompts"}));
    assert_eq!(said[0]["method"], "notifications/prompts/list_changed");
}

#[test]
fn questions_go_to_clients_that_take_them_and_their_answers_come_back() {
    let mut bench = Bench::initialized();
    let refused = bench.call("ask", &json!({"kind": "roots"})).remove(0);
    assert_eq!(refused["result"]["isError"], true);

    let mut bench = Bench::initialized_as(
        "2025-06-18",
        &json!({"roots": {}, "sampling": {}, "elicitation": {}}),
    );
    for (kind, method) in [
        ("roots", "roots/list"),
        ("sampling", "sampling/createMessage"),
        ("elicitation", "elicitation/create"),
    ] {
        let asked = bench.call("ask", &json!({"kind": kind})).remove(0);
        assert_eq!(asked["method"], method);
        let answer = json!({"jsonrpc": "2.0", "id": asked["id"], "result": {"kind": kind}});
        let said = bench.line(&answer.to_string()).1;
        assert_eq!(text_of(&said[0]), format!("{{\"kind\":\"{kind}\"}}"));
        assert!(
            bench.line(&answer.to_string()).1.is_empty(),
            "answered once"
        );
    }
    let asked = bench.call("ask", &json!({"kind": "roots"})).remove(0);
    let error =
        json!({"jsonrpc": "2.0", "id": asked["id"], "error": {"code": -1, "message": "no"}});
    assert_eq!(
        bench.line(&error.to_string()).1[0]["result"]["isError"],
        true
    );
}

#[test]
fn lists_prompts_and_completions() {
    let mut bench = Bench::initialized();
    for (method, list) in [
        ("tools/list", "tools"),
        ("resources/list", "resources"),
        ("resources/templates/list", "resourceTemplates"),
        ("prompts/list", "prompts"),
    ] {
        let answer = bench.ask(method, &json!({}));
        assert!(
            !answer["result"][list]
                .as_array()
                .expect("a list")
                .is_empty(),
            "{method}"
        );
        assert_eq!(
            bench.error(method, &json!({"cursor": "x"})),
            -32602,
            "{method}"
        );
    }
    let prompt = bench.ask(
        "prompts/get",
        &json!({"name": "greet", "arguments": {"name": "Ada"}}),
    );
    assert!(
        prompt["result"]["messages"][0]["content"]["text"]
            .as_str()
            .expect("a text")
            .contains("Ada")
    );
    let complete = json!({"ref": {"type": "ref/prompt", "name": "greet"}, "argument": {"name": "name", "value": "a"}});
    let values = bench.ask("completion/complete", &complete);
    assert!(
        values["result"]["completion"]["total"]
            .as_u64()
            .expect("a count")
            > 0
    );
    let uri = json!({"uri": "demo://echo/a%20b"});
    assert_eq!(
        bench.ask("resources/read", &uri)["result"]["contents"][0]["text"],
        "a b"
    );
}

#[test]
fn what_cannot_be_served_is_an_error() {
    let mut bench = Bench::initialized();
    for (method, params, code) in [
        ("nothing/there", json!({}), -32601),
        ("tools/call", json!({"name": "nothing"}), -32602),
        (
            "tools/call",
            json!({"name": "add", "arguments": {"a": "x"}}),
            -32602,
        ),
        (
            "tools/call",
            json!({"name": "sleep", "arguments": {"seconds": -1}}),
            -32602,
        ),
        (
            "tools/call",
            json!({"name": "big", "arguments": {"bytes": 1e12}}),
            -32602,
        ),
        ("tools/call", json!({}), -32602),
        ("resources/read", json!({"uri": "demo://nothing"}), -32002),
        ("prompts/get", json!({"name": "nothing"}), -32602),
        ("logging/setLevel", json!({"level": "loud"}), -32602),
    ] {
        assert_eq!(bench.error(method, &params), code, "{method} {params}");
    }
    for (line, code) in [("{", -32700), ("[]", -32600), ("5", -32600), ("{}", -32600)] {
        let said = bench.line(line).1;
        assert_eq!(
            (&said[0]["error"]["code"], &said[0]["id"]),
            (&json!(code), &Value::Null),
            "{line}"
        );
    }
    assert!(bench.line("  ").1.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// No line panics, and every request gets exactly one answer, sooner or later.
    #[test]
    fn every_request_is_answered_once(
        calls in proptest::collection::vec((0_usize..14, any::<u16>(), "[a-z\"{}:, ]{0,12}"), 1..40)
    ) {
        let mut bench = Bench::initialized_as("2025-11-25", &json!({"roots": {}}));
        let mut answers = Vec::new();
        let first = bench.next_id;
        for (kind, number, noise) in calls {
            let said = match kind {
                0 => bench.call("echo", &json!({"message": noise})),
                1 => bench.call("sleep", &json!({"seconds": f64::from(number % 50) / 10.0, "steps": 1 + number % 5})),
                2 => bench.call("add", &json!({"a": number, "b": noise})),
                3 => bench.call(&noise, &json!({})),
                4 => bench.call("notify", &json!({"kind": "resource", "uri": noise})),
                5 => bench.call("big", &json!({"bytes": number})),
                6 => bench.send(&noise, &json!(noise)),
                7 => bench.send("resources/read", &json!({"uri": format!("demo://echo/{noise}%{number:x}")})),
                8 => bench.after(f64::from(number % 30) / 10.0),
                9 => bench.send("tools/call", &json!({"name": "ask", "arguments": {"kind": "roots"}})),
                10 => bench.send("completion/complete", &json!({"ref": {"type": noise}})),
                // An answer is for no request: an error without an id at the most.
                _ => bench.line(&noise).1.into_iter().filter(|said| !said["id"].is_null()).collect(),
            };
            answers.extend(said);
        }
        answers.extend(bench.after(100.0));
        let questions: Vec<_> = answers.iter().filter(|said| said.get("method").is_some() && said.get("id").is_some()).cloned().collect();
        for question in questions {
            let answer = json!({"jsonrpc": "2.0", "id": question["id"], "result": {"roots": []}});
            answers.extend(bench.line(&answer.to_string()).1);
        }
        let mut ids: Vec<_> = answers
            .iter()
            .filter(|said| said.get("method").is_none())
            .filter_map(|said| said["id"].as_u64())
            .collect();
        ids.sort_unstable();
        prop_assert_eq!(ids, (first..bench.next_id).collect::<Vec<_>>());
    }
}

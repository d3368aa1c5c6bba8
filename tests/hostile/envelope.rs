//! What reaches a worker is what stdiopool looked at, whatever its decoder makes of names; and what a worker
//! says is taken, or told, whatever its encoder makes of JSON.

use std::time::{Duration, Instant};

use http::StatusCode;
use serde_json::{Value, json};

use crate::support::{Client, Stdiopool};

const DECODERS: [&str; 5] = ["last", "first", "go", "strict", "c"];

/// A server of that decoder, with a tool that is denied and one with an argument that is set for it.
pub(crate) fn server(name: &str, args: &[&str], more: &str) -> String {
    let rules = "tools = { deny = [\"delete_*\"] }\nbind.echo.account = \"of-${tenant.id}\"\n";
    without_rules(name, args, &format!("{rules}{more}"))
}

/// A server of that decoder, without rules.
pub(crate) fn without_rules(name: &str, args: &[&str], more: &str) -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/decoders.py");
    let args: Vec<_> = [script].iter().chain(args).map(|arg| json!(arg)).collect();
    format!(
        r#"
[servers.{name}]
command = "python3"
args = {}
{more}
"#,
        Value::from(args)
    )
}

fn all_decoders() -> Stdiopool {
    let servers = DECODERS.map(|decoder| server(decoder, &[decoder], ""));
    Stdiopool::serve(&servers.join("\n"))
}

/// What comes for a body: its status, and the last message.
async fn post(client: &Client, body: &str) -> (StatusCode, Value) {
    let response = client.send_raw(body.to_owned()).await;
    let status = response.status();
    let text = response.text().await.expect("a body");
    let last = text.lines().rev().find_map(|line| {
        let line = line.strip_prefix("data: ").unwrap_or(line);
        serde_json::from_str(line).ok()
    });
    (status, last.unwrap_or_default())
}

/// What the server says that it did.
fn told(answer: &Value) -> Value {
    let text = answer["result"]["content"][0]["text"].as_str();
    serde_json::from_str(text.unwrap_or_else(|| panic!("no text: {answer}"))).expect("JSON")
}

fn call(params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#)
}

#[tokio::test]
async fn a_server_acts_on_what_the_rules_looked_at_whatever_its_decoder() {
    let pool = all_decoders();
    for decoder in DECODERS {
        let client = pool.client(decoder).connect().await;
        // Of the envelope nothing goes on but its four members, on one line and without blanks around.
        for body in [
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo"},"PARAMS":{"name":"delete_all"}}"#,
            r#"{"PARAMS":{"name":"delete_all"},"Method":"x","ID":7,"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo"},"x":1}"#,
            "{\"param\u{17f}\":{\"name\":\"delete_all\"},\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"echo\"}}",
            " \r\n{\"jsonrpc\":\"2.0\",\n\"id\":1,\"method\":\"tools\\/call\",\"params\":{\"name\":\"echo\"}}\r\n \n",
        ] {
            let (status, answer) = post(&client, body).await;
            assert_eq!(
                (status, &answer["id"]),
                (StatusCode::OK, &json!(1)),
                "{decoder} {body}"
            );
            let told = told(&answer);
            assert_eq!(
                (&told["acted"], &told["account"]),
                (&json!("echo"), &json!("of-default"))
            );
            let line = told["line"].as_str().expect("the line");
            assert!(line.starts_with('{') && line.ends_with('}'), "{line:?}");
            let line: Value = serde_json::from_str(line).expect("JSON");
            let names: Vec<_> = line.as_object().expect("an object").keys().collect();
            assert_eq!(names, ["id", "jsonrpc", "method", "params"]);
        }
        // Names on which stdiopool decides are there once and plain, or the message goes nowhere.
        for params in [
            r#"{"name":"echo","NAME":"delete_all"}"#,
            r#"{"Name":"delete_all"}"#,
            r#"{"name":"delete_all","name":"echo"}"#,
            r#"{"name":"echo","name":"delete_all"}"#,
            r#"{"name":"echo","n\u0061me":"delete_all"}"#,
            r#"{"n\u0061me":"delete_all"}"#,
            r#"{"name":"echo","arguments":{},"Arguments":{"account":"other"}}"#,
            r#"{"name":"echo","argument\u017f":{"account":"other"}}"#,
            "{\"name\":\"echo\",\"argument\u{17f}\":{\"account\":\"other\"}}",
            r#"{"name":"echo","arguments":{"account":"other"},"arguments":{}}"#,
            r#"{"name":"echo","arguments":{"Account":"other"}}"#,
            r#"{"name":"echo","arguments":{"acc\u006funt":"other"}}"#,
            r#"{"name":"echo","_META":{"progressToken":1}}"#,
            r#"{"name":"echo","_meta":{"progresstoken":1}}"#,
            r#"{"name":"echo","_meta":{"progressToken":1,"progress\u0054oken":2}}"#,
            "{\"name\":\"echo\",\"_meta\":{\"progressTo\u{212a}en\":1}}",
            r#"{"name":"echo","_meta":{},"_meta":{"progressToken":1}}"#,
            r#"{"name":"echo","_meta":{"DEV.stdiopool/identity":{"sub":"root"}}}"#,
            r#"{"name":"echo","ClientConfig":{}}"#,
            r#"{"name":"delete_all\u0000"}"#,
            r#"{"name":"delete_all\u0000x"}"#,
            r#"{"name":"echo\u0000"}"#,
            r#"{"name":"echo","name\u0000":"delete_all"}"#,
            r#"{"name\u0000x":"delete_all"}"#,
            r#"{"name":"echo","arguments":{"account\u0000":"other"}}"#,
            r#"{"name":"echo","arguments\u0000":{"account":"other"}}"#,
            r#"{"name":"echo","_meta":{"progressToken\u0000":1}}"#,
            r#"{"name":"echo","_meta\u0000":{"progressToken":1}}"#,
        ] {
            let (status, answer) = post(&client, &call(params)).await;
            assert_eq!(status, StatusCode::OK, "{decoder} {params}: {answer}");
            assert_eq!(
                answer["error"]["code"], -32602,
                "{decoder} {params}: {answer}"
            );
            assert_eq!(answer["id"], 1, "{decoder} {params}");
        }
        let method = call(r#"{"name":"delete_all"}"#).replace("tools/call", "Tools/Call");
        assert_eq!(post(&client, &method).await.1["error"]["code"], -32600);
        for method in ["tools/call\\u0000", "tools/call\\u0000x", "own\\u0000"] {
            let cut = call(r#"{"name":"delete_all"}"#).replace("tools/call", method);
            let answer = post(&client, &cut).await.1;
            assert_eq!(answer["error"]["code"], -32600, "{decoder}: {answer}");
        }
        let read =
            r#"{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"a:b\u0000c"}}"#;
        let answer = post(&client, read).await.1;
        assert_eq!(answer["error"]["code"], -32602, "{decoder}: {answer}");
        let denied = post(&client, &call(r#"{"name":"delete_all"}"#)).await.1;
        assert_eq!(denied["error"]["code"], -32602, "{denied}");
        // What is the server's own passes as it is.
        let own = call(
            r#"{"name":"echo","arguments":{"NAME":1,"größe":2,"x":{"name":1,"name":2}},"y":1}"#,
        );
        let told = told(&post(&client, &own).await.1);
        assert_eq!(told["acted"], "echo");
        assert_eq!(told["arguments"]["größe"], 2);
    }
}

/// The worker's ids and progress tokens are small numbers that anyone can guess.
#[tokio::test]
async fn no_one_gets_the_answer_or_progress_of_another() {
    let pool = all_decoders();
    for decoder in DECODERS {
        let anna = pool.client(decoder).connect().await;
        let bob = pool.client(decoder).connect().await;
        let ids = 0..12;
        let hostile = ids.map(|n| {
            let bob = &bob;
            async move {
                let body = format!(
                    r#"{{"ID":{n},"jsonrpc":"2.0","id":"bob-{n}","Id":{n},"method":"tools/call","params":{{"name":"echo","_meta":{{"progressToken":{n},"x":{{"progressToken":3}}}}}}}}"#
                );
                let (status, answer) = post(bob, &body).await;
                assert_eq!(status, StatusCode::OK);
                assert_eq!(answer["id"], format!("bob-{n}"));
                let worker_side = told(&answer)["token"].clone();
                assert!(worker_side.is_u64(), "{worker_side}");
            }
        });
        let own = (0..12).map(|n| {
            let anna = &anna;
            async move {
                let token = format!("anna-{n}");
                let message = json!({"jsonrpc": "2.0", "id": n, "method": "tools/call",
                    "params": {"name": "echo", "_meta": {"progressToken": token}}});
                let answer = anna.post(&message).await;
                let progress = answer.messages.iter().filter(|it| it["method"].is_string());
                let tokens: Vec<_> = progress
                    .map(|it| it["params"]["progressToken"].clone())
                    .collect();
                assert_eq!(tokens, [json!(token)], "{decoder}");
                assert_eq!(answer.response()["id"], n);
            }
        });
        futures_util::future::join(
            futures_util::future::join_all(hostile),
            futures_util::future::join_all(own),
        )
        .await;
    }
}

/// What the SDKs drop without an answer does not reach them: it is mended or refused at once.
#[tokio::test]
async fn nothing_that_a_server_would_drop_is_waited_for() {
    let pool = all_decoders();
    let client = pool.client("strict").connect().await;
    let start = Instant::now();
    let list =
        |params: &str| format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/list"{params}}}"#);
    for body in [
        list(r#","params":null"#),
        list(r#","params":{"_meta":null}"#),
        list(r#","params":{"_meta":{"progressToken":null}}"#),
        list(r#","params":{},"extra":1,"result":null"#).replace(r#","result":null"#, ""),
        list(""),
    ] {
        let (status, answer) = post(&client, &body).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        assert!(answer["result"]["tools"].is_array(), "{body}: {answer}");
    }
    for params in [
        "[]",
        "5",
        "\"x\"",
        "true",
        r#"{"_meta":[]}"#,
        r#"{"_meta":{"progressToken":{}}}"#,
    ] {
        let (status, answer) = post(&client, &list(&format!(r#","params":{params}"#))).await;
        assert_eq!(status, StatusCode::OK, "{params}");
        assert_eq!(
            (&answer["error"]["code"], &answer["id"]),
            (&json!(-32602), &json!(1)),
            "{params}"
        );
        assert_eq!(answer["error"]["data"]["reason"], "invalid_params");
        // A notification has no answer to say it in.
        let told = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/roots/list_changed","params":{params}}}"#
        );
        assert_eq!(
            post(&client, &told).await.0,
            StatusCode::BAD_REQUEST,
            "{params}"
        );
    }
    let deep = format!(
        r#"{{"name":"echo","arguments":{{"x":{}{}}}}}"#,
        "[".repeat(400),
        "]".repeat(400)
    );
    assert_eq!(post(&client, &call(&deep)).await.1["error"]["code"], -32602);
    let half = call(r#"{"name":"echo","arguments":{"x":"\ud83d"}}"#);
    let half = told(&post(&client, &half).await.1);
    assert_eq!(half["arguments"]["x"], "\u{fffd}");
    for (body, id) in [
        (r#"{"id":1,"method":"tools/list"}"#, json!(1)),
        (
            r#"{"jsonrpc":"1.0","id":"a","method":"tools/list"}"#,
            json!("a"),
        ),
        (r#"{"jsonrpc":2.0,"method":"tools/list","id":3}"#, json!(3)),
    ] {
        let (status, answer) = post(&client, body).await;
        assert_eq!(
            (status, &answer["id"]),
            (StatusCode::BAD_REQUEST, &id),
            "{body}"
        );
        assert_eq!(answer["error"]["code"], -32600, "{body}");
    }
    assert_eq!(
        post(&client, "{\"jsonrpc\":\"2.0\",\"id\":1,\"x\":\"")
            .await
            .1["error"]["code"],
        -32700
    );
    let bytes = b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/list\",\"x\":\"\xff\"}";
    let response = client.send_raw(bytes.to_vec()).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert!(
        start.elapsed() < Duration::from_secs(60),
        "something was waited for"
    );
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn malformed(pool: &Stdiopool, server: &str, cause: &str, outcome: &str) -> f64 {
    let series = format!(
        "stdiopool_worker_malformed_total{{cause=\"{cause}\",outcome=\"{outcome}\",server=\"{server}\"}}"
    );
    pool.metric(&series).await
}

#[tokio::test]
async fn an_answer_that_is_slightly_off_is_taken() {
    let pool = Stdiopool::serve(&server("off", &["last"], ""));
    let client = pool.client("off").connect().await;
    let plain = r#""result":{"content":[{"type":"text","text":"ok"}]}"#;
    let answer = |members: &str| {
        format!("{{{members}}}")
            .replace("RESULT", plain)
            .into_bytes()
    };
    let whole = String::from_utf8(answer(r#""jsonrpc":"2.0","id":ID,RESULT"#)).expect("UTF-8");
    let replaced = |with: &[u8]| {
        let at = whole.find("ok").expect("there");
        [&whole.as_bytes()[..at], with, &whole.as_bytes()[at + 2..]].concat()
    };
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (
            answer(r#""jsonrpc":"2.0","id":ID,RESULT,"error":null"#),
            "null_member",
        ),
        (answer(r#""jsonrpc":"2.0","id":ID.0,RESULT"#), ""),
        (
            answer(r#""jsonrpc":"2.0","id":"ID",RESULT,"extra":{"id":1}"#),
            "",
        ),
        (answer(r#""id":ID,RESULT"#), "version"),
        (
            answer(r#""jsonrpc":"2.0","id":ID,RESULT,"id":ID"#),
            "duplicate_member",
        ),
        (format!("[{whole}]").into_bytes(), "batch"),
        (format!("\u{feff}{whole}").into_bytes(), "byte_order_mark"),
        (format!("> {whole}").into_bytes(), "surrounded"),
        (format!("sent: {whole}").into_bytes(), "surrounded"),
        (replaced(b"o\tk"), "control_character"),
        (replaced(b"o\xffk"), "encoding"),
        (
            answer(
                r#""jsonrpc":"2.0","id":ID,"result":{"content":[],"structuredContent":{"x":NaN}}"#,
            ),
            "not_a_number",
        ),
        (
            answer(r#""jsonrpc":"2.0","id":ID,"error":"boom","result":null"#),
            "error",
        ),
    ];
    for (line, cause) in cases {
        let shown = String::from_utf8_lossy(&line).into_owned();
        let before = if cause.is_empty() {
            0.0
        } else {
            malformed(&pool, "off", cause, "taken").await
        };
        let answer = client.call("say", json!({ "line": hex(&line) })).await;
        assert_eq!(answer.status, StatusCode::OK, "{shown}: {answer:?}");
        let response = answer.response();
        let is_there = response["result"].is_object() || response["error"]["message"] == "boom";
        assert!(is_there, "{shown}: {response}");
        let names: Vec<_> = response.as_object().expect("an object").keys().collect();
        assert_eq!(names.len(), 3, "{shown}: {names:?}");
        if !cause.is_empty() {
            assert_eq!(
                malformed(&pool, "off", cause, "taken").await,
                before + 1.0,
                "{shown}"
            );
        }
    }
}

#[tokio::test]
async fn an_answer_of_which_nothing_can_be_made_fails_its_request_at_once() {
    let more = "request_timeout = \"5m\"\nenv = { KEY = \"${secret.key}\" }\n[tenants.default]\nsecrets.key = { command = [\"echo\", \"s3cr3t-value\"] }";
    let pool = Stdiopool::serve(&server("off", &["last"], more));
    let client = pool.client("off").connect().await;
    for (line, cause) in [
        (
            r#"{"jsonrpc":"2.0","id":ID,"result":{"s":"s3cr3t-value","cut":"#,
            "syntax",
        ),
        (
            r#"{"jsonrpc":"2.0","id":ID,"result":{"s":"s3cr3t-v\u0061lue"},"error":{"code":1,"message":"m"}}"#,
            "result_and_error",
        ),
        (
            r#"{"jsonrpc":"2.0","id":ID,"result":["s3cr3t-value"]}"#,
            "result",
        ),
        (
            r#"{"jsonrpc":"2.0","id":ID,"result":{"s":"s3cr3t-value"},"result":{}}"#,
            "duplicate_member",
        ),
        (
            r#"{"jsonrpc":"2.0","id":null,"result":{"s":"s3cr3t-value"}}"#,
            "id",
        ),
        (r#"{"jsonrpc":"2.0","id":ID,"s":"s3cr3t-value"}"#, "shape"),
        // Another id is there too, before or after its own.
        (
            r#"{"jsonrpc":"2.0","id":ID,"id":99999,"result":{"s":"s3cr3t-value"}}"#,
            "duplicate_member",
        ),
        (
            r#"{"jsonrpc":"2.0","id":"x","result":{"s":"s3cr3t-value"},"id":ID}"#,
            "duplicate_member",
        ),
        // What is broken stands before the id.
        (
            r#"{"jsonrpc":"2.0","result":{"s":"s3cr3t-value"} oops,"id":ID}"#,
            "syntax",
        ),
        (
            r#"[{"jsonrpc":"2.0","id":ID,"result":["s3cr3t-value"]}]"#,
            "result",
        ),
    ] {
        let before = malformed(&pool, "off", cause, "failed").await;
        let start = Instant::now();
        let answer = client
            .call("say", json!({ "line": hex(line.as_bytes()) }))
            .await;
        assert_eq!(answer.reason(), "answer_invalid", "{line}: {answer:?}");
        assert!(start.elapsed() < Duration::from_secs(30), "{line}");
        let message = answer.message();
        assert!(
            message.contains("`off`") && message.contains("[redacted]"),
            "{message}"
        );
        assert!(!message.contains("s3cr3t"), "{message}");
        assert_eq!(
            malformed(&pool, "off", cause, "failed").await,
            before + 1.0,
            "{line}"
        );
    }
    // An error that does not say whose it is, with one request in flight, is that one's.
    let error =
        r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"cannot read that"}}"#;
    let answer = client
        .call("say", json!({ "line": hex(error.as_bytes()) }))
        .await;
    assert_eq!(answer.response()["error"]["code"], -32700, "{answer:?}");
    let log = pool.log();
    let warnings = log
        .lines()
        .filter(|line| line.contains("a message of server `off`"));
    let warnings: Vec<_> = warnings.collect();
    assert_eq!(
        warnings.len(),
        5,
        "the log is told of a few only: {warnings:?}"
    );
    assert!(!log.contains("s3cr3t"), "secrets are masked");
    // It lives, and serves.
    let echo = client.call("echo", json!({})).await;
    assert_eq!(told(echo.response())["acted"], "echo");
}

#[tokio::test]
async fn a_handshake_that_is_off_is_taken_or_told_at_once() {
    let result = r#"{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"1"}}"#;
    let off = format!("\u{feff}{{\"id\":ID,\"result\":{result},\"error\":null}}");
    let cut = format!(r#"{{"jsonrpc":"2.0","id":ID,"result":{}"#, &result[..60]);
    let error =
        r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"cannot read that"}}"#;
    let servers = [("off", off.as_str()), ("cut", &cut), ("error", error)].map(|(name, line)| {
        let line = hex(line.as_bytes());
        server(
            name,
            &["last", "--initialize", &line],
            "start_timeout = \"50s\"",
        )
    });
    let pool = Stdiopool::serve(&servers.join("\n"));
    let client = pool.client("off").connect().await;
    let echo = client.call("echo", json!({})).await;
    assert_eq!(told(echo.response())["acted"], "echo");
    for (name, why) in [("cut", "is not JSON"), ("error", "cannot read that")] {
        let start = Instant::now();
        let refused = pool
            .client(name)
            .try_initialize("2025-06-18", json!({}))
            .await;
        assert_eq!(refused.reason(), "start_failed", "{refused:?}");
        assert!(refused.message().contains(why), "{}", refused.message());
        assert!(
            !refused.message().contains("start_timeout"),
            "{}",
            refused.message()
        );
        assert!(start.elapsed() < Duration::from_secs(30), "{name}");
    }
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_the_servers_fault() {
    let pool = Stdiopool::serve(&server("off", &["last"], "max_message = \"64KiB\""));
    let client = pool.client("off").connect().await;
    let long = format!(
        r#"{{"jsonrpc":"2.0","id":ID,"result":{{"x":"{}"}}}}"#,
        "x".repeat(30 << 10)
    );
    let fits = client
        .call("say", json!({ "line": hex(long.as_bytes()) }))
        .await;
    assert!(fits.result()["x"].is_string());
    let echo = json!({ "x": "\u{1}".repeat(20 << 10) });
    let large = client.call("echo", echo).await;
    assert_eq!(large.reason(), "answer_too_large", "{large:?}");
    assert_eq!(large.response()["error"]["code"], -32000);
    assert!(
        large.message().contains("max_message"),
        "{}",
        large.message()
    );
}

#[tokio::test]
async fn a_rule_about_a_tool_holds_for_every_spelling_of_its_name() {
    // A server that does not tell upper from lower case would act on each of these.
    let deny = "tools = { deny = [\"delete_*\"] }\n";
    let pool =
        Stdiopool::serve(&(without_rules("go", &["go"], deny) + &server("bound", &["go"], "")));
    let refused = |answer: &Value, name: &str| {
        assert_eq!(answer["error"]["code"], -32602, "{answer}");
        let message = format!("unknown tool: {name}");
        assert_eq!(answer["error"]["message"], message, "{answer}");
    };
    for of in ["go", "bound"] {
        let client = pool.client(of).connect().await;
        let ask = async |name: &str| {
            let params = json!({ "name": name, "arguments": {} }).to_string();
            post(&client, &call(&params)).await.1
        };
        for name in [
            "delete_all",
            "DELETE_ALL",
            "Delete_All",
            "dElete_\u{17f}ome",
        ] {
            refused(&ask(name).await, name);
        }
        client.ask("tools/list", json!({})).await.result();
        assert_eq!(told(&ask("echo").await)["acted"], "echo");
        // Known, they are called by their names alone.
        for name in ["ECHO", "Echo"] {
            refused(&ask(name).await, name);
        }
    }
    // What is not listed, and like nothing that is, is the server's to refuse or not.
    let client = pool.client("go").connect().await;
    let params = json!({ "name": "hidden", "arguments": {} }).to_string();
    let (_, answer) = post(&client, &call(&params)).await;
    assert_eq!(told(&answer)["acted"], "hidden");
}

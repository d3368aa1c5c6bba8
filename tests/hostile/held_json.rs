//! JSON of every shape: what is no message is refused in words, what is one is answered, and the worker that
//! others use lives on.

use std::fmt::Write as _;

use http::StatusCode;
use serde_json::{Value, json};

use crate::beside::Beside;
use crate::support::{Client, Stdiopool, demo};

/// A call of the tool `echo` with those arguments, as they stand.
fn echo(id: &str, arguments: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"echo","arguments":{arguments}}}}}"#
    )
}

/// `depth` arrays in each other.
fn nested(depth: usize) -> String {
    format!("{}{}", "[".repeat(depth), "]".repeat(depth))
}

/// Sends a body; status and the message that comes back.
async fn told(client: &Client, body: Vec<u8>) -> (StatusCode, Value) {
    let answer = client.send_raw(body).await;
    let status = answer.status();
    let text = answer.text().await.expect("text");
    let data = text.lines().find_map(|line| line.strip_prefix("data: "));
    let value = serde_json::from_str(data.unwrap_or(&text));
    (status, value.unwrap_or(Value::Null))
}

/// It is refused as no message: with 400 and one of the two codes for that.
async fn is_no_message(client: &Client, body: impl Into<Vec<u8>>) {
    let body = body.into();
    let shown: String = String::from_utf8_lossy(&body).chars().take(80).collect();
    let (status, told) = told(client, body).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{shown}: {told}");
    let code = told["error"]["code"].as_i64();
    assert!(matches!(code, Some(-32700 | -32600)), "{shown}: {told}");
    let message = told["error"]["message"].as_str().expect("a message");
    assert!(!message.is_empty() && message.len() < 500, "{message}");
}

/// It is answered in some way, in time, and as the answer to it; not with a failure of the worker.
async fn is_answered(client: &Client, body: impl Into<Vec<u8>>) -> Value {
    let body = body.into();
    let shown: String = String::from_utf8_lossy(&body).chars().take(120).collect();
    let (status, told) = told(client, body).await;
    assert!(
        status == StatusCode::OK || status == StatusCode::BAD_REQUEST,
        "{shown}: {status} {told}"
    );
    let reason = told["error"]["data"]["reason"].as_str();
    assert!(
        !matches!(
            reason,
            Some("worker_exited" | "internal" | "request_timeout")
        ),
        "{shown}: {told}"
    );
    assert!(
        told.get("result").is_some() || told.get("error").is_some(),
        "{shown}: {told}"
    );
    told
}

/// The session of a tenant, and of another of its users at the same worker, whose process is the same before
/// and after.
async fn with_worker_that_lives(pool: &Stdiopool, hostile: impl AsyncFn(Client)) {
    let client = pool.client_of("acme", "good").connect().await;
    let beside = Beside::open(pool, "acme", "good").await;
    beside.goes_on(1).await;
    let pids = async || -> Vec<Value> {
        let workers = pool.workers().await;
        workers.iter().map(|worker| worker["pid"].clone()).collect()
    };
    let before = pids().await;
    assert_eq!(before.len(), 1);
    hostile(client).await;
    beside.goes_on(3).await;
    assert_eq!(pids().await, before, "the worker has died");
}

#[tokio::test]
async fn what_is_no_message_is_refused_in_words() {
    let pool = Stdiopool::serve(&demo("good", "request_timeout = \"10s\""));
    with_worker_that_lives(&pool, async |client| {
        for text in [
            "",
            " ",
            "null",
            "true",
            "0",
            "\"ping\"",
            "{",
            "}",
            "{}",
            "{]",
            "[",
            "]",
            "{}{}",
            "{}x",
            "\u{feff}{}",
            "NaN",
            "undefined",
            "{'jsonrpc':'2.0'}",
            "// a comment\n{}",
            "<xml/>",
            "jsonrpc=2.0&id=1",
            r#"{"jsonrpc":"2.0","id":1,"method":"ping"}{"jsonrpc":"2.0","id":2,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"ping",}"#,
            r#"{"jsonrpc":"2.0","id":1 "method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"ping"#,
            r#"{"jsonrpc":2.0,"id":1,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":01,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":1.,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":+1,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":0x1,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":[1],"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":{"a":1},"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":true,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":null}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":["ping"]}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":17}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":{"a":"ping"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","jsonrpc":"1.0","id":1,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/list"}"#,
            r#"{"jsonrpc":"2.0","id":1,"\u006dethod":"ping","method":"tools/list"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","result":{}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{},"error":{"code":1,"message":""}}"#,
            "{\"jsonrpc\":\"2.0\",\"id\":\"a\nb\",\"method\":\"ping\"}",
            "{\"jsonrpc\":\"2.0\",\"id\":\"a\u{1}\",\"method\":\"ping\"}",
            r#"{"jsonrpc":"2.0","id":"\x","method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":"\u12","method":"ping"}"#,
        ] {
            is_no_message(&client, text).await;
        }
        // Bytes that are no text, and text in other encodings.
        let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
        let wide: Vec<u8> = ping.encode_utf16().flat_map(u16::to_le_bytes).collect();
        for bytes in [
            &b"\xff"[..],
            b"\x00",
            b"{\"jsonrpc\":\"2.0\",\"id\":\"\xff\",\"method\":\"ping\"}",
            b"{\"jsonrpc\":\"2.0\",\"id\":\"\xc0\xaf\",\"method\":\"ping\"}",
            b"{\"jsonrpc\":\"2.0\",\"id\":\"\xed\xa0\x80\",\"method\":\"ping\"}",
            b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\x00",
            b"\x1f\x8b\x08\x00",
            &wide,
        ] {
            is_no_message(&client, bytes).await;
        }
        // Deep ones: where a parser that calls itself would run out of stack.
        for deep in [
            nested(100_000),
            nested(400_000),
            "[".repeat(500_000),
            "{\"a\":".repeat(100_000),
            format!(
                r#"{{"jsonrpc":"2.0","id":{},"method":"ping"}}"#,
                nested(50_000)
            ),
        ] {
            is_no_message(&client, deep).await;
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_a_message_is_answered_and_harms_no_worker() {
    let pool = Stdiopool::serve(&demo("good", "request_timeout = \"10s\""));
    with_worker_that_lives(&pool, async |client| {
        // Ids come back as they were, whatever they are.
        let long = format!("\"{}\"", "i".repeat(1000));
        for id in [
            "0",
            "-0",
            "-1",
            "1.5",
            "1e3",
            "1E+2",
            "9007199254740993",
            "18446744073709551616",
            "-9223372036854775809",
            "\"\"",
            "\"1\"",
            "\"a b\"",
            "\"\\u0000\"",
            "\"\\\"\"",
            "\"\u{1F600}\"",
            "\"\\ud83d\\ude00\"",
            &long,
        ] {
            for body in [
                format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#),
                echo(id, r#"{"message":"m"}"#),
            ] {
                let answer = client.send_raw(body.clone()).await;
                assert_eq!(answer.status(), StatusCode::OK, "{body}");
                let text = answer.text().await.expect("text");
                assert!(text.contains(&format!("\"id\":{id}")), "{body}: {text}");
                assert!(text.contains("\"result\""), "{body}: {text}");
            }
        }
        // Numbers that no machine has, strings that no text is, keys that are there twice or are many.
        let digits = "9".repeat(100_000);
        let keys: String = (0..20_000).fold(String::new(), |mut keys, n| {
            write!(keys, ",\"k{n}\":{n}").expect("in memory");
            keys
        });
        for arguments in [
            r#"{"message":"m","x":1e400}"#.to_owned(),
            r#"{"message":"m","x":-1e999999999}"#.to_owned(),
            r#"{"message":"m","x":1e-999999999}"#.to_owned(),
            format!("{{\"message\":\"m\",\"x\":{digits}}}"),
            format!("{{\"message\":\"m\",\"x\":0.{digits}}}"),
            format!("{{\"message\":\"m\",\"x\":{}}}", nested(60)),
            format!("{{\"message\":\"m\",\"x\":{}}}", nested(120)),
            format!("{{\"message\":\"m\",\"x\":{}}}", nested(200)),
            format!("{{\"message\":\"m\"{keys}}}"),
            r#"{"message":"\ud800"}"#.to_owned(),
            r#"{"message":"\udc00\ud800"}"#.to_owned(),
            r#"{"\ud800":1,"message":"m"}"#.to_owned(),
            r#"{"message":"a","message":"b"}"#.to_owned(),
            r#"{"message":"a","mess\u0061ge":"b"}"#.to_owned(),
            r#"{"message":"\u0000\u0007\u001b[31m\u2028\u2029\ufffe\uffff"}"#.to_owned(),
            r#"{"__proto__":{"message":"m"},"constructor":1}"#.to_owned(),
            "{\n\t\"message\" :\r\n \"m\"\n}".to_owned(),
            "[]".to_owned(),
            "null".to_owned(),
            "17".to_owned(),
            "\"m\"".to_owned(),
        ] {
            is_answered(&client, echo("7", &arguments)).await;
        }
        // So deep that many decoders run out of stack: refused or answered, and no worker ends of it.
        let deep = nested(100_000);
        for body in [
            echo("7", &format!("{{\"message\":\"m\",\"x\":{deep}}}")),
            format!(r#"{{"jsonrpc":"2.0","id":7,"method":"ping","x":{deep}}}"#),
        ] {
            is_answered(&client, body).await;
        }
        for params in [
            "null",
            "[]",
            "[1]",
            "17",
            "\"a\"",
            "{}",
            r#"{"name":null}"#,
            r#"{"name":["echo"]}"#,
            r#"{"name":"echo","name":"exit"}"#,
            r#"{"name":"exi\u0074x"}"#,
            r#"{"name":"echo","arguments":{"message":"m"},"_meta":null}"#,
            r#"{"name":"echo","arguments":{"message":"m"},"_meta":[]}"#,
            r#"{"name":"echo","arguments":{"message":"m"},"_meta":{"progressToken":{}}}"#,
            r#"{"name":"echo","arguments":{"message":"m"},"_meta":{"progressToken":null}}"#,
            r#"{"name":"echo","arguments":{"message":"m"},"_meta":{"progressToken":1e400}}"#,
        ] {
            is_answered(
                &client,
                format!(r#"{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{params}}}"#),
            )
            .await;
        }
        let long = "m".repeat(500_000);
        for method in [
            "",
            " ",
            "tools/call\\u0000",
            "tools/call\\n{}",
            "../tools/call",
            "TOOLS/CALL",
            "rpc.discover",
            "notifications/cancelled",
            "initialized",
            &long,
        ] {
            is_answered(
                &client,
                format!(r#"{{"jsonrpc":"2.0","id":7,"method":"{method}","params":{{}}}}"#),
            )
            .await;
        }
    })
    .await;
}

#[tokio::test]
async fn batches_of_every_size_are_answered_or_refused_as_one() {
    let pool = Stdiopool::serve(&demo("good", "request_timeout = \"10s\""));
    let ping = |id: usize| format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#);
    let many = |count: usize| (0..count).map(ping).collect::<Vec<_>>().join(",");
    with_worker_that_lives(&pool, async |newer| {
        let older = pool.client_of("acme", "good");
        let older = older.connect_as("2025-03-26", json!({})).await;
        for client in [&newer, &older] {
            for batch in [
                "[]".to_owned(),
                "[ ]".to_owned(),
                "[,]".to_owned(),
                format!("[{},]", ping(1)),
                format!("[{}", ping(1)),
                "[[]]".to_owned(),
                format!("[[{}]]", ping(1)),
                "[null]".to_owned(),
                "[1,2,3]".to_owned(),
                format!("[{},7]", ping(1)),
                format!("[{},{{}}]", ping(1)),
                format!("[{}]", many(65)),
                format!("[{}]", many(10_000)),
                format!("[{}]", "{},".repeat(100_000)),
                format!("[{}]", nested(100_000)),
            ] {
                is_no_message(client, batch).await;
            }
        }
        // Of the one revision that has them, one that is full, and one with the same id again and again.
        let (status, answers) = told(&older, format!("[{}]", many(64)).into()).await;
        assert_eq!(status, StatusCode::OK, "{answers}");
        assert_eq!(answers.as_array().expect("an array").len(), 64);
        let same = vec![echo("1", r#"{"message":"m"}"#); 20].join(",");
        let (status, answers) = told(&older, format!("[{same}]").into()).await;
        assert!(
            status == StatusCode::OK || status == StatusCode::BAD_REQUEST,
            "{answers}"
        );
    })
    .await;
}

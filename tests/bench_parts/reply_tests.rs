use crate::reply::*;

fn data(stream: &str) -> Vec<String> {
    events(stream.as_bytes())
        .map(|data| String::from_utf8(data.into_owned()).expect("text"))
        .collect()
}

#[test]
fn events_end_at_empty_lines_whatever_ends_the_lines() {
    for end in ["\n", "\r\n", "\r"] {
        let stream = ": hello\nevent: message\ndata: one\nid: 1\n\ndata:two\ndata:  three\n\n\nretry: 5\n\ndatabase: x\n\ndata\n\ndata: unfinished\n";
        let stream = stream.replace('\n', end);
        assert_eq!(data(&stream), ["one", "two\n three", ""], "{end:?}");
    }
}

#[test]
fn the_reply_is_found_behind_notifications() {
    let stream = concat!(
        "id: 1\nretry: 3000\ndata: \n\n",
        "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{}}\n\n",
        "data: {\"jsonrpc\":\"2.0\",\"id\":0,\n",
        "data: \"result\":{\"protocolVersion\":\"2025-06-18\"}}\n\n",
    );
    let revision = Some("2025-06-18".to_owned());
    assert_eq!(read(stream.as_bytes(), true), Ok(Reply { revision }));
    let without_reply = &stream[..stream.rfind("data: {").expect("there")];
    assert_eq!(read(without_reply.as_bytes(), true), Err(NoResult::NoReply));
    assert_eq!(read(b"", true), Err(NoResult::NoReply));
}

#[test]
fn an_error_is_no_result() {
    let error = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32600,"message":"no session"}}"#;
    let expected = NoResult::Error {
        code: -32600,
        message: "no session".to_owned(),
    };
    assert_eq!(read(error.as_bytes(), false), Err(expected));
    let failed = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[],"isError": true}}"#;
    assert_eq!(
        read(failed.as_bytes(), false),
        Err(NoResult::Failed(failed.to_owned()))
    );
    for body in ["<html>", "", r#"{"jsonrpc":"2.0","method":"ping"}"#] {
        let expected = NoResult::NotJson(body.to_owned());
        assert_eq!(read(body.as_bytes(), false), Err(expected));
    }
}

#[test]
fn of_a_large_body_only_its_beginning_is_looked_at() {
    let large = |member: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":1,"{member}":{{"content":"{}"}}}}"#,
            "x".repeat(PARSED)
        )
    };
    let reply = read(large("result").as_bytes(), false);
    assert_eq!(reply, Ok(Reply { revision: None }));
    assert!(matches!(
        read(large("params").as_bytes(), false),
        Err(NoResult::NotJson(_))
    ));
}

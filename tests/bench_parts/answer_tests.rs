use proptest::prelude::*;

use crate::answer::*;

/// Status, body and whether the connection closes, of bytes that come all at once.
fn read(text: &str, ended: bool) -> Result<Option<(u16, String, bool)>, Malformed> {
    let mut answer = Answer::default();
    let whole = answer.advance(text.as_bytes(), ended)?;
    let head = answer.head();
    Ok(whole.then(|| {
        let head = head.expect("a whole answer has a head");
        let body = String::from_utf8(answer.body(text.as_bytes()).to_vec()).expect("text");
        (head.status, body, head.closes)
    }))
}

fn whole(text: &str) -> (u16, String, bool) {
    read(text, false).expect("well formed").expect("whole")
}

#[test]
fn a_body_has_the_length_that_the_head_says() {
    let text = "HTTP/1.1 200 OK\r\ncontent-LENGTH: 5\r\nMcp-Session-Id: abc\r\n\r\nhello";
    assert_eq!(whole(text), (200, "hello".to_owned(), false));
    assert_eq!(read(&text[..text.len() - 1], false), Ok(None));
    let mut answer = Answer::default();
    answer.advance(text.as_bytes(), false).expect("well formed");
    let session = answer.head().and_then(|head| head.session.as_deref());
    assert_eq!(session, Some("abc"));
    assert_eq!(answer.missing(&text.as_bytes()[..text.len() - 2]), Some(2));
}

#[test]
fn chunks_are_put_together_without_extensions_and_trailers() {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, Chunked\r\n\r\n";
    let text = format!("{head}5;a=b\r\nhello\r\nA\r\n, you there\r\n0\r\n\r\n");
    assert_eq!(
        read(&text, false),
        Err(Malformed::ChunkEnd),
        "A is 10, the text 11 long"
    );
    let text = format!("{head}5;a=b\r\nhello\r\nB\r\n, you there\r\n0\r\nx: y\r\n\r\n");
    assert_eq!(whole(&text).1, "hello, you there");
    let text = format!("{head}0\r\n\r\n");
    assert_eq!(whole(&text).1, "");
    for size in ["", "x", "-1", "+1", "fffffffff"] {
        let text = format!("{head}{size}\r\n");
        assert_eq!(
            read(&text, false),
            Err(Malformed::ChunkSize(size.to_owned()))
        );
    }
}

#[test]
fn a_body_of_unknown_length_ends_with_the_connection() {
    let text = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nhello";
    assert_eq!(read(text, false), Ok(None));
    assert_eq!(read(text, true), Ok(Some((200, "hello".to_owned(), true))));
}

#[test]
fn no_content_has_no_body_and_interim_answers_are_skipped() {
    let text = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n";
    assert_eq!(whole(text), (204, String::new(), false));
}

#[test]
fn what_is_no_answer_or_cut_off_is_said() {
    let cases = [
        (
            "SSH-2.0-x\r\n\r\n",
            Malformed::Status("SSH-2.0-x".to_owned()),
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
            Malformed::Length("many".to_owned()),
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello",
            Malformed::CutOff(43),
        ),
        ("HTTP/1.1 200", Malformed::CutOff(12)),
    ];
    for (text, expected) in cases {
        assert_eq!(read(text, true), Err(expected), "{text:?}");
    }
}

#[test]
fn event_streams_are_told_by_their_type_whatever_follows_it() {
    for (kind, expected) in [
        ("text/event-stream", true),
        ("Text/Event-Stream; charset=utf-8", true),
        ("application/json", false),
    ] {
        let text = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n\r\n");
        let mut answer = Answer::default();
        answer.advance(text.as_bytes(), true).expect("well formed");
        let head = answer.head().expect("read");
        assert_eq!(head.is_events, expected, "{kind}");
    }
}

proptest! {
    /// However the bytes arrive, the body is what was sent, and whole only at the last byte.
    #[test]
    fn chunks_are_read_wherever_the_reads_end(
        parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..6),
        step in 1_usize..17,
    ) {
        let mut wire = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        for part in &parts {
            wire.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
            wire.extend_from_slice(part);
            wire.extend_from_slice(b"\r\n");
        }
        wire.extend_from_slice(b"0\r\n\r\n");
        let mut answer = Answer::default();
        let mut end = 0;
        while end < wire.len() {
            end = (end + step).min(wire.len());
            let is_whole = answer.advance(&wire[..end], false).expect("well formed");
            prop_assert_eq!(is_whole, end == wire.len());
        }
        prop_assert_eq!(answer.body(&wire), parts.concat());
    }

    /// Nothing that a server sends makes it panic.
    #[test]
    fn any_bytes_are_an_answer_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200), ended: bool) {
        let mut wire = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        let _either = Answer::default().advance(&bytes, ended);
        wire.extend_from_slice(&bytes);
        let _either = Answer::default().advance(&wire, ended);
    }
}

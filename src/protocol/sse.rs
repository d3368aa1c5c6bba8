//! Server-sent events: how they are written, and the parser of clients
//! (<https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream>).
//!
//! The parser is incremental: it takes the stream in pieces of any size, and gives each event as
//! soon as the blank line that ends it is there. The parser holds at most one unfinished line and one
//! unfinished event, both within the bound it was made with.

use std::mem;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

/// Starts a stream that is UTF-8 with a byte order mark; not part of the first line.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Keep-alive: a comment, which every client ignores.
pub const KEEP_ALIVE: &[u8] = b":\n\n";

/// Before the text of an event, where that is one line.
pub const DATA: &[u8] = b"data: ";
/// Behind the last line of an event.
pub const EVENT_END: &[u8] = b"\n\n";

/// One event of a stream.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Event {
    /// The event's `id` field, when it has one of its own ([`Parser::last_event_id`] is what persists).
    pub id: Option<String>,
    /// The event's `event` field; without one it is a `message`.
    pub event: Option<String>,
    /// The event's `data` lines, joined by line feeds.
    pub data: Vec<u8>,
}

/// A line or an event over the parser's bound. The stream cannot be read any further.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("event over {limit} bytes")]
pub struct EventTooLarge {
    /// The bound, in bytes.
    pub limit: usize,
}

/// Reads an event stream piece by piece.
#[derive(Debug)]
pub struct Parser {
    limit: usize,
    /// The line read so far.
    line: Vec<u8>,
    /// The event read so far; `data` ends with the line feed that the last `data` line adds.
    event: Event,
    last_event_id: String,
    retry: Option<Duration>,
    /// The last byte was CR, so that a LF now belongs to its line end.
    after_cr: bool,
    first_line: bool,
}

impl Parser {
    /// A parser that takes lines and events of up to `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            line: Vec::new(),
            event: Event::default(),
            last_event_id: String::new(),
            retry: None,
            after_cr: false,
            first_line: true,
        }
    }

    /// Takes the next piece of the stream and appends the events that it completes to `out`.
    ///
    /// # Errors
    /// A line or event over the limit. Events completed before it are in `out`.
    pub fn push(&mut self, mut piece: &[u8], out: &mut Vec<Event>) -> Result<(), EventTooLarge> {
        if mem::take(&mut self.after_cr) {
            // An empty piece says nothing about the byte after the CR.
            self.after_cr = piece.is_empty();
            piece = piece.strip_prefix(b"\n").unwrap_or(piece);
        }
        while let Some(end) = memchr::memchr2(b'\r', b'\n', piece) {
            self.extend_line(&piece[..end])?;
            let is_cr = piece[end] == b'\r';
            piece = &piece[end + 1..];
            if is_cr {
                self.after_cr = piece.is_empty();
                piece = piece.strip_prefix(b"\n").unwrap_or(piece);
            }
            self.end_line(out)?;
        }
        self.extend_line(piece)
    }

    /// What a client sends as `Last-Event-ID` when it reconnects; empty when no event had an id.
    pub fn last_event_id(&self) -> &str {
        &self.last_event_id
    }

    /// How long to wait before reconnecting, once the stream has said so.
    pub fn retry(&self) -> Option<Duration> {
        self.retry
    }

    fn extend_line(&mut self, part: &[u8]) -> Result<(), EventTooLarge> {
        self.check(self.line.len() + part.len())?;
        self.line.extend_from_slice(part);
        Ok(())
    }

    fn check(&self, size: usize) -> Result<(), EventTooLarge> {
        if size > self.limit {
            return Err(EventTooLarge { limit: self.limit });
        }
        Ok(())
    }

    fn end_line(&mut self, out: &mut Vec<Event>) -> Result<(), EventTooLarge> {
        let mut line = mem::take(&mut self.line);
        if mem::take(&mut self.first_line) && line.starts_with(BYTE_ORDER_MARK) {
            line.drain(..BYTE_ORDER_MARK.len());
        }
        if line.is_empty() {
            self.end_event(out);
        } else {
            let (field, value) = match memchr::memchr(b':', &line) {
                Some(colon) => {
                    let value = &line[colon + 1..];
                    (&line[..colon], value.strip_prefix(b" ").unwrap_or(value))
                }
                None => (&line[..], &b""[..]),
            };
            self.field(field, value)?;
        }
        // The line's memory serves the next one.
        line.clear();
        self.line = line;
        Ok(())
    }

    /// A comment is a line with an empty field name: like every unknown field, it says nothing.
    fn field(&mut self, field: &[u8], value: &[u8]) -> Result<(), EventTooLarge> {
        let text = || String::from_utf8_lossy(value).into_owned();
        match field {
            b"data" => {
                self.check(self.event.data.len() + value.len())?;
                self.event.data.extend_from_slice(value);
                self.event.data.push(b'\n');
            }
            b"event" => self.event.event = Some(text()).filter(|name| !name.is_empty()),
            b"id" if !value.contains(&0) => {
                self.last_event_id = text();
                self.event.id = Some(text());
            }
            b"retry" if !value.is_empty() && value.iter().all(u8::is_ascii_digit) => {
                // Digits only, so all that can go wrong is a number beyond u64: no one waits that long.
                self.retry = text().parse().ok().map(Duration::from_millis);
            }
            _ => {}
        }
        Ok(())
    }

    fn end_event(&mut self, out: &mut Vec<Event>) {
        let mut event = mem::take(&mut self.event);
        // Without a data line there is no event, whatever else was said.
        if event.data.pop().is_some() {
            out.push(event);
        }
    }
}

/// Adds a field of an event, a line of its own. Line breaks and NUL in `value` cannot be expressed and are left out.
pub fn put_field(out: &mut BytesMut, field: &str, value: &str) {
    out.put_slice(field.as_bytes());
    out.put_slice(b": ");
    out.extend(value.bytes().filter(|b| !matches!(b, b'\r' | b'\n' | 0)));
    out.put_u8(b'\n');
}

/// One event on the wire. Line breaks in `data` become `data` lines of their own, so a client
/// reads CR and CRLF as LF; between the tokens of JSON that changes nothing. Line breaks and NUL
/// in `id` and `event` cannot be expressed and are left out.
pub fn encode_event(data: &[u8], id: Option<&str>, event: Option<&str>) -> Bytes {
    let name_len = |name: Option<&str>| name.map_or(0, |name| name.len() + 8);
    let mut out = BytesMut::with_capacity(data.len() + 16 + name_len(id) + name_len(event));
    for (field, value) in [("id", id), ("event", event)] {
        if let Some(value) = value {
            put_field(&mut out, field, value);
        }
    }
    let mut rest = data;
    loop {
        let end = memchr::memchr2(b'\r', b'\n', rest);
        out.put_slice(DATA);
        out.put_slice(&rest[..end.unwrap_or(rest.len())]);
        out.put_u8(b'\n');
        let Some(end) = end else { break };
        let crlf = rest[end..].starts_with(b"\r\n");
        rest = &rest[end + 1 + usize::from(crlf)..];
    }
    out.put_u8(b'\n');
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(stream: &[u8]) -> Vec<Event> {
        let mut out = vec![];
        Parser::new(1 << 20)
            .push(stream, &mut out)
            .expect("within the limit");
        out
    }

    fn data(events: &[Event]) -> Vec<&str> {
        events
            .iter()
            .map(|event| std::str::from_utf8(&event.data).expect("is text"))
            .collect()
    }

    #[test]
    fn the_examples_of_the_standard() {
        let events = parse(b"data: YHOO\ndata: +2\ndata: 10\n\n");
        assert_eq!(data(&events), ["YHOO\n+2\n10"]);

        let events =
            parse(b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n");
        assert_eq!(
            data(&events),
            ["first event", "second event", " third event"]
        );
        assert_eq!(events[0].id.as_deref(), Some("1"));
        assert_eq!(events[1].id.as_deref(), Some(""));
        assert_eq!(events[2].id, None);

        // The last block has no blank line after it and is discarded.
        let events = parse(b"data\n\ndata\ndata\n\ndata:");
        assert_eq!(data(&events), ["", "\n"]);

        let events = parse(b"data:test\n\ndata: test\n\n");
        assert_eq!(data(&events), ["test", "test"]);
    }

    #[test]
    fn every_line_end_ends_a_line_once() {
        for stream in [
            "data: a\ndata: b\n\n",
            "data: a\rdata: b\r\r",
            "data: a\r\ndata: b\r\n\r\n",
        ] {
            assert_eq!(data(&parse(stream.as_bytes())), ["a\nb"], "{stream:?}");
        }
        // CR LF apart, with an empty piece between them.
        let (mut parser, mut out) = (Parser::new(100), vec![]);
        for piece in [&b"data: a\r"[..], b"", b"\ndata: b\r", b"\n\r", b"", b"\n"] {
            parser.push(piece, &mut out).expect("short");
        }
        assert_eq!(data(&out), ["a\nb"]);
    }

    #[test]
    fn an_event_is_given_as_soon_as_its_blank_line_starts() {
        let (mut parser, mut out) = (Parser::new(100), vec![]);
        parser.push(b"data: a\r\n\r", &mut out).expect("short");
        assert_eq!(data(&out), ["a"]);
        parser.push(b"\ndata: b\n\n", &mut out).expect("short");
        assert_eq!(data(&out), ["a", "b"]);
    }

    #[test]
    fn names_ids_and_retry() {
        let mut out = vec![];
        let mut parser = Parser::new(100);
        let stream = b"\xef\xbb\xbfevent: endpoint\ndata: /x\nid: 7\nretry: 1500\n\nid: a\0b\nretry: 1s\nevent: lost\n\ndata: y\n\n";
        parser.push(stream, &mut out).expect("short");
        assert_eq!(out[0].event.as_deref(), Some("endpoint"));
        assert_eq!(out[1].event, None, "a name without data is forgotten");
        assert_eq!(parser.last_event_id(), "7", "an id with NUL is ignored");
        assert_eq!(parser.retry(), Some(Duration::from_millis(1500)));
    }

    #[test]
    fn lines_and_events_are_bounded() {
        let error = EventTooLarge { limit: 10 };
        let mut out = vec![];
        assert_eq!(Parser::new(10).push(b"data: 789012", &mut out), Err(error));
        let lines = b"data: 1234\ndata: 1234\ndata: 1234\n";
        assert_eq!(Parser::new(10).push(lines, &mut out), Err(error));
        assert!(out.is_empty());
    }

    #[test]
    fn a_name_cannot_smuggle_fields_in() {
        let wire = encode_event(b"x", Some("1\ndata: evil\n\n"), Some("a\r\nid: 9"));
        let events = parse(&wire);
        assert_eq!(data(&events), ["x"]);
        assert_eq!(events[0].id.as_deref(), Some("1data: evil"));
        assert_eq!(events[0].event.as_deref(), Some("aid: 9"));
    }

    /// A piece of a stream, rich in what the parser looks at.
    fn stream() -> impl Strategy<Value = Vec<u8>> {
        let token = prop::sample::select(vec![
            "data", "id", "event", "retry", ":", " ", "\r", "\n", "\r\n", "\n\n", "7", "\u{feff}",
            "é", "\0",
        ]);
        prop::collection::vec(token, 0..60).prop_map(|tokens| tokens.concat().into_bytes())
    }

    proptest! {
        #[test]
        fn the_pieces_do_not_matter(stream in stream(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12)) {
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
            cuts.sort_unstable();
            let (mut parser, mut out, mut start) = (Parser::new(1000), vec![], 0);
            for cut in cuts {
                parser.push(&stream[start..cut], &mut out).expect("within the limit");
                start = cut;
            }
            parser.push(&stream[start..], &mut out).expect("within the limit");
            prop_assert_eq!(out, parse(&stream));
        }

        #[test]
        fn what_is_encoded_is_read_back(
            payload in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'\r'), Just(b'\n')], 0..80),
            id in prop::option::of("[^\r\n\0]{0,20}"),
            event in prop::option::of("[^\r\n\0]{1,20}"),
        ) {
            let wire = encode_event(&payload, id.as_deref(), event.as_deref());
            let events = parse(&[&wire[..], KEEP_ALIVE, &wire[..]].concat());
            let text: Vec<u8> = payload.iter().enumerate()
                .filter(|&(at, &b)| !(b == b'\n' && at > 0 && payload[at - 1] == b'\r'))
                .map(|(_, &b)| if b == b'\r' { b'\n' } else { b })
                .collect();
            let expected = Event { id, event, data: text };
            prop_assert_eq!(events, vec![expected.clone(), expected]);
        }
    }
}

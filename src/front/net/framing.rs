//! Where heads of HTTP/1.1 begin and end in the bytes of a connection, and whether the length of a body can be read
//! in one way only.
//!
//! hyper forgets `Content-Length` where there is `Transfer-Encoding` too, and a repeated one of equal value; of
//! `Transfer-Encoding` it looks at the last coding only. Something in front of stdiopool may have gone by the other, so
//! that what it took for a body is a request here (RFC 9112, 11.2). hyper takes a line feed alone for the end of a line of a head, as
//! it may (RFC 9112, 2.2); others take it for a part of the line. So all of that is looked for before hyper reads it.
//! What hyper refuses itself, with 400 and the end of the connection, is not looked for again: a coding after
//! `chunked`, `Transfer-Encoding` in HTTP/1.0, a length that is no number, folded lines, blanks before a colon.

use memchr::memchr;

/// Bytes of a line that are looked at, in bytes. The two headers and the size of a chunk need fewer.
const MAX_KEPT: usize = 96;

/// Why the length of a request's body, or where its head begins, cannot be told for certain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FramingError {
    /// `Content-Length` more than once, or together with `Transfer-Encoding`.
    TwoLengths,
    /// `Transfer-Encoding` says `chunked` more than once, or has a place in its list with nothing in it.
    CodingUnclear,
    /// `Transfer-Encoding` names another coding than `chunked`.
    CodingUnknown,
    /// One of the two headers, or the size of a chunk before this head, is longer than is looked at.
    TooLong,
    /// A line of the head ends with a line feed alone.
    BareLineFeed,
    /// A line with the size of a chunk, or one after the last chunk, does.
    BareLineFeedInBody,
}

/// The head that a [`FramingError`] is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ambiguous {
    /// The number of the head on its connection, from 1.
    pub head: u64,
    /// The error that the ambiguity is.
    pub error: FramingError,
}

/// The transfer coding, as far as `Transfer-Encoding` has said.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum Coding {
    /// Nothing.
    #[default]
    None,
    Chunked,
    Unknown,
    Unclear,
}

impl Coding {
    /// With one more value of the header, which is a list.
    fn and(mut self, value: &[u8]) -> Self {
        for name in value.split(|byte| *byte == b',') {
            self = match (self, name.trim_ascii()) {
                (Self::Unclear, _) | (_, b"") => Self::Unclear,
                (found, name) => match (found, name.eq_ignore_ascii_case(b"chunked")) {
                    (Self::None, true) => Self::Chunked,
                    (Self::Unknown, true) | (_, false) => Self::Unknown,
                    (_, true) => Self::Unclear,
                },
            };
        }
        self
    }
}

/// The part of the stream that comes next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    /// Lines of a head.
    Head(HeadSoFar),
    /// So many bytes of a body.
    Body(u64),
    /// The line with the size of a chunk.
    ChunkSize,
    /// So many bytes of a chunk, its line break included.
    Chunk(u64),
    /// Lines after the last chunk.
    Trailers,
    /// Not HTTP/1, or nothing that is read any more.
    Other,
}

/// The head that is being read.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct HeadSoFar {
    has_request_line: bool,
    lengths: u32,
    length: u64,
    coding: Coding,
    /// One of the two headers is longer than is looked at.
    is_too_long: bool,
}

/// Follows the bytes that a client sends. Pure.
#[derive(Debug)]
pub struct Framing {
    part: Part,
    /// The beginning of a line whose end has not come.
    line: Vec<u8>,
    /// The last byte that came.
    last: u8,
    /// Bytes of the head that has not ended.
    head_len: usize,
    /// Heads that are complete.
    heads: u64,
    ambiguous: Option<Ambiguous>,
}

impl Default for Framing {
    fn default() -> Self {
        Self {
            part: Part::Head(HeadSoFar::default()),
            line: Vec::new(),
            last: 0,
            head_len: 0,
            heads: 0,
            ambiguous: None,
        }
    }
}

impl Framing {
    /// The first head that can be read in two ways. Nothing is followed after it.
    pub fn ambiguous(&self) -> Option<Ambiguous> {
        self.ambiguous
    }

    /// Whether a head has begun and not ended.
    pub fn is_within_head(&self) -> bool {
        match self.part {
            Part::Head(head) => head.has_request_line || !self.line.is_empty(),
            _ => false,
        }
    }

    /// Bytes of the head that has begun and not ended.
    pub fn head_len(&self) -> usize {
        match self.part {
            Part::Head(_) => self.head_len,
            _ => 0,
        }
    }

    /// Takes in what came.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match self.part {
                Part::Other => return,
                Part::Body(left) => match skip(&mut bytes, left) {
                    0 => self.next_head(),
                    left => self.part = Part::Body(left),
                },
                Part::Chunk(left) => match skip(&mut bytes, left) {
                    0 => self.part = Part::ChunkSize,
                    left => self.part = Part::Chunk(left),
                },
                Part::Head(_) | Part::ChunkSize | Part::Trailers => {
                    let Some(end) = memchr(b'\n', bytes) else {
                        self.head_len += bytes.len();
                        self.keep(bytes);
                        return;
                    };
                    let (line, rest) = bytes.split_at(end);
                    self.head_len += line.len() + 1;
                    bytes = &rest[1..];
                    if line.last().copied().unwrap_or(self.last) != b'\r' {
                        self.bare_line_feed(line);
                        if self.part == Part::Other {
                            return;
                        }
                    }
                    if self.line.is_empty() {
                        // As much as would be kept of it, so that pieces make no difference.
                        self.line(&line[..line.len().min(MAX_KEPT)]);
                    } else {
                        self.keep(line);
                        let line = std::mem::take(&mut self.line);
                        self.line(&line);
                    }
                    // After what was kept of the line: the next one may be empty, and its line feed then stands alone.
                    self.last = b'\n';
                }
            }
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.last = bytes.last().copied().unwrap_or(self.last);
        let room = MAX_KEPT.saturating_sub(self.line.len());
        self.line.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// A line ends with a line feed alone; `line` is the last piece of it.
    fn bare_line_feed(&mut self, line: &[u8]) {
        let is_empty = self.line.is_empty() && line.is_empty();
        match self.part {
            // A line break too many after the last body.
            Part::Head(head) if is_empty && !head.has_request_line => {}
            Part::Head(_) => self.refuse(self.heads + 1, FramingError::BareLineFeed),
            // Of the request that is served already.
            _ => self.refuse(self.heads, FramingError::BareLineFeedInBody),
        }
    }

    fn next_head(&mut self) {
        self.part = Part::Head(HeadSoFar::default());
        self.head_len = 0;
    }

    /// The beginning of a line, without the line feed at its end.
    fn line(&mut self, line: &[u8]) {
        let is_cut = line.len() >= MAX_KEPT;
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match self.part {
            Part::Head(head) => self.line_of_head(head, line, is_cut),
            Part::ChunkSize => match chunk_size(line) {
                // hyper takes any number of zeros. The request before is served already: the next is not.
                _ if is_cut && line.iter().all(u8::is_ascii_hexdigit) => {
                    self.refuse(self.heads + 1, FramingError::TooLong);
                }
                Some(0) => self.part = Part::Trailers,
                // The line break after the chunk belongs to it.
                Some(size) => self.part = Part::Chunk(size.saturating_add(2)),
                // hyper refuses it too, and ends the connection.
                None => self.part = Part::Other,
            },
            Part::Trailers if line.is_empty() => self.next_head(),
            Part::Trailers | Part::Body(_) | Part::Chunk(_) | Part::Other => {}
        }
    }

    fn refuse(&mut self, head: u64, error: FramingError) {
        self.ambiguous = Some(Ambiguous { head, error });
        self.part = Part::Other;
    }

    fn line_of_head(&mut self, mut head: HeadSoFar, line: &[u8], is_cut: bool) {
        if line.is_empty() {
            if head.has_request_line {
                self.end_head(head);
            } else {
                // A line break too many after the last body, which is skipped (RFC 9112, 2.2).
                self.head_len = 0;
            }
            return;
        }
        if !head.has_request_line {
            head.has_request_line = true;
            self.part = match line.starts_with(b"PRI * HTTP/2") {
                true => Part::Other,
                false => Part::Head(head),
            };
            return;
        }
        if let Some(value) = value_of(line, b"content-length") {
            head.lengths += 1;
            let value = std::str::from_utf8(value.trim_ascii()).unwrap_or_default();
            // hyper refuses what is no number.
            head.length = value.parse().unwrap_or(0);
            head.is_too_long |= is_cut;
        } else if let Some(value) = value_of(line, b"transfer-encoding") {
            head.coding = head.coding.and(value);
            head.is_too_long |= is_cut;
        }
        self.part = Part::Head(head);
    }

    fn end_head(&mut self, head: HeadSoFar) {
        self.heads += 1;
        let error = match (head.lengths, head.coding) {
            _ if head.is_too_long => FramingError::TooLong,
            (2.., _) | (1, Coding::Chunked | Coding::Unknown | Coding::Unclear) => {
                FramingError::TwoLengths
            }
            (0, Coding::Unknown) => FramingError::CodingUnknown,
            (0, Coding::Unclear) => FramingError::CodingUnclear,
            (0, Coding::Chunked) => {
                self.part = Part::ChunkSize;
                return;
            }
            (1, Coding::None) if head.length > 0 => {
                self.part = Part::Body(head.length);
                return;
            }
            (0 | 1, Coding::None) => return self.next_head(),
        };
        self.refuse(self.heads, error);
    }
}

/// Takes up to `left` bytes off, and says how many are left to take.
fn skip(bytes: &mut &[u8], left: u64) -> u64 {
    let taken = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
    *bytes = &bytes[taken..];
    left - taken as u64
}

/// The value of a header, if the line is of that name. hyper refuses blanks before the colon.
fn value_of<'l>(line: &'l [u8], name: &[u8]) -> Option<&'l [u8]> {
    let (found, rest) = line.split_at_checked(name.len())?;
    let value = rest.strip_prefix(b":")?;
    found.eq_ignore_ascii_case(name).then_some(value)
}

/// The size of a chunk: hexadecimal, and what follows a semicolon or a blank does not count.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let end = line.iter().position(|byte| !byte.is_ascii_hexdigit());
    let digits = &line[..end.unwrap_or(line.len())];
    let digits = std::str::from_utf8(digits).ok()?;
    u64::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn followed(pieces: &[&[u8]]) -> Framing {
        let mut framing = Framing::default();
        for piece in pieces {
            framing.feed(piece);
        }
        framing
    }

    fn first(error: FramingError) -> Option<Ambiguous> {
        Some(Ambiguous { head: 1, error })
    }

    #[test]
    fn a_body_whose_length_is_not_said_once_is_found() {
        let length = "Content-Length: 5\r\n";
        let chunked = "transfer-encoding: chunked\r\n";
        let blanks = " ".repeat(MAX_KEPT);
        let two = first(FramingError::TwoLengths);
        for (headers, expected) in [
            (length.to_owned(), None),
            (chunked.to_owned(), None),
            (format!("{length}{chunked}"), two),
            (format!("{chunked}{length}"), two),
            (format!("{length}{length}"), two),
            (format!("{length}Transfer-Encoding: identity\r\n"), two),
            (
                format!("{length}x: a\r\nTRANSFER-ENCODING:chunked\r\n"),
                two,
            ),
            (format!("{length}x-transfer-encoding: chunked\r\n"), None),
            (
                format!("Content-Length:{blanks}5\r\n"),
                first(FramingError::TooLong),
            ),
            (
                format!("Transfer-Encoding:{blanks}chunked\r\n"),
                first(FramingError::TooLong),
            ),
            (format!("x: {blanks}a\r\n{length}"), None),
        ] {
            let text = format!("POST / HTTP/1.1\r\nhost: a\r\n{headers}\r\n");
            assert_eq!(followed(&[text.as_bytes()]).ambiguous(), expected, "{text}");
            // A line feed alone is none for everybody, wherever it stands.
            for bare in [
                text.replace('\r', ""),
                text.replacen('\r', "", 2),
                text.replacen("\r\n\r", "\r\n", 1),
            ] {
                let found = followed(&[bare.as_bytes()]).ambiguous();
                assert_eq!(found, first(FramingError::BareLineFeed), "{bare}");
                let bytes: Vec<_> = bare.as_bytes().chunks(1).collect();
                assert_eq!(followed(&bytes).ambiguous(), found, "{bare}");
            }
        }
    }

    /// In front of stdiopool the head goes on after that line feed, here it would end with it.
    #[test]
    fn a_line_feed_alone_is_found_wherever_the_line_before_it_was_cut() {
        let head = b"POST / HTTP/1.1\r\nHost: a\r\n\nContent-Length: 5\r\n\r\n";
        for cut in 0..head.len() {
            let (begin, rest) = head.split_at(cut);
            assert_eq!(
                followed(&[begin, rest]).ambiguous(),
                first(FramingError::BareLineFeed),
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn the_only_coding_is_chunked_once() {
        let unclear = first(FramingError::CodingUnclear);
        let unknown = first(FramingError::CodingUnknown);
        for (values, expected) in [
            (vec!["chunked"], None),
            (vec!["\tCHUNKED "], None),
            (vec!["chunked", "chunked"], unclear),
            (vec!["chunked, chunked"], unclear),
            (vec![", chunked"], unclear),
            (vec!["", "chunked"], unclear),
            (vec!["gzip", "chunked, chunked"], unknown),
            (vec!["gzip, chunked"], unknown),
            (vec!["gzip", "chunked"], unknown),
            (vec!["identity", "chunked"], unknown),
            (vec!["chunked;q=1"], unknown),
            (vec!["\"chunked\""], unknown),
        ] {
            let headers = values.iter().fold(String::new(), |headers, value| {
                headers + "Transfer-Encoding:" + value + "\r\n"
            });
            let text = format!("POST / HTTP/1.1\r\n{headers}\r\n0\r\n\r\n");
            assert_eq!(followed(&[text.as_bytes()]).ambiguous(), expected, "{text}");
        }
    }

    #[test]
    fn a_size_that_is_longer_than_is_looked_at_ends_what_is_certain() {
        let size = format!("{:0>200}", 5);
        let text =
            format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{size}\r\nhello\r\n");
        let expected = Some(Ambiguous {
            head: 2,
            error: FramingError::TooLong,
        });
        assert_eq!(followed(&[text.as_bytes()]).ambiguous(), expected);
        let pieces: Vec<&[u8]> = text.as_bytes().chunks(7).collect();
        assert_eq!(followed(&pieces).ambiguous(), expected);
        // Extensions may be long.
        let long = text.replace(&size, &format!("5;{size}"));
        assert_eq!(followed(&[long.as_bytes()]).ambiguous(), None);
    }

    #[test]
    fn what_looks_like_a_head_within_a_body_is_none() {
        let inner = "POST / HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n";
        let plain = format!(
            "POST / HTTP/1.1\r\ncontent-length: {}\r\n\r\n{inner}",
            inner.len()
        );
        let chunked = format!(
            "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n{:x};a=b\r\n{inner}\r\n0\r\nx: y\r\n\r\n",
            inner.len()
        );
        for first in [plain, chunked] {
            let framing = followed(&[first.as_bytes()]);
            assert_eq!((framing.ambiguous(), framing.heads), (None, 1), "{first}");
            assert!(!framing.is_within_head(), "{first}");
            let framing = followed(&[first.as_bytes(), inner.as_bytes()]);
            let found = framing.ambiguous().map(|found| found.head);
            assert_eq!(found, Some(2), "{first}");
        }
    }

    #[test]
    fn http_2_is_left_alone() {
        let framing = followed(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00content-length: 1\n"]);
        assert_eq!(
            (framing.ambiguous(), framing.is_within_head()),
            (None, false)
        );
    }

    /// A request, and whether its length is said twice.
    fn requests() -> impl Strategy<Value = Vec<(Vec<u8>, bool)>> {
        let body = prop::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), any::<u8>()], 0..40);
        let one = (body, 0..6_u8, "[a-z]{0,120}").prop_map(|(body, kind, filler)| {
            let mut text = format!("POST /mcp HTTP/1.1\r\nx-filler: {filler}\r\n").into_bytes();
            let len = body.len();
            match kind {
                0 => text.extend(format!("Content-Length: {len}\r\n\r\n").bytes()),
                1 => text.extend(
                    format!("content-length: {len}\r\nTransfer-Encoding: chunked\r\n\r\n").bytes(),
                ),
                2 => text.extend(b"Transfer-Encoding: gzip, chunked\r\n\r\n"),
                _ => text.extend(b"Transfer-Encoding: chunked\r\n\r\n"),
            }
            if kind == 0 || kind == 1 {
                text.extend(body);
            } else {
                if !body.is_empty() {
                    text.extend(format!("{len:X}\r\n").bytes());
                    text.extend(body);
                    text.extend(b"\r\n");
                }
                text.extend(b"0\r\n\r\n");
            }
            (text, kind == 1 || kind == 2)
        });
        prop::collection::vec(one, 1..6)
    }

    proptest! {
        /// However the bytes are cut into pieces, the first ambiguous request is found, and it is that one.
        #[test]
        fn pieces_do_not_matter(requests in requests(), size in 1_usize..60) {
            let first = requests.iter().position(|(_, ambiguous)| *ambiguous);
            let expected = first.map(|at| at as u64 + 1);
            let bytes: Vec<u8> = requests.iter().flat_map(|(text, _)| text.clone()).collect();
            let mut framing = Framing::default();
            for piece in bytes.chunks(size) {
                framing.feed(piece);
            }
            prop_assert_eq!(framing.ambiguous().map(|found| found.head), expected);
            if expected.is_none() {
                prop_assert_eq!(framing.heads, requests.len() as u64);
                prop_assert!(!framing.is_within_head());
            }
        }

        /// No input makes it panic, or keep much.
        #[test]
        fn anything_is_taken_in(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..8)) {
            let mut framing = Framing::default();
            for piece in &pieces {
                framing.feed(piece);
                prop_assert!(framing.line.len() <= MAX_KEPT);
            }
        }
    }
}

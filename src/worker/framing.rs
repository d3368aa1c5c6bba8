//! Cuts a byte stream into lines, with a cap on how much of a line is ever held.
//!
//! Pure: chunks in, frames out. A line over the cap is dropped as it passes; only its length and
//! the verdict on it are reported, so that whoever waits for it can be told.

use bytes::Bytes;

use super::Oversized;
use crate::protocol::LongLine;

/// Length from which a line that is not whole yet is a long one, in bytes.
const LONG: usize = 1 << 20;

/// A line, or what is known of one that is too long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// A line without its line end; never blank.
    Line(Bytes),
    /// A line longer than the cap, which was dropped.
    Oversized(Oversized),
}

/// Splits at `\n` (an `\r` before it goes too) and skips blank lines. Holds at most `cap` bytes.
#[derive(Debug)]
pub struct Framer {
    cap: usize,
    partial: Vec<u8>,
    /// Set while a line over the cap passes.
    discard: Option<Discard>,
}

#[derive(Debug, Default)]
struct Discard {
    len: u64,
    line: LongLine,
    /// The line has been reported, or handed out.
    is_told: bool,
}

impl Discard {
    fn feed(&mut self, bytes: &[u8]) {
        self.len += bytes.len() as u64;
        if !self.is_told {
            self.line.feed(bytes);
        }
    }
}

impl Framer {
    /// A framer for lines of at most `cap` bytes, line end not counted.
    pub fn new(cap: usize) -> Self {
        Self {
            cap,
            partial: Vec::new(),
            discard: None,
        }
    }

    /// Takes the next bytes and hands every line they complete to `out`, in order.
    pub fn feed(&mut self, mut chunk: &[u8], mut out: impl FnMut(Frame)) {
        while let Some(end) = memchr::memchr(b'\n', chunk) {
            if let Some(frame) = self.line_ends(&chunk[..end]) {
                out(frame);
            }
            chunk = &chunk[end + 1..];
        }
        self.extend(chunk);
    }

    /// Bytes of a long line that is not whole yet; `None` if it is short, or dropped anyway.
    pub fn unfinished(&self) -> Option<usize> {
        (self.partial.len() > LONG).then_some(self.partial.len())
    }

    /// Drops the line that is not whole yet, as one that is too long.
    pub fn give_up(&mut self) {
        if self.discard.is_none() {
            let partial = std::mem::take(&mut self.partial);
            self.discard.get_or_insert_default().feed(&partial);
        }
    }

    /// What is there of a line that is kept and not whole yet.
    pub fn begun(&self) -> &[u8] {
        match self.discard {
            None => trim_end(&self.partial),
            Some(_) => &[],
        }
    }

    /// Takes that out, to be [put back](Self::put_back) before the next bytes come.
    pub fn take_begun(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.partial)
    }

    /// Puts back what was taken out.
    pub fn put_back(&mut self, begun: Vec<u8>) {
        self.partial = begun;
    }

    /// Whether a line has begun that has not ended, and of which nothing was handed out.
    pub fn has_begun(&self) -> bool {
        match &self.discard {
            None => !self.partial.is_empty(),
            Some(discard) => !discard.is_told,
        }
    }

    /// Takes what is there of a line for all of it, and what comes next for the beginning of another.
    pub fn end_line(&mut self) -> Option<Frame> {
        self.line_ends(&[])
    }

    /// Hands out what is there of a line that does not go on; its rest is dropped.
    pub fn cut(&mut self) -> Option<Frame> {
        let frame = self.line_ends(&[]);
        self.discard = Some(Discard {
            is_told: true,
            ..Discard::default()
        });
        frame
    }

    /// Hands out a last line that no line end followed.
    pub fn finish(&mut self) -> Option<Frame> {
        self.line_ends(&[])
    }

    fn line_ends(&mut self, tail: &[u8]) -> Option<Frame> {
        // The usual case, a whole line in one chunk, is copied once, to its exact size.
        if self.discard.is_none() && self.partial.is_empty() && tail.len() <= self.cap {
            let line = trim_end(tail);
            return (!is_blank(line)).then(|| Frame::Line(Bytes::copy_from_slice(line)));
        }
        self.extend(tail);
        if let Some(Discard { len, line, is_told }) = self.discard.take() {
            let message = line.finish();
            return (!is_told).then_some(Frame::Oversized(Oversized { len, message }));
        }
        let mut line = std::mem::take(&mut self.partial);
        line.truncate(trim_end(&line).len());
        (!is_blank(&line)).then(|| Frame::Line(line.into()))
    }

    fn extend(&mut self, bytes: &[u8]) {
        if let Some(discard) = &mut self.discard {
            discard.feed(bytes);
            return;
        }
        if bytes.is_empty() {
            return;
        }
        let needed = self.partial.len() + bytes.len();
        // One more than the cap is let through for the `\r` of a line that just fits.
        if needed > self.cap && trim_end(bytes).len() + self.partial.len() > self.cap
            || needed > self.cap + 1
        {
            self.give_up();
            self.extend(bytes);
            return;
        }
        if needed > self.partial.capacity() {
            // Doubling, but never past what a line may need. A long one gets room for all it may be:
            // memory that is not written to is not there, and nothing is held twice to grow.
            let most = (self.cap + 1).max(needed);
            let goal = if needed > LONG {
                most
            } else {
                (self.partial.capacity() * 2).clamp(needed, most)
            };
            self.partial.reserve_exact(goal - self.partial.len());
        }
        self.partial.extend_from_slice(bytes);
    }
}

fn trim_end(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn is_blank(line: &[u8]) -> bool {
    line.iter().all(u8::is_ascii_whitespace)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Broken, Flaw, Says};
    use proptest::prelude::*;

    fn frames<'a>(cap: usize, chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<Frame> {
        let mut framer = Framer::new(cap);
        let mut frames = Vec::new();
        for chunk in chunks {
            framer.feed(chunk, |frame| frames.push(frame));
            assert!(
                framer.partial.capacity() <= cap + 1,
                "holds more than a line"
            );
        }
        frames.extend(framer.finish());
        frames
    }

    fn line(text: &str) -> Frame {
        Frame::Line(Bytes::copy_from_slice(text.as_bytes()))
    }

    fn oversized(len: u64, id: &str, says: Says) -> Oversized {
        let message = Broken {
            flaw: Flaw::TooLong,
            says,
            ids: vec![id.to_owned()],
            error: None,
        };
        let message = Some(message);
        Oversized { len, message }
    }

    #[test]
    fn line_ends_go_and_blank_lines_are_skipped() {
        let got = frames(9, [&b"a\r\n\n\r\n  \nb\nlast"[..]]);
        assert_eq!(got, [line("a"), line("b"), line("last")]);
    }

    #[test]
    fn a_line_of_exactly_the_cap_passes_with_either_line_end() {
        for text in [&b"1234\n"[..], b"1234\r\n"] {
            assert_eq!(frames(4, [text]), [line("1234")]);
            assert_eq!(frames(4, text.chunks(1)), [line("1234")]);
        }
        assert!(matches!(
            frames(4, [&b"12345\n"[..]])[..],
            [Frame::Oversized(_)]
        ));
    }

    #[test]
    fn a_line_that_is_given_up_is_reported_and_the_next_one_read() {
        let mut framer = Framer::new(8 << 20);
        let mut got = Vec::new();
        framer.feed(b"{\"id\":7,\"result\":\"", |frame| got.push(frame));
        assert_eq!(framer.unfinished(), None, "it is short");
        framer.feed(&vec![b'x'; 2 << 20], |frame| got.push(frame));
        assert_eq!(framer.unfinished(), Some((2 << 20) + 18));
        framer.give_up();
        assert_eq!(framer.unfinished(), None);
        framer.feed(b"xx\"}\n{}\n", |frame| got.push(frame));
        let known = oversized((2 << 20) + 22, "7", Says::Answers);
        assert_eq!(got, [Frame::Oversized(known), line("{}")]);
    }

    #[test]
    fn an_oversized_line_is_reported_and_the_next_one_read() {
        let text = b"{\"jsonrpc\":\"2.0\",\"id\":\"a\",\"method\":\"m\",\"x\":\"0123456789\"}\n{\"id\":1}\n";
        let got = frames(12, text.chunks(5));
        let known = oversized(56, "\"a\"", Says::Asks);
        assert_eq!(got, [Frame::Oversized(known), line("{\"id\":1}")]);
    }

    proptest! {
        #[test]
        fn cuts_make_no_difference(
            text in "([a-c\r\n ]|\\{\"id\":[0-9]\\}){0,60}",
            cap in 0..12usize,
            cuts in prop::collection::vec(1..7usize, 1..20),
        ) {
            let bytes = text.as_bytes();
            let mut chunks = Vec::new();
            let mut at = 0;
            for cut in cuts.iter().cycle() {
                if at == bytes.len() { break; }
                let end = (at + cut).min(bytes.len());
                chunks.push(&bytes[at..end]);
                at = end;
            }
            let whole = frames(cap, [bytes]);
            prop_assert_eq!(&frames(cap, chunks), &whole);
            let fitting: Vec<Frame> = text.split('\n')
                .map(|l| l.strip_suffix('\r').unwrap_or(l))
                .filter(|l| l.len() <= cap && !l.trim_ascii().is_empty())
                .map(line)
                .collect();
            let lines: Vec<Frame> = whole.into_iter().filter(|f| matches!(f, Frame::Line(_))).collect();
            prop_assert_eq!(lines, fitting);
        }
    }
}

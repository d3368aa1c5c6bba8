//! Messages that a worker writes over several lines, as for people, put together again.
//!
//! ```text
//! Apart ── a line that opens more than it closes, and need not be cut off ──▶ Joining
//! Joining ── all is closed ──▶ Apart: the whole is one line
//!         ── a message on a line of its own, not ended after a while, too long and no message ──▶ Apart: what is there is judged
//!            as it is, or line by line where it names no request and a line of it says more
//!         ── a message that is too long to be kept ──▶ Passing
//!         ── an object begins that can be no part of it ──▶ Joining: what is there is judged, and that object is joined
//!         ── an object that began at a line's start is closed, and is a message ──▶ Apart: what was before it is judged, then it
//! Passing ── all is closed, a message on a line of its own, not ended after a while ──▶ Apart: what passed was too long
//! ```
//!
//! A line that is a message by itself is taken, whatever came before.
//!
//! Pure: it knows no clock. Whoever reads the lines says when it has taken too long ([`MessageLines::give_up`]).
//! [`MessageLines`] holds at most as many bytes as a message may have, and [`MAX_UNNAMED`] of what has no member of a message.

use bytes::Bytes;
use smallvec::{SmallVec, smallvec};

use super::nesting::Nesting;
use super::{Broken, Flaw, Line, LongLine, NAMES, Says, VERSION};

/// Most bytes over several lines of what no member of a message has come of; what is longer is judged as far as it goes.
pub const MAX_UNNAMED: usize = 256 << 10;

/// A first line that ends as whole ones do is not counted through where it has more bytes than that: messages on one line are
/// not to cost more for those that are not.
const MAX_DOUBTFUL: usize = 256;

/// Most objects of which it is kept where they began, within what has begun.
const MAX_INNER: usize = 64;

/// Most bytes that are read to find messages in what has begun.
const MAX_READ: usize = 4 * MAX_UNNAMED;

/// The joined lines that are to be judged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Joined {
    /// A line, or what was put together of several.
    Text {
        /// The line's text, without the line break at its end.
        text: Bytes,
        /// How many lines of the worker it was.
        lines: u64,
    },
    /// A message over several lines that was too long to be kept.
    TooLong {
        /// The line's length in bytes.
        len: u64,
        /// How many lines of the worker it was.
        lines: u64,
        /// What the line said of itself; `None` for a log's record.
        message: Option<Broken>,
    },
}

impl Joined {
    fn one(text: Bytes) -> Self {
        Self::Text { text, lines: 1 }
    }

    /// How many bytes are to be read.
    pub fn len(&self) -> usize {
        match self {
            Self::Text { text, .. } => text.len(),
            Self::TooLong { .. } => 0,
        }
    }

    /// Whether there is nothing to be read.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many lines of the worker it was.
    pub fn lines(&self) -> u64 {
        match self {
            Self::Text { lines, .. } | Self::TooLong { lines, .. } => *lines,
        }
    }
}

/// Puts lines together that are one message.
#[derive(Debug)]
pub struct MessageLines {
    /// Most bytes of a message that are kept.
    max: usize,
    text: Vec<u8>,
    lines: u64,
    nesting: Nesting,
    /// How the first line ends.
    begins: Begins,
    /// A name was in it that a message's own members have.
    has_names: bool,
    /// Objects that began at a line's start and are open, the innermost last: each may be a message by itself.
    inner: Vec<Inner>,
    /// Bytes of such objects that have been read.
    read: usize,
    /// Messages that are a part of what is open, if that ever ends: it is a message too.
    parts: Vec<Part>,
    /// What is not kept any more.
    passing: Option<Passing>,
}

/// A message over several lines that is too long to be kept, as it passes.
#[derive(Debug, Default)]
struct Passing {
    len: u64,
    line: LongLine,
}

impl Passing {
    fn feed(&mut self, text: &[u8]) {
        self.len += text.len() as u64;
        self.line.feed(text);
    }
}

/// Where an object begins within what has been put together.
#[derive(Debug, Clone, Copy)]
struct Inner {
    at: usize,
    /// Lines before it.
    lines: u64,
    depth: usize,
    /// The object around the text is no message.
    is_apart: bool,
}

/// A message within what has been put together.
#[derive(Debug, Clone)]
struct Part {
    text: std::ops::Range<usize>,
    lines: std::ops::Range<u64>,
}

/// How the first of several lines ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Begins {
    /// Where nothing whole does.
    Open,
    /// Behind a value, as one that is cut off may, or one whose next line begins with its comma.
    Doubtful,
    /// Where nothing whole does, though behind words: a log may do so too.
    BehindWords,
}

impl MessageLines {
    /// Lines of messages of which at most `max` bytes are kept.
    pub fn new(max: usize) -> Self {
        Self {
            max,
            text: Vec::new(),
            lines: 0,
            nesting: Nesting::default(),
            begins: Begins::Open,
            has_names: false,
            inner: Vec::new(),
            read: 0,
            parts: Vec::new(),
            passing: None,
        }
    }

    /// Whether a message has begun that has not ended.
    pub fn is_joining(&self) -> bool {
        self.lines > 0
    }

    /// How many bytes are kept of a message that has not ended.
    pub fn kept(&self) -> usize {
        self.text.len()
    }

    /// Whether what has begun is cut off or a log, more likely than not: it is not worth a long wait.
    pub fn is_doubtful(&self) -> bool {
        self.begins != Begins::Open && self.lines == 1
    }

    /// The next line; what is to be judged now, in order. Nothing while a message goes on.
    pub fn line(&mut self, line: Bytes) -> SmallVec<[Joined; 2]> {
        if !self.is_joining() {
            return self.first(line);
        }
        let mut told = SmallVec::new();
        let is_behind_no_message = !self.has_names && has_message(&line);
        if is_message(&line) || is_behind_no_message {
            told.extend(self.give_up());
            told.push(Joined::one(line));
        } else if !self.goes_on_with(&line) {
            told.extend(self.give_up());
            told.extend(self.first(line));
        } else if self.has_room(line.len()) {
            told.extend(self.next(&line));
        } else if self.let_pass() {
            told.extend(self.passes(&line));
        } else {
            told.extend(self.give_up());
            told.push(Joined::one(line));
        }
        told
    }

    /// A line that was too long to be kept, and no message by itself; false if it is no part of one.
    pub fn too_long(&mut self, len: u64) -> bool {
        let is_part = self.is_joining() && self.let_pass();
        if let Some(passing) = self.passing.as_mut().filter(|_| is_part) {
            passing.len += len + 1;
            self.lines += 1;
        }
        is_part
    }

    /// Whether a line of which no end has come can be judged as it is: all is closed with it, and it is no log's.
    pub fn ends_with(&self, line: &[u8]) -> bool {
        if self.nesting.after(line).depth() > 0 {
            return false;
        }
        if !self.is_joining() || self.passing.is_some() {
            return self.is_joining() || says_more(line);
        }
        says_more(&[&self.text, &b"\n"[..], line].concat())
    }

    /// Keeps no more of a message that has begun; false if it is none, or there are others within.
    pub fn let_pass(&mut self) -> bool {
        if self.passing.is_none() && self.has_names && self.parts.is_empty() {
            let mut passing = Passing::default();
            passing.feed(&std::mem::take(&mut self.text));
            self.inner.clear();
            self.passing = Some(passing);
        }
        self.passing.is_some()
    }

    fn has_room(&self, len: usize) -> bool {
        let max = match self.has_names {
            true => self.max,
            false => self.max.min(MAX_UNNAMED),
        };
        self.passing.is_none() && self.text.len() + len < max
    }

    /// Passes a line of a message that is not kept; what is over now.
    fn passes(&mut self, line: &[u8]) -> Option<Joined> {
        self.nesting = self.nesting.after(line);
        self.lines += 1;
        let passing = self.passing.as_mut()?;
        passing.feed(b"\n");
        passing.feed(line);
        (self.nesting.depth() == 0).then(|| self.taken())?
    }

    fn first(&mut self, line: Bytes) -> SmallVec<[Joined; 2]> {
        let Some((begins, at)) = begins(&line).filter(|_| line.len() < self.max) else {
            return smallvec![Joined::one(line)];
        };
        self.begins = begins;
        self.add(&line, at);
        SmallVec::new()
    }

    /// Whether a line may be the next one of what has begun.
    fn goes_on_with(&self, line: &[u8]) -> bool {
        let first = line.trim_ascii_start().first();
        if self.is_doubtful() {
            return match first {
                Some(b'}' | b']') => true,
                Some(b',') => self.begins == Begins::Doubtful,
                Some(b'"' | b'\'') => self.begins == Begins::BehindWords,
                Some(b'{' | b'[') => {
                    self.begins == Begins::BehindWords && self.nesting.takes_value()
                }
                _ => false,
            };
        }
        // A log's record between the lines of a message is whole by itself.
        let may_begin = matches!(first, Some(b'{' | b'[')) && !self.nesting.takes_value();
        !may_begin || begins(line).is_none()
    }

    /// Adds a line; what is whole now.
    fn next(&mut self, line: &[u8]) -> SmallVec<[Joined; 2]> {
        if line.starts_with(b"{") {
            if self.inner.len() == MAX_INNER {
                self.inner.remove(0);
            }
            self.inner.push(Inner {
                at: self.text.len() + 1,
                lines: self.lines,
                depth: self.nesting.depth(),
                is_apart: !self.has_names,
            });
        }
        self.add(line, 0);
        let depth = self.nesting.depth();
        if depth == 0 {
            return self.taken().into_iter().collect();
        }
        while let Some(inner) = self.inner.pop_if(|inner| depth <= inner.depth) {
            if depth == inner.depth && self.is_message_from(inner.at) {
                return self.found(inner);
            }
        }
        SmallVec::new()
    }

    /// Whether what begins there is a message, which a comma may follow.
    fn is_message_from(&mut self, at: usize) -> bool {
        let text = self.text[at..].trim_ascii_end();
        let text = text.strip_suffix(b",").unwrap_or(text);
        self.read += text.len();
        self.read <= MAX_READ && is_message(text)
    }

    /// What is to be judged now that an object is closed that is a message.
    fn found(&mut self, inner: Inner) -> SmallVec<[Joined; 2]> {
        self.parts.retain(|part| part.text.start < inner.at);
        self.parts.push(Part {
            text: inner.at..self.text.len(),
            lines: inner.lines..self.lines,
        });
        match inner.is_apart {
            true => self.give_up(),
            false => SmallVec::new(),
        }
    }

    /// Adds a line, which counts from that byte on.
    fn add(&mut self, line: &[u8], from: usize) {
        self.nesting = self.nesting.after(&line[from..]);
        self.has_names = self.has_names || is_of_message(&line[from..]);
        if self.lines > 0 {
            self.text.push(b'\n');
        }
        self.text.extend_from_slice(line);
        self.lines += 1;
    }

    /// What is there of a message that does not go on.
    pub fn give_up(&mut self) -> SmallVec<[Joined; 2]> {
        let parts = std::mem::take(&mut self.parts);
        let (whole, all) = match self.taken() {
            Some(Joined::Text { text, lines }) => (text, lines),
            other => return other.into_iter().collect(),
        };
        let (mut told, mut at, mut line) = (SmallVec::new(), 0, 0);
        for part in parts {
            // Something is before the first, and a line break before each.
            if part.lines.start > line {
                let before = whole.slice(at..part.text.start - 1);
                told.extend(line_by_line(before, part.lines.start - line));
            }
            (at, line) = (part.text.end + 1, part.lines.end);
            told.push(Joined::Text {
                text: whole.slice(part.text),
                lines: part.lines.end - part.lines.start,
            });
        }
        if all > line {
            told.extend(line_by_line(whole.slice(at..), all - line));
        }
        told
    }

    fn taken(&mut self) -> Option<Joined> {
        let Self {
            lines,
            text,
            passing,
            ..
        } = std::mem::replace(self, Self::new(self.max));
        (lines > 0).then(|| match passing {
            None => Joined::Text {
                text: text.into(),
                lines,
            },
            Some(Passing { len, line }) => Joined::TooLong {
                len,
                lines,
                message: line.finish(),
            },
        })
    }
}

/// How a line ends that is the first of several, and where it begins to count: with a bracket, perhaps behind a prompt or
/// words, that is not closed.
fn begins(line: &[u8]) -> Option<(Begins, usize)> {
    let text = without_prompt(line);
    let at = line.len() - text.len();
    if let Some(begins) = begins_here(text) {
        return Some((begins, at));
    }
    // A member of an object that is not there begins none.
    let is_member = matches!(text.first(), Some(b'{' | b'"' | b'\'' | b','));
    let words = memchr::memchr(b'{', text).filter(|_| !is_member)?;
    let begins = match begins_here(&text[words..])? {
        Begins::Open => Begins::BehindWords,
        doubtful => doubtful,
    };
    Some((begins, at + words))
}

/// How a line ends that begins with its bracket.
fn begins_here(line: &[u8]) -> Option<Begins> {
    let line = line.trim_ascii();
    // One that ends otherwise is whole, or broken: most are looked at no further.
    let begins = match line {
        [b'{' | b'['] | [b'{' | b'[', .., b'{' | b'[' | b','] | [b'{', .., b':'] => Begins::Open,
        [b'{', .., b'}' | b']'] if line.len() > MAX_DOUBTFUL => return None,
        [
            b'{',
            rest @ ..,
            b'}' | b']' | b'"' | b'0'..=b'9' | b'e' | b'l',
        ] if rest.trim_ascii_start().starts_with(b"\"") => Begins::Doubtful,
        _ => return None,
    };
    let nesting = Nesting::default().after(line);
    let is_cut_off = begins == Begins::Doubtful && nesting.ends_in_string();
    (nesting.depth() > 0 && !is_cut_off).then_some(begins)
}

/// Whether a text has a name in it that a message's own members have.
fn is_of_message(text: &[u8]) -> bool {
    VERSION.find(text).is_some() || NAMES.iter().any(|name| name.find(text).is_some())
}

/// A message of its own, which is no part of another: nothing else is on its line but a prompt.
fn is_message(line: &[u8]) -> bool {
    let text = without_prompt(line);
    matches!(text, [b'{' | b'[', ..])
        && VERSION.find(text).is_some()
        && match Line::of(text) {
            Line::Message(_) => true,
            Line::Mended(mended) => !mended.flaws.contains(&Flaw::Surrounded),
            Line::Broken(_) | Line::Log => false,
        }
}

/// Whether messages are whole on a line, whatever stands around them, and it is no member of an object that is open: a log may
/// quote what was sent.
fn has_message(line: &[u8]) -> bool {
    let is_member = matches!(line.trim_ascii_start().first(), Some(b'"' | b'\'' | b','));
    !is_member
        && VERSION.find(line).is_some()
        && matches!(Line::of(line), Line::Message(_) | Line::Mended(_))
}

/// A line without what stands before it and is no part of any JSON: a byte order mark, signs of a prompt.
fn without_prompt(line: &[u8]) -> &[u8] {
    let text = line.trim_ascii_start();
    let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
    let is_of_prompt = |byte: &u8| matches!(byte, b'>' | b'$' | b'#' | b'%' | b'*' | b' ' | b'\t');
    let len = text.iter().take_while(|byte| is_of_prompt(byte)).count();
    &text[len..]
}

/// A whole text as it is, or its lines where it names no request and one of them says more.
fn line_by_line(whole: Bytes, lines: u64) -> SmallVec<[Joined; 2]> {
    let line_of = |line: &[u8]| Joined::one(whole.slice_ref(line));
    let each = || whole.split(|byte| *byte == b'\n');
    match lines > 1 && names_nobody(&whole) && each().any(says_more) {
        true => each().map(line_of).collect(),
        false => smallvec![Joined::Text { text: whole, lines }],
    }
}

/// Whether a text is more than a log's.
fn says_more(text: &[u8]) -> bool {
    !matches!(Line::of(text), Line::Log)
}

/// Whether nobody is told of a text that is judged as it is.
fn names_nobody(text: &[u8]) -> bool {
    match Line::of(text) {
        Line::Log => true,
        Line::Broken(Broken { says, ids, .. }) => says == Says::Answers && ids.is_empty(),
        Line::Message(_) | Line::Mended(_) => false,
    }
}

#[cfg(test)]
#[path = "lines_tests.rs"]
mod tests;

//! What a line of a server's stdout is: a message, a message that is off, or its log. Decided here and nowhere else.
//!
//! A line goes through these rules, and the first that holds decides:
//!
//! | | what the line is | verdict |
//! | --- | --- | --- |
//! | 1 | a message of its members alone, that every client can read | [`Line::Message`] |
//! | 2 | one or more messages that are clear once mended, as the SDKs take them ([`Flaw`]), by themselves or behind a prompt; behind words, which may quote what the server was sent, answers only | [`Line::Mended`] |
//! | 3 | other text behind words | [`Line::Log`] |
//! | 4 | no `jsonrpc`, and either a member that no message has, or neither an answer with an id nor, in JSON, a `method` | [`Line::Log`] |
//! | 5 | a `method` | [`Says::Asks`], with an answer beside it [`Says::AsksAndAnswers`] |
//! | 6 | an id, or no answer | [`Says::Answers`]: the requests of its ids |
//! | 7 | an error -32700, which says that a request was not read | [`Says::AnswersOneOf`] |
//! | 8 | an error that names `notifications/` | [`Says::AnswersNotification`] |
//! | 9 | an error -32601: who has read the method of a request has read its id too, so that it answers a notification where one is open | [`Says::AnswersUnknownMethod`] |
//! | 10 | JSON | [`Says::AnswersOnly`]: it may answer a notification |
//! | 11 | not JSON, or too long to be kept ([`LongLine`]) | [`Says::AnswersOneOf`] |
//!
//! Rules 4 to 11 are `Broken::of`, and go by the `Sketch` of a text alone: what it says of itself at its top level, read
//! from the members of an object (`members`), from a text that is no JSON (`sketch`), or from a long line as it passes. A message
//! over several lines is put together before ([`MessageLines`], whose states `lines` draws).
//!
//! Invariants ([`Line::check_invariants`], for property tests and fuzzing):
//! - what is taken as a message is exact and on one line, and taken as the same message if it is read again;
//! - a log is never a message that can be read as it stands;
//! - a broken message names each id once, and each is one that a request can have.
//!
//! A message that comes out has the envelope's members and nothing else. The call that a broken message belongs to, and what is told
//! to whoever waits for it, is for the bridge.
//!
//! This module deliberately keeps no state but of a message that is not whole yet, and knows no request that is under way.

mod broken;
mod cleaned;
mod errors;
mod flaw;
mod invariants;
mod lines;
mod long;
mod members;
mod mended;
mod nesting;
mod sketch;
mod unreadable;

use std::borrow::Cow;
use std::sync::LazyLock;

use bytes::Bytes;
use memchr::memmem::Finder;
use serde_json::value::RawValue;

use self::broken::has_words;
pub use self::broken::{Broken, Says};
use self::cleaned::cleaned;
pub use self::errors::is_usual_error;
pub use self::flaw::Flaw;
pub use self::lines::{Joined, MAX_UNNAMED, MessageLines};
pub use self::long::LongLine;
use self::members::MessageMembers;
pub use self::mended::Mended;
pub use self::sketch::wrapped_number;
use self::sketch::{Sketch, sketch};
use self::unreadable::{unreadable, without_object};
use super::envelope::Envelope;
use super::portable::portable;

/// Most bytes of a line that are read to find a message in what is no JSON, in all: what is short is read as often as it may
/// be, what is long a few times. Objects that are JSON are read once each, and so is all that follows then.
const MIN_READ: usize = 256 << 10;

/// The verdict on a line of a server's stdout, or on several that are one message.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "nearly every line is a message, which is not to cost an allocation"
)]
pub enum Line<'a> {
    /// A message that goes on as it stands.
    Message(Envelope<'a>),
    /// Messages that could be made of the line, and what else is on it.
    Mended(Mended),
    /// A message of which nothing can be made.
    Broken(Broken),
    /// No message, and none in it.
    Log,
}

static VERSION: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("jsonrpc"));
static NAMES: LazyLock<[Finder<'static>; 4]> = LazyLock::new(|| {
    // A name may be written with escapes, which all begin so.
    ["result", "method", "error", "\\u00"].map(Finder::new)
});

impl<'a> Line<'a> {
    /// The verdict; the rules are those of its module.
    pub fn of(line: &'a [u8]) -> Self {
        if let Some(envelope) = Self::message(line) {
            return Self::Message(envelope);
        }
        // A text with none of the names needs no reading.
        let has_name = || NAMES.iter().any(|name| name.find(line).is_some());
        if VERSION.find(line).is_none() && (memchr::memchr(b'{', line).is_none() || !has_name()) {
            return Self::Log;
        }
        match mended(line) {
            Ok(mended) => Self::Mended(mended),
            Err(Some(broken)) => Self::Broken(broken),
            Err(None) => Self::Log,
        }
    }

    /// The message of a line whose verdict is [`Line::Message`].
    pub fn message(line: &'a [u8]) -> Option<Envelope<'a>> {
        // A line break is white space in JSON, and ends a line of an event stream.
        if memchr::memchr2(b'\r', b'\n', line).is_some() {
            return None;
        }
        let envelope = Envelope::parse(line).ok()?;
        is_usual(&envelope, line).then_some(envelope)
    }

    /// Whether a line says that it is JSON-RPC, as nearly all messages do and few logs.
    pub fn names_version(line: &[u8]) -> bool {
        VERSION.find(line).is_some()
    }

    /// Whether the verdict is [`Line::Log`], where a line does not say that it is JSON-RPC: that is found out at the cost of a
    /// look at most logs. `false` says nothing.
    pub fn is_plain_log(line: &[u8]) -> bool {
        !Self::names_version(line) && matches!(Line::of(line), Line::Log)
    }
}

/// Whether a message can go on as it stands: it is its members and nothing else, every client can read them,
/// and its result or error is one.
fn is_usual(envelope: &Envelope<'_>, line: &[u8]) -> bool {
    // Emoji that are escaped, in nearly all cases.
    let is_readable = || {
        let text = std::str::from_utf8(line);
        text.is_ok_and(|text| !matches!(portable(text), Ok(Cow::Owned(_))))
    };
    envelope.is_exact
        && (!envelope.is_doubtful || is_readable())
        // An error without an id (optional there since MCP 2025-11-25) does not say whose it is, as one with `null` does not.
        && envelope.id.map_or(envelope.error.is_none(), |id| id.get() != "null")
        && envelope.result.is_none_or(|it| it.get().starts_with('{'))
        && envelope.error.is_none_or(|it| is_usual_error(it.get()))
}

/// Makes messages of a line.
fn mended(line: &[u8]) -> Result<Mended, Option<Broken>> {
    let mut mended = Mended::default();
    let text = String::from_utf8_lossy(line);
    if matches!(text, Cow::Owned(_)) {
        mended.note(Flaw::Encoding);
    }
    let mut text = text.trim_ascii();
    if let Some(rest) = text.strip_prefix('\u{feff}') {
        mended.note(Flaw::ByteOrderMark);
        text = rest.trim_ascii();
    }
    if memchr::memchr(b'\n', text.as_bytes()).is_some() {
        mended.note(Flaw::Lines);
    }
    if text.starts_with('[') && mended.batch(text) {
        let has_several = !mended.messages.is_empty() || mended.broken.len() > 1;
        return match has_several {
            true => Ok(mended),
            false => Err(mended.broken.pop()),
        };
    }
    let mut failed: Option<Broken> = None;
    let (mut at, mut unread) = (0, MIN_READ.max(3 * text.len()));
    let mut start = Start::default();
    while let Some(offset) = memchr::memchr(b'{', &text.as_bytes()[at..]) {
        start.passes(&text[at..at + offset]);
        at += offset;
        let rest = &text[at..];
        let len = object_len(rest);
        // One that another follows is none of an object, and so is one that no name follows.
        let is_passed = rest[1..].starts_with('{') || start.is_brief && len == 1;
        if !is_passed {
            match mended.read_start(start, rest) {
                Ok(true) => return Ok(mended),
                Ok(false) => unread = unread.saturating_sub(len),
                Err(why) => {
                    // The rest was read for what is no JSON.
                    unread = unread.saturating_sub(rest.len());
                    let tells = |it: &Broken| !it.ids.is_empty();
                    let why = why.filter(|_| !start.is_behind_words);
                    // The first that looks like a message says best what is wrong.
                    if why.as_ref().map(tells) > failed.as_ref().map(tells) {
                        failed = why;
                    }
                    // What is within it is a part of it, wherever it ends.
                    if len == 1 && sketch(rest, 1).is_of_message() {
                        return Err(failed);
                    }
                }
            }
        }
        start.is_brief |= unread == 0;
        start.passes(&text[at..at + len]);
        at += len;
    }
    let or_else = || match start.is_brief && !has_words(text.split('{').next().unwrap_or(text)) {
        true => beyond(text),
        false => without_object(text),
    };
    Err(failed.or_else(or_else))
}

/// What is known of the place at which a message is looked for.
#[derive(Debug, Default, Clone, Copy)]
struct Start {
    /// Something stands before it.
    is_behind: bool,
    /// There are words in that. Broken text behind them is no answer.
    is_behind_words: bool,
    /// As much was read as may be: what is no JSON is not looked at any more.
    is_brief: bool,
}

impl Start {
    /// Notes text that stands before the next message.
    fn passes(&mut self, text: &str) {
        self.is_behind |= !text.trim_ascii().is_empty();
        self.is_behind_words = self.is_behind_words || has_words(text);
    }
}

/// How much of a text that begins with a brace is one object: what is within it is a part of it, whatever is wrong with
/// it. A brace that no name follows is one for itself.
fn object_len(text: &str) -> usize {
    let inner = text[1..].trim_ascii_start();
    match inner.starts_with(['"', '}']) {
        true => cleaned(text).len,
        false => 1,
    }
}

impl Mended {
    /// The messages of an array; false if it is none.
    fn batch(&mut self, text: &str) -> bool {
        let read = cleaned(text);
        let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(&read.text) else {
            return false;
        };
        if items.is_empty() || read.len < text.len() {
            return false;
        }
        for item in items {
            match self.message(item.get()) {
                Some(Ok(message)) => self.messages.push(message),
                // One that is lost takes no other with it.
                Some(Err(why)) => self.broken.extend(why),
                None => {}
            }
        }
        if !self.messages.is_empty() {
            // Of the whole line, and so before what is off in a part of it.
            let of_parts = std::mem::take(&mut self.flaws);
            self.note(Flaw::Batch);
            for flaw in read.flaws().chain(of_parts) {
                self.note(flaw);
            }
        } else {
            self.flaws.clear();
        }
        true
    }

    /// The messages that begin at the start of `rest`; false if there are none.
    fn read_start(&mut self, start: Start, mut rest: &str) -> Result<bool, Option<Broken>> {
        // A prompt says nothing. A line with words in it may quote what the server was sent, and only an answer
        // is taken from there. A message behind a sign may do so too: of a request, it has to be one that servers make.
        let (quotes, is_behind) = (start.is_behind_words, start.is_behind);
        if is_behind {
            self.note(Flaw::Surrounded);
        }
        loop {
            let read = cleaned(rest);
            for flaw in read.flaws() {
                self.note(flaw);
            }
            let message = self.message(&read.text);
            let unread = || match start.is_brief {
                true => Err(None),
                false => Err(broken_text(rest)),
            };
            let message = match message.unwrap_or_else(unread) {
                Ok(message) => message,
                // Messages that came before it are taken still.
                Err(why) if !self.messages.is_empty() => {
                    self.broken.extend(why);
                    return Ok(true);
                }
                Err(why) => {
                    self.flaws.clear();
                    return Err(why);
                }
            };
            let is_taken = !is_behind || is_of_server(&message, quotes);
            if !is_taken {
                self.flaws.clear();
                return Ok(false);
            }
            self.messages.push(message);
            rest = rest[read.len..].trim_ascii();
            if rest.is_empty() {
                return Ok(true);
            }
            self.note(Flaw::Surrounded);
            if quotes || !rest.starts_with('{') {
                return Ok(true);
            }
        }
    }

    /// The message that an object is; `None` if the text is no object.
    fn message(&mut self, object: &str) -> Option<Result<Bytes, Option<Broken>>> {
        let found = MessageMembers::read(object, self)?;
        Some(found.message(self))
    }
}

/// Requests that only servers make. Both sides ping.
const OF_SERVERS: [&str; 3] = ["sampling/createMessage", "elicitation/create", "roots/list"];

/// Whether a message that is not alone on its line may be the server's own: an answer, or behind a sign without words also
/// what only servers say.
fn is_of_server(message: &[u8], is_behind_words: bool) -> bool {
    Envelope::parse(message).is_ok_and(|envelope| match envelope.method.as_deref() {
        None => true,
        Some(_) if is_behind_words => false,
        Some(method) => envelope.id.is_none() || OF_SERVERS.contains(&method),
    })
}

/// What a text may be of which not all could be looked at.
fn beyond(text: &str) -> Option<Broken> {
    let is_there = |name: &[u8]| memchr::memmem::find(text.as_bytes(), name).is_some();
    let sketch = Sketch {
        has_version: is_there(b"jsonrpc"),
        has_answer: is_there(b"result") || is_there(b"error"),
        ..Sketch::default()
    };
    Broken::of(sketch, Flaw::Syntax, None)
}

/// What a text is that is no JSON from its first brace on.
fn broken_text(text: &str) -> Option<Broken> {
    Broken::of(unreadable(text), Flaw::Syntax, None)
}

#[cfg(test)]
mod tests;

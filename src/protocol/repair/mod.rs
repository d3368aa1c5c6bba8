//! Messages of workers that are slightly off: what is unambiguous is taken, as the SDKs take it.
//!
//! Only what the strict reader does not accept as it is comes here. What comes out is a message of the envelope's
//! members and nothing else, or what could be found out about one that nothing can be made of: its
//! id, so that whoever waits for it need not wait until a time-out.

mod cleaned;
mod errors;
mod flaw;
mod lines;
mod members;
mod outcome;
mod sketch;
mod unreadable;

use std::borrow::Cow;
use std::sync::LazyLock;

use bytes::Bytes;
use memchr::memmem::Finder;
use serde_json::value::RawValue;

use self::cleaned::cleaned;
pub use self::errors::is_usual_error;
pub use self::flaw::Flaw;
pub use self::lines::{Joined, MAX_JOINED, MessageLines};
use self::members::Found;
use self::outcome::has_words;
pub use self::outcome::{Mended, Unmendable};
use self::sketch::sketch;
pub use self::sketch::wrapped_number;
use self::unreadable::{unreadable, without_object};
use super::envelope::Envelope;

/// Most places of a line at which a message is looked for.
const MAX_STARTS: usize = 16;
/// Most bytes that are read for that, in all: what is short is read as often as it may be, what is long a few times.
const MIN_READ: usize = 64 << 10;

/// Whether a line is no message and has none in it, as a worker's log has many. True only where [`Envelope::parse`] and
/// [`mended`] make nothing of it, and the latter says that it is none.
pub fn is_noise(line: &[u8]) -> bool {
    static VERSION: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("jsonrpc"));
    static NAMES: LazyLock<[Finder<'static>; 4]> = LazyLock::new(|| {
        // A name may be written with escapes, which all begin so.
        ["result", "method", "error", "\\u00"].map(Finder::new)
    });
    if VERSION.find(line).is_some() {
        return false;
    }
    // What has none of the names needs no reading.
    let has_name = || NAMES.iter().any(|name| name.find(line).is_some());
    memchr::memchr(b'{', line).is_none()
        || !has_name()
        || mended(line).is_err_and(|why| !why.is_message)
}

/// Makes messages of a worker's line.
///
/// # Errors
/// [`Unmendable`] when nothing can be made of it, or of a part of it.
pub fn mended(line: &[u8]) -> Result<Mended, Unmendable> {
    let mut mended = Mended {
        messages: vec![],
        flaws: vec![],
        lost: vec![],
    };
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
        mended.lost.retain(|why| why.is_message);
        if !mended.messages.is_empty() || mended.lost.len() > 1 {
            return Ok(mended);
        }
        // Nothing else is in it.
        let only = mended.lost.pop();
        return Err(only.unwrap_or(Unmendable::noise(Flaw::Shape)));
    }
    let mut failed = Unmendable::noise(Flaw::Syntax);
    let (mut at, mut unread) = (0, MIN_READ.max(3 * text.len()));
    for _ in 0..MAX_STARTS {
        let Some(start) = memchr::memchr(b'{', &text.as_bytes()[at..]) else {
            break;
        };
        let (before, rest) = text.split_at(at + start);
        let Some(left) = unread.checked_sub(rest.len()) else {
            break;
        };
        unread = left;
        match mended.read_start(before, rest) {
            Ok(true) => return Ok(mended),
            Ok(false) => {}
            Err(why) => {
                let is_whole = object_len(rest) > 1 || !sketch(rest, 1).is_of_message();
                let why = why.behind_words(has_words(before));
                // The first that looks like a message says best what is wrong.
                if why.tells_more_than(&failed) {
                    failed = why;
                }
                // What is within it is a part of it, wherever it ends.
                if !is_whole {
                    return Err(failed);
                }
            }
        }
        at += start + object_len(rest);
    }
    Err(without_object(text)
        .filter(|_| !failed.is_message)
        .unwrap_or(failed))
}

/// How much of a text that begins with a brace is one object: what is within it is a part of it, whatever is wrong with
/// it. A brace that no name follows is one for itself.
fn object_len(text: &str) -> usize {
    let inner = text[1..].trim_ascii_start();
    match inner.starts_with('"') {
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
                Some(Err(why)) => self.lost.push(why),
                None => self.lost.push(Unmendable::noise(Flaw::Shape)),
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
    fn read_start(&mut self, before: &str, mut rest: &str) -> Result<bool, Unmendable> {
        // A prompt says nothing. What has words in it may quote what it was sent, and only an answer is
        // taken from there. What has a sign before it only may do so too: of a request, it has to be one that servers make.
        let quotes = has_words(before);
        let is_behind = !before.trim_ascii().is_empty();
        if is_behind {
            self.note(Flaw::Surrounded);
        }
        loop {
            let read = cleaned(rest);
            for flaw in read.flaws() {
                self.note(flaw);
            }
            let message = self.message(&read.text);
            let message = match message.unwrap_or_else(|| Err(unreadable(rest))) {
                Ok(message) => message,
                // What came before it is taken all the same.
                Err(why) if !self.messages.is_empty() => {
                    self.lost.extend(Some(why).filter(|why| why.is_message));
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
    fn message(&mut self, object: &str) -> Option<Result<Bytes, Unmendable>> {
        let found = Found::read(object, self)?;
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

#[cfg(test)]
mod tests;

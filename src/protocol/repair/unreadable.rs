//! What can be found out about a text that is no JSON: whose it may be, and what it would be.

use super::broken::{Broken, has_words};
use super::flaw::Flaw;
use super::members::is_id;
use super::sketch::{Sketch, sketch};
use crate::protocol::id_scanner::{IdScanner, MAX_ID_LEN, Scanned};

/// What a text says that is no JSON from its first brace on.
pub(super) fn unreadable(text: &str) -> Sketch {
    let mut scanner = IdScanner::new();
    scanner.feed(text.as_bytes());
    let mut found = with_scanned(text, scanner.finish());
    // A quote or a bracket too many hides what follows it.
    if found.has_version && found.ids.is_empty() && !is_cut_off(text) {
        found.ids.extend(last_id(text));
    }
    found
}

/// What a text says of which the scanner has seen all, and more than the text where that is only a beginning.
pub(super) fn with_scanned(text: &str, scanned: Scanned) -> Sketch {
    let mut found = sketch(text, 1);
    found.has_version |= memchr::memmem::find(text.as_bytes(), b"\"jsonrpc\"").is_some();
    found.has_method |= scanned.has_method;
    found.has_answer |= scanned.has_answer;
    if found.ids.is_empty() {
        // The scan knows escapes, and ids that are no numbers.
        found.ids = scanned.ids;
        found.ids.retain(|id| id != "null");
    }
    if found.ids.is_empty() && found.has_version {
        found.ids = std::mem::take(&mut found.near_ids);
    }
    found
}

/// The message in a text that is no object: one that lost its brace, that is printed as a call is written, or that
/// stands in a string. `None` if it is nothing of that.
pub(super) fn without_object(text: &str) -> Option<Broken> {
    memchr::memmem::find(text.as_bytes(), b"jsonrpc")?;
    let in_string: Option<String> = match text.starts_with('"') {
        true => serde_json::from_str(text).ok(),
        false => None,
    };
    let (found, is_there) = match in_string {
        Some(text) => {
            let found = sketch(&text, 1);
            let is_there = found.has_answer;
            (found, is_there)
        }
        None => {
            let found = sketch(text, 0);
            // The first name of an object may have lost its quote as well.
            let start = text.trim_start_matches(|c: char| !c.is_alphanumeric());
            let is_behind_words =
                !start.starts_with("jsonrpc") && has_words(text.split('"').next()?);
            // A line of a message that is printed over several says nothing by itself.
            let is_there = (found.has_answer || !found.ids.is_empty()) && !is_behind_words;
            (found, is_there)
        }
    };
    let is_message = found.has_version && is_there;
    is_message.then(|| Broken::of(found, Flaw::Syntax, None))?
}

/// Whether a text is JSON as far as it goes.
fn is_cut_off(text: &str) -> bool {
    serde_json::from_str::<serde::de::IgnoredAny>(text).is_err_and(|error| error.is_eof())
}

/// The id where it is the last member of a text. Names have quotes that nothing escapes, which no text within a string
/// has.
fn last_id(text: &str) -> Option<String> {
    let members = text.trim_ascii_end().strip_suffix('}')?.trim_ascii_end();
    let at = members.rfind("\"id\"")?;
    let (before, last) = members.split_at(at);
    let id = last["\"id\"".len()..]
        .trim_ascii_start()
        .strip_prefix(':')?;
    let id = id.trim_ascii();
    let is_json = || serde_json::from_str::<serde::de::IgnoredAny>(id).is_ok();
    let is_plain = !before.ends_with('\\') && id.len() <= MAX_ID_LEN && is_id(id);
    (is_plain && is_json()).then(|| id.to_owned())
}

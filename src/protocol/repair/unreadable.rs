//! What can be found out about a text that is no JSON: whose it may be, and what it would be.

use super::flaw::Flaw;
use super::members::is_id;
use super::outcome::{Unmendable, has_words};
use super::sketch::{Sketch, sketch};
use crate::protocol::id_scanner::{IdScanner, MAX_ID_LEN};

/// What is wrong with a text that is no JSON from its first brace on.
pub(super) fn unreadable(text: &str) -> Unmendable {
    let mut scanner = IdScanner::new();
    scanner.feed(text.as_bytes());
    let scanned = scanner.finish();
    let sketch = sketch(text, 1);
    let names_version = memchr::memmem::find(text.as_bytes(), b"\"jsonrpc\"").is_some();
    let is_message = names_version || sketch.is_of_message();
    let has_other_id = sketch.has_other_id;
    let mut ids = sketch.ids;
    if ids.is_empty() {
        // It knows escapes, and ids that are no numbers.
        ids = scanned.ids;
        ids.retain(|id| id != "null");
    }
    if ids.is_empty() {
        ids = sketch.near_ids;
    }
    // A quote or a bracket too many hides what follows it.
    if ids.is_empty() && !is_cut_off(text) {
        ids.extend(last_id(text));
    }
    Unmendable {
        is_message,
        has_version: names_version || sketch.has_version,
        has_id: has_other_id || !ids.is_empty(),
        ids,
        has_method: scanned.has_method || sketch.has_method,
        has_answer: scanned.has_answer || sketch.has_answer,
        ..Unmendable::noise(Flaw::Syntax)
    }
}

/// What is known of a text that is no object: one that lost its brace, that is printed as a call is written, or that
/// stands in a string. `None` if it is nothing of that.
pub(super) fn without_object(text: &str) -> Option<Unmendable> {
    memchr::memmem::find(text.as_bytes(), b"jsonrpc")?;
    let of = |sketch: Sketch| Unmendable {
        is_message: true,
        has_version: true,
        has_id: sketch.has_other_id || !sketch.ids.is_empty(),
        ids: sketch.ids,
        has_method: sketch.has_method,
        has_answer: sketch.has_answer,
        ..Unmendable::noise(Flaw::Syntax)
    };
    let in_string: Option<String> = match text.starts_with('"') {
        true => serde_json::from_str(text).ok(),
        false => None,
    };
    if let Some(text) = in_string {
        let found = sketch(&text, 1);
        return (found.has_version && found.has_answer).then(|| of(found));
    }
    let found = sketch(text, 0);
    // A line of a message that is printed over several says nothing by itself.
    let is_there = found.has_version && (found.has_answer || !found.ids.is_empty());
    // Its first name may have lost its quote as well.
    let start = text.trim_start_matches(|c: char| !c.is_alphanumeric());
    let is_behind_words = !start.starts_with("jsonrpc") && has_words(text.split('"').next()?);
    is_there.then(|| of(found).behind_words(is_behind_words))
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

//! How long an overview may become.

use serde::Serialize;

use crate::escape;

/// Bytes of an overview as JSON, at the most.
pub const MAX_BYTES: usize = 64 << 10;

/// Bytes of the lists, each at the most; what is left of [`MAX_BYTES`] is for what is no list.
pub(super) const RANKED: usize = 12 << 10;
pub(super) const EVENTS: usize = 8 << 10;
pub(super) const CIRCUITS: usize = 4 << 10;
pub(super) const REJECTIONS: usize = 5 << 10;
pub(super) const INSTALLS: usize = 1_536;
pub(super) const GRANTS: usize = 2 << 10;

/// Longest text in a row, in bytes.
pub(super) const MAX_TEXT: usize = 300;

/// The text, or as much of it as is shown.
pub(super) fn cut(text: &str) -> String {
    if text.len() <= MAX_TEXT {
        return text.to_owned();
    }
    let mut end = MAX_TEXT - '…'.len_utf8();
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

/// The first of the rows that have so many bytes together, as they are sent.
pub(super) fn fitting<T: Serialize>(rows: impl IntoIterator<Item = T>, bytes: usize) -> Vec<T> {
    let mut left = bytes;
    let fits = |row: &T| {
        let json = serde_json::to_string(row).expect("rows have string keys only");
        // With its comma.
        let long = escape::in_json(&json).len() + 1;
        let fits = long <= left;
        left = left.saturating_sub(long);
        fits
    };
    rows.into_iter().take_while(fits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stop_where_there_is_no_room_as_they_are_sent() {
        assert_eq!(fitting(["abc", "d", "e"], 6 + 4), ["abc", "d"]);
        // Six bytes for each of these.
        assert_eq!(fitting(["\u{1b}\u{1b}", "d"], 15), ["\u{1b}\u{1b}"]);
        assert!(fitting(["\u{1b}\u{1b}", "d"], 14).is_empty());
        let long = "ü".repeat(MAX_TEXT);
        assert!(cut(&long).len() <= MAX_TEXT && cut(&long).ends_with("ü…"));
        assert_eq!(cut("short"), "short");
    }
}

//! Foreign text, made fit for a screen.

use std::fmt;

use crate::escape;

/// Most characters of one text that are shown. A server may put thousands of combining marks into one cell of the screen.
const MAX_CHARS: usize = 2_000;

/// Text of strangers (names, errors, what servers write) as a screen may have it: on one line, of a bounded length, and with
/// nothing in it that acts on a terminal. All foreign text that the view shows is of this type.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub(super) struct Clean(String);

impl Clean {
    /// `text` as [`escape::for_log`] writes it, its tabs as four spaces.
    pub(super) fn of(text: &str) -> Self {
        let cut: String = text.chars().take(MAX_CHARS).collect();
        let is_cut = cut.len() < text.len();
        let spaced = cut.replace('\t', "    ");
        let mut shown = escape::for_log(&spaced).into_owned();
        if is_cut || shown.chars().count() > MAX_CHARS {
            shown = shown.chars().take(MAX_CHARS - 1).collect();
            shown.push('…');
        }
        Self(shown)
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Clean {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_of_a_server_is_shown_and_not_obeyed() {
        let clean = |text: &str| Clean::of(text).to_string();
        assert_eq!(clean("a\tb"), "a    b");
        assert_eq!(clean("\x1b[2Jx\r\u{9b}1m"), r"\x1b[2Jx\r\x9b1m");
        assert_eq!(clean("gpj\u{202e}txt"), r"gpj\u{202e}txt");
        assert_eq!(clean(&"e\u{301}".repeat(9_999)).chars().count(), MAX_CHARS);
        assert_eq!(clean(&"\x1b".repeat(9_999)).chars().count(), MAX_CHARS);
        assert!(clean(&"x".repeat(MAX_CHARS)).ends_with("xx"));
    }

    proptest! {
        #[test]
        fn nothing_that_acts_is_left_and_the_length_is_bounded(text in any::<String>()) {
            let clean = Clean::of(&text);
            prop_assert!(!clean.as_str().contains(escape::acts));
            prop_assert!(clean.as_str().chars().count() <= MAX_CHARS);
        }
    }
}

//! Lines that are put together piece by piece.

use ratatui::text::{Line, Span};

use super::super::theme::{Theme, Tone};

/// A line under way.
#[derive(Debug)]
pub(super) struct Pieces {
    theme: Theme,
    spans: Vec<Span<'static>>,
}

impl Pieces {
    pub(super) fn new(theme: Theme) -> Self {
        Self {
            theme,
            spans: vec![],
        }
    }

    /// A line that begins with what it is about.
    pub(super) fn about(theme: Theme, label: &str) -> Self {
        Self::new(theme).add(Tone::Label, format!("{label:<10}"))
    }

    pub(super) fn add(mut self, tone: Tone, text: impl Into<String>) -> Self {
        self.spans
            .push(Span::styled(text.into(), self.theme.style(tone)));
        self
    }

    pub(super) fn plain(self, text: impl Into<String>) -> Self {
        self.add(Tone::Plain, text)
    }

    pub(super) fn line(self) -> Line<'static> {
        Line::from(self.spans)
    }
}

/// A bar of that many characters for a part of a whole; full beyond it.
pub(super) fn bar(part: u64, whole: u64, width: u16) -> String {
    let width = u128::from(width);
    let filled = match whole {
        0 => 0,
        whole => (u128::from(part) * width)
            .div_ceil(u128::from(whole))
            .min(width),
    };
    (0..width)
        .map(|at| if at < filled { '|' } else { ' ' })
        .collect()
}

/// The text in pieces of up to `width` columns, for a screen that is that wide; one piece for an empty text.
pub(super) fn wrapped(text: &str, width: usize) -> Vec<&str> {
    let (mut pieces, mut begin, mut used) = (vec![], 0, 0);
    for (at, c) in text.char_indices() {
        let wide = Span::raw(&*c.encode_utf8(&mut [0; 4])).width();
        if used + wide > width && at > begin {
            pieces.push(&text[begin..at]);
            (begin, used) = (at, 0);
        }
        used += wide;
    }
    pieces.push(&text[begin..]);
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_shows_how_much_of_it_is_used() {
        assert_eq!(bar(0, 4, 4), "    ");
        assert_eq!(bar(1, 1000, 4), "|   ", "a little is seen");
        assert_eq!(bar(9, 4, 4), "||||");
        assert_eq!(bar(1, 0, 2), "  ");
        assert_eq!(bar(u64::MAX, u64::MAX, 3), "|||");
    }

    #[test]
    fn long_text_goes_on_in_the_next_line() {
        assert_eq!(wrapped("", 4), [""]);
        assert_eq!(wrapped("abcdefghi", 4), ["abcd", "efgh", "i"]);
        assert_eq!(wrapped("日本語", 4), ["日本", "語"]);
        assert_eq!(wrapped("ab", 0), ["a", "b"], "it ends");
    }
}

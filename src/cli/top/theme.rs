//! How things look: the terminal's own sixteen colours, which fit light and dark, or none of them.

use ratatui::style::{Color, Modifier, Style};

/// Whether there are colours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Theme {
    has_colours: bool,
}

/// What is said by how something looks. What matters is said in words too.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Tone {
    Plain,
    /// Names of what is shown.
    Label,
    Heading,
    /// Works.
    Good,
    /// On its way.
    Changing,
    /// Has nothing to do.
    Quiet,
    /// Needs attention.
    Bad,
    /// The row that keys are about.
    Selected,
}

impl Theme {
    /// With colours unless the variable `NO_COLOR` is there and not empty (<https://no-color.org>).
    pub(super) fn of_environment() -> Self {
        let no_colour = std::env::var_os("NO_COLOR");
        Self::new(no_colour.is_none_or(|it| it.is_empty()))
    }

    pub(super) fn new(has_colours: bool) -> Self {
        Self { has_colours }
    }

    pub(super) fn style(self, tone: Tone) -> Style {
        let (colour, modifier) = match tone {
            Tone::Plain => (None, Modifier::empty()),
            Tone::Label => (Some(Color::Cyan), Modifier::empty()),
            Tone::Heading => (None, Modifier::BOLD),
            Tone::Good => (Some(Color::Green), Modifier::empty()),
            Tone::Changing => (Some(Color::Yellow), Modifier::empty()),
            Tone::Quiet => (None, Modifier::DIM),
            Tone::Bad => (Some(Color::Red), Modifier::BOLD),
            Tone::Selected => (None, Modifier::REVERSED),
        };
        let style = Style::new().add_modifier(modifier);
        match colour.filter(|_| self.has_colours) {
            Some(colour) => style.fg(colour),
            None => style,
        }
    }
}

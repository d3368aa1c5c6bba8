//! Keys, as the model knows them.

use ratatui::crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// A key that was pressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Key {
    /// A character.
    Char(char),
    /// A character with the control key.
    Ctrl(char),
    Enter,
    Escape,
    Backspace,
    Tab,
    BackTab,
    Up,
    Down,
    Left,
    Right,
    PageUp,
    PageDown,
    Home,
    End,
}

/// What the terminal has to say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Input {
    /// A key.
    Key(Key),
    /// Text that was pasted, which is never taken for keys.
    Pasted(String),
    /// The terminal has another size now: so many rows.
    Resized(u16),
}

impl Input {
    /// An event of the terminal; `None` for one that means nothing here.
    pub(super) fn of(event: Event) -> Option<Self> {
        match event {
            Event::Key(key) => Key::of(key).map(Self::Key),
            Event::Paste(text) => Some(Self::Pasted(text)),
            Event::Resize(_, rows) => Some(Self::Resized(rows)),
            Event::FocusGained | Event::FocusLost | Event::Mouse(_) => None,
        }
    }
}

impl Key {
    fn of(event: KeyEvent) -> Option<Self> {
        if event.kind == KeyEventKind::Release {
            return None;
        }
        let has = |modifier| event.modifiers.contains(modifier);
        Some(match event.code {
            KeyCode::Char(c) if has(KeyModifiers::CONTROL) => Self::Ctrl(c.to_ascii_lowercase()),
            KeyCode::Char(_) if has(KeyModifiers::ALT) => return None,
            KeyCode::Char(c) => Self::Char(c),
            KeyCode::Enter => Self::Enter,
            KeyCode::Esc => Self::Escape,
            KeyCode::Backspace => Self::Backspace,
            KeyCode::Tab => Self::Tab,
            KeyCode::BackTab => Self::BackTab,
            KeyCode::Up => Self::Up,
            KeyCode::Down => Self::Down,
            KeyCode::Left => Self::Left,
            KeyCode::Right => Self::Right,
            KeyCode::PageUp => Self::PageUp,
            KeyCode::PageDown => Self::PageDown,
            KeyCode::Home => Self::Home,
            KeyCode::End => Self::End,
            _ => return None,
        })
    }
}

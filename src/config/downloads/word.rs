//! Words of a command line, and of scripts in it.

use super::super::template::{Piece, Template};

/// Stands in a text for what is known at a start only; no template may hold it.
const OPEN: char = '\0';

/// A word of a command line, as far as it is known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Word {
    text: String,
    /// Whether the word is there only for some tenants.
    is_conditional: bool,
}

impl Word {
    /// A word that is known.
    pub fn known(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            is_conditional: false,
        }
    }

    /// An argument as it is written; a conditional one is there only for some.
    pub fn written(template: &Template, is_conditional: bool) -> Self {
        Self {
            text: text_of(template),
            is_conditional,
        }
    }

    /// The part of the word that is known.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Whether the word is alike for all tenants.
    pub(super) fn is_fixed(&self) -> bool {
        !self.is_conditional && !self.text.contains(OPEN)
    }

    /// The word's last part, if it is the path of a program.
    pub(super) fn program(&self) -> &str {
        self.text.rsplit('/').next().unwrap_or_default()
    }

    /// A part of it.
    pub(super) fn part(&self, text: &str) -> Self {
        Self {
            text: text.to_owned(),
            is_conditional: self.is_conditional,
        }
    }

    /// Whether the word may have several words in it, as a shell's script has.
    pub(super) fn is_script(&self) -> bool {
        self.text.contains(char::is_whitespace)
    }

    /// A word of which nothing is known.
    pub(super) fn open() -> Self {
        Self {
            text: OPEN.to_string(),
            is_conditional: false,
        }
    }

    /// The names, flags and values in it, read as the code of any language: what stands between signs that are in none of
    /// those, and whether the sign before is a quote.
    pub(super) fn tokens(&self) -> Vec<(Self, bool)> {
        let is_inside = |c: char| c.is_ascii_alphanumeric() || "_-./@:=~+\0".contains(c);
        let mut tokens = Vec::new();
        let mut before = ' ';
        for piece in self.text.split_inclusive(|c| !is_inside(c)) {
            let token = piece.trim_end_matches(|c| !is_inside(c));
            if !token.is_empty() {
                tokens.push((self.part(token), matches!(before, '\'' | '"' | '`')));
            }
            before = piece.chars().next_back().unwrap_or(' ');
        }
        tokens
    }

    /// The commands in it, read as a shell reads a script: words between blanks, with quotes taken off; commands between
    /// `;`, `&`, `|`, brackets and the ends of lines.
    pub(super) fn commands(&self) -> Vec<Vec<Self>> {
        let mut script = Script::default();
        let mut letters = self.text.chars().peekable();
        while let Some(letter) = letters.next() {
            match letter {
                '\'' => script.quoted(letters.by_ref().take_while(|it| *it != '\'')),
                '"' => {
                    let mut inside = String::new();
                    while let Some(letter) = letters.next().filter(|it| *it != '"') {
                        match letter {
                            '\\' => inside.extend(letters.next()),
                            other => inside.push(other),
                        }
                    }
                    script.quoted(inside.chars());
                }
                '\\' => match letters.next() {
                    Some('\n') | None => {}
                    Some(letter) => script.quoted(std::iter::once(letter)),
                },
                '#' if script.word.is_none() => {
                    while letters.next_if(|it| *it != '\n').is_some() {}
                }
                ';' | '&' | '|' | '(' | ')' | '`' | '\n' => script.end_command(),
                blank if blank.is_whitespace() => script.end_word(),
                other => script.quoted(std::iter::once(other)),
            }
        }
        script.end_command();
        let commands = script.commands.into_iter();
        let words = |texts: Vec<String>| texts.iter().map(|text| self.part(text)).collect();
        commands.map(words).collect()
    }
}

/// Commands of a script that have been read.
#[derive(Default)]
struct Script {
    commands: Vec<Vec<String>>,
    command: Vec<String>,
    word: Option<String>,
}

impl Script {
    fn quoted(&mut self, letters: impl Iterator<Item = char>) {
        self.word.get_or_insert_default().extend(letters);
    }

    fn end_word(&mut self) {
        self.command.extend(self.word.take());
    }

    fn end_command(&mut self) {
        self.end_word();
        let command = std::mem::take(&mut self.command);
        if !command.is_empty() {
            self.commands.push(command);
        }
    }
}

fn text_of(template: &Template) -> String {
    let mut text = String::new();
    for piece in template.pieces() {
        match piece {
            Piece::Literal(literal) => text.push_str(literal),
            Piece::Value { .. } => text.push(OPEN),
        }
    }
    text
}

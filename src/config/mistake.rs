//! What is wrong with a pool.toml: where, what, and what is allowed.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::PathBuf;

use super::command_line_error::CommandLineError;

/// A mistake in a pool.toml, with its place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mistake {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// What is wrong, with the offending value and what is allowed.
    pub message: String,
    /// The line's text; `None` where it is not to be shown.
    source: Option<String>,
    /// How many characters are meant.
    width: usize,
}

impl Mistake {
    /// A mistake at `span`, a range of bytes in `text`.
    pub(super) fn new(text: &str, span: Range<usize>, message: String) -> Self {
        let mut start = span.start.min(text.len());
        while !text.is_char_boundary(start) {
            start -= 1;
        }
        let before = &text[..start];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let mut end = span.end.clamp(start, line_end.max(start));
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        Self {
            line: before.matches('\n').count() + 1,
            column: text[line_start..start].chars().count() + 1,
            message,
            source: Some(text[line_start..line_end].trim_end_matches('\r').to_owned()),
            width: text[start..end].chars().count().max(1),
        }
    }

    /// Whether the quoted line has something of that range of `text` in it.
    pub(super) fn quotes(&self, text: &str, range: &Range<usize>) -> bool {
        let line_of = |at: usize| {
            text.as_bytes()[..at.min(text.len())]
                .iter()
                .filter(|byte| **byte == b'\n')
                .count()
                + 1
        };
        (line_of(range.start)..=line_of(range.end)).contains(&self.line)
    }

    /// Whether the quoted line has one of these words in it.
    pub(super) fn mentions(&self, words: &[&str]) -> bool {
        let source = self.source.as_deref().unwrap_or_default();
        words.iter().any(|word| source.contains(word))
    }

    /// The mistake without the line's text.
    pub(super) fn unquoted(self) -> Self {
        Self {
            source: None,
            ..self
        }
    }
}

/// An oddity with which the file can be used: `check` and whoever puts the file in force say so, and go on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Warning {
    /// The line of pool.toml that it is about, from 1; none where no line says it.
    pub line: Option<usize>,
    /// What is odd, and what to do.
    pub message: String,
}

impl Warning {
    /// The mistake with its place in that file, for people.
    pub fn placed(&self, file: &str) -> String {
        placed(file, self.line, &self.message)
    }
}

/// A message about a line of a file, or about the file.
pub fn placed(file: &str, line: Option<usize>, message: &str) -> String {
    match line {
        Some(line) => format!("{file}:{line}: {message}"),
        None => format!("{file}: {message}"),
    }
}

/// Everything that is wrong with a config.
#[derive(Debug, thiserror::Error)]
pub enum ConfigErrors {
    /// The file cannot be read.
    #[error("cannot read {}: {source}{}", path.display(), hint(.source))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file can be read, but not used.
    #[error(transparent)]
    Mistakes(#[from] Mistakes),
    /// The words of the command that is hosted without a file are not what they must be.
    #[error(transparent)]
    CommandLine(#[from] CommandLineError),
}

fn hint(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::NotFound {
        "; name another with --config, or host one command with `stdiopool serve -- COMMAND`"
    } else {
        ""
    }
}

/// The mistakes of one file, in its order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mistakes {
    /// The file, as it was named.
    pub file: String,
    /// The mistakes, at least one.
    pub mistakes: Vec<Mistake>,
}

impl std::error::Error for Mistakes {}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, mistake) in self.mistakes.iter().enumerate() {
            let Mistake {
                line,
                column,
                message,
                source,
                width,
            } = mistake;
            if n > 0 {
                writeln!(f)?;
            }
            write!(f, "{}:{line}:{column}: {message}", self.file)?;
            let Some(source) = source else { continue };
            let number = line.to_string();
            let margin = " ".repeat(number.len());
            // Tabs are kept, so that the caret stands below what it means.
            let indent: String = source
                .chars()
                .take(column - 1)
                .map(|c| if c == '\t' { '\t' } else { ' ' })
                .collect();
            write!(f, "\n  {number} | {source}")?;
            write!(f, "\n  {margin} | {indent}{}", "^".repeat(*width))?;
        }
        Ok(())
    }
}

/// The known word that is most like `word`, if any is like it.
pub fn similar<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (word.chars().count() / 3).min(3);
    known
        .into_iter()
        .map(|candidate| (strsim::osa_distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_is_recognised() {
        let known = ["max_workers", "max_starting", "queue_limit"];
        assert_eq!(similar("max_worker", known), Some("max_workers"));
        assert_eq!(similar("mxa_workers", known), Some("max_workers"));
        assert_eq!(similar("colour", known), None);
    }

    #[test]
    fn a_mistake_points_at_its_place() {
        let text = "a = 1\n\tb = \"é\" # x\n";
        let at = text.find('"').expect("there");
        let mistake = Mistake::new(text, at..at + 4, "wrong".into());
        let mistakes = Mistakes {
            file: "pool.toml".into(),
            mistakes: vec![mistake],
        };
        assert_eq!(
            mistakes.to_string(),
            "pool.toml:2:6: wrong\n  2 | \tb = \"é\" # x\n    | \t    ^^^"
        );
        // Spans that are not what they should be do not panic.
        let backwards = std::ops::Range { start: 12, end: 3 };
        for span in [0..0, 500..600, 8..12, backwards] {
            let _no_panic = Mistake::new(text, span, String::new());
        }
    }
}

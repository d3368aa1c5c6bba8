//! What is gathered while a file is read: mistakes and warnings with their places, and what each key means.

use std::ops::Range;

use serde_json::Value;

use super::lines::{line_at, line_ends};
use super::mistake::{Mistake, Warning};

/// A key as it is documented.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct KeyDoc {
    /// The key's dotted path: `servers.*.command`.
    pub(super) path: String,
    /// JSON Schema of its value.
    pub(super) schema: Value,
    /// The default as it would be written, if there is one.
    pub(super) default: Option<String>,
    /// The key's meaning, for docs/config.md.
    pub(super) doc: &'static str,
}

/// Mistakes, warnings and key docs, gathered while reading.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pub(super) mistakes: Vec<(Range<usize>, String)>,
    /// Warnings, each with its place if it is written anywhere.
    pub(super) warnings: Vec<(Option<Range<usize>>, String)>,
    pub(super) docs: Vec<KeyDoc>,
    /// What must not be quoted: it is, or may by mistake be, a secret.
    private: Vec<Range<usize>>,
    /// Where lines end.
    line_ends: Vec<usize>,
}

impl Notes {
    /// The mistakes, in the order of the text.
    pub(super) fn into_mistakes(mut self, text: &str) -> Vec<Mistake> {
        self.mistakes.sort_by_key(|(span, _)| span.start);
        let place = |(span, message)| {
            let mistake = Mistake::new(text, span, message);
            let is_private = self
                .private
                .iter()
                .any(|private| mistake.quotes(text, private));
            if is_private {
                mistake.unquoted()
            } else {
                mistake
            }
        };
        self.mistakes.into_iter().map(place).collect()
    }

    /// Notes on that text, without any yet.
    pub(super) fn of(text: &str) -> Self {
        Self {
            line_ends: line_ends(text),
            ..Self::default()
        }
    }

    /// The line of that place, from 1.
    pub(super) fn line_at(&self, at: usize) -> usize {
        line_at(&self.line_ends, at)
    }

    /// The warnings, in the order of the text.
    pub(super) fn take_warnings(&mut self) -> Vec<Warning> {
        let mut warnings = std::mem::take(&mut self.warnings);
        warnings.sort_by_key(|(span, _)| span.as_ref().map(|span| span.start));
        let placed = warnings.into_iter();
        placed
            .map(|(span, message)| Warning {
                line: span.map(|span| self.line_at(span.start)),
                message,
            })
            .collect()
    }

    /// Has mistakes quote nothing of that place from now on.
    pub(super) fn keep_private(&mut self, span: Range<usize>) {
        self.private.push(span);
    }

    pub(super) fn is_private(&self, span: &Range<usize>) -> bool {
        let mut private = self.private.iter();
        private.any(|private| private.start <= span.start && span.end <= private.end)
    }
}

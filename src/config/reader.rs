//! Reads tables with spans: every mistake is noted and reading goes on. Its calls, made on
//! an absent table, describe the keys: so what is read, what is documented and what the JSON
//! Schema says cannot differ.

use std::ops::Range;

use serde_json::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::lines::span_in;
use super::mistake::similar;
use super::notes::{KeyDoc, Notes};
use super::shown::shown;

/// Reads one table.
pub(super) struct Reader<'n, 't> {
    pub(super) notes: &'n mut Notes,
    table: Option<&'t DeTable<'t>>,
    /// The whole table.
    pub(super) span: Range<usize>,
    path: String,
    known: Vec<&'static str>,
    /// Whether other keys are names of tables.
    has_names: bool,
}

impl<'n, 't> Reader<'n, 't> {
    pub(super) fn new(
        notes: &'n mut Notes,
        table: Option<&'t DeTable<'t>>,
        span: Range<usize>,
        path: impl Into<String>,
    ) -> Self {
        Self {
            notes,
            table,
            span,
            path: path.into(),
            known: Vec::new(),
            has_names: false,
        }
    }

    /// The dotted name of a key of this table.
    pub(super) fn name(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    fn get(&self, key: &str) -> Option<&'t Spanned<DeValue<'t>>> {
        self.table?
            .iter()
            .find(|(name, _)| name.get_ref() == key)
            .map(|(_, value)| value)
    }

    /// Whether the key is written.
    pub(super) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Whether the key's value is a text, or not written.
    pub(super) fn text_or_nothing(&self, key: &str) -> bool {
        self.get(key)
            .is_none_or(|value| value.get_ref().as_str().is_some())
    }

    /// Where the key's value stands.
    pub(super) fn span_of(&self, key: &str) -> Range<usize> {
        self.get(key)
            .map_or_else(|| self.span.clone(), |value| value.span())
    }

    /// Where the value stands to which those keys lead through tables and lists, if it is written.
    pub(super) fn span_within(&self, path: &[&str]) -> Option<Range<usize>> {
        span_in(self.table?, path)
    }

    /// The line where the table stands, from 1.
    pub(super) fn line(&self) -> usize {
        self.notes.line_at(self.span.start)
    }

    /// The line where the key's value stands, or the table if it is not there.
    pub(super) fn line_of(&self, key: &str) -> usize {
        self.notes.line_at(self.span_of(key).start)
    }

    /// Notes a mistake in the key's value.
    pub(super) fn wrong(&mut self, key: &str, message: impl Into<String>) {
        let span = self.span_of(key);
        self.notes.mistakes.push((span, message.into()));
    }

    /// Notes what is odd in the key's value.
    pub(super) fn warn(&mut self, key: &str, message: impl Into<String>) {
        let span = self.span_of(key);
        self.notes.warnings.push((Some(span), message.into()));
    }

    /// Where those keys lead: to the last of them that is written, if one is.
    pub(super) fn span(&self, path: &[&str]) -> Option<Range<usize>> {
        let written = (1..=path.len()).rev();
        let mut spans = written.filter_map(|end| self.span_within(&path[..end]));
        spans.next()
    }

    /// Documents a key and fetches its value.
    pub(super) fn key(
        &mut self,
        key: &'static str,
        schema: Value,
        default: Option<String>,
        doc: &'static str,
    ) -> Option<&'t Spanned<DeValue<'t>>> {
        self.known.push(key);
        if self.table.is_none() {
            let path = self.name(key);
            self.notes.docs.push(KeyDoc {
                path,
                schema,
                default,
                doc,
            });
        }
        self.get(key)
    }

    /// Notes that a value is not what the key takes.
    pub(super) fn mismatch(&mut self, key: &str, value: &Spanned<DeValue<'_>>, allowed: &str) {
        let given = if self.notes.is_private(&value.span()) {
            value.get_ref().type_str().to_owned()
        } else {
            shown(value.get_ref())
        };
        let message = format!("`{}` must be {allowed}, not {given}", self.name(key));
        self.notes.mistakes.push((value.span(), message));
    }

    /// Has mistakes quote nothing of the key's value from now on.
    pub(super) fn keep_private(&mut self, key: &str) {
        if let Some(value) = self.get(key) {
            self.notes.keep_private(value.span());
        }
    }

    /// A value that the caller takes apart.
    pub(super) fn raw(
        &mut self,
        key: &'static str,
        schema: Value,
        doc: &'static str,
    ) -> Option<&'t Spanned<DeValue<'t>>> {
        self.key(key, schema, None, doc)
    }

    /// A table with keys of its own, read by `read` whether it is there or not.
    pub(super) fn table<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut Reader<'_, 't>) -> T,
    ) -> T {
        self.known.push(key);
        let path = self.name(key);
        let value = self.get(key);
        let describes = self.table.is_none();
        let empty = EMPTY.get_or_init(DeTable::new);
        let table = match value.map(|value| (value, value.get_ref().as_table())) {
            Some((_, Some(table))) => Some(table),
            Some((value, None)) => {
                self.mismatch(key, value, "a table");
                Some(empty)
            }
            None if describes => None,
            None => Some(empty),
        };
        let span = value.map_or_else(|| self.span.clone(), |value| value.span());
        let mut reader = Reader::new(self.notes, table, span, path);
        let result = read(&mut reader);
        reader.finish();
        result
    }

    /// The entries of a table whose keys are names. Where keys are described, there is one, `*`.
    pub(super) fn entries<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(&str, Range<usize>, &mut Reader<'_, 't>) -> T,
    ) -> Vec<T> {
        self.known.push(key);
        let path = self.name(key);
        if self.table.is_none() {
            let mut reader = Reader::new(self.notes, None, 0..0, format!("{path}.*"));
            return vec![read("*", 0..0, &mut reader)];
        }
        let Some(value) = self.get(key) else {
            return vec![];
        };
        let Some(table) = value.get_ref().as_table() else {
            self.mismatch(key, value, "a table");
            return vec![];
        };
        let mut results = Vec::new();
        for (name, value) in table {
            let path = format!("{path}.{}", name.get_ref());
            let Some(table) = value.get_ref().as_table() else {
                let message = format!("`{path}` must be a table, not {}", shown(value.get_ref()));
                self.notes.mistakes.push((value.span(), message));
                continue;
            };
            let mut reader = Reader::new(self.notes, Some(table), value.span(), path);
            results.push(read(name.get_ref(), name.span(), &mut reader));
            reader.finish();
        }
        results
    }

    /// The tables under keys that nobody has asked for, which are names, with their lines. Where
    /// keys are described, there is one, `*`.
    pub(super) fn others<T>(
        &mut self,
        mut read: impl FnMut(&str, usize, &mut Reader<'_, 't>) -> T,
    ) -> Vec<T> {
        self.has_names = true;
        let Some(table) = self.table else {
            let path = self.name("*");
            let mut reader = Reader::new(self.notes, None, 0..0, path);
            return vec![read("*", 1, &mut reader)];
        };
        let mut results = Vec::new();
        for (name, value) in table {
            if self.known.contains(&name.get_ref().as_ref()) {
                continue;
            }
            let path = self.name(name.get_ref());
            let Some(table) = value.get_ref().as_table() else {
                let given = shown(value.get_ref());
                let keys = self.known.join("`, `");
                let message = format!("`{path}` must be a table, not {given} (or `{keys}`)");
                self.notes.mistakes.push((value.span(), message));
                continue;
            };
            let line = self.notes.line_at(name.span().start);
            let mut reader = Reader::new(self.notes, Some(table), value.span(), path);
            results.push(read(name.get_ref(), line, &mut reader));
            reader.finish();
        }
        results
    }

    /// Notes every key that nobody asked for.
    pub(super) fn finish(self) {
        if self.has_names {
            return;
        }
        for (key, _) in self.table.into_iter().flatten() {
            if self.known.contains(&key.get_ref().as_ref()) {
                continue;
            }
            let whole = if self.path.is_empty() {
                "the file".to_owned()
            } else {
                format!("[{}]", self.path)
            };
            let hint = match similar(key.get_ref(), self.known.iter().copied()) {
                Some(word) => format!("did you mean `{word}`?"),
                None => format!("it has {}", self.known.join(", ")),
            };
            let message = format!("unknown key `{}` in {whole}; {hint}", key.get_ref());
            self.notes.mistakes.push((key.span(), message));
        }
    }
}

static EMPTY: std::sync::OnceLock<DeTable<'static>> = std::sync::OnceLock::new();

//! Reads tables with spans: every mistake is noted and reading goes on. The same calls, made on
//! an absent table, describe the keys: so what is read, what is documented and what the JSON
//! Schema says cannot differ.

use std::ops::Range;
use std::time::Duration;

use serde_json::{Value, json};
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::lines::{line_at, line_ends, span_in};
use super::mistake::{Mistake, Warning, similar};
use super::shown::{one_of, shown};
use super::units::{self, SizeOrShare};

/// A key as it is documented.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct KeyDoc {
    /// Where it stands: `servers.*.command`.
    pub(super) path: String,
    /// JSON Schema of its value.
    pub(super) schema: Value,
    /// The default as it would be written, if there is one.
    pub(super) default: Option<String>,
    /// What it means.
    pub(super) doc: &'static str,
}

/// What is gathered while reading.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pub(super) mistakes: Vec<(Range<usize>, String)>,
    /// Each with its place, if it is written anywhere.
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

    /// For that text.
    pub(super) fn of(text: &str) -> Self {
        Self {
            line_ends: line_ends(text),
            ..Self::default()
        }
    }

    /// The line of that place, from 1.
    fn line_at(&self, at: usize) -> usize {
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

    /// From now on that place is not quoted in mistakes.
    pub(super) fn keep_private(&mut self, span: Range<usize>) {
        self.private.push(span);
    }

    fn is_private(&self, span: &Range<usize>) -> bool {
        let mut private = self.private.iter();
        private.any(|private| private.start <= span.start && span.end <= private.end)
    }
}

/// Reads one table.
pub(super) struct Reader<'n, 't> {
    pub(super) notes: &'n mut Notes,
    table: Option<&'t DeTable<'t>>,
    /// The whole table.
    pub(super) span: Range<usize>,
    path: String,
    known: Vec<&'static str>,
    /// Other keys are names of tables.
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
    pub(super) fn place(&self, path: &[&str]) -> Option<Range<usize>> {
        let written = (1..=path.len()).rev();
        let mut spans = written.filter_map(|end| self.span_within(&path[..end]));
        spans.next()
    }

    /// Documents a key and fetches its value.
    fn key(
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

    fn mismatch(&mut self, key: &str, value: &Spanned<DeValue<'_>>, allowed: &str) {
        let given = if self.notes.is_private(&value.span()) {
            value.get_ref().type_str().to_owned()
        } else {
            shown(value.get_ref())
        };
        let message = format!("`{}` must be {allowed}, not {given}", self.name(key));
        self.notes.mistakes.push((value.span(), message));
    }

    /// From now on the key's value is not quoted in mistakes.
    pub(super) fn keep_private(&mut self, key: &str) {
        if let Some(value) = self.get(key) {
            self.notes.keep_private(value.span());
        }
    }

    pub(super) fn text(
        &mut self,
        key: &'static str,
        default: Option<&str>,
        doc: &'static str,
    ) -> Option<String> {
        let quoted = default.map(|text| format!("{text:?}"));
        let value = self.key(key, json!({ "type": "string" }), quoted, doc)?;
        let text = value.get_ref().as_str().map(str::to_owned);
        if text.is_none() {
            self.mismatch(key, value, "a text");
        }
        text
    }

    pub(super) fn boolean(&mut self, key: &'static str, default: bool, doc: &'static str) -> bool {
        let schema = json!({ "type": "boolean" });
        let Some(value) = self.key(key, schema, Some(default.to_string()), doc) else {
            return default;
        };
        value.get_ref().as_bool().unwrap_or_else(|| {
            self.mismatch(key, value, "true or false");
            default
        })
    }

    /// A whole number within `range`.
    pub(super) fn number(
        &mut self,
        key: &'static str,
        default: Option<u64>,
        range: std::ops::RangeInclusive<u64>,
        doc: &'static str,
    ) -> Option<u64> {
        let schema = json!({ "type": "integer", "minimum": range.start(), "maximum": range.end() });
        let value = self.key(key, schema, default.map(|n| n.to_string()), doc)?;
        let allowed = format!("a whole number from {} to {}", range.start(), range.end());
        let number = value.get_ref().as_integer().and_then(|number| {
            u64::from_str_radix(number.as_str(), number.radix())
                .ok()
                .filter(|n| range.contains(n))
        });
        if number.is_none() {
            self.mismatch(key, value, &allowed);
        }
        number.or(default)
    }

    /// A number that counts things in memory.
    pub(super) fn count(
        &mut self,
        key: &'static str,
        default: usize,
        least: u64,
        doc: &'static str,
    ) -> usize {
        let number = self.number(key, Some(default as u64), least..=1_000_000, doc);
        number
            .and_then(|n| usize::try_from(n).ok())
            .unwrap_or(default)
    }

    /// A duration above zero.
    pub(super) fn duration(
        &mut self,
        key: &'static str,
        default: Duration,
        doc: &'static str,
    ) -> Duration {
        let shown = format!("\"{}\"", humantime::format_duration(default));
        self.duration_if_given(key, Some(shown), doc)
            .unwrap_or(default)
    }

    /// A duration, or the word "never".
    pub(super) fn duration_or_never(
        &mut self,
        key: &'static str,
        default: Duration,
        doc: &'static str,
    ) -> Option<Duration> {
        let shown = format!("\"{}\"", humantime::format_duration(default));
        let Some(value) = self.key(key, json!({ "type": "string" }), Some(shown), doc) else {
            return Some(default);
        };
        let text = value.get_ref().as_str().unwrap_or_default();
        if text == "never" {
            return None;
        }
        let duration = units::duration(text).filter(|d| !d.is_zero());
        if duration.is_none() {
            self.mismatch(
                key,
                value,
                "a duration above zero such as \"30s\", or \"never\"",
            );
        }
        duration
    }

    pub(super) fn duration_if_given(
        &mut self,
        key: &'static str,
        default: Option<String>,
        doc: &'static str,
    ) -> Option<Duration> {
        let value = self.key(key, json!({ "type": "string" }), default, doc)?;
        let duration = value
            .get_ref()
            .as_str()
            .and_then(units::duration)
            .filter(|d| !d.is_zero());
        if duration.is_none() {
            self.mismatch(
                key,
                value,
                "a duration above zero such as \"30s\", \"10m\" or \"24h\"",
            );
        }
        duration
    }

    /// A number of bytes, written as a text with a unit or as a number.
    pub(super) fn size(
        &mut self,
        key: &'static str,
        default: Option<u64>,
        doc: &'static str,
    ) -> Option<u64> {
        let schema = json!({ "type": ["string", "integer"] });
        let shown = default.map(|bytes| format!("\"{}\"", units::size_text(bytes)));
        let Some(value) = self.key(key, schema, shown, doc) else {
            return default;
        };
        let size = match value.get_ref() {
            DeValue::String(text) => units::size(text),
            DeValue::Integer(number) => u64::from_str_radix(number.as_str(), number.radix()).ok(),
            _ => None,
        };
        let size = size.filter(|size| *size > 0);
        if size.is_none() {
            self.mismatch(key, value, "a size above zero such as \"512MiB\"");
        }
        size.or(default)
    }

    pub(super) fn size_or_share(
        &mut self,
        key: &'static str,
        default: u8,
        doc: &'static str,
    ) -> SizeOrShare {
        let schema = json!({ "type": ["string", "integer"] });
        let fallback = SizeOrShare::Percent(default);
        let Some(value) = self.key(key, schema, Some(format!("\"{default}%\"")), doc) else {
            return fallback;
        };
        let size = match value.get_ref() {
            DeValue::String(text) => units::size_or_share(text),
            DeValue::Integer(number) => u64::from_str_radix(number.as_str(), number.radix())
                .ok()
                .map(SizeOrShare::Bytes),
            _ => None,
        };
        size.unwrap_or_else(|| {
            self.mismatch(
                key,
                value,
                "a share such as \"75%\" or a size such as \"16GiB\"",
            );
            fallback
        })
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(
        &mut self,
        key: &'static str,
        default: &'static str,
        words: &[(&'static str, T)],
        doc: &'static str,
    ) -> Option<T> {
        let names: Vec<_> = words.iter().map(|(name, _)| *name).collect();
        let schema = json!({ "type": "string", "enum": names });
        let value = self.key(key, schema, Some(format!("{default:?}")), doc);
        let text = match value {
            None => default,
            Some(value) => match value.get_ref().as_str() {
                Some(text) => text,
                None => {
                    self.mismatch(key, value, &one_of(&names));
                    default
                }
            },
        };
        let found = words
            .iter()
            .find(|(name, _)| *name == text)
            .map(|(_, word)| *word);
        if found.is_none() {
            let hint = similar(text, names.iter().copied())
                .map(|word| format!("; did you mean \"{word}\"?"))
                .unwrap_or_default();
            let message = format!(
                "`{}` must be {}, not \"{text}\"{hint}",
                self.name(key),
                one_of(&names)
            );
            self.wrong(key, message);
        }
        found
    }

    /// A list of texts.
    pub(super) fn texts(
        &mut self,
        key: &'static str,
        default: &[&str],
        doc: &'static str,
    ) -> Vec<String> {
        let fallback = || default.iter().map(|text| (*text).to_owned()).collect();
        let schema = json!({ "type": "array", "items": { "type": "string" } });
        let Some(value) = self.key(key, schema, Some(format!("{default:?}")), doc) else {
            return fallback();
        };
        let Some(items) = value.get_ref().as_array() else {
            self.mismatch(key, value, "a list of texts");
            return fallback();
        };
        self.texts_in(key, items)
    }

    pub(super) fn texts_in(&mut self, key: &str, items: &'t DeArray<'t>) -> Vec<String> {
        let mut texts = Vec::new();
        for item in items.iter() {
            match item.get_ref().as_str() {
                Some(text) => texts.push(text.to_owned()),
                None => self.mismatch(key, item, "a list of texts"),
            }
        }
        texts
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

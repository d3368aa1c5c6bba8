//! Reads the values of keys: texts, numbers, durations, sizes, words and lists.

use std::time::Duration;

use serde_json::json;
use toml::de::{DeArray, DeValue};

use super::mistake::similar;
use super::reader::Reader;
use super::shown::one_of;
use super::units::{self, SizeOrShare};

impl<'t> Reader<'_, 't> {
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

    /// Reads one of a few words.
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
}

//! The fields of a log line for people, in which nothing that strangers wrote acts.
//!
//! Done here, for every event and every span: no place that logs can forget it.

use std::error::Error;
use std::fmt::{self, Debug, Write};

use tracing::field::{Field, Visit};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::Writer;

use crate::escape::LogEscape;

/// Italic and dimmed, and back (ECMA-48, SGR): how names of fields stand on a terminal.
const NAME: (&str, &str) = ("\x1b[3m", "\x1b[0m\x1b[2m=\x1b[0m");
const PLAIN_NAME: (&str, &str) = ("", "=");

/// Writes the message as it is and each other field as `name=value`, on one line.
#[derive(Clone, Copy, Debug)]
pub(super) struct OneLine;

impl<'w> FormatFields<'w> for OneLine {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut line = Line {
            writer,
            is_empty: true,
            outcome: Ok(()),
        };
        fields.record(&mut line);
        line.outcome
    }
}

struct Line<'w> {
    writer: Writer<'w>,
    is_empty: bool,
    outcome: fmt::Result,
}

impl Line<'_> {
    fn field(&mut self, field: &Field, value: fmt::Arguments<'_>) -> fmt::Result {
        if !std::mem::take(&mut self.is_empty) {
            self.writer.write_char(' ')?;
        }
        if field.name() != "message" {
            let (before, after) = if self.writer.has_ansi_escapes() {
                NAME
            } else {
                PLAIN_NAME
            };
            let name = field.name();
            let name = name.strip_prefix("r#").unwrap_or(name);
            write!(self.writer, "{before}{name}{after}")?;
        }
        LogEscape(&mut self.writer).write_fmt(value)
    }

    fn record(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        if self.outcome.is_ok() {
            self.outcome = self.field(field, value);
        }
    }
}

impl Visit for Line<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.record(field, format_args!("{value}"));
        } else {
            self.record(field, format_args!("{value:?}"));
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.record(field, format_args!("{value}"));
        let mut source = value.source();
        while let Some(error) = source {
            if self.outcome.is_ok() {
                self.outcome = write!(LogEscape(&mut self.writer), ": {error}");
            }
            source = error.source();
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.record(field, format_args!("{value:?}"));
    }
}

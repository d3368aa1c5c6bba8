//! Standard output and error, for text that strangers wrote.

use std::io::{self, ErrorKind, Write};
use std::ops::ControlFlow;

use super::error::CliError;
use crate::escape;

/// The printed output of a command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Output {
    /// Text for people.
    Text(String),
    /// JSON for programs.
    Json(String),
}

impl Output {
    /// JSON on several lines.
    pub(super) fn json(value: &serde_json::Value) -> Self {
        Self::Json(format!("{value:#}\n"))
    }

    /// Writes it to standard output, as [`print`] and [`print_json`] do.
    ///
    /// # Errors
    /// As those of [`print`].
    pub(super) fn print(&self) -> Result<ControlFlow<()>, CliError> {
        match self {
            Self::Text(text) => print(text),
            Self::Json(json) => print_json(json),
        }
    }
}

/// Writes `text` to standard output. `Break` when nobody reads it any more (`… | head`), which is no
/// failure. Control characters are shown and not passed on, wherever it leads: a pipe ends in a pager or a terminal as
/// often as not.
///
/// # Errors
/// Any other failure to write, such as a full disk.
pub(super) fn print(text: &str) -> Result<ControlFlow<()>, CliError> {
    print_raw(&escape::for_terminal(text))
}

/// Writes `text` to standard output byte by byte, for whoever asked for that. `Break` as for [`print`].
///
/// # Errors
/// As those of [`print`].
pub(super) fn print_raw(text: &str) -> Result<ControlFlow<()>, CliError> {
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Ok(()) => Ok(ControlFlow::Continue(())),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(ControlFlow::Break(())),
        Err(error) => Err(CliError::Output(error)),
    }
}

/// Writes JSON to standard output. Control characters are written as JSON escapes, which a parser reads as they were.
///
/// # Errors
/// As those of [`print`].
pub(super) fn print_json(json: &str) -> Result<ControlFlow<()>, CliError> {
    print_raw(&escape::in_json(json))
}

/// Writes `text` and a line end to standard error; it is for people, so control characters are shown there
/// wherever it leads. There is nobody to tell when that fails.
pub(super) fn notice(text: &str) {
    let text = escape::for_terminal(text.trim_end_matches('\n'));
    drop(writeln!(io::stderr(), "{text}"));
}

/// An error as it is shown: what, why, and what to do, each on a line of its own however long it is.
pub(super) fn shown(report: &miette::Report) -> String {
    let mut text = format!("Error: {report}");
    for cause in report.chain().skip(1) {
        text.push_str(&format!("\n  because: {cause}"));
    }
    if let Some(help) = report.help() {
        text.push_str(&format!("\n  help: {help}"));
    }
    escape::for_terminal(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_not_wrapped_and_drives_no_terminal() {
        let long = "word ".repeat(60);
        let report = miette::miette!(help = "do\x1b[2J that", "{long}\x07end");
        assert_eq!(
            shown(&report),
            format!("Error: {long}\\x07end\n  help: do\\x1b[2J that")
        );
        let report = miette::Report::from(CliError::Output(io::Error::other("disk full")));
        assert_eq!(
            shown(&report),
            "Error: standard output cannot be written\n  because: disk full"
        );
    }
}

//! Standard output and error, for text that strangers wrote.

use std::borrow::Cow;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::ops::ControlFlow;

use super::error::CliError;
use crate::escape;

/// Writes `text` to standard output. `Break` when nobody reads it any more (`… | head`), which is no
/// failure. On a terminal, control characters are shown, not obeyed.
///
/// # Errors
/// Any other failure to write, such as a full disk.
pub(super) fn print(text: &str) -> Result<ControlFlow<()>, CliError> {
    let mut stdout = io::stdout().lock();
    let text = if stdout.is_terminal() {
        escape::for_terminal(text)
    } else {
        Cow::Borrowed(text)
    };
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Ok(()) => Ok(ControlFlow::Continue(())),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(ControlFlow::Break(())),
        Err(error) => Err(CliError::Output(error)),
    }
}

/// Writes JSON to standard output as [`print`] does. On a terminal it stays JSON too.
///
/// # Errors
/// As those of [`print`].
pub(super) fn print_json(json: &str) -> Result<ControlFlow<()>, CliError> {
    if io::stdout().is_terminal() {
        print(&escape::in_json(json))
    } else {
        print(json)
    }
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

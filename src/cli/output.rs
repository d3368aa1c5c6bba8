//! Standard output and error, for text that strangers wrote.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::ops::ControlFlow;

use super::error::CliError;

/// Writes `text` to standard output. `Break` when nobody reads it any more (`… | head`), which is no
/// failure. On a terminal, control characters are shown, not obeyed.
///
/// # Errors
/// Any other failure to write, such as a full disk.
pub(super) fn print(text: &str) -> Result<ControlFlow<()>, CliError> {
    let mut stdout = io::stdout().lock();
    let text = if stdout.is_terminal() {
        printable(text)
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

/// Writes `text` and a line end to standard error. There is nobody to tell when that fails.
pub(super) fn notice(text: &str) {
    let mut stderr = io::stderr().lock();
    let text = if stderr.is_terminal() {
        printable(text)
    } else {
        Cow::Borrowed(text)
    };
    drop(writeln!(stderr, "{}", text.trim_end_matches('\n')));
}

/// `text` with every control character but line feed and tab written out, so that a worker or a
/// tool cannot move the cursor, rename the window or answer for the user.
pub(super) fn printable(text: &str) -> Cow<'_, str> {
    let acts = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if !text.contains(acts) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if acts(c) {
            write!(out, "\\x{:02x}", u32::from(c)).expect("a String takes every write");
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_s_text_cannot_drive_the_terminal() {
        assert_eq!(printable("plain\n\tätext"), "plain\n\tätext");
        assert_eq!(
            printable("\x1b]0;owned\x07 \r\u{9b}2J"),
            r"\x1b]0;owned\x07 \x0d\x9b2J"
        );
    }
}

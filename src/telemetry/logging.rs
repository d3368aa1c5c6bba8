//! The supervisor's own log, on stderr.

use std::env::{self, VarError};
use std::io::{self, IsTerminal, Write};
use std::panic::PanicHookInfo;
use std::thread;

use tracing_subscriber::fmt::{self, MakeWriter};

use super::log_fields::OneLine;
use super::log_filter::{self, FilterError};
use super::log_line::{LogFormat, OfRequest};
use super::stderr;
use crate::escape;

/// Environment variable that holds the filter: `info` (the default), `debug`,
/// `info,stdiopool::pool=trace` and so on (syntax of tracing-subscriber's `EnvFilter`).
pub const LOG_FILTER_ENV: &str = "STDIOPOOL_LOG";

/// The filter when nothing else is said.
const DEFAULT_FILTER: &str = "info";
/// The filter of a command that serves by the way.
const QUIET_FILTER: &str = "error";

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The variable's text is not a filter.
    #[error("{LOG_FILTER_ENV}: {0}")]
    Filter(#[from] FilterError),
    /// The variable's value is not text.
    #[error("{LOG_FILTER_ENV} is not valid UTF-8")]
    NotUnicode,
    /// Something else has set up a log in this process.
    #[error("the log is already set up: {0}")]
    AlreadySet(#[from] Box<dyn std::error::Error + Send + Sync>),
}

/// Sends the log of this process to stderr, as the environment's filter says; panics too, as errors. Nobody
/// who logs ever waits for stderr: lines that it does not take are dropped and counted.
///
/// # Errors
/// A filter that cannot be read, or a second call.
pub fn init(format: LogFormat) -> Result<(), LoggingError> {
    init_from(format, DEFAULT_FILTER)
}

/// As [`init`], for a command that serves by the way: what goes as it should is not said, unless the environment's filter says so.
///
/// # Errors
/// As those of [`init`].
pub fn init_quietly() -> Result<(), LoggingError> {
    init_from(LogFormat::Human, QUIET_FILTER)
}

fn init_from(format: LogFormat, usual: &str) -> Result<(), LoggingError> {
    let first = match env::var(LOG_FILTER_ENV) {
        Ok(value) if !value.trim().is_empty() => value,
        Ok(_) | Err(VarError::NotPresent) => usual.to_owned(),
        Err(VarError::NotUnicode(_)) => return Err(LoggingError::NotUnicode),
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(log_filter::parse(&first)?)
        .with_writer(ToStderr { format });
    match format {
        LogFormat::Human => {
            // https://no-color.org: present and not empty means no colour.
            let plain = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            let coloured = io::stderr().is_terminal() && !plain;
            let inner = fmt::format().with_ansi(coloured).with_target(false);
            let builder = builder
                .with_ansi(coloured)
                .fmt_fields(OneLine)
                .event_format(OfRequest { inner, format })
                .with_filter_reloading();
            let handle = builder.reload_handle();
            builder.try_init()?;
            log_filter::began_with(first, move |filter| handle.reload(filter));
        }
        LogFormat::Json => {
            let inner = fmt::format().json().flatten_event(true);
            let builder = builder
                .fmt_fields(fmt::format::JsonFields::new())
                .event_format(OfRequest { inner, format })
                .with_filter_reloading();
            let handle = builder.reload_handle();
            builder.try_init()?;
            log_filter::began_with(first, move |filter| handle.reload(filter));
        }
    }
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// The usual hook writes to stderr itself, and would wait for it.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let thread = thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let backtrace = std::backtrace::Backtrace::capture();
    tracing::error!(thread, %backtrace, "{panic}");
}

/// Where the lines go.
struct ToStderr {
    format: LogFormat,
}

impl<'w> MakeWriter<'w> for ToStderr {
    type Writer = OneWrite;

    fn make_writer(&'w self) -> OneWrite {
        OneWrite {
            format: self.format,
        }
    }
}

/// Takes a line, which comes in one piece.
struct OneWrite {
    format: LogFormat,
}

impl Write for OneWrite {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match (self.format, std::str::from_utf8(line)) {
            (LogFormat::Json, Ok(text)) => stderr::put(escape::in_json(text).as_bytes()),
            _ => stderr::put(line),
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Write for Captured {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("not poisoned").extend_from_slice(line);
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What an event with that text in its message and its fields, in a span with it, looks like.
    fn logged(text: &str) -> String {
        let kept = Captured::default();
        let to = kept.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || to.clone())
            .with_ansi(false)
            .fmt_fields(OneLine)
            .finish();
        let error = io::Error::other(text);
        tracing::subscriber::with_default(subscriber, || {
            let _span = tracing::info_span!("worker", name = text).entered();
            let cause: &(dyn std::error::Error + 'static) = &error;
            tracing::warn!(shown = %text, debug = ?text, str = text, cause, "stderr: {text}");
        });
        let bytes = kept.0.lock().expect("not poisoned").clone();
        String::from_utf8(bytes).expect("UTF-8")
    }

    proptest! {
        #[test]
        fn an_event_is_one_line_whatever_is_in_it(
            text in prop::collection::vec(prop_oneof![
                any::<char>(),
                prop::sample::select(vec!['\n', '\r', '\x1b', '\u{9b}', '\u{202e}', '\u{2028}']),
            ], 0..40).prop_map(|chars| chars.into_iter().collect::<String>())
        ) {
            let line = logged(&text);
            prop_assert!(line.ends_with('\n'));
            prop_assert!(!line[..line.len() - 1].contains(escape::acts), "{line:?}");
        }
    }

    #[test]
    fn a_line_reads_as_before() {
        let line = logged("plain");
        let line = line.split_once(" WARN ").expect("has a level").1;
        assert_eq!(
            line,
            "worker{name=\"plain\"}: stdiopool::telemetry::logging::tests: stderr: plain shown=plain debug=\"plain\" str=\"plain\" cause=plain\n"
        );
    }
}

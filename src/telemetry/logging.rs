//! The supervisor's own log, on stderr.

use std::env::{self, VarError};
use std::io::{self, IsTerminal, Write};
use std::panic::PanicHookInfo;
use std::thread;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::{self, MakeWriter};

use super::log_fields::OneLine;
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

/// Comes before every filter: what a peer does wrong in HTTP/2 is a line for each frame otherwise, and a flood of
/// those displaces what the operator has to see. `h2=debug` in the filter shows them.
const OF_PEERS: &str = "h2=error";

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The variable's text is not a filter.
    #[error(
        "{LOG_FILTER_ENV}=`{value}` is not a log filter: {source}; write e.g. `debug` or `info,stdiopool::pool=trace`"
    )]
    Filter {
        /// What the variable holds.
        value: String,
        /// What is wrong with the filter.
        source: ParseError,
    },
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
    let filter = match env::var(LOG_FILTER_ENV) {
        Ok(value) if !value.trim().is_empty() => filter(&value)?,
        Ok(_) | Err(VarError::NotPresent) => filter(usual)?,
        Err(VarError::NotUnicode(_)) => return Err(LoggingError::NotUnicode),
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(ToStderr { format });
    match format {
        LogFormat::Human => {
            // https://no-color.org: present and not empty means no colour.
            let plain = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            let coloured = io::stderr().is_terminal() && !plain;
            let inner = fmt::format().with_ansi(coloured).with_target(false);
            builder
                .with_ansi(coloured)
                .fmt_fields(OneLine)
                .event_format(OfRequest { inner, format })
                .try_init()?;
        }
        LogFormat::Json => {
            let inner = fmt::format().json().flatten_event(true);
            builder
                .fmt_fields(fmt::format::JsonFields::new())
                .event_format(OfRequest { inner, format })
                .try_init()?;
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

fn filter(value: &str) -> Result<EnvFilter, LoggingError> {
    EnvFilter::builder()
        .parse(format!("{OF_PEERS},{value}"))
        .map_err(|source| LoggingError::Filter {
            value: value.to_owned(),
            source,
        })
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

    #[test]
    fn a_bad_filter_is_named() {
        assert!(filter("info,stdiopool::pool=trace").is_ok());
        let shown = |value: &str| filter(value).expect("a filter").to_string();
        assert!(shown("info").contains(OF_PEERS));
        let own = shown("info,h2=debug");
        assert!(own.contains("h2=debug") && !own.contains(OF_PEERS), "{own}");
        let error = filter("info,stdiopool=loud").expect_err("no such level");
        assert!(
            error.to_string().contains("`info,stdiopool=loud`"),
            "{error}"
        );
    }
}

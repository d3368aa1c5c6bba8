//! The supervisor's own log, on stderr.

use std::env::{self, VarError};
use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// Environment variable that holds the filter: `info` (the default), `debug`,
/// `info,stdiopool::pool=trace` and so on (syntax of tracing-subscriber's `EnvFilter`).
pub const LOG_FILTER_ENV: &str = "STDIOPOOL_LOG";

/// The filter when nothing else is said.
const DEFAULT_FILTER: &str = "info";

/// The shape of a log line.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, clap::ValueEnum)]
pub enum LogFormat {
    /// For people: one line each, coloured on a terminal.
    #[default]
    Human,
    /// For machines: one JSON object on each line.
    Json,
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The variable's text is not a filter.
    #[error(
        "{LOG_FILTER_ENV}=`{value}` is not a log filter: {source}; write e.g. `debug` or `info,stdiopool::pool=trace`"
    )]
    Filter {
        /// What it holds.
        value: String,
        /// What is wrong with it.
        source: ParseError,
    },
    /// The variable's value is not text.
    #[error("{LOG_FILTER_ENV} is not valid UTF-8")]
    NotUnicode,
    /// Something else has set up a log in this process.
    #[error("the log is already set up: {0}")]
    AlreadySet(#[from] Box<dyn std::error::Error + Send + Sync>),
}

/// Sends the log of this process to stderr, as the environment's filter says.
///
/// # Errors
/// A filter that cannot be read, or a second call.
pub fn init(format: LogFormat) -> Result<(), LoggingError> {
    let filter = match env::var(LOG_FILTER_ENV) {
        Ok(value) if !value.trim().is_empty() => filter(&value)?,
        Ok(_) | Err(VarError::NotPresent) => filter(DEFAULT_FILTER)?,
        Err(VarError::NotUnicode(_)) => return Err(LoggingError::NotUnicode),
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    match format {
        LogFormat::Human => {
            // https://no-color.org: present and not empty means no colour.
            let plain = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            builder
                .with_ansi(io::stderr().is_terminal() && !plain)
                .with_target(false)
                .try_init()?;
        }
        LogFormat::Json => builder.json().flatten_event(true).try_init()?,
    }
    Ok(())
}

fn filter(value: &str) -> Result<EnvFilter, LoggingError> {
    EnvFilter::builder()
        .parse(value)
        .map_err(|source| LoggingError::Filter {
            value: value.to_owned(),
            source,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_filter_is_named() {
        assert!(filter("info,stdiopool::pool=trace").is_ok());
        let error = filter("info,stdiopool=loud").expect_err("no such level");
        assert!(
            error.to_string().contains("`info,stdiopool=loud`"),
            "{error}"
        );
    }
}

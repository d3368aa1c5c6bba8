//! The filter of the log, which may change while the process runs.

use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::reload;

/// Comes before every filter: what a peer does wrong in HTTP/2 is a line for each frame otherwise, and a flood of
/// those displaces what the operator has to see. `h2=debug` in the filter shows them.
const OF_PEERS: &str = "h2=error";

type Apply = Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>;

/// The filter of this process, once there is a log.
static LOG: OnceLock<LogFilter> = OnceLock::new();

struct LogFilter {
    apply: Apply,
    /// The filter that the process began with.
    first: String,
    now: Mutex<Now>,
}

#[derive(Debug)]
struct Now {
    filter: String,
    until: Option<SystemTime>,
    /// How often it was changed.
    changes: u64,
}

/// What is logged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FilterInForce {
    /// The filter, as it was written.
    pub filter: String,
    /// The filter that the process began with.
    pub first: String,
    /// When the first one comes back.
    pub until: Option<SystemTime>,
    /// Which change that was, to take it back and no later one.
    pub change: u64,
}

/// Why the filter stays as it is.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// The text is not a filter.
    #[error(
        "`{text}` is not a log filter: {source}; write e.g. `debug` or `info,stdiopool::pool=trace`"
    )]
    Form {
        /// What was given.
        text: String,
        /// What is wrong with it.
        source: ParseError,
    },
    /// There is nothing that it could be applied to.
    #[error("this process has no log whose filter could be changed")]
    NoLog,
    /// The log is gone.
    #[error("the log cannot be changed: {0}")]
    Apply(#[from] reload::Error),
}

/// Reads a filter.
///
/// # Errors
/// [`FilterError::Form`].
pub(super) fn parse(text: &str) -> Result<EnvFilter, FilterError> {
    EnvFilter::builder()
        .parse(format!("{OF_PEERS},{text}"))
        .map_err(|source| FilterError::Form {
            text: text.to_owned(),
            source,
        })
}

/// Notes how the filter of this process is changed, and which one it began with.
pub(super) fn began_with(
    first: String,
    apply: impl Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync + 'static,
) {
    let now = Mutex::new(Now {
        filter: first.clone(),
        until: None,
        changes: 0,
    });
    LOG.get_or_init(|| LogFilter {
        apply: Box::new(apply),
        first,
        now,
    });
}

/// The filter in force.
///
/// # Errors
/// [`FilterError::NoLog`].
pub fn log_filter() -> Result<FilterInForce, FilterError> {
    let log = LOG.get().ok_or(FilterError::NoLog)?;
    Ok(log.in_force(&log.now.lock()))
}

/// Logs by that filter from now on, or by the first one again. `lasting` only says when the caller takes it back.
///
/// # Errors
/// The filter cannot be read, or there is no log.
pub fn set_log_filter(
    text: Option<&str>,
    lasting: Option<Duration>,
) -> Result<FilterInForce, FilterError> {
    let log = LOG.get().ok_or(FilterError::NoLog)?;
    log.set(text, lasting, &mut log.now.lock())
}

/// Logs by the first filter again, if that change is the last one.
///
/// # Errors
/// As [`set_log_filter`].
pub fn take_log_filter_back(change: u64) -> Result<(), FilterError> {
    let log = LOG.get().ok_or(FilterError::NoLog)?;
    let mut now = log.now.lock();
    if now.changes == change {
        log.set(None, None, &mut now)?;
    }
    Ok(())
}

impl LogFilter {
    fn set(
        &self,
        text: Option<&str>,
        lasting: Option<Duration>,
        now: &mut Now,
    ) -> Result<FilterInForce, FilterError> {
        let text = text.unwrap_or(&self.first);
        (self.apply)(parse(text)?)?;
        *now = Now {
            filter: text.to_owned(),
            until: lasting.and_then(|lasting| SystemTime::now().checked_add(lasting)),
            changes: now.changes + 1,
        };
        Ok(self.in_force(now))
    }

    fn in_force(&self, now: &Now) -> FilterInForce {
        FilterInForce {
            filter: now.filter.clone(),
            first: self.first.clone(),
            until: now.until,
            change: now.changes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_filter_is_named() {
        assert!(parse("info,stdiopool::pool=trace").is_ok());
        let shown = |text: &str| parse(text).expect("a filter").to_string();
        assert!(shown("info").contains(OF_PEERS));
        let own = shown("info,h2=debug");
        assert!(own.contains("h2=debug") && !own.contains(OF_PEERS), "{own}");
        let error = parse("info,stdiopool=loud").expect_err("no such level");
        assert!(
            error.to_string().contains("`info,stdiopool=loud`"),
            "{error}"
        );
    }

    #[test]
    fn a_change_is_taken_back_unless_there_was_a_later_one() {
        let applied = std::sync::Arc::new(Mutex::new(Vec::new()));
        let to = std::sync::Arc::clone(&applied);
        let log = LogFilter {
            apply: Box::new(move |filter| {
                to.lock().push(filter.to_string());
                Ok(())
            }),
            first: "info".into(),
            now: Mutex::new(Now {
                filter: "info".into(),
                until: None,
                changes: 0,
            }),
        };
        let set = |text| log.set(text, Some(Duration::from_secs(60)), &mut log.now.lock());
        let debug = set(Some("debug")).expect("a filter");
        assert_eq!(
            (debug.filter.as_str(), debug.first.as_str()),
            ("debug", "info")
        );
        assert!(debug.until.is_some_and(|until| until > SystemTime::now()));
        assert!(set(Some("loud,,=")).is_err());
        assert_eq!(
            log.in_force(&log.now.lock()),
            debug,
            "a mistake changes nothing"
        );
        let back = set(None).expect("the first");
        assert_eq!((back.filter.as_str(), back.change), ("info", 2));
        assert_eq!(applied.lock().len(), 2);
    }
}

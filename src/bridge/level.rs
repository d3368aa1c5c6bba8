//! Severity levels of `notifications/message` (server/utilities/logging; RFC 5424, 6.2.1).

/// A log level, the most verbose first, so that `min` picks the more verbose of two.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    /// Detailed debugging.
    Debug,
    /// Ordinary progress of operations.
    Info,
    /// Normal but significant.
    Notice,
    /// Warning conditions.
    Warning,
    /// Error conditions.
    Error,
    /// Critical conditions.
    Critical,
    /// Action must be taken at once.
    Alert,
    /// The system is unusable.
    Emergency,
}

impl Level {
    const ALL: [(Self, &'static str); 8] = [
        (Self::Debug, "debug"),
        (Self::Info, "info"),
        (Self::Notice, "notice"),
        (Self::Warning, "warning"),
        (Self::Error, "error"),
        (Self::Critical, "critical"),
        (Self::Alert, "alert"),
        (Self::Emergency, "emergency"),
    ];

    /// The level of a session that never set one, once another session of its worker has
    /// set one: the worker's own default can then no longer be told.
    pub const ASSUMED: Self = Self::Info;

    /// The level of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .find(|(_, text)| *text == name)
            .map(|(level, _)| *level)
    }

    /// The level's name on the wire.
    pub fn as_str(self) -> &'static str {
        Self::ALL[self as usize].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_verbose_comes_first() {
        for (level, name) in Level::ALL {
            assert_eq!(Level::parse(name), Some(level));
            assert_eq!(level.as_str(), name);
        }
        assert!(Level::Debug < Level::Emergency);
        assert_eq!(Level::parse("loud"), None);
    }
}

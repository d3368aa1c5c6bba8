//! How a worker ended.

use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use nix::sys::signal::Signal;

/// The end of the first process of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatusKind {
    /// The leader exited with this status, 0 to 255.
    Code(i32),
    /// The signal that ended the leader.
    Signal(i32),
    /// The leader's status is unknown: the guardian that would have read it was killed.
    Lost,
}

/// In short: "exit 1", "SIGKILL".
impl fmt::Display for ExitStatusKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit {code}"),
            Self::Signal(signal) => match Signal::try_from(*signal) {
                Ok(signal) => f.write_str(signal.as_str()),
                Err(_) => write!(f, "signal {signal}"),
            },
            Self::Lost => f.write_str("status unknown"),
        }
    }
}

impl From<ExitStatus> for ExitStatusKind {
    fn from(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Code(code),
            (None, Some(signal)) => Self::Signal(signal),
            // waitpid(2) reports stops and continues only when asked to; nobody asks.
            (None, None) => Self::Lost,
        }
    }
}

/// The end of a worker, as a sentence by its `Display`: the worker "exited with status 1".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// Status of the first process.
    pub status: ExitStatusKind,
    /// Whether `stop` or `kill` was called before the worker ended.
    pub asked: bool,
    /// Whether the worker was killed because it did not read its input for the stall timeout.
    pub stalled: bool,
    /// Whether the worker was killed because it closed its stdout and lived on.
    pub mute: bool,
}

impl Exit {
    /// Whether stdiopool ended the worker, by whatever was asked for or for what it did: its signal is none that somebody else sent.
    pub fn is_own_doing(&self) -> bool {
        self.asked || self.stalled || self.mute
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.mute {
            return f.write_str("closed its output, did not end, and was killed for that");
        }
        match self.status {
            ExitStatusKind::Code(code) => write!(f, "exited with status {code}")?,
            ExitStatusKind::Signal(signal) => match Signal::try_from(signal) {
                Ok(signal) => write!(f, "was killed by {signal}")?,
                Err(_) => write!(f, "was killed by signal {signal}")?,
            },
            ExitStatusKind::Lost => f.write_str("was lost with its guardian")?,
        }
        if self.stalled {
            f.write_str(" after it stopped reading its input")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_reads_as_a_sentence() {
        let text = |status, stalled| {
            Exit {
                status,
                asked: false,
                stalled,
                mute: false,
            }
            .to_string()
        };
        let short = [1, 11, 40]
            .map(ExitStatusKind::Signal)
            .map(|it| it.to_string());
        assert_eq!(short, ["SIGHUP", "SIGSEGV", "signal 40"]);
        assert_eq!(ExitStatusKind::Code(1).to_string(), "exit 1");
        assert_eq!(text(ExitStatusKind::Code(1), false), "exited with status 1");
        assert_eq!(
            text(ExitStatusKind::Signal(11), false),
            "was killed by SIGSEGV"
        );
        assert_eq!(
            text(ExitStatusKind::Signal(40), false),
            "was killed by signal 40"
        );
        assert_eq!(
            text(ExitStatusKind::Lost, false),
            "was lost with its guardian"
        );
        assert_eq!(
            text(ExitStatusKind::Signal(9), true),
            "was killed by SIGKILL after it stopped reading its input"
        );
        let mute = Exit {
            status: ExitStatusKind::Signal(9),
            asked: false,
            stalled: false,
            mute: true,
        };
        assert!(mute.is_own_doing());
        assert_eq!(
            mute.to_string(),
            "closed its output, did not end, and was killed for that"
        );
    }

    #[test]
    fn a_raw_status_is_told_apart() {
        let kind = |raw| ExitStatusKind::from(ExitStatus::from_raw(raw));
        assert_eq!(kind(3 << 8), ExitStatusKind::Code(3));
        assert_eq!(kind(9), ExitStatusKind::Signal(9));
    }
}

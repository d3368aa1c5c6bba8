//! Why a command of npm, uv or their like did not do what it was run for.

use std::io;
use std::process::ExitStatus;
use std::time::Duration;

/// Why a command of npm, uv or their like did not do what it was run for.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The command could not be started.
    #[error("`{program}` cannot be run: {source}")]
    NotRun {
        /// The program.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// The command failed.
    #[error("{command} ended with {status}: {reason}")]
    Ended {
        /// The command's program and first argument, quoted.
        command: String,
        /// How the command ended.
        status: ExitStatus,
        /// The command's first error.
        reason: String,
    },
    /// Nobody knows how it ended.
    #[error("{command} could not be waited for: {source}")]
    NotWaitedFor {
        /// The command, as of [`CommandError::Ended`].
        command: String,
        /// What the system said.
        source: io::Error,
    },
    /// How the command ended is not known.
    #[error("{0} ended without a status")]
    NoStatus(String),
    /// The command took too long.
    #[error(
        "{command} did not end within {} and was ended (raise `launch.install_timeout` if it needs longer)",
        humantime::format_duration(*.timeout)
    )]
    TooLong {
        /// The command, as of [`CommandError::Ended`].
        command: String,
        /// How long the command might take.
        timeout: Duration,
    },
    /// The command failed, and the system has refused it something that it might have had without a sandbox.
    #[error(
        "{failed} (installs run in a sandbox: they write to the package's own folder, HOME and TMPDIR, and see nothing of the state folder; docs/sandbox.md#installs)"
    )]
    Denied {
        /// How the command failed.
        failed: Box<CommandError>,
    },
    /// The command failed at a limit of installs.
    #[error("{failed}: {limit}")]
    Limited {
        /// How the command failed.
        failed: Box<CommandError>,
        /// What the command had too much of.
        limit: String,
    },
    /// The command was asked something, and said nothing.
    #[error("`{0}` printed nothing, and succeeded")]
    Silent(String),
    /// The command was asked something, and what it said is no answer.
    #[error("`{command}` printed `{printed}`")]
    NoAnswer {
        /// The command.
        command: &'static str,
        /// What the command printed.
        printed: String,
    },
}

//! Why a secret is not to be had. None of it shows a secret.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use crate::store::VaultError;

/// Longest secret, in bytes.
pub(super) const MAX_LEN: usize = 64 * 1024;

/// Why a secret is not to be had from where it is.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The state store keeps secrets of tenants alone.
    #[error("it cannot be in the state store")]
    Stored,
    /// What the state store has of it cannot be opened.
    #[error(transparent)]
    Vault(VaultError),
    /// A variable that there is not.
    #[error("variable {0} is not set")]
    Unset(String),
    /// A variable of which nothing but blanks is there.
    #[error("variable {0} holds nothing")]
    VariableEmpty(String),
    /// A variable whose value is no text.
    #[error("variable {0} is not UTF-8")]
    VariableNotText(String),
    /// A file that cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file in which there is no secret.
    #[error("{} {why}", path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// What the file holds in place of a secret.
        why: NoSecret,
    },
    /// A command of no words.
    #[error("the command is empty")]
    NoCommand,
    /// A command that cannot be started.
    #[error("cannot run `{program}`: {source}")]
    NotRun {
        /// The command's program.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// A command that printed no secret.
    #[error("`{program}` {why}")]
    Command {
        /// The command's program.
        program: String,
        /// What the command did.
        why: NotPrinted,
    },
    /// A command that took too long.
    #[error("`{program}` did not end within {}", humantime::format_duration(*.limit))]
    TooSlow {
        /// The command's program.
        program: String,
        /// How long the command had.
        limit: Duration,
    },
}

impl SecretError {
    /// Whether there is none, as a variable that is not set or empty says, so that a template's default holds. A secret that is
    /// there and cannot be read is not replaced by a default.
    pub fn is_unset(&self) -> bool {
        match self {
            Self::Unset(_) | Self::VariableEmpty(_) => true,
            Self::Stored
            | Self::Vault(_)
            | Self::VariableNotText(_)
            | Self::Unreadable { .. }
            | Self::InFile { .. }
            | Self::NoCommand
            | Self::NotRun { .. }
            | Self::Command { .. }
            | Self::TooSlow { .. } => false,
        }
    }

    pub(super) fn unreadable(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        Self::Unreadable { path, source }
    }

    pub(super) fn in_file(path: &Path, why: NoSecret) -> Self {
        let path = path.to_owned();
        Self::InFile { path, why }
    }
}

/// The reason why a text is no secret.
#[derive(Debug, thiserror::Error)]
pub enum NoSecret {
    /// Much more than a secret.
    #[error("holds more than {MAX_LEN} bytes")]
    TooLong,
    /// No text.
    #[error("is not UTF-8")]
    NotText,
    /// Nothing.
    #[error("holds nothing")]
    Nothing,
}

/// The reason why a command printed no secret.
#[derive(Debug, thiserror::Error)]
pub enum NotPrinted {
    /// The command printed much more than one secret.
    #[error("printed more than {MAX_LEN} bytes")]
    TooMuch,
    /// The command printed something else.
    #[error("printed what {0}")]
    NoSecret(NoSecret),
    /// The command failed.
    #[error(
        "ended with {status}; what it said is not shown, as a secret may be in it: run it by hand to see that"
    )]
    Ended {
        /// How the command ended.
        status: ExitStatus,
    },
    /// Nobody knows how it ended.
    #[error("could not be waited for: {0}")]
    NotWaitedFor(io::Error),
    /// The command has ended, and the system does not say how.
    #[error("ended without a status")]
    NoStatus,
}

//! What can go wrong for someone at the command line: what, why, and what to do.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use miette::Diagnostic;
use reqwest::Url;
use thiserror::Error;

use crate::tenancy::innermost;

/// Where a command was sent, and how the user can say it differently.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    /// The address it was sent to.
    pub url: Url,
    /// The flag that gives another address.
    pub url_flag: &'static str,
    /// The flag that gives the token.
    pub token_flag: &'static str,
    /// The environment variable that gives the token.
    pub token_env: &'static str,
}

/// Why a command failed. All of them end with exit code 1; wrong usage is found before and ends with 2.
#[derive(Debug, Error, Diagnostic)]
pub enum CliError {
    /// Nobody listens there.
    #[error("no stdiopool answers at {} ({why})", target.url)]
    #[diagnostic(help("is `stdiopool serve` running? other address: {} URL", target.url_flag))]
    Unreachable {
        /// The address that was asked.
        target: Box<Target>,
        /// The innermost cause.
        why: String,
    },
    /// The configuration does not say where the admin API is.
    #[error("{}: {why}", path.display())]
    #[diagnostic(help("other file: --config FILE; or give the address: --admin URL"))]
    Config {
        /// The file.
        path: PathBuf,
        /// Why the address is not known.
        why: String,
    },
    /// The connection broke, or did not speak HTTP.
    #[error("the exchange with {} broke off: {why}", target.url)]
    BrokenOff {
        /// The address that was asked.
        target: Box<Target>,
        /// The innermost cause.
        why: String,
    },
    /// No token, or not the right one.
    #[error("{} does not accept {}", target.url, if *.given { "this token" } else { "requests without a token" })]
    #[diagnostic(help("give the token with {} or in {}", target.token_flag, target.token_env))]
    Unauthorized {
        /// The address that refused.
        target: Box<Target>,
        /// Whether a token was sent.
        given: bool,
    },
    /// Someone else listens there.
    #[error("what answers at {} is not {what} (HTTP {status})", target.url)]
    #[diagnostic(help("other address: {} URL", target.url_flag))]
    Stranger {
        /// The address that was asked.
        target: Box<Target>,
        /// What was expected there.
        what: &'static str,
        /// HTTP status of the answer.
        status: u16,
    },
    /// stdiopool said no, in words of its own.
    #[error("{reason}: {error}")]
    Refused {
        /// What the answer says.
        error: String,
        /// The class of it.
        reason: String,
        /// When a retry can help, in words.
        #[help]
        help: Option<String>,
    },
    /// The tool ran and says that it failed; what it said has been printed.
    #[error("tool `{tool}` reports a failure")]
    ToolFailed {
        /// The tool that was called.
        tool: String,
    },
    /// No answer in time.
    #[error("no answer within {}", humantime::format_duration(*.after))]
    #[diagnostic(help("wait longer: --timeout 5m; what the workers do: stdiopool ps"))]
    TimedOut {
        /// How long the answer was waited for.
        after: Duration,
    },
    /// Something is to be drawn on a terminal, and there is none.
    #[error("`stdiopool top` needs a terminal, and {what}")]
    #[diagnostic(help(
        "`stdiopool ps` shows the workers once, `stdiopool ps --json` for programs"
    ))]
    NoTerminal {
        /// What is no terminal.
        what: &'static str,
    },
    /// The terminal cannot be drawn on, or has nothing to say any more.
    #[error("the terminal is gone or refuses")]
    Terminal(#[source] io::Error),
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted,
    /// An answer that breaks the protocol.
    #[error("the answer breaks the protocol: {0}")]
    Protocol(String),
    /// Standard output cannot be written.
    #[error("standard output cannot be written")]
    Output(#[source] io::Error),
}

impl CliError {
    /// An exchange with `target` that failed below HTTP.
    pub(super) fn transport(target: &Target, error: &reqwest::Error) -> Self {
        let why = innermost(error);
        let target = Box::new(target.clone());
        if error.is_connect() {
            Self::Unreachable { target, why }
        } else {
            Self::BrokenOff { target, why }
        }
    }
}

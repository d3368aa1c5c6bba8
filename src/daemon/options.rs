//! What `stdiopool serve` is asked to do.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::reload::Listens;

/// What to serve.
#[derive(Clone, Debug)]
pub enum Source {
    /// What this file says.
    File(PathBuf),
    /// One command, without a file.
    Command(Vec<String>),
}

/// How to serve it.
#[derive(Clone, Debug)]
pub struct Options {
    /// What to serve.
    pub source: Source,
    /// Instead of `[http] listen`.
    pub http: Option<SocketAddr>,
    /// Instead of `[admin] listen`.
    pub admin: Option<SocketAddr>,
    /// Where requests are recorded for `stdiopool tune`.
    pub record_trace: Option<PathBuf>,
}

impl Options {
    /// The file that is served; `None` for one command without a file.
    pub(super) fn path(&self) -> Option<&Path> {
        match &self.source {
            Source::File(path) => Some(path),
            Source::Command(_) => None,
        }
    }

    /// Addresses that go before those of the file.
    pub(super) fn listens(&self) -> Listens {
        Listens {
            http: self.http,
            admin: self.admin,
        }
    }
}

//! What `stdiopool serve` is asked to do.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::profiling::Profiling;
use super::reload::Listens;

/// What to serve.
#[derive(Clone, Debug)]
pub enum Source {
    /// What this file says.
    File(PathBuf),
    /// One command, without a file.
    Command(Vec<String>),
    /// One server of a file, to be recorded.
    Profile(Arc<Profiling>),
}

/// How `stdiopool serve` was asked to serve.
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
    /// The file that is served, and reloaded; `None` for one command without a file, and for a server that is profiled.
    pub(super) fn path(&self) -> Option<&Path> {
        match &self.source {
            Source::File(path) => Some(path),
            Source::Command(_) | Source::Profile(_) => None,
        }
    }

    /// Begins the shutdown when it is cancelled; a server that is profiled is ended so from outside.
    pub(super) fn drain(&self) -> CancellationToken {
        match &self.source {
            Source::Profile(profiling) => profiling.stop.clone(),
            Source::File(_) | Source::Command(_) => CancellationToken::new(),
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

//! What happens to workers and their packages, for people and programs that watch.

use super::connection::WorkerConnection;
use crate::ids::ServerName;
use crate::telemetry::labels::Observed;
use crate::worker::Exit;

/// An event of a worker or a package.
#[derive(Clone, Copy, Debug)]
pub enum WorkerEvent<'a> {
    /// A process is being started.
    Starting(&'a WorkerConnection),
    /// The worker can serve.
    Ready(&'a WorkerConnection),
    /// The worker never will serve, and why.
    StartFailed(&'a WorkerConnection, &'a str),
    /// The worker, with `sandbox = "observe"`, does what it would be refused with "strict": of which kind, and what, in words.
    Observed(&'a WorkerConnection, Observed, &'a str),
    /// The worker ended after it could serve.
    Exited(&'a WorkerConnection, &'a Exit),
    /// Nothing of the worker is left, whether it ever could serve or not; how its first process ended, if there was one.
    Gone(&'a WorkerConnection, Option<&'a Exit>),
    /// Something happened to a package that a server runs, in words.
    Package(PackageEvent, &'a ServerName, &'a str),
}

/// An event of a package.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PackageEvent {
    /// The package is being installed.
    Installing,
    /// The package is there.
    Installed,
    /// The package cannot be had.
    Failed,
    /// Another version was run, which does not have what the server wrote beside its code.
    LeftBehind,
}

/// Is told what happens to workers and packages. Must not block.
pub trait WorkerEventSink: Send + Sync + std::fmt::Debug + 'static {
    /// Something happened to a worker or to a package.
    fn worker_event(&self, event: WorkerEvent<'_>);
}

//! The templates there are, and what is known of each.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::sync::Semaphore;

use crate::ids::{ServerName, WorkerId};
use crate::launch::LaunchSpec;
use crate::launch::packages::Installed;
use crate::launch::priming::{Obstacle, Report, TemplateKey, Templates, read_at_start};
use crate::worker::{self, Waiting, WaitingEnd};

/// Ids of templates are above all that the pool gives to workers.
const FIRST_ID: u64 = 1 << 48;
/// Versions of node packages of which it is kept what probes have found; beyond, that of those goes for which nothing waits.
const MAX_FOUND: usize = 64;

/// A start of a package's program that may be forked from a template.
#[derive(Clone, Debug)]
pub(crate) struct Priming {
    pub(super) key: TemplateKey,
    pub(super) installed: Arc<Installed>,
    /// Why the start is not primed, as far as the launch tells.
    pub(super) obstacle: Option<Obstacle>,
}

/// A template that imports or forks.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) key: TemplateKey,
    pub(super) server: ServerName,
    pub(super) worker: Option<worker::Worker>,
    /// The process that waits, of node, until a start takes it.
    pub(super) waiting: Option<WaitingProcess>,
    /// Ends the process that waits, of node.
    pub(super) end: Option<WaitingEnd>,
    /// Path of node, where the process is one of node.
    pub(super) node: Option<PathBuf>,
    pub(super) report: Option<Arc<Report>>,
    /// The variables of a launch that an interpreter reads when it starts, with which the process was made: it serves no other launch.
    pub(super) at_start: BTreeMap<String, String>,
    pub(super) writable: Vec<String>,
    /// Bytes, as last measured.
    pub(super) held: u64,
    pub(super) forked: u64,
}

/// A process that waits, and the launch of which it has a user and a folder for its life.
#[derive(Debug)]
pub(super) struct WaitingProcess {
    pub(super) waiting: Waiting,
    pub(super) template: LaunchSpec,
}

/// The findings of a probe about a version of a node package.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) report: Arc<Report>,
    /// Path of the node that the probe ran with.
    pub(super) node: PathBuf,
    /// Starts of workers by processes that had waited.
    pub(super) started: u64,
}

impl Process {
    /// A process that is being made for launches like that one.
    pub(super) fn new(priming: &Priming, server: ServerName, spec: &LaunchSpec) -> Self {
        Self {
            key: priming.key.clone(),
            server,
            worker: None,
            waiting: None,
            end: None,
            node: None,
            report: None,
            at_start: read_at_start(&spec.env),
            writable: spec.writable.clone(),
            held: 0,
            forked: 0,
        }
    }

    /// The pid of the template or of the process that waits, if there is one.
    pub(super) fn pid(&self) -> Option<u32> {
        let template = self.worker.as_ref().map(worker::Worker::pid);
        template.or_else(|| self.waiting.as_ref().map(|it| it.waiting.pid()))
    }
}

/// A template as it is shown.
#[derive(Clone, Debug)]
pub struct ShownTemplate {
    /// The entry of the package cache.
    pub entry: String,
    /// The program of it.
    pub program: String,
    /// The server for which it was started.
    pub server: ServerName,
    /// `starting`, `ready` or `stopping`.
    pub state: &'static str,
    /// The process.
    pub pid: Option<u32>,
    /// Bytes that it holds, as last measured.
    pub memory_bytes: u64,
    /// Workers that were forked from it, or that processes of its version have become.
    pub forked: u64,
    /// The template's own account of what it has imported, and what not.
    pub report: Option<Arc<Report>>,
}

/// The templates there are.
#[derive(Debug)]
pub(crate) struct TemplateSet {
    pub(super) policy: Mutex<Templates>,
    pub(super) processes: Mutex<FxHashMap<WorkerId, Process>>,
    /// Why the last start of a server was not primed, as far as its launch told.
    pub(super) obstacles: Mutex<BTreeMap<ServerName, String>>,
    pub(super) next: AtomicU64,
    /// Grows with each primed start whose worker did not come to serve.
    pub(super) failed_starts: AtomicU64,
    /// The findings of probes, by versions of node packages.
    pub(super) found: Mutex<BTreeMap<TemplateKey, Found>>,
    /// Templates that import at a time.
    pub(super) imports: Semaphore,
}

impl TemplateSet {
    /// Keeps what a probe has found of a version; of others, where there are many, if something waits for their next start.
    pub(super) fn note_found(&self, key: &TemplateKey, found: Found) {
        let mut all = self.found.lock();
        if all.len() >= MAX_FOUND && !all.contains_key(key) {
            let there: Vec<_> = self
                .policy
                .lock()
                .all()
                .into_iter()
                .map(|it| it.key)
                .collect();
            all.retain(|key, _| there.contains(key));
        }
        all.insert(key.clone(), found);
    }
}

impl Default for TemplateSet {
    fn default() -> Self {
        Self {
            policy: Mutex::default(),
            processes: Mutex::default(),
            obstacles: Mutex::default(),
            next: AtomicU64::new(FIRST_ID),
            failed_starts: AtomicU64::default(),
            found: Mutex::default(),
            imports: Semaphore::new(1),
        }
    }
}

//! The templates there are, and what is known of each.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::sync::Semaphore;

use crate::ids::{ServerName, WorkerId};
use crate::launch::packages::Installed;
use crate::launch::priming::{Obstacle, Report, TemplateKey, Templates};
use crate::worker;

/// Ids of templates are above all that the pool gives to workers.
const FIRST_ID: u64 = 1 << 48;
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
    pub(super) report: Option<Arc<Report>>,
    /// The part of a launch that the template was made for: it serves no other.
    pub(super) locale: BTreeMap<String, String>,
    pub(super) writable: Vec<String>,
    /// Bytes, as last measured.
    pub(super) held: u64,
    pub(super) forked: u64,
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
    /// Workers that were forked from it.
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
    /// Primed starts whose worker did not come to serve.
    pub(super) failed_starts: AtomicU64,
    /// Templates that import at a time.
    pub(super) imports: Semaphore,
}

impl Default for TemplateSet {
    fn default() -> Self {
        Self {
            policy: Mutex::default(),
            processes: Mutex::default(),
            obstacles: Mutex::default(),
            next: AtomicU64::new(FIRST_ID),
            failed_starts: AtomicU64::default(),
            imports: Semaphore::new(1),
        }
    }
}

//! What keeps a process apart from those of other tenants, as part of its launch.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::egress::Network;
use crate::ids::WorkerId;
use crate::profile::Record;

/// The user that a process runs as.
#[derive(Clone, Debug)]
pub enum RunsAs {
    /// The user that stdiopool runs as.
    Supervisor,
    /// The user of that number, in the group of that number.
    User(u32),
    /// A user that each process has for itself, as long as it lives.
    OneOf(Arc<UserPool>),
    /// Not at all: there is no user for it, and why.
    Nobody(Arc<str>),
}

/// `sandbox` of one launch, and `network`.
#[derive(Clone, Debug)]
pub struct Sandbox {
    /// The user that the process runs as.
    pub runs_as: RunsAs,
    /// Folders of which it sees nothing but what is named below: the state folder and its like. Absolute.
    pub hidden: Vec<PathBuf>,
    /// Folders, and files, that it reads though they may be in hidden folders: programs and their libraries, settings
    /// that the operator hands to all.
    pub shared: Vec<PathBuf>,
    /// Paths that pool.toml names literally, and by which key: it has to reach them.
    pub named: Vec<NamedPath>,
    /// `sandbox = "strict"`: it sees nothing but what is named here and above, and is in namespaces of its own.
    pub strict: Option<Strict>,
    /// The hosts that the process reaches.
    pub network: Network,
    /// How the process is recorded, if it is: what it would lack if it were strict.
    pub observed: Option<Observed>,
}

/// How a process is recorded that is not strict.
#[derive(Clone, Debug)]
pub struct Observed {
    /// Where to.
    pub record: Arc<Record>,
    /// The paths that the process would see if it were strict.
    pub strict: Strict,
}

/// The paths that a server with `sandbox = "strict"` sees beside its own folders and what all see. Absolute paths.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Strict {
    /// Files and folders that it reads.
    pub readable: Vec<PathBuf>,
    /// Folders that it writes to, as far as their permissions let it.
    pub writable: Vec<PathBuf>,
}

/// A path that pool.toml names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NamedPath {
    /// The path, absolute.
    pub path: PathBuf,
    /// The key, such as `servers.files.args`.
    pub key: String,
}

impl Sandbox {
    /// The number of the user that it runs as, where that is another than stdiopool's and known.
    pub fn user(&self) -> Option<u32> {
        match &self.runs_as {
            RunsAs::User(user) => Some(*user),
            RunsAs::Supervisor | RunsAs::OneOf(_) | RunsAs::Nobody(_) => None,
        }
    }

    /// Makes this the sandbox of that worker: a user that is allocated to it, where nobody has the process yet.
    pub(super) fn for_worker(&mut self, worker: WorkerId) {
        if let RunsAs::OneOf(user_pool) = &self.runs_as {
            self.runs_as = match user_pool.allocate(worker) {
                Some(user) => RunsAs::User(user),
                None => RunsAs::Nobody(
                    "all users for processes that are nobody's yet are in use (widen `sandbox.uids`)"
                        .into(),
                ),
            };
        }
    }

    /// The sandbox's bytes in the digest of a launch.
    pub(super) fn digested(&self) -> Vec<u8> {
        let (kind, number) = match &self.runs_as {
            RunsAs::Supervisor => (1, 0),
            RunsAs::User(user) => (2, *user),
            RunsAs::OneOf(_) => (3, 0),
            RunsAs::Nobody(_) => (4, 0),
        };
        let [a, b, c, d] = number.to_le_bytes();
        let network = match &self.network {
            Network::On => 1,
            Network::Off => 0,
            Network::Allow(_) => 4,
        };
        let isolation = network
            | (u8::from(self.strict.is_some()) << 1)
            | (u8::from(self.observed.is_some()) << 3);
        let mut digested = vec![kind, a, b, c, d, isolation];
        for rule in self.network.allowed().iter().flat_map(|list| list.texts()) {
            digested.push(3);
            digested.extend(rule.as_bytes());
            // No rule has one.
            digested.push(0);
        }
        if let Some(strict) = &self.strict {
            for (kind, paths) in [(1, &strict.readable), (2, &strict.writable)] {
                for path in paths {
                    digested.push(kind);
                    digested.extend(path.as_os_str().as_encoded_bytes());
                    // No path has one.
                    digested.push(0);
                }
            }
        }
        digested
    }
}

/// Users for processes that are no tenant's when they start: each has one for itself.
#[derive(Debug)]
pub struct UserPool {
    first: u32,
    count: u32,
    allocated: Mutex<HashMap<WorkerId, u32>>,
}

impl UserPool {
    /// The range of `count` users, from `first` on.
    pub fn new(first: u32, count: u32) -> Self {
        Self {
            first,
            count,
            allocated: Mutex::default(),
        }
    }

    /// The user of a worker, which has it until it is given back; `None` when all are allocated.
    fn allocate(&self, worker: WorkerId) -> Option<u32> {
        let mut allocated = self.allocated.lock();
        if let Some(user) = allocated.get(&worker) {
            return Some(*user);
        }
        let all = self.first..self.first.saturating_add(self.count);
        let taken: std::collections::HashSet<u32> = allocated.values().copied().collect();
        let user = all.into_iter().find(|user| !taken.contains(user))?;
        allocated.insert(worker, user);
        Some(user)
    }

    /// Nothing of the worker is left, neither a process nor a file.
    pub fn release(&self, worker: WorkerId) {
        self.allocated.lock().remove(&worker);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_process_has_a_user_for_itself_until_it_is_gone() {
        let user_pool = UserPool::new(10, 2);
        let allocate = |worker| user_pool.allocate(WorkerId(worker));
        assert_eq!(
            (allocate(1), allocate(2), allocate(3)),
            (Some(10), Some(11), None)
        );
        assert_eq!(allocate(1), Some(10), "it keeps the one it has");
        user_pool.release(WorkerId(1));
        assert_eq!(allocate(3), Some(10));
    }
}

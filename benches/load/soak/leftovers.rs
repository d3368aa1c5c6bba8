//! What is there of a run when it should have gone.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::Result;
use super::super::hostile::descriptors;
use super::super::process::{Process, tree_of};

/// Descriptors that may be open more than at the begin: files of the store, and connections that are about to be closed.
const SPARE_DESCRIPTORS: usize = 24;
/// Growth of a supervisor that is no leak, in MiB: caches that are full, and what the allocator keeps.
const MAX_GROWTH: u64 = 96;

/// What a supervisor holds at one time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held {
    /// Resident, in bytes.
    pub(crate) memory: u64,
    descriptors: usize,
    /// It and everything descended from it.
    processes: usize,
}

impl Held {
    /// # Errors
    /// If /proc cannot be read.
    pub(crate) fn by(process: &Process) -> Result<Self> {
        let pid = process.id();
        Ok(Self {
            memory: process.memory(),
            descriptors: descriptors(pid),
            processes: tree_of(pid)?.len(),
        })
    }

    /// What there is more of than at the begin of this supervisor, if that is too much.
    pub(crate) fn over(&self, begin: &Self) -> Vec<String> {
        let mut over = Vec::new();
        let grown = self.memory.saturating_sub(begin.memory) >> 20;
        if grown > MAX_GROWTH {
            over.push(format!("memory: {grown} MiB more than at its begin"));
        }
        if self.descriptors > begin.descriptors + SPARE_DESCRIPTORS {
            let (now, then) = (self.descriptors, begin.descriptors);
            over.push(format!("descriptors: {now}, {then} at its begin"));
        }
        if self.processes > begin.processes {
            let (now, then) = (self.processes, begin.processes);
            over.push(format!("processes: {now}, {then} at its begin"));
        }
        over
    }
}

/// Processes that have the mark of a run in their environment, or a folder of its state folder as their own.
pub(crate) fn processes(state: &Path, mark: &str) -> Vec<String> {
    let own = std::process::id();
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_left = |pid: &u32| {
        let cwd = std::fs::read_link(format!("/proc/{pid}/cwd"));
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        cwd.is_ok_and(|cwd| cwd.starts_with(state))
            || memchr::memmem::find(&environment, mark.as_bytes()).is_some()
    };
    let name = |pid: u32| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        format!("{} ({pid})", name.trim())
    };
    let left = pids.filter(|pid| *pid != own && is_left(pid));
    left.map(name).collect()
}

/// Control groups that were made by supervisors of those pids.
pub(crate) fn groups(pids: &[u32]) -> Vec<String> {
    let mut left = Vec::new();
    let mut folders = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_of = |pid: &u32| {
                let rest = name.strip_prefix(&format!("stdiopool-{pid}"));
                rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
            };
            if pids.iter().any(is_of) {
                left.push(entry.path().display().to_string());
            } else {
                folders.push(entry.path());
            }
        }
    }
    left
}

/// What of the state folder goes with a worker, an install or stdiopool itself, and is there though none runs. Folders of TMPDIR stay until the next
/// start, which empties them.
pub(crate) fn folders(state: &Path) -> Vec<String> {
    let inside = |folder: PathBuf| {
        let found = std::fs::read_dir(folder).into_iter().flatten().flatten();
        found.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let mut left = inside(state.join("packages/tmp"));
    // Of processes that are nobody's at first, by server.
    let scratch = inside(state.join("tmp/.scratch"));
    left.extend(scratch.into_iter().flat_map(inside));
    let put_aside = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(stdiopool::folders::is_trash)
    };
    let all = [state.to_owned(), state.join("tmp")].into_iter();
    left.extend(all.flat_map(inside).filter(put_aside));
    let secrets = std::fs::read(state.join("secrets-folder")).unwrap_or_default();
    let secrets = PathBuf::from(String::from_utf8_lossy(&secrets).into_owned());
    if secrets.is_absolute() && secrets.exists() {
        left.push(secrets);
    }
    left.iter().map(|path| path.display().to_string()).collect()
}

/// Waits until nothing is found any more, or the time for that is over; what is there then.
pub(crate) async fn within(time: Duration, find: impl Fn() -> Vec<String>) -> Vec<String> {
    let deadline = std::time::Instant::now() + time;
    loop {
        let found = find();
        if found.is_empty() || std::time::Instant::now() >= deadline {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

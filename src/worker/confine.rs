//! Keeps a command of stdiopool's own apart, by what workers are kept apart with: one that runs code of others, or fetches it.

use std::io;
use std::path::{Path, PathBuf};

use super::cgroup::{Breaches, Group};
use super::guardian::{CommandWalls, DEVICES, TERMINALS, enter_walls};
use super::memory::host_memory;
use super::mount_plan::MountPlan;
use crate::launch::{Confinement, InstallGroup, ProcessLimits};

/// Most processes and threads of one install, where a control group counts them.
pub const MAX_PROCESSES: u64 = 2048;
/// Least memory that an install may take, in bytes: builds of native parts take as much.
const LEAST_MEMORY: u64 = 1 << 30;

/// Puts this process into a confinement, for good; see [`Confine`](crate::launch::Confine).
///
/// # Errors
/// Which step the kernel refused: then the command must not be executed.
pub fn confine(confinement: &Confinement, dir: Option<&Path>) -> io::Result<()> {
    let (mounts, unreadable) = match confinement.can_mount {
        true => (MountPlan::of_command(confinement).mounts(), vec![]),
        // A link leads past a rule by the path that it is at.
        false => (
            vec![],
            confinement.hidden.iter().map(|path| real(path)).collect(),
        ),
    };
    let devices = DEVICES.iter().map(|name| Path::new("/dev").join(name));
    let devices = devices.chain([PathBuf::from(TERMINALS)]);
    let readable = confinement.own.iter().chain(&confinement.shared);
    enter_walls(CommandWalls {
        groups: &confinement.groups,
        mounts,
        user: confinement
            .user
            .map(|user| (user, confinement.max_processes)),
        writable: confinement.own.iter().cloned().chain(devices).collect(),
        unreadable,
        readable: readable.cloned().collect(),
        max_memory: confinement.max_memory,
        dir,
    })
}

fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_path_buf())
}

/// The control group of one install.
#[derive(Debug)]
struct Limited {
    group: Group,
    memory: u64,
}

impl InstallGroup for Limited {
    fn procs_files(&self) -> Vec<PathBuf> {
        self.group.procs_files()
    }

    fn counts_memory(&self) -> bool {
        self.group.counts_memory()
    }

    fn reached(&self) -> Option<String> {
        let Breaches { pids, memory } = self.group.breaches();
        if memory > 0 {
            let most = self.memory >> 20;
            return Some(format!(
                "it took more than {most} MiB of memory, half of what the host has"
            ));
        }
        (pids > 0)
            .then(|| format!("it had {MAX_PROCESSES} processes and threads, and may have no more"))
    }
}

/// Most memory that an install may take, in bytes: half of what the host has; `None` where that is not known.
pub fn most_memory() -> Option<u64> {
    host_memory().map(|bytes| (bytes / 2).max(LEAST_MEMORY))
}

/// Makes the control group of an install, of that number among those of this process; `None` where there can be none.
///
/// # Errors
/// When the kernel refuses it.
pub fn install_group(number: u64) -> io::Result<Option<Box<dyn InstallGroup>>> {
    let half = most_memory();
    let limits = ProcessLimits {
        pids: Some(MAX_PROCESSES),
        memory: half,
        ..ProcessLimits::default()
    };
    let group = Group::make_alone(&format!("install-{number}"), &limits)?;
    let memory = half.unwrap_or(u64::MAX);
    Ok(group.map(|group| Box::new(Limited { group, memory }) as Box<dyn InstallGroup>))
}

//! What is set for a command of stdiopool's own that runs code of others, as for a worker's leader: the guardian has no part in it.

use std::io;
use std::path::{Path, PathBuf};

use nix::sys::prctl::set_no_new_privs;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::chdir;

use super::domain::{self, Domains, FileRules};
use super::identity;
use super::mounts::{self, Mount, Mounts};
use crate::process::keep_privileges_for_files;

/// What a command is to be kept to.
#[derive(Debug)]
pub(crate) struct CommandWalls<'a> {
    /// Files of control groups by which it enters them.
    pub(crate) groups: &'a [PathBuf],
    /// What the command sees of the file system otherwise than the host, what is above first.
    pub(crate) mounts: Vec<Mount>,
    /// The user that it becomes, and how many processes and threads that one may have.
    pub(crate) user: Option<(u32, u64)>,
    /// Files and folders that the command may write to, as far as the kernel has Landlock.
    pub(crate) writable: Vec<PathBuf>,
    /// Folders of which it reads nothing but what is readable, as far as the kernel has Landlock: those that nothing can be mounted over.
    pub(crate) unreadable: Vec<PathBuf>,
    /// What it reads in such folders.
    pub(crate) readable: Vec<PathBuf>,
    /// Most memory of one of its processes that is its own and written to, in bytes.
    pub(crate) max_memory: Option<u64>,
    /// The command's working directory.
    pub(crate) dir: Option<&'a Path>,
}

/// Puts this process, which has one thread, behind these walls, for good. The order is that of a worker's start (`spawn.rs`).
///
/// # Errors
/// When the kernel refuses a step, which the error names: then the process must not go on.
pub(crate) fn enter_walls(walls: CommandWalls<'_>) -> io::Result<()> {
    for group in walls.groups {
        // 0 is whoever writes it.
        step("its control group", std::fs::write(group, "0"))?;
    }
    let mounts = Mounts::new(walls.mounts, walls.user.is_none());
    step("hiding folders", mounts.apply())?;
    if let Some((user, max_processes)) = walls.user {
        mounts::hide_processes();
        step("its limits", limit(Resource::RLIMIT_NPROC, max_processes))?;
        step("becoming its user", identity::become_user(user))?;
    }
    step("its limits", limit(Resource::RLIMIT_CORE, 0))?;
    if let Some(most) = walls.max_memory {
        step("its limits", limit(Resource::RLIMIT_DATA, most))?;
    }
    // What it executes gains none of what it gives up, also where it is root.
    step("its privileges", set_no_new_privs().map_err(Into::into))?;
    if walls.user.is_none() {
        step("its privileges", keep_privileges_for_files())?;
    }
    let rules = match domain::domains() {
        Domains::None => FileRules::default(),
        Domains::Memory | Domains::Signals => FileRules {
            writable: Some(walls.writable),
            unreadable: walls.unreadable,
            readable: walls.readable,
        },
    };
    step("Landlock", domain::enter(&rules))?;
    match walls.dir {
        // The folder in which it stands is that of before the mounts, from which `..` leads around them.
        Some(dir) => step("its folder", chdir(dir).map_err(Into::into)),
        None => Ok(()),
    }
}

fn step(what: &str, done: io::Result<()>) -> io::Result<()> {
    done.map_err(|error| io::Error::new(error.kind(), format!("{what}: {error}")))
}

fn limit(resource: Resource, most: u64) -> io::Result<()> {
    let (_, hard) = getrlimit(resource)?;
    let most = most.min(hard);
    Ok(setrlimit(resource, most, most)?)
}

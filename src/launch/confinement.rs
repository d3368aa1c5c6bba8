//! What a command of stdiopool's own is kept to that runs code of others, npm and uv with install scripts and builds, or that fetches it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// What a command is kept to. The process that becomes the command enters it; see [`Confine`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Confinement {
    /// The user that it runs as, with the group of that number and no other; `None` for stdiopool's own.
    pub user: Option<u32>,
    /// Folders of which it sees nothing but what is named below: the state folder and its like. Where they cannot be hidden, it sees their names and, where
    /// the kernel has Landlock, reads no file in them. Absolute, without links.
    pub hidden: Vec<PathBuf>,
    /// Folders that the command writes to; where the kernel has Landlock, to no others. Absolute, without links.
    pub own: Vec<PathBuf>,
    /// Files and folders that it reads though they may be in hidden folders. Absolute.
    pub shared: Vec<PathBuf>,
    /// Whether the host lets folders be hidden from it.
    pub can_mount: bool,
    /// Most processes and threads of its user, where that is one of its own.
    pub max_processes: u64,
    /// Most memory of each of its processes, in bytes, where no control group counts that of all.
    pub max_memory: Option<u64>,
    /// Files of control groups by which it enters them.
    pub groups: Vec<PathBuf>,
}

/// Puts this process into a confinement, for good, and into its working directory. Called between fork and exec, in a process with one thread.
///
/// # Errors
/// Which step the kernel refused: then the command must not be executed.
pub type Confine = fn(&Confinement, Option<&Path>) -> io::Result<()>;

/// The control group of one install, which goes with the value.
pub trait InstallGroup: fmt::Debug + Send + Sync {
    /// Files by which a process enters it, by writing 0.
    fn procs_files(&self) -> Vec<PathBuf>;

    /// Whether the memory of the whole install is limited.
    fn counts_memory(&self) -> bool;

    /// The limit that something of the install has run into, in words; `None`: none.
    fn reached(&self) -> Option<String>;
}

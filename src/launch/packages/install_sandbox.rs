//! What installs are kept apart with, as far as who runs them knows: see [`super::place`].

use std::io;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use crate::launch::InstallGroup;

/// A function that makes the control group of an install of that number; `None` where there can be none.
pub(super) type MakeGroup = fn(u64) -> io::Result<Option<Box<dyn InstallGroup>>>;

/// What installs are kept apart with, on this host.
#[derive(Clone, Debug)]
pub struct InstallSandbox {
    /// Folders of which installs see nothing but what is theirs: the state folder and its like. Absolute.
    pub hidden: Vec<PathBuf>,
    /// Users that installs run as, one each; `None` for stdiopool's own.
    pub users: Option<RangeInclusive<u32>>,
    /// Whether the host lets folders be hidden from those that run as such.
    pub can_mount: bool,
    /// Most processes and threads of one install.
    pub max_processes: u64,
    /// Most memory of each process of an install, in bytes, where no control group counts that of all.
    pub max_memory: Option<u64>,
    /// Makes the control group of an install of that number; `None` where there can be none.
    pub make_group: MakeGroup,
}

impl InstallSandbox {
    /// Most memory of each process of an install that is in that control group, in bytes; `None` where the group counts that of all.
    pub(super) fn max_memory_beside(&self, group: Option<&dyn InstallGroup>) -> Option<u64> {
        let is_counted = group.is_some_and(InstallGroup::counts_memory);
        self.max_memory.filter(|_| !is_counted)
    }
}

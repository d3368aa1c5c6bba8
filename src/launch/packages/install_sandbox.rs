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
    /// Makes the control group of an install of that number; `None` where there can be none.
    pub make_group: MakeGroup,
}

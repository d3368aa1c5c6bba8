//! A Landlock domain for each worker (landlock(7)).
//!
//! With `sandbox = "standard"` it leaves files as they are, since what a server needs of them nobody knows beforehand; what of them it sees is up to its user
//! and mounts. What it brings: no process in it reaches the memory, environment or descriptors of one outside
//! (ptrace(2)), and none mounts anything. From Linux 6.12 on, none sends signals to one outside, or connects to its abstract
//! sockets.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use landlock::{
    ABI, Access as _, AccessFs, BitFlags, CompatLevel, Compatible as _, PathBeneath, PathFd,
    Ruleset, RulesetAttr as _, RulesetCreated, RulesetCreatedAttr as _, Scope,
};

/// The protection that domains give against processes outside, on this kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Domains {
    /// There are none, or only such in which no file can be moved from one folder to another: Linux before 5.19, or one that
    /// was built or booted without Landlock.
    None,
    /// Memory, environment and descriptors.
    Memory,
    /// Signals and abstract sockets as well: Linux 6.12.
    Signals,
}

/// What domains of workers do here.
pub fn domains() -> Domains {
    static FOUND: OnceLock<Domains> = OnceLock::new();
    *FOUND.get_or_init(|| match version() {
        ..2 => Domains::None,
        2..6 => Domains::Memory,
        6.. => Domains::Signals,
    })
}

/// The files that a process in a domain comes to.
#[derive(Default, Debug)]
pub(super) struct FileRules {
    /// Paths that it may write to, and to no other; `None`: whatever permissions let it.
    pub(super) writable: Option<Vec<PathBuf>>,
    /// Folders of whose files it reads and executes none, though it sees their names. Absolute, without links.
    pub(super) unreadable: Vec<PathBuf>,
    /// Paths in such folders that it reads all the same.
    pub(super) readable: Vec<PathBuf>,
}

impl FileRules {
    /// Files that may be written to are those, and all may be read.
    pub(super) fn writable(paths: Vec<PathBuf>) -> Self {
        Self {
            writable: Some(paths),
            ..Self::default()
        }
    }

    fn are_none(&self) -> bool {
        self.writable.is_none() && self.unreadable.is_empty()
    }
}

/// Puts this process, and what it starts, into a domain of its own, as far as the kernel has them. The process must not be
/// able to gain privileges any more. Where there are rules for files, the kernel must have domains.
///
/// # Errors
/// When the kernel refuses what it has, or has not what is needed.
pub(super) fn enter(files: &FileRules) -> io::Result<()> {
    if version() < 2 {
        return match files.are_none() {
            false => Err(io::Error::from_raw_os_error(libc::ENOSYS)),
            true => Ok(()),
        };
    }
    restrict(files).map_err(io::Error::other)
}

/// Why no domain was made.
#[derive(Debug, thiserror::Error)]
enum DomainError {
    #[error(transparent)]
    Ruleset(#[from] landlock::RulesetError),
    #[error(transparent)]
    Path(#[from] landlock::PathFdError),
}

/// The ruleset of a domain that leaves files as they are, for another process to enter; `None` where the kernel has no domains.
///
/// # Errors
/// When the kernel refuses what it has.
pub(super) fn ruleset() -> io::Result<Option<OwnedFd>> {
    if version() < 2 {
        return Ok(None);
    }
    Ok(rules(&FileRules::default())
        .map_err(io::Error::other)?
        .into())
}

fn restrict(files: &FileRules) -> Result<(), DomainError> {
    rules(files)?.no_new_privs(false).restrict_self()?;
    Ok(())
}

fn rules(files: &FileRules) -> Result<RulesetCreated, DomainError> {
    // Moving files between folders is forbidden in every domain that does not allow it.
    let moving = AccessFs::Refer;
    let mut handled = BitFlags::from(moving);
    if files.writable.is_some() {
        handled |= writing();
    }
    if !files.unreadable.is_empty() {
        handled |= reading();
    }
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(handled)?
        .scope(Scope::from_all(ABI::V6))?
        .create()?;
    let root = PathFd::new("/")?;
    ruleset = ruleset.add_rule(PathBeneath::new(root, moving))?;
    let written = files.writable.iter().flatten();
    for path in written.filter(|it| it.exists()) {
        ruleset = ruleset.add_rule(PathBeneath::new(PathFd::new(path)?, writing()))?;
    }
    if files.unreadable.is_empty() {
        return Ok(ruleset);
    }
    let around = beside(Path::new("/"), &files.unreadable);
    let read = files.readable.iter().filter(|it| it.exists());
    for path in read.chain(&around) {
        // What has gone since it was listed is nothing to read.
        if let Ok(path) = PathFd::new(path) {
            ruleset = ruleset.add_rule(PathBeneath::new(path, reading()))?;
        }
    }
    Ok(ruleset)
}

/// What is in a folder but for those folders, which are there or not: the largest parts that have none of them in them. No link is among
/// these, since it may lead into one; and of a folder that this process may pass and not list, nothing.
fn beside(folder: &Path, left_out: &[PathBuf]) -> Vec<PathBuf> {
    if !left_out.iter().any(|path| path.starts_with(folder)) {
        return vec![folder.to_owned()];
    }
    if left_out.iter().any(|path| path == folder) {
        return vec![];
    }
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let is_link = |kind: std::fs::FileType| kind.is_symlink();
    let entries = entries.filter(|entry| !entry.file_type().is_ok_and(is_link));
    entries
        .flat_map(|entry| beside(&entry.path(), left_out))
        .collect()
}

/// What reads files and executes them. Names are for all to see.
fn reading() -> BitFlags<AccessFs> {
    AccessFs::ReadFile | AccessFs::Execute
}

/// What changes files and folders.
fn writing() -> BitFlags<AccessFs> {
    AccessFs::from_write(ABI::V3) & !BitFlags::from(AccessFs::Refer)
}

/// The version of Landlock's interface; 0 where there is none.
#[allow(unsafe_code, reason = "the crate does not tell it")]
pub(super) fn version() -> i64 {
    /// `LANDLOCK_CREATE_RULESET_VERSION`
    const VERSION: u32 = 1;
    let none = std::ptr::null::<libc::c_void>();
    // SAFETY: takes no attributes with this flag.
    unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, none, 0_usize, VERSION) }.max(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beside_a_folder_is_all_else_and_no_link() {
        let top = tempfile::tempdir().expect("a folder");
        let top = top.path();
        for folder in ["a/state/data", "a/other", "b"] {
            std::fs::create_dir_all(top.join(folder)).expect("made");
        }
        std::fs::write(top.join("a/file"), "x").expect("written");
        std::os::unix::fs::symlink(top.join("a/state"), top.join("leads")).expect("made");
        let mut found = beside(top, &[top.join("a/state"), top.join("not/there")]);
        found.sort();
        let all = ["a/file", "a/other", "b"].map(|path| top.join(path));
        assert_eq!(found, all);
        assert_eq!(beside(&top.join("b"), &[top.join("a")]), [top.join("b")]);
    }
}

//! A Landlock domain for each worker (landlock(7)).
//!
//! With `sandbox = "standard"` it leaves files as they are, since what a server needs of them nobody knows beforehand; what of them it sees is up to its user
//! and mounts. What it brings: no process in it reaches the memory, environment or descriptors of one outside
//! (ptrace(2)), and none mounts anything. From Linux 6.12 on, none sends signals to one outside, or connects to its abstract
//! sockets.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
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

/// Puts this process, and what it starts, into a domain of its own, as far as the kernel has them. The process must not be
/// able to gain privileges any more. Where paths are given that it may write to, it may write to no other, and the kernel must have
/// domains.
///
/// # Errors
/// When the kernel refuses what it has, or has not what is needed.
pub(super) fn enter(writable: Option<Vec<PathBuf>>) -> io::Result<()> {
    if version() < 2 {
        return match writable {
            Some(_) => Err(io::Error::from_raw_os_error(libc::ENOSYS)),
            None => Ok(()),
        };
    }
    restrict(writable).map_err(io::Error::other)
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
    Ok(rules(None).map_err(io::Error::other)?.into())
}

fn restrict(writable: Option<Vec<PathBuf>>) -> Result<(), DomainError> {
    rules(writable)?.no_new_privs(false).restrict_self()?;
    Ok(())
}

fn rules(writable: Option<Vec<PathBuf>>) -> Result<RulesetCreated, DomainError> {
    // Moving files between folders is forbidden in every domain that does not allow it.
    let moving = AccessFs::Refer;
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(moving)?
        .handle_access(match &writable {
            Some(_) => writing(),
            None => moving.into(),
        })?
        .scope(Scope::from_all(ABI::V6))?
        .create()?;
    let root = PathFd::new("/")?;
    ruleset = ruleset.add_rule(PathBeneath::new(root, moving))?;
    for path in writable.into_iter().flatten().filter(|it| it.exists()) {
        ruleset = ruleset.add_rule(PathBeneath::new(PathFd::new(&path)?, writing()))?;
    }
    Ok(ruleset)
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

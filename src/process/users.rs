//! Whether this process may start others as other users, and reach what those have.

use std::fs;
use std::ops::RangeInclusive;

use nix::unistd::geteuid;

use super::capabilities::capabilities;
use super::subordinate::{NoSubordinateUsers, can_take_subordinate_users};

/// What is needed to start processes as other users, to have their files and to end them: names and numbers of
/// capabilities(7).
const NEEDED: [(&str, u32); 6] = [
    ("CAP_CHOWN", 0),
    ("CAP_DAC_OVERRIDE", 1),
    ("CAP_FOWNER", 3),
    ("CAP_KILL", 5),
    ("CAP_SETGID", 6),
    ("CAP_SETUID", 7),
];
/// Numbers of capabilities in capabilities(7).
const CAP_SYS_PTRACE: u32 = 19;
const CAP_SYS_ADMIN: u32 = 21;

/// Why workers cannot have users of their own.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum NoUsers {
    /// The file says that there are to be none.
    #[error("`sandbox.uids` is \"none\"")]
    NotWanted,
    /// stdiopool runs as another user than root, and why it has no subordinate users; `None`: it could have them.
    #[error("stdiopool does not run as root{}", because(.0.as_ref()))]
    NotRoot(Option<NoSubordinateUsers>),
    /// stdiopool is root with less than what root has.
    #[error("root lacks {0} here")]
    Lacks(String),
    /// The numbers mean nothing here, as in a container with a user namespace of its own.
    #[error("the users {0} do not exist in this user namespace (/proc/self/uid_map)")]
    NotMapped(String),
}

fn because(why: Option<&NoSubordinateUsers>) -> String {
    why.map_or_else(String::new, |why| {
        format!(", and has no subordinate users: {why}")
    })
}

/// Whether processes can be started as each of those users, with groups of equal numbers.
///
/// # Errors
/// [`NoUsers`]: why not.
pub(crate) fn can_have_users(range: &RangeInclusive<u32>) -> Result<(), NoUsers> {
    if !geteuid().is_root() {
        return Err(NoUsers::NotRoot(can_take_subordinate_users(range).err()));
    }
    let has = capabilities();
    let lacks = NEEDED
        .iter()
        .filter(|(_, number)| has & (1 << number) == 0)
        .map(|(name, _)| *name);
    let lacks: Vec<_> = lacks.collect();
    if !lacks.is_empty() {
        return Err(NoUsers::Lacks(lacks.join(", ")));
    }
    let is_mapped = |file: &str| fs::read_to_string(file).is_ok_and(|map| covers(&map, range));
    if is_mapped("/proc/self/uid_map") && is_mapped("/proc/self/gid_map") {
        return Ok(());
    }
    let (first, last) = (range.start(), range.end());
    Err(NoUsers::NotMapped(format!("{first}-{last}")))
}

/// Whether this process may look into those of other users (ptrace(2), `PTRACE_MODE_READ`).
pub(crate) fn may_look_into_others() -> bool {
    capabilities() & (1 << CAP_SYS_PTRACE) != 0
}

/// Whether this process may mount what it likes for those that it starts, without a user namespace: in one, those could
/// not become other users.
pub(crate) fn may_mount() -> bool {
    capabilities() & (1 << CAP_SYS_ADMIN) != 0
}

/// Whether a map of user_namespaces(7) has the whole range in one piece.
fn covers(map: &str, range: &RangeInclusive<u32>) -> bool {
    map.lines().any(|line| {
        let mut fields = line
            .split_ascii_whitespace()
            .map(|text| text.parse::<u64>().ok());
        let (Some(Some(inside)), Some(Some(_)), Some(Some(count))) =
            (fields.next(), fields.next(), fields.next())
        else {
            return false;
        };
        u64::from(*range.start()) >= inside && u64::from(*range.end()) < inside + count
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_to_be_mapped_whole() {
        let whole = "         0          0 4294967295\n";
        let container = "         0     100000      65536\n";
        assert!(covers(whole, &(2_100_000_000..=2_100_065_535)));
        assert!(!covers(container, &(2_100_000_000..=2_100_065_535)));
        assert!(covers(container, &(30_000..=59_999)));
        assert!(!covers(container, &(60_000..=65_536)));
        assert!(!covers("", &(1..=1)));
    }
}

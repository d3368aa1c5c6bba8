//! Gives a folder and all in it to a user, as when an earlier version has run its servers as another.
//!
//! Servers wrote what is in the folder: a link is given away as the link it is, never what it leads to, and a
//! file that also has a name outside of the folder stays as it is, since it may be anybody's.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use nix::unistd::{Gid, Uid, fchown, fchownat};

/// Folders in each other that are looked into. Each is held open while those in it are looked at.
const MAX_DEPTH: usize = 256;
/// Files and folders that are looked at.
const MAX_ITEMS: usize = 5_000_000;

/// Why a folder was not given away.
#[derive(Debug, thiserror::Error)]
#[error("{} cannot be given to user {user}: {source}", path.display())]
pub struct OwnerError {
    path: PathBuf,
    user: u32,
    source: io::Error,
}

/// The files and folders whose owner changed, counted.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct OwnerChange {
    /// Files, folders and links.
    pub items: usize,
    /// Files that stay whose they are, for they have a name elsewhere too.
    pub kept: usize,
}

/// Makes a folder and all in it the user's, and the group's of that number, unless the folder is theirs already: the
/// folder itself comes last, so that what was interrupted is done again. Enters no other file system. Blocks.
///
/// Nobody who is not trusted may be able to write in the folder meanwhile. The folder is someone else's until the end, so that
/// nobody can where it has mode 0700.
///
/// # Errors
/// [`OwnerError`] when the system refuses, or there is too much in it.
pub fn give(folder: &Path, user: u32) -> Result<OwnerChange, OwnerError> {
    let failed = |source| OwnerError {
        path: folder.to_owned(),
        user,
        source,
    };
    let meta = folder.symlink_metadata().map_err(failed)?;
    if meta.uid() == user && meta.gid() == user {
        return Ok(OwnerChange::default());
    }
    give_all(folder, user, MAX_ITEMS).map_err(failed)
}

fn give_all(folder: &Path, user: u32, max_items: usize) -> io::Result<OwnerChange> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let root = open(folder, flags, Mode::empty())?;
    let mut giving = Giving {
        user: Uid::from_raw(user),
        group: Gid::from_raw(user),
        device: fstat(&root)?.st_dev,
        max_items,
        given: OwnerChange::default(),
        names: HashMap::new(),
    };
    giving.folder(&root, 0, Round::Count)?;
    giving.given = OwnerChange::default();
    giving.folder(&root, 0, Round::Give)?;
    fchown(&root, Some(giving.user), Some(giving.group))?;
    giving.given.items += 1;
    Ok(giving.given)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Round {
    /// Names of files that have several are counted.
    Count,
    /// What may be given is.
    Give,
}

struct Giving {
    user: Uid,
    group: Gid,
    device: u64,
    max_items: usize,
    given: OwnerChange,
    /// Names below the folder of files that have several, by their inode.
    names: HashMap<u64, u64>,
}

impl Giving {
    fn folder(&mut self, folder: &OwnedFd, depth: usize, round: Round) -> io::Result<()> {
        if depth > MAX_DEPTH {
            return Err(io::Error::other("too many folders in each other"));
        }
        for name in names(folder)? {
            self.given.items += 1;
            if self.given.items > self.max_items {
                return Err(io::Error::other("too many files"));
            }
            let stat = match fstatat(folder, name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::ENOENT) => continue,
                Err(errno) => return Err(errno.into()),
            };
            if stat.st_dev != self.device {
                continue;
            }
            if is_folder(&stat) {
                let flags =
                    OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                let inner = openat(folder, name.as_os_str(), flags, Mode::empty())?;
                self.folder(&inner, depth + 1, round)?;
                if round == Round::Give {
                    fchown(&inner, Some(self.user), Some(self.group))?;
                }
            } else if stat.st_nlink > 1 && round == Round::Count {
                *self.names.entry(stat.st_ino).or_default() += 1;
            } else if round == Round::Give {
                if self.has_names_elsewhere(&stat) {
                    self.given.kept += 1;
                    continue;
                }
                let flags = AtFlags::AT_SYMLINK_NOFOLLOW;
                let (user, group) = (Some(self.user), Some(self.group));
                fchownat(folder, name.as_os_str(), user, group, flags)?;
            }
        }
        Ok(())
    }

    fn has_names_elsewhere(&self, stat: &FileStat) -> bool {
        #[allow(
            clippy::useless_conversion,
            reason = "the type of the field is another on other processors"
        )]
        let all = u64::from(stat.st_nlink);
        all > 1 && self.names.get(&stat.st_ino).copied().unwrap_or(0) < all
    }
}

fn is_folder(stat: &FileStat) -> bool {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFDIR
}

/// Names in an open folder, read at once: what is done with each may change the folder.
fn names(folder: &OwnedFd) -> io::Result<Vec<OsString>> {
    let path = format!("/proc/self/fd/{}", folder.as_fd().as_raw_fd());
    let items = std::fs::read_dir(path)?;
    items.map(|item| Ok(item?.file_name())).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const USER: u32 = 2_100_065_000;

    #[test]
    fn all_is_given_but_what_has_a_name_elsewhere_and_no_link_is_followed() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: only root gives files away");
            return;
        }
        let base = tempfile::tempdir().expect("a folder");
        let at = |name: &str| base.path().join(name);
        std::fs::create_dir_all(at("own/a/b")).expect("made");
        for name in ["own/a/b/file", "own/twice", "elsewhere", "behind"] {
            std::fs::write(at(name), "x").expect("written");
        }
        std::fs::hard_link(at("own/twice"), at("own/a/again")).expect("linked");
        std::fs::hard_link(at("elsewhere"), at("own/a/planted")).expect("linked");
        symlink(at("behind"), at("own/link")).expect("linked");
        symlink(base.path(), at("own/up")).expect("linked");
        let given = give(&at("own"), USER).expect("given");
        let owner = |name: &str| at(name).symlink_metadata().expect("there").uid();
        for name in [
            "own",
            "own/a",
            "own/a/b",
            "own/a/b/file",
            "own/twice",
            "own/a/again",
            "own/link",
        ] {
            assert_eq!(owner(name), USER, "{name}");
        }
        for name in ["elsewhere", "own/a/planted", "behind", "."] {
            assert_eq!(owner(name), 0, "{name}");
        }
        assert_eq!(given.kept, 1);
        let again = give(&at("own"), USER).expect("theirs");
        assert_eq!(again, OwnerChange::default(), "nothing is looked at again");
    }

    #[test]
    fn nothing_is_given_of_a_folder_with_too_much_in_it() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: only root gives files away");
            return;
        }
        let base = tempfile::tempdir().expect("a folder");
        let wide = base.path().join("wide");
        std::fs::create_dir(&wide).expect("made");
        for n in 0..3 {
            std::fs::write(wide.join(n.to_string()), "x").expect("written");
        }
        give_all(&wide, USER, 2).expect_err("three files");
        let owner = |path: &Path| path.symlink_metadata().expect("there").uid();
        assert_eq!((owner(&wide), owner(&wide.join("0"))), (0, 0));
        assert_eq!(give_all(&wide, USER, 3).expect("given").items, 4);

        let deep = base.path().join("deep");
        std::fs::create_dir_all(deep.join("d/".repeat(MAX_DEPTH + 1))).expect("made");
        give(&deep, USER).expect_err("too deep");
        assert_eq!((owner(&deep), owner(&deep.join("d"))), (0, 0));
        let innermost = deep.join("d/".repeat(MAX_DEPTH + 1));
        std::fs::remove_dir(innermost).expect("removed");
        give(&deep, USER).expect("given");
    }
}

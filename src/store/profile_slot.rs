//! Where `stdiopool profile` runs a server: a state folder and a user of its own, both for a while, beside whatever is served from the same
//! state folder.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::ops::RangeInclusive;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::users::{users_of_processes, users_of_profiles};
use crate::folders;

/// The folder in the state folder.
const FOLDER: &str = "profile";
/// How many servers can be profiled at once where none has a user of its own.
const WITHOUT_USERS: u32 = 16;
/// Users of each: one for the tenant, and one for processes that are nobody's at first.
const USERS: u32 = 2;

/// Why there is no place for a profile.
#[derive(Debug, thiserror::Error)]
pub enum ProfileSlotError {
    /// The range has no users beside those of tenants.
    #[error(
        "`sandbox.uids` has no users to spare for a profile, which must not share one with a tenant: it takes a range of at least 64"
    )]
    NoUsers,
    /// All slots are in use.
    #[error(
        "as many servers are profiled already as there are slots for ({0}): wait for one to end"
    )]
    Busy(u32),
    /// The system refuses.
    #[error("{}: cannot {what}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

fn failed(path: &Path, what: &'static str) -> impl FnOnce(io::Error) -> ProfileSlotError {
    let path = path.to_owned();
    move |source| ProfileSlotError::Io { path, what, source }
}

/// A place for one profile. The folder goes with this value, and the users are another profile's from then on.
#[derive(Debug)]
pub struct ProfileSlot {
    state: PathBuf,
    folder: PathBuf,
    users: Option<RangeInclusive<u32>>,
    _lock: Flock<File>,
}

impl ProfileSlot {
    /// Takes a place in the state folder at `state`, which is made if there is none; with two of the users in `range` that are no tenant's,
    /// where servers have users of their own. What a profile has left that was killed is removed.
    ///
    /// # Errors
    /// [`ProfileSlotError`] when there is none.
    pub fn take(
        state: &Path,
        range: Option<&RangeInclusive<u32>>,
    ) -> Result<Self, ProfileSlotError> {
        let base = state.join(FOLDER);
        let mut private = DirBuilder::new();
        private.recursive(true).mode(0o700);
        private.create(&base).map_err(failed(&base, "create"))?;
        let state = state.canonicalize().map_err(failed(state, "resolve"))?;
        let base = base.canonicalize().map_err(failed(&base, "resolve"))?;
        let slots: Vec<(u32, Option<RangeInclusive<u32>>)> = match range {
            None => (0..WITHOUT_USERS).map(|n| (n, None)).collect(),
            Some(range) => {
                let users = users_of_profiles(range);
                // A short name: paths of sockets below it have 107 bytes at the most (unix(7)).
                let firsts = (0..).zip(users.step_by(USERS as usize));
                firsts
                    .map(|(n, first)| (n, Some(first..=first + USERS - 1)))
                    .collect()
            }
        };
        if slots.is_empty() {
            return Err(ProfileSlotError::NoUsers);
        }
        let count = u32::try_from(slots.len()).unwrap_or(u32::MAX);
        // Of another state folder with the same range, or left by something that was killed.
        let running = users_of_processes();
        for (number, users) in slots {
            let is_in_use = |users: &RangeInclusive<u32>| {
                let mut all = users.clone();
                all.any(|user| running.contains(&user))
            };
            if users.as_ref().is_some_and(is_in_use) {
                continue;
            }
            let Some(lock) = lock(&base.join(format!("{number}.lock")))? else {
                continue;
            };
            let folder = base.join(number.to_string());
            let removed = folders::remove(&folder).map_err(io::Error::other);
            removed.map_err(failed(&folder, "remove what an earlier profile left"))?;
            return Ok(Self {
                state,
                folder,
                users,
                _lock: lock,
            });
        }
        Err(ProfileSlotError::Busy(count))
    }

    /// The state folder that is served otherwise, absolute.
    pub fn served(&self) -> &Path {
        &self.state
    }

    /// The state folder of the profile.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The users that servers run as, where they have some.
    pub fn users(&self) -> Option<&RangeInclusive<u32>> {
        self.users.as_ref()
    }
}

impl Drop for ProfileSlot {
    fn drop(&mut self) {
        // Before the lock is released.
        if let Err(error) = folders::remove(&self.folder) {
            tracing::warn!("the folder of the profile stays until the next one: {error}");
        }
    }
}

/// The lock at a path; `None` while another process has it.
fn lock(path: &Path) -> Result<Option<Flock<File>>, ProfileSlotError> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true).mode(0o600);
    let file = options.open(path).map_err(failed(path, "open"))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => Err(failed(path, "lock")(errno.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_profiles_have_a_user_in_common_and_none_has_a_tenants() {
        let base = tempfile::tempdir().expect("a folder");
        let range = 2_100_100_000..=2_100_100_511;
        let profiles = users_of_profiles(&range);
        let mut taken = Vec::new();
        let busy = loop {
            match ProfileSlot::take(base.path(), Some(&range)) {
                Ok(slot) => taken.push(slot),
                Err(error) => break error,
            }
        };
        assert!(matches!(busy, ProfileSlotError::Busy(_)), "{busy}");
        let users: Vec<u32> = taken
            .iter()
            .flat_map(|slot| slot.users().cloned().expect("some"))
            .collect();
        assert_eq!(users, profiles.collect::<Vec<_>>());
        let folder = taken[0].folder().to_owned();
        std::fs::create_dir(&folder).expect("made");
        taken.remove(0);
        assert!(!folder.exists());
        ProfileSlot::take(base.path(), Some(&range)).expect("given back");
        let narrow = 2_100_100_000..=2_100_100_015;
        let none = ProfileSlot::take(base.path(), Some(&narrow)).expect_err("all are tenants'");
        assert!(matches!(none, ProfileSlotError::NoUsers), "{none}");
    }
}

//! Keeps apart what runs code of packages when they are installed: install scripts of npm's, builds and bytecode of PyPI's.
//!
//! Each install has a place of its own for a while: a folder with HOME, TMPDIR and a cache for npm or uv, which go with it; as root a
//! user, whom no process has. Commands write there and to the folder that they install
//! into, which is theirs meanwhile and stdiopool's again before anything in it is looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{DirBuilder, File, Permissions};
use std::io;
use std::ops::RangeInclusive;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::fcntl::Flock;

use super::cache::{Cache, CacheError, failed};
use super::helper::Helper;
use super::install_error::InstallError;
use super::workspace::Workspace;
use crate::folders;
use crate::launch::{Confinement, InstallGroup, installation_of};
use crate::process::ProcessTable;

/// Folders of programs in which links are not followed, with all below.
const SYSTEM: [&str; 4] = ["/bin", "/sbin", "/usr/bin", "/usr/sbin"];
/// Entries of a folder of programs that are looked at, at most.
const MAX_LINKS: usize = 4096;

/// How often a user that other installs have is asked for again.
const USER_PERIOD: Duration = Duration::from_millis(200);
/// How long one is waited for: longer than an install takes.
const USER_TIMEOUT: Duration = Duration::from_secs(1800);

/// The place of one install.
#[derive(Debug)]
pub(super) struct InstallPlace {
    cache: Cache,
    scratch: Workspace,
    user: Option<u32>,
    group: Option<Arc<dyn InstallGroup>>,
    /// The user is nobody else's as long as this is held.
    _user: Option<Flock<File>>,
}

impl InstallPlace {
    /// A place for an install into that cache, whose commands are in that control group. Waits for a user where all are others'.
    ///
    /// # Errors
    /// [`CacheError`] when the system refuses, or no user becomes free.
    ///
    /// # Cancel-Safety
    /// Cancel-safe.
    pub(super) async fn new(
        cache: &Cache,
        group: Option<Arc<dyn InstallGroup>>,
    ) -> Result<Self, CacheError> {
        let users = cache.sandbox().and_then(|sandbox| sandbox.users.clone());
        let user = match users {
            Some(users) => Some(free_user(cache, users).await?),
            None => None,
        };
        let scratch = cache.workspace()?;
        for folder in ["home", "tmp", "npm", "uv"] {
            let path = scratch.path().join(folder);
            let made = DirBuilder::new().mode(0o700).create(&path);
            made.map_err(failed(&path, "create"))?;
        }
        let (user, lock) = user.map_or((None, None), |(user, lock)| (Some(user), Some(lock)));
        Ok(Self {
            cache: cache.clone(),
            scratch,
            user,
            group,
            _user: lock,
        })
    }

    /// A cache of npm's, or uv's, for this install alone.
    pub(super) fn downloads(&self, installer: &str) -> PathBuf {
        self.scratch.path().join(installer)
    }

    /// Where a file of settings is put that only this install reads.
    pub(super) fn settings(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// Sets folders of its own in an environment; HOME only where none is given.
    pub(super) fn set_folders(&self, env: &mut BTreeMap<String, String>, has_home: bool) {
        let at = |name: &str| self.scratch.path().join(name).display().to_string();
        if !has_home {
            env.insert("HOME".to_owned(), at("home"));
        }
        for (name, folder) in [
            ("TMPDIR", "tmp"),
            ("npm_config_cache", "npm"),
            ("UV_CACHE_DIR", "uv"),
        ] {
            env.insert(name.to_owned(), at(folder));
        }
    }

    /// Whether what runs here may read a file, by its mode.
    pub(super) fn may_read(&self, path: &Path) -> bool {
        let user = self.user;
        user.is_none_or(|user| crate::launch::unreadable_itself(path, user).is_none())
    }

    /// How a command is run that works in the folder `dir`, which is its own until it is taken back.
    ///
    /// # Errors
    /// When the folder cannot be given to the install's user.
    pub(super) fn helper<'a>(
        &'a self,
        dir: &'a Path,
        env: &'a BTreeMap<String, String>,
        lock: &'a File,
    ) -> Result<Helper<'a>, InstallError> {
        let own = [self.scratch.path(), dir];
        if let Some(user) = self.user {
            for folder in own {
                folders::give(folder, user).map_err(InstallError::NotGiven)?;
            }
        }
        let confinement = self.cache.sandbox().map(|sandbox| {
            if self.user.is_some() && !sandbox.can_mount {
                for folder in own {
                    let_pass(folder, &sandbox.hidden);
                }
            }
            let groups = self.group.iter();
            Confinement {
                user: self.user,
                hidden: sandbox.hidden.clone(),
                own: own.map(Path::to_owned).to_vec(),
                shared: shared(env, &sandbox.hidden),
                can_mount: sandbox.can_mount,
                max_processes: sandbox.max_processes,
                max_memory: sandbox.max_memory_beside(self.group.as_deref()),
                groups: groups.flat_map(|group| group.procs_files()).collect(),
            }
        });
        Ok(Helper {
            env,
            dir,
            lock,
            timeout: self.cache.timeout(),
            confinement,
            group: self.group.as_deref(),
        })
    }

    /// Makes a folder stdiopool's own again. Nothing that was started for it may be left. Blocks.
    ///
    /// # Errors
    /// When the system refuses, or a file in it has a name elsewhere, where it may be anybody's.
    pub(super) fn take_back(&self, dir: &Path) -> Result<(), InstallError> {
        if self.user.is_none() {
            return Ok(());
        }
        let given = folders::give(dir, nix::unistd::geteuid().as_raw());
        match given.map_err(InstallError::NotGiven)?.kept {
            0 => Ok(()),
            count => Err(InstallError::NamedElsewhere(count)),
        }
    }
}

/// A user of the range that no install has, in this process or another, and no process.
async fn free_user(
    cache: &Cache,
    users: RangeInclusive<u32>,
) -> Result<(u32, Flock<File>), CacheError> {
    let since = tokio::time::Instant::now();
    loop {
        for user in users.clone() {
            // What a cancelled install has started may be ending still.
            if let Some(lock) = cache.try_lock(&format!("user-{user}"))?
                && !has_processes(user)
            {
                return Ok((user, lock));
            }
        }
        if since.elapsed() > USER_TIMEOUT {
            let busy = io::Error::from(io::ErrorKind::WouldBlock);
            let what = "all users of installs are in use (widen `sandbox.uids`)";
            return Err(failed(cache.root(), what)(busy));
        }
        tokio::time::sleep(USER_PERIOD).await;
    }
}

fn has_processes(user: u32) -> bool {
    let pids = ProcessTable::scan().map(|table| table.pids());
    let is_of = |pid: u32| {
        let meta = std::fs::metadata(format!("/proc/{pid}"));
        meta.is_ok_and(|meta| meta.uid() == user)
    };
    pids.unwrap_or_default().into_iter().any(is_of)
}

/// Lets everybody pass the folders above one, as far as nothing but permissions closes them: nobody lists them.
fn let_pass(folder: &Path, hidden: &[PathBuf]) {
    let above = folder.ancestors().skip(1);
    for folder in above.take_while(|it| hidden.iter().any(|top| it.starts_with(top))) {
        let Ok(meta) = folder.metadata() else {
            continue;
        };
        let mode = Permissions::from_mode(meta.permissions().mode() | 0o111);
        // What it takes and fails is told by the command, which does not come to its folder.
        let _told_later = std::fs::set_permissions(folder, mode);
    }
}

/// What commands with that environment read, wherever it is: programs on the PATH with what they need, and files and folders that
/// variables name. Nothing that is hidden.
pub(super) fn shared(env: &BTreeMap<String, String>, hidden: &[PathBuf]) -> Vec<PathBuf> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let mut shared = Vec::new();
    for (name, value) in env {
        if name != "PATH" {
            let path = PathBuf::from(value);
            shared.extend((path.is_absolute() && path.parent().is_some()).then_some(path));
            continue;
        }
        for folder in std::env::split_paths(value).filter(|it| it.is_absolute()) {
            shared.extend(linked_programs(&folder));
            let real = folder.canonicalize().ok().filter(|real| *real != folder);
            for folder in std::iter::once(folder).chain(real) {
                shared.extend(installation_of(&folder, home.as_deref()));
            }
        }
    }
    let is_hidden = |path: &PathBuf| {
        let real = path.canonicalize();
        let real = real.as_ref().unwrap_or(path);
        hidden.iter().any(|it| real.starts_with(it))
    };
    shared.retain(|path| !is_hidden(path));
    shared.sort();
    shared.dedup();
    shared
}

/// The programs elsewhere that a folder of programs has links to: shims of mise are links to mise itself, which may be in `~/.local/bin`. Folders of
/// the system have none that would not be shared anyway.
fn linked_programs(folder: &Path) -> BTreeSet<PathBuf> {
    let is_of_system = SYSTEM.iter().any(|system| folder.starts_with(system));
    let entries = (!is_of_system).then(|| folder.read_dir().ok()).flatten();
    let entries = entries.into_iter().flatten().flatten().take(MAX_LINKS);
    let links = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_symlink()));
    links
        .filter_map(|link| link.path().canonicalize().ok())
        .filter(|program| is_program(program) && !program.starts_with(folder))
        .collect()
}

/// Whether a path is that of a file that may be run. What else a folder on the PATH has links to is nothing that an install needs.
fn is_program(path: &Path) -> bool {
    let meta = path.metadata();
    meta.is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_links_lead_to_is_read_too() {
        let base = tempfile::tempdir().expect("a folder");
        let base = base.path().canonicalize().expect("it is there");
        let at = |name: &str| base.join(name);
        for folder in ["share/manager/shims", "programs"] {
            std::fs::create_dir_all(at(folder)).expect("made");
        }
        for (name, mode) in [("manager", 0o755), ("other", 0o755), ("notes", 0o600)] {
            let file = at("programs").join(name);
            std::fs::write(&file, "x").expect("written");
            std::fs::set_permissions(&file, Permissions::from_mode(mode)).expect("set");
        }
        for (link, target) in [
            ("node", at("programs/manager")),
            ("npm", at("programs/manager")),
            ("gone", at("programs/gone")),
            ("notes", at("programs/notes")),
            ("folder", at("programs")),
        ] {
            let link = at("share/manager/shims").join(link);
            std::os::unix::fs::symlink(target, link).expect("linked");
        }
        let path = at("share/manager/shims").display().to_string();
        let env = BTreeMap::from([("PATH".to_owned(), path)]);
        let expected = [at("programs/manager"), at("share/manager")];
        assert_eq!(shared(&env, &[]), expected);
        assert_eq!(shared(&env, &[at("programs")]), expected[1..]);
    }

    #[test]
    fn installs_read_what_their_environment_names_and_nothing_that_is_hidden() {
        let set = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let env = BTreeMap::from([
            set("PATH", "/opt/node/bin:bin:/usr/bin"),
            set("NODE_EXTRA_CA_CERTS", "/etc/own/ca.pem"),
            set("UV_CACHE_DIR", "/srv/state/packages/downloads/uv"),
            set("X", "relative"),
            set("Y", "/"),
        ]);
        let shared = shared(&env, &["/srv/state".into()]);
        assert!(shared.contains(&"/opt/node".into()), "{shared:?}");
        assert!(shared.contains(&"/etc/own/ca.pem".into()), "{shared:?}");
        let is_wrong = |path: &PathBuf| path.starts_with("/srv") || path.parent().is_none();
        assert!(!shared.iter().any(is_wrong), "{shared:?}");
    }
}

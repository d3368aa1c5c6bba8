//! The folder of the package cache: references, entries, locks.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use serde::{Deserialize, Serialize};

use super::downloads::Left;
use super::manifest::ABOUT;
use super::scripts::Unscripted;
use crate::folders::{self, Temporary};

/// How long one command of npm or uv may take unless something else is configured: downloads on a slow line, and builds of
/// native parts.
const DEFAULT_PATIENCE: Duration = Duration::from_secs(600);
/// How often a lock that another process holds is tried again.
const LOCK_PERIOD: Duration = Duration::from_millis(200);
/// How long such a lock is waited for: longer than an install takes.
const LOCK_PATIENCE: Duration = Duration::from_secs(1800);
/// How long an entry that no reference names is kept: another process may be about to name it.
const ORPHAN_AGE: Duration = Duration::from_secs(3600);

/// Folders with entries: of PyPI, and of npm. The latter is called as npx calls its own, as there are install scripts that
/// look whether they are in it.
const ENTRIES: [&str; 2] = ["entries", "_npx"];

/// What is written down of an entry, in it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct About {
    /// The request, for people.
    pub(super) package: String,
    /// The version of the package that is run.
    pub(super) version: String,
    /// Digest of the manifest.
    pub(super) manifest: String,
    /// Install scripts that did not run.
    #[serde(default)]
    pub(super) unscripted: Option<Unscripted>,
    /// What install scripts have left beside the packages.
    #[serde(default)]
    pub(super) left: Left,
}

/// Why the cache cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the package cache {} cannot be used: {what}: {source}", path.display())]
pub struct CacheError {
    path: PathBuf,
    what: &'static str,
    source: io::Error,
}

fn failed(path: &Path, what: &'static str) -> impl FnOnce(io::Error) -> CacheError {
    let path = path.to_owned();
    move |source| CacheError { path, what, source }
}

/// The package cache. Cheap to clone; nothing is held open.
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
    /// How long one command of an install may take, in milliseconds.
    patience: Arc<AtomicU64>,
}

/// What a request was resolved to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Reference {
    /// The request, for people.
    pub(super) request: String,
    /// The entry it was resolved to.
    pub(super) entry: String,
    /// The version of the package that is run.
    pub(super) version: String,
    /// When that was found out, in seconds since 1970.
    pub(super) checked: u64,
}

/// What is known of an installed package without its request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Known {
    /// As it was asked for.
    pub package: String,
    /// Its version.
    pub version: String,
    /// Install scripts that did not run.
    pub unscripted: Option<Unscripted>,
    /// What its install scripts have left beside the packages.
    pub left: Left,
}

impl Cache {
    /// Opens the cache, and makes its folders if they are not there.
    ///
    /// # Errors
    /// [`CacheError`] when the system refuses.
    pub fn open(root: &Path) -> Result<Self, CacheError> {
        let all = ["refs", "locks", "home", "tmp", "downloads"];
        for folder in all.into_iter().chain(ENTRIES) {
            let folder = root.join(folder);
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&folder)
                .map_err(failed(&folder, "create"))?;
            // Someone may have taken them away. Where that is not ours to mend, what needs them says so.
            let _kept = set_mode(&folder, |mode| mode | 0o700);
        }
        // Names in it are used in shebangs and for comparison: they must stay true.
        let root = root.canonicalize().map_err(failed(root, "resolve"))?;
        let patience = Arc::default();
        let cache = Self { root, patience };
        cache.set_patience(DEFAULT_PATIENCE);
        Ok(cache)
    }

    /// How long one command of an install may take.
    pub(super) fn patience(&self) -> Duration {
        Duration::from_millis(self.patience.load(Ordering::Relaxed))
    }

    /// Lets one command of an install take so long, of those that begin from now on.
    pub fn set_patience(&self, patience: Duration) {
        let millis = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
        self.patience.store(millis, Ordering::Relaxed);
    }

    /// HOME of installs: what their scripts leave there is nobody's.
    pub(super) fn home(&self) -> PathBuf {
        self.root.join("home")
    }

    /// Where what an installer has downloaded is kept: no worker is told of it.
    pub(super) fn downloads(&self, installer: &str) -> PathBuf {
        self.root.join("downloads").join(installer)
    }

    /// The folder of the cache.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Where things are made that become something else later; see [`Workspace`].
    fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// A new folder to work in, which is not taken for a leftover as long as the value lives.
    ///
    /// # Errors
    /// [`CacheError`] when the system refuses.
    pub(super) fn workspace(&self) -> Result<Workspace, CacheError> {
        let tmp = self.tmp();
        let make = || {
            let _kept = self.keep_tmp()?;
            let folder = Temporary::new(tempfile::Builder::new().tempdir_in(&tmp)?);
            let lock = File::open(folder.path())?;
            let lock = Flock::lock(lock, FlockArg::LockShared).map_err(|(_, errno)| errno)?;
            Ok(Workspace {
                _lock: lock,
                folder,
            })
        };
        make().map_err(failed(&tmp, "make a folder in it"))
    }

    /// As long as this is held, nothing in `tmp` is taken for a leftover. Waits for a rename at the most.
    fn keep_tmp(&self) -> io::Result<Flock<File>> {
        let folder = File::open(self.tmp())?;
        Ok(Flock::lock(folder, FlockArg::LockShared).map_err(|(_, errno)| errno)?)
    }

    /// Puts aside what installs have left that were killed, and removes it in the background. What another
    /// process works in stays.
    pub fn clear_leftovers(&self) {
        let tmp = self.tmp();
        let put_aside = || {
            let folder = File::open(&tmp)?;
            // Someone is making something just now: there is a next time.
            let Ok(_alone) = Flock::lock(folder, FlockArg::LockExclusiveNonblock) else {
                return Ok(());
            };
            for entry in std::fs::read_dir(&tmp)? {
                let entry = entry?;
                let is_trash = entry.file_name().to_str().is_some_and(folders::is_trash);
                if !is_trash && !is_worked_in(&entry.path()) {
                    folders::put_aside(&entry.path())?;
                }
            }
            io::Result::Ok(())
        };
        if let Err(error) = put_aside() {
            tracing::warn!(folder = %tmp.display(), %error, "what killed installs have left stays for now");
        }
        let mut all = vec![tmp];
        all.extend(ENTRIES.map(|folder| self.root.join(folder)));
        folders::empty_trash_in_background(all);
    }

    /// The folder of an entry.
    pub(super) fn entry(&self, entry: &str) -> PathBuf {
        let [of_pypi, of_npm] = ENTRIES;
        let folder = if entry.starts_with("npm-") {
            of_npm
        } else {
            of_pypi
        };
        self.root.join(folder).join(entry)
    }

    /// Whether an entry is whole.
    pub(super) fn is_whole(&self, entry: &str) -> bool {
        self.entry(entry).join(ABOUT).is_file()
    }

    /// What is written down of an entry.
    ///
    /// # Errors
    /// When that cannot be read: it is damaged.
    pub(super) fn about(&self, entry: &str) -> io::Result<About> {
        let text = std::fs::read(self.entry(entry).join(ABOUT))?;
        Ok(serde_json::from_slice(&text)?)
    }

    /// What is installed in the cache below `root`, of whatever servers, by package: nothing is made there. Blocks.
    pub fn installed(root: &Path) -> Vec<Known> {
        let cache = Self {
            root: root.to_owned(),
            patience: Arc::default(),
        };
        let refs = std::fs::read_dir(root.join("refs")).into_iter().flatten();
        let known = refs.flatten().filter_map(|item| {
            let name = item.file_name();
            let reference = cache.reference(name.to_str()?.strip_suffix(".json")?)?;
            let about = cache.about(&reference.entry).ok()?;
            Some(Known {
                package: reference.request,
                version: reference.version,
                unscripted: about.unscripted,
                left: about.left,
            })
        });
        let mut known: Vec<_> = known.collect();
        known.sort_by(|a, b| (&a.package, &a.version).cmp(&(&b.package, &b.version)));
        known.dedup();
        known
    }

    fn reference_path(&self, request: &str) -> PathBuf {
        self.root.join("refs").join(format!("{request}.json"))
    }

    /// What a request was resolved to, if its entry is whole.
    pub(super) fn reference(&self, request: &str) -> Option<Reference> {
        let text = std::fs::read(self.reference_path(request)).ok()?;
        let reference: Reference = serde_json::from_slice(&text).ok()?;
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let is_entry = reference.entry.chars().all(is_name) && self.is_whole(&reference.entry);
        is_entry.then_some(reference)
    }

    /// Writes down what a request was resolved to.
    pub(super) fn set_reference(
        &self,
        request: &str,
        reference: &Reference,
    ) -> Result<(), CacheError> {
        let path = self.reference_path(request);
        let write = || {
            let text = serde_json::to_vec_pretty(reference)?;
            let _kept = self.keep_tmp()?;
            let mut file = tempfile::NamedTempFile::new_in(self.tmp())?;
            io::Write::write_all(&mut file, &text)?;
            file.persist(&path)?;
            Ok(())
        };
        write().map_err(failed(&path, "write"))
    }

    /// Notes that a request is in use, so that it is kept.
    pub(super) fn touch(&self, request: &str) {
        let path = self.reference_path(request);
        let touched = File::options()
            .append(true)
            .open(&path)
            .and_then(|file| file.set_modified(SystemTime::now()));
        if let Err(error) = touched {
            tracing::debug!(path = %path.display(), %error, "the use of a package is not noted");
        }
    }

    /// Waits until nobody else holds that lock, and holds it. It is given up when the value is
    /// dropped and every command that was given it has ended.
    ///
    /// # Errors
    /// [`CacheError`] when the system refuses, or another process does not let go of it.
    ///
    /// # Cancel-Safety
    /// Cancel-safe.
    pub(super) async fn lock(&self, name: &str) -> Result<Flock<File>, CacheError> {
        let path = self.root.join("locks").join(name);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed(&path, "open a lock"))?;
        let since = tokio::time::Instant::now();
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(lock),
                Err((same, Errno::EWOULDBLOCK)) => file = same,
                Err((_, errno)) => return Err(failed(&path, "lock")(errno.into())),
            }
            if since.elapsed() > LOCK_PATIENCE {
                let held = io::Error::from(io::ErrorKind::WouldBlock);
                return Err(failed(&path, "another process holds a lock for too long")(
                    held,
                ));
            }
            tokio::time::sleep(LOCK_PERIOD).await;
        }
    }

    /// Makes a finished entry read-only.
    pub(super) fn seal(&self, entry: &str) -> Result<(), CacheError> {
        let path = self.entry(entry);
        make_read_only(&path).map_err(failed(&path, "make read-only"))
    }

    /// Removes an entry, whole or not.
    pub(super) fn remove(&self, entry: &str) -> Result<(), CacheError> {
        remove(&self.entry(entry))
    }

    /// Removes references that were not used for `keep`, and entries that none names and no worker
    /// runs (`is_running`). Returns how many entries went. Blocks.
    ///
    /// # Errors
    /// [`CacheError`] when the system refuses.
    pub fn collect(
        &self,
        keep: Duration,
        now: SystemTime,
        is_running: impl Fn(&str) -> bool,
    ) -> Result<usize, CacheError> {
        let mut named = std::collections::HashSet::new();
        for (name, age) in self.list("refs", now)? {
            let Some(request) = name.strip_suffix(".json") else {
                continue;
            };
            let reference = self.reference(request);
            match reference {
                Some(reference) if age < keep || is_running(&reference.entry) => {
                    named.insert(reference.entry);
                }
                _ => {
                    let path = self.reference_path(request);
                    std::fs::remove_file(&path).map_err(failed(&path, "remove"))?;
                }
            }
        }
        let mut removed = 0;
        for (path, entry, age) in self.entries(now)? {
            // Earlier versions had those of npm elsewhere.
            let is_named = named.contains(&entry) && path == self.entry(&entry);
            if is_named || is_running(&entry) || age < ORPHAN_AGE {
                continue;
            }
            // Whoever holds it makes use of it just now.
            let lock = self.root.join("locks").join(&entry);
            let held =
                File::create(&lock).map(|file| Flock::lock(file, FlockArg::LockExclusiveNonblock));
            if let Ok(Ok(_lock)) = held {
                remove(&path)?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Entries: where each is, its name, and how long ago it was changed.
    fn entries(&self, now: SystemTime) -> Result<Vec<(PathBuf, String, Duration)>, CacheError> {
        let mut all = Vec::new();
        for folder in ENTRIES {
            let found = self.list(folder, now)?.into_iter();
            all.extend(found.map(|(name, age)| (self.root.join(folder).join(&name), name, age)));
        }
        Ok(all)
    }

    /// Names in one of the folders, and how long ago each was changed.
    fn list(&self, folder: &str, now: SystemTime) -> Result<Vec<(String, Duration)>, CacheError> {
        let path = self.root.join(folder);
        let read = || {
            let mut found = Vec::new();
            for item in std::fs::read_dir(&path)? {
                let item = item?;
                let changed = item.metadata()?.modified()?;
                if let Ok(name) = item.file_name().into_string()
                    && !folders::is_trash(&name)
                {
                    found.push((name, now.duration_since(changed).unwrap_or_default()));
                }
            }
            Ok(found)
        };
        read().map_err(failed(&path, "list"))
    }
}

/// A folder in which something is made. It goes with this value; should the process be killed, the lock goes
/// with it, and the folder at the next start.
#[derive(Debug)]
pub(super) struct Workspace {
    folder: Temporary,
    _lock: Flock<File>,
}

impl Workspace {
    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Whether a process has that folder for its [`Workspace`].
fn is_worked_in(path: &Path) -> bool {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_DIRECTORY;
    let folder = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits())
        .open(path);
    // What cannot be opened so is no such folder.
    folder.is_ok_and(|folder| {
        let lock = Flock::lock(folder, FlockArg::LockExclusiveNonblock);
        matches!(lock, Err((_, Errno::EWOULDBLOCK)))
    })
}

/// Removes an entry: at once, so that nobody starts from half of it.
fn remove(path: &Path) -> Result<(), CacheError> {
    let aside = folders::put_aside(path).map_err(failed(path, "remove"))?;
    if let Some(aside) = aside
        && let Err(error) = folders::remove(&aside)
    {
        tracing::warn!("what is left of a package stays for now: {error}");
    }
    Ok(())
}

fn set_mode(path: &Path, change: impl FnOnce(u32) -> u32) -> io::Result<()> {
    let mode = path.symlink_metadata()?.permissions().mode();
    std::fs::set_permissions(path, Permissions::from_mode(change(mode)))
}

/// Takes the right to write in a folder and all below it from everyone.
fn make_read_only(path: &Path) -> io::Result<()> {
    let kind = path.symlink_metadata()?;
    if kind.is_symlink() {
        return Ok(());
    }
    set_mode(path, |mode| mode & !0o222)?;
    if kind.is_dir() {
        for item in std::fs::read_dir(path)? {
            make_read_only(&item?.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache() -> (Cache, tempfile::TempDir) {
        let folder = tempfile::tempdir().expect("a folder");
        (
            Cache::open(&folder.path().join("packages")).expect("opens"),
            folder,
        )
    }

    fn entry(cache: &Cache, name: &str) {
        let path = cache.entry(name);
        std::fs::create_dir_all(path.join("node_modules")).expect("made");
        std::fs::write(path.join("node_modules/x.js"), "1").expect("written");
        std::fs::write(path.join("entry.json"), "{}").expect("written");
        cache.seal(name).expect("sealed");
    }

    fn reference(entry: &str) -> Reference {
        Reference {
            request: "npm a".to_owned(),
            entry: entry.to_owned(),
            version: "1".to_owned(),
            checked: 0,
        }
    }

    #[test]
    fn a_reference_holds_only_as_long_as_its_entry_is_whole() {
        let (cache, _folder) = cache();
        entry(&cache, "npm-1");
        let written = reference("npm-1");
        cache.set_reference("r", &written).expect("written");
        assert_eq!(cache.reference("r"), Some(written));
        let mode = cache.entry("npm-1").join("node_modules/x.js");
        let mode = mode.metadata().expect("there").permissions().mode();
        assert_eq!(mode & 0o222, 0, "sealed entries are read-only");
        cache
            .remove("npm-1")
            .expect("removed, though it is read-only");
        assert_eq!(cache.reference("r"), None);
        cache
            .set_reference("r", &reference("../x"))
            .expect("written");
        assert_eq!(cache.reference("r"), None, "no name leads out of the cache");
    }

    #[test]
    fn what_nobody_uses_is_collected_and_what_runs_is_not() {
        let (cache, _folder) = cache();
        for name in ["npm-used", "npm-old", "npm-runs", "npm-orphan"] {
            entry(&cache, name);
        }
        for (request, entry) in [("a", "npm-used"), ("b", "npm-old"), ("c", "npm-runs")] {
            cache
                .set_reference(request, &reference(entry))
                .expect("written");
        }
        let day = Duration::from_secs(86_400);
        let later = SystemTime::now() + 40 * day;
        let used = File::options().append(true).open(cache.reference_path("a"));
        used.and_then(|file| file.set_modified(later - day))
            .expect("touched");
        let runs = |entry: &str| entry == "npm-runs";
        let too_soon = cache.collect(30 * day, SystemTime::now(), runs);
        assert_eq!(too_soon.expect("collects"), 0, "an orphan may be new");
        assert_eq!(cache.collect(30 * day, later, runs).expect("collects"), 2);
        assert!(cache.is_whole("npm-used") && cache.is_whole("npm-runs"));
        assert!(!cache.is_whole("npm-old") && !cache.is_whole("npm-orphan"));
    }

    #[test]
    fn what_killed_installs_left_goes_and_what_is_worked_in_stays() {
        let (cache, _folder) = cache();
        let left = cache.tmp().join("left");
        std::fs::create_dir_all(left.join("node_modules/a")).expect("made");
        std::fs::write(cache.tmp().join("file"), "x").expect("written");
        let workspace = cache.workspace().expect("made");
        std::fs::write(workspace.path().join("half"), "x").expect("written");
        cache.clear_leftovers();
        assert!(!left.exists() && !cache.tmp().join("file").exists());
        assert!(workspace.path().join("half").exists());
        let path = workspace.path().to_owned();
        drop(workspace);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn one_holds_a_lock_at_a_time() {
        let (cache, _folder) = cache();
        let held = cache.lock("x").await.expect("locked");
        let second = cache.lock("x");
        tokio::pin!(second);
        let waited = tokio::time::timeout(2 * LOCK_PERIOD, &mut second).await;
        assert!(waited.is_err(), "it is held");
        drop(held);
        second.await.expect("locked");
    }
}

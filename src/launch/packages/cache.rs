//! The folder of the package cache: references, entries, locks.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::downloads::Left;
use super::install_sandbox::InstallSandbox;
use super::manifest::ABOUT;
use super::mode::{make_read_only, read_only, set_mode};
use super::scripts::Unscripted;
use crate::folders;

/// How long one command of npm or uv may take unless something else is configured: downloads on a slow line, and builds of
/// native parts.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(600);
/// Folders with entries: of PyPI, and of npm. The latter is called as npx calls its own, as there are install scripts that
/// look whether they are in it.
pub(super) const ENTRIES: [&str; 2] = ["entries", "_npx"];

/// The record of an entry, kept in it.
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

/// Makes a [`CacheError`] of what the system says of a path.
pub(super) fn failed(path: &Path, what: &'static str) -> impl FnOnce(io::Error) -> CacheError {
    let path = path.to_owned();
    move |source| CacheError { path, what, source }
}

/// The package cache. Cheap to clone; nothing is held open.
#[derive(Clone, Debug)]
pub struct Cache {
    pub(super) root: PathBuf,
    /// How long one command of an install may take, in milliseconds.
    timeout: Arc<AtomicU64>,
    /// What installs are kept apart with; `None`: they may what stdiopool may.
    sandbox: Option<Arc<InstallSandbox>>,
}

/// The resolution of a request.
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

/// An installed package, as far as it is known without its request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InstalledPackage {
    /// The package as it was asked for.
    pub package: String,
    /// The package's version.
    pub version: String,
    /// Install scripts that did not run.
    pub unscripted: Option<Unscripted>,
    /// What the package's install scripts have left beside the packages.
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
        for folder in ENTRIES {
            // The folders' names are no secret; what is beside them stays closed.
            let _kept = set_mode(&root.join(folder), |mode| mode | 0o755);
        }
        // Names in it are used in shebangs and for comparison: they must stay true.
        let root = root.canonicalize().map_err(failed(root, "resolve"))?;
        let timeout = Arc::default();
        let cache = Self {
            root,
            timeout,
            sandbox: None,
        };
        cache.set_timeout(DEFAULT_TIMEOUT);
        cache.open_entries();
        Ok(cache)
    }

    /// Keeps installs apart with that, what they see of this cache included.
    #[must_use]
    pub fn with_sandbox(mut self, mut sandbox: InstallSandbox) -> Self {
        sandbox.hidden.push(self.root.clone());
        self.sandbox = Some(Arc::new(sandbox));
        self
    }

    pub(super) fn sandbox(&self) -> Option<&InstallSandbox> {
        self.sandbox.as_deref()
    }

    /// Lets everybody read entries of earlier versions, which were readable by one user only.
    fn open_entries(&self) {
        let found = ENTRIES.map(|folder| std::fs::read_dir(self.root.join(folder)));
        for item in found.into_iter().flatten().flatten().flatten() {
            let name = item.file_name();
            let Some(name) = name.to_str().filter(|name| !folders::is_trash(name)) else {
                continue;
            };
            let mode = item.metadata().map(|meta| meta.permissions().mode());
            if mode.is_ok_and(|mode| mode & 0o005 == 0)
                && self.is_whole(name)
                && let Err(error) = self.seal(name)
            {
                tracing::warn!("servers that run as other users cannot be started: {error}");
            }
        }
    }

    /// The folders that entries are in: workers read these, and nothing beside them.
    pub(super) fn entry_folders(&self) -> [PathBuf; 2] {
        ENTRIES.map(|folder| self.root.join(folder))
    }

    /// How long one command of an install may take.
    pub(super) fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout.load(Ordering::Relaxed))
    }

    /// Lets one command of an install take so long, of those that begin from now on.
    pub fn set_timeout(&self, timeout: Duration) {
        let millis = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        self.timeout.store(millis, Ordering::Relaxed);
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

    /// Where things are made that become something else later; see [`super::workspace::Workspace`].
    pub(super) fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// As long as this is held, nothing in `tmp` is taken for a leftover. Waits for a rename at the most.
    pub(super) fn keep_tmp(&self) -> io::Result<Flock<File>> {
        let folder = File::open(self.tmp())?;
        Ok(Flock::lock(folder, FlockArg::LockShared).map_err(|(_, errno)| errno)?)
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
    pub fn installed(root: &Path) -> Vec<InstalledPackage> {
        let cache = Self {
            root: root.to_owned(),
            timeout: Arc::default(),
            sandbox: None,
        };
        let refs = std::fs::read_dir(root.join("refs")).into_iter().flatten();
        let known = refs.flatten().filter_map(|item| {
            let name = item.file_name();
            let reference = cache.reference(name.to_str()?.strip_suffix(".json")?)?;
            let about = cache.about(&reference.entry).ok()?;
            Some(InstalledPackage {
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

    pub(super) fn reference_path(&self, request: &str) -> PathBuf {
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

    /// Makes a finished entry read-only, and readable by workers whose users are others. The note of the request is not: the
    /// registry that it was asked of may be in it.
    pub(super) fn seal(&self, entry: &str) -> Result<(), CacheError> {
        let path = self.entry(entry);
        let seal = || {
            for item in std::fs::read_dir(&path)? {
                let item = item?;
                if item.file_name() == ABOUT {
                    set_mode(&item.path(), |mode| mode & !0o277)?;
                } else {
                    make_read_only(&item.path())?;
                }
            }
            // Last: by it is seen that all is done.
            set_mode(&path, read_only)
        };
        seal().map_err(failed(&path, "make read-only"))
    }

    /// Removes an entry, whole or not.
    pub(super) fn remove(&self, entry: &str) -> Result<(), CacheError> {
        remove(&self.entry(entry))
    }
}

/// Removes an entry: at once, so that nobody starts from half of it.
pub(super) fn remove(path: &Path) -> Result<(), CacheError> {
    let aside = folders::put_aside(path).map_err(failed(path, "remove"))?;
    if let Some(aside) = aside
        && let Err(error) = folders::remove(&aside)
    {
        tracing::warn!("what is left of a package stays for now: {error}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::cache_fixture::{cache, entry, reference};
    use super::*;

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
}

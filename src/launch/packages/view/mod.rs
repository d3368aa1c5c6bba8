//! Private views: a package as one tenant's workers of one server see it. They may write beside its code and
//! find that again; no other tenant does.
//!
//! ```text
//!  data/TENANT/.packages/SERVER/
//!  ├─ 3/                         the view in use: the highest number of its package
//!  │   ├─ shared -> packages/entries/ENTRY
//!  │   ├─ node_modules/a/…       the package's own files: copies, which the server may write
//!  │   ├─ node_modules/dep -> ../shared/node_modules/dep
//!  │   └─ view.json, shipped.json   what it was made from, and the digests its files had then
//!  └─ left-behind/               what the version after could not take over
//!
//!  another version ──▶ a new view, with what the server has added or changed ──▶ the old one goes with its last worker
//! ```
//!
//! Invariants: a view holds links and copies, never a second name of a shared file; what a copy consists of was
//! compared with the entry's manifest; no link that a server may have made is followed; a view that a worker runs
//! from, in this process or another, is locked (shared, its folder) and is not removed; what a server wrote is in the
//! next view, in `left-behind`, or named in the log as lost.
//!
//! It deliberately does not undo what a server does to its own view; `changes` tells of it.

mod build;
mod carry;
mod own;
mod own_node;
pub(super) mod walk;

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File};
use std::hash::BuildHasher;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use parking_lot::Mutex;
use rustc_hash::{FxBuildHasher, FxHashMap};
use serde::{Deserialize, Serialize};

use super::manifest::{Manifest, ManifestError, digest};
use crate::folders;

/// Link from a view to its entry.
const SHARED: &str = "shared";
/// What a view was made from.
const ABOUT: &str = "view.json";
/// Which digest each of its files had when it was made.
const SHIPPED: &str = "shipped.json";
/// What the next version took over from it while workers still ran from it.
const CARRIED: &str = "carried.json";
/// Names in a view that are not of the package.
const PRIVATE: [&str; 4] = [SHARED, ABOUT, SHIPPED, CARRIED];
/// What the names of views begin with that are being made.
const UNFINISHED: &str = ".new-";
/// How old one is that nobody is making any more: where one command is hosted, another process may be.
const UNFINISHED_AGE: Duration = Duration::from_secs(3600);
/// Files that a later version could not take over, beside the views.
pub(super) const LEFT: &str = "left-behind";
/// Views that are made at once, as far as their folders differ.
const TURNS: usize = 64;
/// Names of files left behind that are named in the log.
const NAMED: usize = 5;

/// Before the target of a link, in the list of what a view was made with: no digest begins so.
const LINK: &str = "-> ";

/// Digests of files, and targets of links behind `-> `, by path.
type Shipped = BTreeMap<String, String>;

/// Why there is no view.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// The system refused.
    #[error("its private copy of the package cannot be made: cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A file of the entry is not as it was installed.
    #[error("{} is not as it was installed; the package is installed again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// What the entry consists of is not known.
    #[error("the installed package is damaged: {0}; it is installed again")]
    NoManifest(String),
    /// Workers still run from the view of another version, and have written what is to be taken over.
    #[error(
        "workers of version {version} still run, whose files the next version takes over; try again"
    )]
    InUse {
        /// That version.
        version: String,
    },
    /// The work was given up.
    #[error("its private copy of the package was not made: {0}")]
    Unfinished(String),
}

impl ViewError {
    fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }

    /// Whether the entry is to be installed again.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::NoManifest(_))
    }
}

impl From<ManifestError> for ViewError {
    fn from(error: ManifestError) -> Self {
        Self::NoManifest(error.to_string())
    }
}

/// What a view was made from.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct About {
    /// The package, without a version.
    package: String,
    version: String,
    /// Path of the entry.
    entry: PathBuf,
    /// Path of the view: scripts name it.
    home: PathBuf,
    /// Dependencies of which it has copies too.
    #[serde(default)]
    writable: Vec<String>,
}

/// What a view is wanted of.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// The package, without a version: what servers of it wrote is carried over from version to version.
    pub package: &'a str,
    /// Its version, for people.
    pub version: &'a str,
    /// Path of the entry.
    pub entry: &'a Path,
    /// The program, from the entry's folder.
    pub program: &'a Path,
    /// Dependencies that the server may write too; `*` for all.
    pub writable: &'a [String],
}

/// A view that workers run from. As long as this is held, it is not removed, and what is in it counts as unfinished.
#[derive(Debug)]
pub struct View {
    folder: PathBuf,
    _lock: Flock<File>,
}

impl View {
    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

/// What is done about workers that still run from the view of another version, and have written into it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StillRunning {
    /// [`ViewError::InUse`]: their files may be half written.
    Refuse,
    /// What they have written is taken over as it is; what they write from now on is kept beside the views.
    GoOn,
}

/// Makes private views, one at a time below one folder.
#[derive(Debug)]
pub struct Views {
    turns: [Mutex<()>; TURNS],
    in_use: Mutex<FxHashMap<PathBuf, Weak<View>>>,
}

impl Default for Views {
    fn default() -> Self {
        Self {
            turns: std::array::from_fn(|_| Mutex::default()),
            in_use: Mutex::default(),
        }
    }
}

/// A view that exists.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Found {
    number: u64,
    about: About,
}

impl Views {
    /// The view below `root`, made now if there is none of this entry. Blocks.
    ///
    /// # Errors
    /// [`ViewError`]; there is nothing to start from then.
    pub fn prepare(
        &self,
        root: &Path,
        wanted: &Wanted<'_>,
        still_running: StillRunning,
    ) -> Result<Arc<View>, ViewError> {
        let turn = FxBuildHasher.hash_one(root) % (TURNS as u64);
        let turn = usize::try_from(turn).unwrap_or_default();
        let _turn = self.turns[turn].lock();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(root)
            .map_err(ViewError::io("make", root))?;
        // Other processes may make views here where one command is hosted.
        let _alone = lock(root, FlockArg::LockExclusive).map_err(ViewError::io("lock", root))?;
        let mut views = list(root)?;
        let newest = views
            .iter()
            .rposition(|view| view.about.package == wanted.package);
        let current = newest.map(|at| views.remove(at));
        if let Some(current) = &current {
            let home = root.join(current.number.to_string());
            let is_it = current.about.entry == wanted.entry
                && current.about.home == home
                && current.about.writable == wanted.writable
                && std::fs::read_link(home.join(SHARED)).is_ok_and(|to| to == wanted.entry);
            if is_it {
                let view = self.take(&home)?;
                remove_old(root, wanted, &views);
                return Ok(view);
            }
            if still_running == StillRunning::Refuse && is_in_use(&home) && is_written_to(&home) {
                let version = current.about.version.clone();
                return Err(ViewError::InUse { version });
            }
        }
        let home = make(root, wanted, current.as_ref())?;
        let view = self.take(&home)?;
        views.extend(current);
        remove_old(root, wanted, &views);
        Ok(view)
    }

    /// Holds a view, by the one lock that this process has for it.
    fn take(&self, home: &Path) -> Result<Arc<View>, ViewError> {
        let mut in_use = self.in_use.lock();
        if let Some(view) = in_use.get(home).and_then(Weak::upgrade) {
            return Ok(view);
        }
        let lock = lock(home, FlockArg::LockShared).map_err(ViewError::io("lock", home))?;
        let view = Arc::new(View {
            folder: home.to_owned(),
            _lock: lock,
        });
        in_use.retain(|_, view| view.strong_count() > 0);
        in_use.insert(home.to_owned(), Arc::downgrade(&view));
        Ok(view)
    }
}

fn lock(folder: &Path, how: FlockArg) -> io::Result<Flock<File>> {
    let folder = File::open(folder)?;
    Ok(Flock::lock(folder, how).map_err(|(_, errno)| errno)?)
}

/// Whether a worker of this process or another runs from a view.
fn is_in_use(view: &Path) -> bool {
    // What cannot be opened is no folder that a worker could be started from.
    File::open(view).is_ok_and(|folder| {
        let lock = Flock::lock(folder, FlockArg::LockExclusiveNonblock);
        matches!(lock, Err((_, Errno::EWOULDBLOCK)))
    })
}

/// Whether a server may have written into a view, as far as names and times of files tell. Blocks.
fn is_written_to(view: &Path) -> bool {
    let made = view
        .join(ABOUT)
        .metadata()
        .and_then(|about| about.modified());
    // What cannot be told is taken for written to: that costs a wait, and no file.
    made.map_or(true, |made| {
        carry::is_written_to(view, &shipped(view), made)
    })
}

/// The package's own files in a view that are not as it was made with: changed or removed. Blocks.
pub(super) fn changes(view: &Path) -> Vec<String> {
    let shipped = shipped(view);
    let is_changed = |path: &str, was: &str| match was.strip_prefix(LINK) {
        Some(target) => {
            std::fs::read_link(view.join(path)).map_or(true, |now| now != Path::new(target))
        }
        None => {
            let now = File::open(view.join(path)).and_then(digest);
            now.map_or(true, |now| now != was)
        }
    };
    let changed = shipped.iter().filter(|(path, was)| is_changed(path, was));
    changed.map(|(path, _)| path.clone()).collect()
}

/// The dependency that lines of stderr say could not write beside its own code, in one of those folders: the package cache, or a
/// view, whose links lead there. Node and Python both put the path of the file between single quotes, and those of calls not.
pub fn read_only_dependency(lines: &str, folders: &[&Path]) -> Option<String> {
    let said = ["EROFS", "Read-only file system", "read-only file system"];
    if !said.iter().any(|said| lines.contains(said)) {
        return None;
    }
    let find = |folder: &&Path| Some(lines.find(&format!("'{}", folder.display()))? + 1);
    let at = folders.iter().find_map(find)?;
    let path = lines[at..].split('\'').next()?;
    if let Some((_, inside)) = path.rsplit_once("node_modules/") {
        let mut parts = inside.split('/');
        let first = parts.next()?;
        return Some(match first.strip_prefix('@') {
            Some(_) => format!("{first}/{}", parts.next()?),
            None => first.to_owned(),
        });
    }
    let (site, inside) = path.split_once("site-packages/")?;
    let site = PathBuf::from(format!("{site}site-packages"));
    let folder = inside.split('/').next()?;
    let infos = std::fs::read_dir(&site).ok()?.flatten();
    let mut owners = infos.filter_map(|info| {
        let name = info
            .file_name()
            .to_str()?
            .strip_suffix(".dist-info")?
            .to_owned();
        let record = std::fs::read_to_string(info.path().join("RECORD")).ok()?;
        let is_owner = record
            .lines()
            .any(|line| line.starts_with(&format!("{folder}/")));
        is_owner.then(|| name.split('-').next().unwrap_or_default().to_owned())
    });
    owners.next()
}

/// What a view was made with; nothing if its server has spoilt that list.
fn shipped(view: &Path) -> Shipped {
    let text = std::fs::read(view.join(SHIPPED)).ok();
    let read = text.and_then(|text| serde_json::from_slice(&text).ok());
    read.unwrap_or_default()
}

/// The views below a folder, by number.
fn list(root: &Path) -> Result<Vec<Found>, ViewError> {
    let mut found = Vec::new();
    for item in std::fs::read_dir(root).map_err(ViewError::io("read", root))? {
        let item = item.map_err(ViewError::io("read", root))?;
        let name = item.file_name();
        let Some(number) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let about = std::fs::read(item.path().join(ABOUT)).ok();
        if let Some(about) = about.and_then(|text| serde_json::from_slice(&text).ok()) {
            found.push(Found { number, about });
        }
    }
    found.sort_by_key(|view| view.number);
    Ok(found)
}

/// Makes a view, with what the server wrote into the one before.
fn make(root: &Path, wanted: &Wanted<'_>, before: Option<&Found>) -> Result<PathBuf, ViewError> {
    let began = std::time::Instant::now();
    remove_unfinished(root);
    let manifest = Manifest::read(wanted.entry)?;
    let program = wanted.program.to_string_lossy();
    let own = own::own_files(&manifest, &program, wanted)?;
    let number = unused_number(root)?;
    let home = root.join(number.to_string());
    let at = tempfile::Builder::new()
        .prefix(UNFINISHED)
        .tempdir_in(root)
        .map_err(ViewError::io("make a folder in", root))?;
    let plan = build::Plan {
        entry: wanted.entry,
        manifest: &manifest,
        own: &own,
        at: at.path(),
        home: &home,
    };
    let shipped = build::build(&plan)?;
    if let Some(before) = before {
        carry_over(root, before, wanted, at.path(), &shipped)?;
    }
    let about = About {
        package: wanted.package.to_owned(),
        version: wanted.version.to_owned(),
        entry: wanted.entry.to_owned(),
        home: home.clone(),
        writable: wanted.writable.to_vec(),
    };
    let write = || {
        std::fs::write(at.path().join(SHIPPED), serde_json::to_vec(&shipped)?)?;
        std::fs::write(at.path().join(ABOUT), serde_json::to_vec(&about)?)?;
        let at = at.keep();
        std::fs::rename(&at, &home)
    };
    write().map_err(ViewError::io("write", &home))?;
    tracing::debug!(
        view = %home.display(), files = own.len(), took_ms = began.elapsed().as_millis(),
        "a private copy of package {} was made", wanted.package
    );
    Ok(home)
}

/// Removes what was being made when an earlier stdiopool was killed.
fn remove_unfinished(root: &Path) {
    let items = std::fs::read_dir(root).into_iter().flatten().flatten();
    for item in items {
        let name = item.file_name();
        let age = item.metadata().and_then(|meta| meta.modified());
        let is_old = age.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > UNFINISHED_AGE));
        if is_old
            && name
                .to_str()
                .is_some_and(|name| name.starts_with(UNFINISHED))
            && let Err(error) = folders::remove(&item.path())
        {
            tracing::warn!("an unfinished private copy of a package stays: {error}");
        }
    }
}

/// A number above all that are in use, also by what is no view any more.
fn unused_number(root: &Path) -> Result<u64, ViewError> {
    let items = std::fs::read_dir(root).map_err(ViewError::io("read", root))?;
    let numbers = items.filter_map(|item| item.ok()?.file_name().to_str()?.parse::<u64>().ok());
    Ok(numbers.max().unwrap_or(0) + 1)
}

/// Takes over what the server wrote into the view of the version before.
fn carry_over(
    root: &Path,
    before: &Found,
    wanted: &Wanted<'_>,
    new: &Path,
    new_shipped: &Shipped,
) -> Result<(), ViewError> {
    let old = root.join(before.number.to_string());
    let left = root.join(LEFT);
    if let Err(error) = folders::remove(&left) {
        tracing::warn!("what an earlier version left behind stays: {error}");
    }
    let is_running = is_in_use(&old);
    let carry = carry::Carry {
        old: &old,
        known: &shipped(&old),
        to: Some((new, new_shipped)),
        left: &left,
    };
    let carried = carry.run()?;
    if is_running {
        let path = old.join(CARRIED);
        let write = || std::fs::write(&path, serde_json::to_vec(&carried.files)?);
        write().map_err(ViewError::io("write", &path))?;
        // Those that have written nothing so far have been let run beside it without a wait.
        tracing::debug!(
            view = %old.display(),
            "package {}: workers of version {} still run; what they write beside their code from now on is not seen by version {}",
            wanted.package, before.about.version, wanted.version
        );
    }
    if !carried.files.is_empty() {
        tracing::info!(
            view = %root.display(), files = carried.files.len(),
            "package {}: what the server wrote beside its code under {} was carried over to {}",
            wanted.package, before.about.version, wanted.version
        );
    }
    say_what_is_not_carried(&carried, &left, &before.about, wanted);
    Ok(())
}

fn say_what_is_not_carried(
    carried: &carry::Carried,
    left: &Path,
    old: &About,
    wanted: &Wanted<'_>,
) {
    let named = |paths: &[String]| paths[..paths.len().min(NAMED)].join(", ");
    if !carried.left.is_empty() {
        tracing::warn!(
            folder = %left.display(), files = carried.left.len(),
            "package {}: what the server wrote under {} does not fit beside the files of {} and was put aside: {} (kept in the folder until the version changes again)",
            wanted.package, old.version, wanted.version, named(&carried.left)
        );
    }
    if !carried.lost.is_empty() {
        tracing::warn!(
            files = carried.lost.len(),
            "package {}: lost with version {}, as they are links, no plain files, or cannot be read: {}",
            wanted.package,
            old.version,
            named(&carried.lost)
        );
    }
}

/// Removes views of the package that a newer one has replaced and no worker runs from.
fn remove_old(root: &Path, wanted: &Wanted<'_>, views: &[Found]) {
    let of_package = views
        .iter()
        .filter(|view| view.about.package == wanted.package);
    for view in of_package {
        let path = root.join(view.number.to_string());
        if is_in_use(&path) {
            continue;
        }
        if let Err(error) = keep_what_came_later(root, &path, &view.about, wanted) {
            tracing::warn!(
                "an old private copy of a package stays, as there may be files in it: {error}"
            );
        } else if let Err(error) = folders::remove(&path) {
            tracing::warn!("an old private copy of a package stays: {error}");
        }
    }
}

/// Puts aside what workers wrote into a view after the next version had taken over what was there.
fn keep_what_came_later(
    root: &Path,
    view: &Path,
    about: &About,
    wanted: &Wanted<'_>,
) -> Result<(), ViewError> {
    let Ok(text) = std::fs::read(view.join(CARRIED)) else {
        return Ok(());
    };
    let mut known = shipped(view);
    let carried: Shipped = serde_json::from_slice(&text).unwrap_or_default();
    known.extend(carried);
    let left = root.join(LEFT);
    let carry = carry::Carry {
        old: view,
        known: &known,
        to: None,
        left: &left,
    };
    say_what_is_not_carried(&carry.run()?, &left, about, wanted);
    Ok(())
}

#[cfg(test)]
mod tests;

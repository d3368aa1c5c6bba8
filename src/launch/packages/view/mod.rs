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
//! compared with the entry's manifest; no link that a server may have made is followed.
//!
//! It deliberately does not undo what a server does to its own view.

mod build;
mod carry;
mod own;

use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::hash::BuildHasher;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use parking_lot::Mutex;
use rustc_hash::FxBuildHasher;
use serde::{Deserialize, Serialize};

use super::manifest::{Manifest, ManifestError};
use crate::folders;

/// Link from a view to its entry.
const SHARED: &str = "shared";
/// What a view was made from.
const ABOUT: &str = "view.json";
/// Which digest each of its files had when it was made.
const SHIPPED: &str = "shipped.json";
/// Names in a view that are not of the package.
const PRIVATE: [&str; 3] = [SHARED, ABOUT, SHIPPED];
/// What the names of views begin with that are being made.
const UNFINISHED: &str = ".new-";
/// How old one is that nobody is making any more: where one command is hosted, another process may be.
const UNFINISHED_AGE: Duration = Duration::from_secs(3600);
/// Files that a later version could not take over, beside the views.
const LEFT: &str = "left-behind";
/// Views that are made at once, as far as their folders differ.
const TURNS: usize = 64;
/// Names of files left behind that are named in the log.
const NAMED: usize = 5;

/// Digests of files by path.
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
}

/// Makes private views, one at a time below one folder.
#[derive(Debug)]
pub struct Views {
    turns: [Mutex<()>; TURNS],
}

impl Default for Views {
    fn default() -> Self {
        Self {
            turns: std::array::from_fn(|_| Mutex::default()),
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
    /// The view below `root`, made now if there is none of this entry. `take` is called with it before another
    /// call can remove it; `is_running` says whether a worker runs from a view. Blocks.
    ///
    /// # Errors
    /// [`ViewError`]; there is nothing to start from then.
    pub fn prepare(
        &self,
        root: &Path,
        wanted: &Wanted<'_>,
        is_running: &dyn Fn(&Path) -> bool,
        take: &dyn Fn(&Path),
    ) -> Result<PathBuf, ViewError> {
        let turn = FxBuildHasher.hash_one(root) % (TURNS as u64);
        let turn = usize::try_from(turn).unwrap_or_default();
        let _turn = self.turns[turn].lock();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(root)
            .map_err(ViewError::io("make", root))?;
        let mut views = list(root)?;
        let newest = views
            .iter()
            .rposition(|view| view.about.package == wanted.package);
        let current = newest.map(|at| views.remove(at));
        if let Some(current) = &current {
            let home = root.join(current.number.to_string());
            let is_it = current.about.entry == wanted.entry
                && current.about.home == home
                && std::fs::read_link(home.join(SHARED)).is_ok_and(|to| to == wanted.entry);
            if is_it {
                take(&home);
                remove_old(root, wanted, &views, is_running);
                return Ok(home);
            }
        }
        let home = make(root, wanted, current.as_ref())?;
        take(&home);
        views.extend(current);
        remove_old(root, wanted, &views, is_running);
        Ok(home)
    }
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
    let own = own::own_files(wanted.entry, &manifest, &program, wanted.package)?;
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

fn carry_over(
    root: &Path,
    before: &Found,
    wanted: &Wanted<'_>,
    new: &Path,
    new_shipped: &Shipped,
) -> Result<(), ViewError> {
    let old = root.join(before.number.to_string());
    let shipped = std::fs::read(old.join(SHIPPED)).ok();
    let shipped = shipped.and_then(|text| serde_json::from_slice(&text).ok());
    let left = root.join(LEFT);
    if let Err(error) = folders::remove(&left) {
        tracing::warn!("what an earlier version left behind stays: {error}");
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&left)
        .map_err(ViewError::io("make", &left))?;
    let carry = carry::Carry {
        old: &old,
        old_shipped: &shipped.unwrap_or_default(),
        new,
        new_shipped,
        left: &left,
    };
    let carried = carry.run()?;
    if carried.left.is_empty() {
        // Nothing is in it.
        let _stays = std::fs::remove_dir(&left);
    } else {
        let named = &carried.left[..carried.left.len().min(NAMED)];
        tracing::warn!(
            folder = %left.display(), files = carried.left.len(),
            "package {}: version {} has files of its own in place of what the server wrote under {}: {} (kept in the folder until the next version)",
            wanted.package, wanted.version, before.about.version, named.join(", ")
        );
    }
    if carried.files > 0 {
        tracing::info!(
            view = %root.display(), files = carried.files,
            "package {}: what the server wrote beside its code under {} was carried over to {}",
            wanted.package, before.about.version, wanted.version
        );
    }
    Ok(())
}

/// Removes views of the package that a newer one has replaced and no worker runs from.
fn remove_old(
    root: &Path,
    wanted: &Wanted<'_>,
    views: &[Found],
    is_running: &dyn Fn(&Path) -> bool,
) {
    let of_package = views
        .iter()
        .filter(|view| view.about.package == wanted.package);
    for view in of_package {
        let path = root.join(view.number.to_string());
        if !is_running(&path)
            && let Err(error) = folders::remove(&path)
        {
            tracing::warn!("an old private copy of a package stays: {error}");
        }
    }
}

#[cfg(test)]
mod tests;

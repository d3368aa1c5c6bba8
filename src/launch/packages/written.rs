//! What servers write beside the code of a package that their launcher has installed, when they are run as written.
//!
//! ```text
//!  data/TENANT/.packages/SERVER/
//!  ├─ npm/_npx/HASH/, uv/archive-v0/ID/   installs of npx and uvx, which replace or leave them as they see fit
//!  ├─ as-written.json                     which version ran last, from which install, and what was not carried over
//!  ├─ kept/                               second names of what was written there, made before each start
//!  └─ left-behind/                        what another version did not take over
//! ```
//!
//! The version that runs is the launcher's to decide, and known only once it runs; by then the server has looked for its files. So
//! nothing is put in its way: what it wrote under the version before is kept, and said to be left behind.
//!
//! Invariants: nothing that is written is copied or moved while it is in use; no link that a server may have made is
//! followed; a file that was found before a start is in its install, in `kept`, in `left-behind`, or named as lost.

use std::fs::{DirBuilder, File};
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::view::LEFT;
use super::view::walk::{FoundFile, Kind, walk};
use crate::folders;

const ABOUT: &str = "as-written.json";
const KEPT: &str = "kept";
/// The file that npm writes last into a folder of packages.
const NPM_LOCK: &str = "node_modules/.package-lock.json";
/// The file that makes a folder a virtual environment.
const VENV: &str = "pyvenv.cfg";
/// Files that are named when they are left behind.
const NAMED: usize = 5;
/// Changes that are told of, of all tenants.
const MAX_TOLD: usize = 50;

/// The outcome for files that a server wrote, when another version was run.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Change {
    /// The package.
    pub package: String,
    /// The version that wrote them.
    pub from: String,
    /// The one that was run instead.
    pub to: String,
    /// How many there are.
    pub files: usize,
    /// Paths of some of the files in the install.
    pub named: Vec<String>,
    /// Where the files are now.
    pub kept: PathBuf,
    /// When that was, in seconds since 1970.
    pub at: u64,
}

impl Change {
    /// For people.
    pub fn told(&self) -> String {
        format!(
            "package {}: version {} was run in place of {}, and does not have what the server wrote beside its code: {} ({} in all, kept in {} until the version changes again)",
            self.package,
            self.to,
            self.from,
            self.named.join(", "),
            crate::counted::counted(self.files, "file"),
            self.kept.display()
        )
    }
}

/// The version that ran last.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct LastRun {
    package: String,
    version: String,
    /// The install it ran from.
    install: PathBuf,
    /// What was left behind last.
    #[serde(default)]
    change: Option<Change>,
}

/// Gives second names to what the server has written into the install that it ran from last, as its launcher may be about to
/// remove that. `root` is the folder of its packages. Blocks.
///
/// # Errors
/// When the system refuses.
pub fn keep(root: &Path) -> io::Result<()> {
    let Some(ran) = read(root) else { return Ok(()) };
    let _alone = lock(root)?;
    let kept = root.join(KEPT);
    remove(&kept)?;
    let Some(installed) = finished(&ran.install) else {
        return Ok(());
    };
    let mut visit = |found: &FoundFile<'_>| {
        if found.kind == Kind::File && is_after(&found.at, installed) {
            let to = kept.join(found.path);
            if let Some(folder) = to.parent() {
                DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(folder)?;
            }
            // A file that has gone meanwhile was not to stay.
            match std::fs::hard_link(&found.at, &to) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(ControlFlow::Continue(()))
    };
    walk(&ran.install, &is_no_matter, &mut visit).map(drop)
}

/// Notes which version of a package runs, of the arguments of a worker's processes. Files of the version before are told if this one
/// does not have them. Blocks.
///
/// # Errors
/// When the system refuses.
pub fn note(root: &Path, package: &str, words: &[String]) -> io::Result<Option<Change>> {
    let Some(install) = words
        .iter()
        .find_map(|word| install_of(root, Path::new(word)))
    else {
        return Ok(None);
    };
    let Some(version) = version(&install, package) else {
        return Ok(None);
    };
    let _alone = lock(root)?;
    let before = read(root).filter(|ran| ran.package == package);
    let is_other = |ran: &&LastRun| ran.version != version || ran.install != install;
    let change = match before.as_ref().filter(is_other) {
        Some(before) => left_behind(root, before, &version)?,
        None => None,
    };
    let told = change.clone().or_else(|| before.as_ref()?.change.clone());
    let ran = LastRun {
        package: package.to_owned(),
        version,
        install,
        change: told,
    };
    if before.as_ref() != Some(&ran) {
        let mut file = tempfile::NamedTempFile::new_in(root)?;
        io::Write::write_all(&mut file, &serde_json::to_vec(&ran)?)?;
        file.persist(root.join(ABOUT))?;
    }
    Ok(change)
}

/// Puts what was kept of the version before where it stays; `None` if there is nothing.
fn left_behind(root: &Path, before: &LastRun, version: &str) -> io::Result<Option<Change>> {
    let (kept, left) = (root.join(KEPT), root.join(LEFT));
    if !kept.exists() {
        return Ok(None);
    }
    let mut named = Vec::new();
    let mut visit = |found: &FoundFile<'_>| {
        named.push(found.path.to_owned());
        Ok(ControlFlow::Continue(()))
    };
    let _all = walk(&kept, &|_, _| false, &mut visit)?;
    named.sort();
    remove(&left)?;
    std::fs::rename(&kept, &left)?;
    let at = SystemTime::now().duration_since(UNIX_EPOCH);
    Ok(Some(Change {
        package: before.package.clone(),
        from: before.version.clone(),
        to: version.to_owned(),
        files: named.len(),
        named: named.into_iter().take(NAMED).collect(),
        kept: left,
        at: at.unwrap_or_default().as_secs(),
    }))
}

/// What a server of a tenant has left behind.
#[derive(Debug)]
pub struct LeftBehind {
    /// The tenant, by the name of its folder.
    pub tenant: String,
    /// The server, by the name of its folder.
    pub server: String,
    /// What has changed, and what was kept.
    pub change: Change,
}

/// What was left behind last, of the tenants and servers whose packages are below `data`, the folder of all tenants. Blocks.
pub fn all_left_behind(data: &Path) -> Vec<LeftBehind> {
    let below = |folder: &Path| {
        let items = std::fs::read_dir(folder).into_iter().flatten().flatten();
        items.map(|item| (item.file_name().to_string_lossy().into_owned(), item.path()))
    };
    let all = below(data).flat_map(|(tenant, folder)| {
        let servers = below(&folder.join(".packages")).collect::<Vec<_>>();
        servers.into_iter().filter_map(move |(server, root)| {
            Some(LeftBehind {
                tenant: tenant.clone(),
                server,
                change: read(&root)?.change?,
            })
        })
    });
    all.take(MAX_TOLD).collect()
}

fn read(root: &Path) -> Option<LastRun> {
    serde_json::from_slice(&folders::read_plain(&root.join(ABOUT)).ok()?).ok()
}

fn lock(root: &Path) -> io::Result<Flock<File>> {
    let folder = File::open(root)?;
    Ok(Flock::lock(folder, FlockArg::LockExclusive).map_err(|(_, errno)| errno)?)
}

fn remove(folder: &Path) -> io::Result<()> {
    folders::remove(folder).map_err(io::Error::other)
}

/// The install that a path is in, below `root`.
fn install_of(root: &Path, path: &Path) -> Option<PathBuf> {
    let inside = |folder: &&Path| folder.starts_with(root) && *folder != root;
    let is_install = |folder: &Path| folder.join(NPM_LOCK).is_file() || folder.join(VENV).is_file();
    let mut folders = path.ancestors().take_while(inside);
    folders
        .find(|folder| is_install(folder))
        .map(Path::to_owned)
}

/// When an install was finished: npm writes its list of packages last, uv a record of each package.
fn finished(install: &Path) -> Option<SystemTime> {
    let changed = |path: PathBuf| path.metadata().and_then(|meta| meta.modified()).ok();
    if let Some(npm) = changed(install.join(NPM_LOCK)) {
        return Some(npm);
    }
    let infos = infos(install).into_iter();
    infos
        .filter_map(|(_, info)| changed(info.join("RECORD")))
        .max()
}

/// Folders with what is known of installed distributions, by their names.
fn infos(install: &Path) -> Vec<(String, PathBuf)> {
    let pythons = std::fs::read_dir(install.join("lib")).into_iter().flatten();
    let sites = pythons
        .flatten()
        .map(|python| python.path().join("site-packages"));
    let items = sites.flat_map(|site| std::fs::read_dir(site).into_iter().flatten().flatten());
    let named = items.filter_map(|item| {
        let name = item
            .file_name()
            .to_str()?
            .strip_suffix(".dist-info")?
            .to_owned();
        Some((name, item.path()))
    });
    named.collect()
}

/// The version of a package in an install.
fn version(install: &Path, package: &str) -> Option<String> {
    let manifest = install
        .join("node_modules")
        .join(package)
        .join("package.json");
    if let Ok(text) = folders::read_plain(&manifest) {
        let manifest: serde_json::Value = serde_json::from_slice(&text).ok()?;
        return Some(manifest["version"].as_str()?.to_owned());
    }
    let normal = |name: &str| name.to_ascii_lowercase().replace(['_', '.'], "-");
    infos(install).into_iter().find_map(|(info, _)| {
        let (name, version) = info.split_once('-')?;
        (normal(name) == normal(package)).then(|| version.to_owned())
    })
}

/// Bytecode is of the code beside it, and npx writes its own files last of all.
fn is_no_matter(name: &str, depth: usize) -> bool {
    let is_of_npx = depth == 0 && ["package.json", "package-lock.json"].contains(&name);
    is_of_npx || name == "__pycache__" || name.ends_with(".pyc")
}

fn is_after(file: &Path, installed: SystemTime) -> bool {
    let changed = file.symlink_metadata().and_then(|meta| meta.modified());
    changed.is_ok_and(|changed| changed > installed)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;

    /// An install of npx with that version of `a`, long ago.
    fn installed(root: &Path, hash: &str, version: &str) -> PathBuf {
        let install = root.join("npm/_npx").join(hash);
        let package = install.join("node_modules/a");
        fs::create_dir_all(&package).expect("made");
        let manifest = serde_json::json!({ "version": version }).to_string();
        for (path, text) in [
            (package.join("package.json"), manifest.as_str()),
            (package.join("index.js"), ""),
            (install.join(NPM_LOCK), "{}"),
        ] {
            fs::write(&path, text).expect("written");
            let file = File::options().append(true).open(&path).expect("there");
            let long_ago = SystemTime::now() - Duration::from_secs(3600);
            file.set_modified(long_ago).expect("set");
        }
        install
    }

    fn run(root: &Path, install: &Path) -> Option<Change> {
        let words = [
            "node".to_owned(),
            install.join("node_modules/.bin/a").display().to_string(),
        ];
        note(root, "a", &words).expect("noted")
    }

    #[test]
    fn what_another_version_does_not_have_is_kept_and_told() {
        let root = tempfile::tempdir().expect("a folder");
        let root = root.path();
        keep(root).expect("nothing yet");
        let first = installed(root, "1", "1.0.0");
        assert_eq!(run(root, &first), None);
        fs::write(first.join("node_modules/a/notes.json"), "mine").expect("written");
        // The version that is there already is installed again, and then npx replaces it.
        keep(root).expect("kept");
        assert_eq!(run(root, &first), None);
        keep(root).expect("kept");
        fs::remove_dir_all(first.join("node_modules")).expect("removed");
        let _replaced = installed(root, "1", "1.1.0");
        let change = run(root, &first).expect("a change");
        assert_eq!(
            (&*change.from, &*change.to, change.files),
            ("1.0.0", "1.1.0", 1)
        );
        assert_eq!(change.named, ["node_modules/a/notes.json"]);
        let left = root.join("left-behind/node_modules/a/notes.json");
        assert_eq!(fs::read(left).expect("there"), b"mine");
        // Told again by whoever asks later, and once only by a start.
        keep(root).expect("kept");
        assert_eq!(run(root, &first), None);
        assert_eq!(read(root).and_then(|ran| ran.change), Some(change));
        // An install of its own for another version, and nothing was written.
        let other = installed(root, "2", "1.2.0");
        keep(root).expect("kept");
        assert_eq!(run(root, &other), None);
    }

    #[test]
    fn a_virtual_environment_is_read_too_and_what_is_elsewhere_is_not() {
        let root = tempfile::tempdir().expect("a folder");
        let venv = root.path().join("uv/archive-v0/x");
        let site = venv.join("lib/python3.11/site-packages");
        fs::create_dir_all(site.join("my_tool-1.2.dist-info")).expect("made");
        fs::write(venv.join(VENV), "").expect("written");
        let python = venv.join("bin/python");
        assert_eq!(install_of(root.path(), &python), Some(venv.clone()));
        assert_eq!(version(&venv, "My.Tool"), Some("1.2".to_owned()));
        assert_eq!(install_of(root.path(), Path::new("/usr/bin/python3")), None);
        assert_eq!(install_of(&venv, &python), None);
    }
}

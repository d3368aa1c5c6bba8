//! Makes a view: copies of the package's own files, links to everything else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::Path;

use super::super::manifest::{Item, Manifest, digest};
use super::error::ViewError;
use super::layout::{LINK, SHARED, Shipped};

/// Longest first line by which a script names its interpreter, in bytes, `#!` and line break included
/// (BINPRM_BUF_SIZE before Linux 5.1).
const MAX_SHEBANG: usize = 127;

/// The plan of a view: its sources, and its place.
pub(super) struct Plan<'a> {
    /// The entry's folder.
    pub(super) entry: &'a Path,
    /// The manifest of the entry's files.
    pub(super) manifest: &'a Manifest,
    /// The package's own files and folders.
    pub(super) own: &'a BTreeSet<String>,
    /// Where the view is made.
    pub(super) at: &'a Path,
    /// Where the view will be.
    pub(super) home: &'a Path,
}

/// Makes the view and returns what is in it at first.
pub(super) fn build(plan: &Plan<'_>) -> Result<Shipped, ViewError> {
    let shared = plan.at.join(SHARED);
    symlink(plan.entry, &shared).map_err(ViewError::io("make", &shared))?;
    let folders = folders(plan);
    let mut shipped = BTreeMap::new();
    for (path, item) in plan.manifest.items() {
        let parent = path.rsplit_once('/').map(|(parent, _)| parent);
        // Else a folder above it is a link already.
        if parent.is_some_and(|parent| !folders.contains(parent)) {
            continue;
        }
        let to = plan.at.join(path);
        match item {
            Item::Folder if folders.contains(path) => DirBuilder::new()
                .mode(0o755)
                .create(&to)
                .map_err(ViewError::io("make", &to))?,
            Item::Link(target) => {
                symlink(target, &to).map_err(ViewError::io("make", &to))?;
                shipped.insert(path.to_owned(), format!("{LINK}{target}"));
            }
            Item::File { mode, sha256, .. }
                if plan.own.contains(path) || is_script(plan, path)? =>
            {
                let is_launcher = path.starts_with("venv/bin/");
                let digest = if is_launcher {
                    write_script(plan, path, *mode)?
                } else {
                    copy(plan, path, *mode, sha256)?
                };
                shipped.insert(path.to_owned(), digest);
            }
            Item::Folder | Item::File { .. } => {
                let up = "../".repeat(path.matches('/').count());
                let target = format!("{up}{SHARED}/{path}");
                symlink(&target, &to).map_err(ViewError::io("make", &to))?;
                shipped.insert(path.to_owned(), format!("{LINK}{target}"));
            }
        }
    }
    Ok(shipped)
}

/// Folders that the view has for itself: above own files, and where programs and packages lie side by side.
fn folders<'a>(plan: &'a Plan<'_>) -> BTreeSet<&'a str> {
    let mut folders = BTreeSet::from(["node_modules", "node_modules/.bin", "venv", "venv/bin"]);
    for path in plan.own {
        let mut path = path.as_str();
        if plan.manifest.item(path) == Some(&Item::Folder) {
            folders.insert(path);
        }
        while let Some((parent, _)) = path.rsplit_once('/') {
            folders.insert(parent);
            path = parent;
        }
    }
    folders
}

/// Whether an item is a script of a virtual environment, which names the interpreter in it.
fn is_script(plan: &Plan<'_>, path: &str) -> Result<bool, ViewError> {
    if !path.starts_with("venv/bin/") {
        return Ok(false);
    }
    let from = plan.entry.join(path);
    let mut head = [0; 2];
    let mut file = File::open(&from).map_err(ViewError::io("read", &from))?;
    let read = std::io::Read::read(&mut file, &mut head).map_err(ViewError::io("read", &from))?;
    Ok(head[..read] == *b"#!")
}

/// Copies a file, with its time of change: Python compares that of a source with its bytecode's.
fn copy(plan: &Plan<'_>, path: &str, mode: u32, sha256: &str) -> Result<String, ViewError> {
    let (from, to) = (plan.entry.join(path), plan.at.join(path));
    let copy = || {
        let mut source = File::open(&from)?;
        let changed = source.metadata()?.modified()?;
        let mut target = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode | 0o200)
            .open(&to)?;
        // By the kernel; a file system that can shares the blocks until one is written.
        std::io::copy(&mut source, &mut target)?;
        target.set_modified(changed)
    };
    copy().map_err(ViewError::io("copy", &from))?;
    // Of the copy: the original may be changed at any time by whoever can.
    let copied = File::open(&to).and_then(digest);
    let copied = copied.map_err(ViewError::io("read", &to))?;
    if copied != sha256 {
        return Err(ViewError::Damaged { path: from });
    }
    Ok(copied)
}

/// Writes a script of a virtual environment so that it is run by the view's own interpreter, whose packages are
/// the view's.
fn write_script(plan: &Plan<'_>, path: &str, mode: u32) -> Result<String, ViewError> {
    let (from, to) = (plan.entry.join(path), plan.at.join(path));
    let text = std::fs::read(&from).map_err(ViewError::io("read", &from))?;
    let text = placed(&text, &plan.entry.join("venv"), &plan.home.join("venv"));
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode | 0o200)
            .open(&to)?;
        file.write_all(&text)?;
        digest(File::open(&to)?)
    };
    write().map_err(ViewError::io("write", &to))
}

/// A script with the path of one virtual environment in place of another's. One whose first line becomes too long for
/// the kernel is made a script of the shell, as installers do (distlib, uv).
fn placed(script: &[u8], old: &Path, new: &Path) -> Vec<u8> {
    let Ok(text) = std::str::from_utf8(script) else {
        return script.to_vec();
    };
    let text = text.replace(&old.display().to_string(), &new.display().to_string());
    let first = text.lines().next().unwrap_or_default();
    let interpreter = first.trim_start_matches("#!").trim();
    let is_python = interpreter.starts_with(&new.display().to_string());
    if !is_python || (first.len() < MAX_SHEBANG && !interpreter.contains(' ')) {
        return text.into_bytes();
    }
    let rest = text.split_once('\n').map_or("", |(_, rest)| rest);
    format!("#!/bin/sh\n'''exec' '{interpreter}' \"$0\" \"$@\"\n' '''\n{rest}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_run_by_the_interpreter_of_its_own_view() {
        let script = b"#!/e/venv/bin/python\nimport x\n";
        let shown = |new: &str| {
            let placed = placed(script, Path::new("/e/venv"), Path::new(new));
            String::from_utf8(placed).expect("text")
        };
        assert_eq!(shown("/v/venv"), "#!/v/venv/bin/python\nimport x\n");
        let long = format!("/{}/venv", "x".repeat(MAX_SHEBANG));
        assert_eq!(
            shown(&long),
            format!("#!/bin/sh\n'''exec' '{long}/bin/python' \"$0\" \"$@\"\n' '''\nimport x\n")
        );
        assert!(shown("/a b/venv").starts_with("#!/bin/sh\n'''exec' '/a b/venv/bin/python'"));
        let trampoline = b"#!/bin/sh\n'''exec' '/e/venv/bin/python' \"$0\" \"$@\"\n' '''\n";
        let placed = placed(trampoline, Path::new("/e/venv"), Path::new("/v/venv"));
        assert!(placed.starts_with(b"#!/bin/sh\n'''exec' '/v/venv/bin/python' "));
    }
}

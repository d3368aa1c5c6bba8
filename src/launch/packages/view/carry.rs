//! Carries what a server has written beside its code from the view of one version into that of the next.
//!
//! The old view is a folder that the server may write, and may still be writing: no link in it is followed.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::super::manifest::digest;
use super::{PRIVATE, Shipped, ViewError};

/// Files that are looked at in an old view. What is beyond is left behind.
const MAX_FILES: usize = 100_000;
/// Folders in each other that are looked into.
const MAX_DEPTH: usize = 64;

/// What is carried, from where to where.
pub(super) struct Carry<'a> {
    /// The view of the version before.
    pub(super) old: &'a Path,
    /// What its files were at first.
    pub(super) old_shipped: &'a Shipped,
    /// The new view, as its package ships it.
    pub(super) new: &'a Path,
    /// What its files are.
    pub(super) new_shipped: &'a Shipped,
    /// Where those are put that cannot be carried over.
    pub(super) left: &'a Path,
}

/// How it went.
#[derive(Default, Debug)]
pub(super) struct Carried {
    /// Files that are in the new view.
    pub(super) files: usize,
    /// Files that the new version has another of, and those beyond the limits.
    pub(super) left: Vec<String>,
    seen: usize,
}

impl Carry<'_> {
    /// Carries over. Blocks.
    pub(super) fn run(&self) -> Result<Carried, ViewError> {
        let mut carried = Carried::default();
        let root = open_folder(self.old).map_err(ViewError::io("read", self.old))?;
        self.folder(&root, "", 0, &mut carried)
            .map_err(ViewError::io("carry over", self.old))?;
        Ok(carried)
    }

    fn folder(
        &self,
        folder: &File,
        rel: &str,
        depth: usize,
        carried: &mut Carried,
    ) -> io::Result<()> {
        let here = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()));
        for found in std::fs::read_dir(&here)? {
            let found = found?;
            let Ok(name) = found.file_name().into_string() else {
                continue;
            };
            // Bytecode is of the code beside it; the rest is of the view itself.
            let is_ours = depth == 0 && PRIVATE.contains(&name.as_str());
            if is_ours || name == "__pycache__" || name.ends_with(".pyc") {
                continue;
            }
            let below = if rel.is_empty() {
                name.clone()
            } else {
                format!("{rel}/{name}")
            };
            let kind = found.file_type()?;
            if kind.is_dir() {
                if depth == MAX_DEPTH {
                    carried.left.push(below);
                } else if let Ok(inner) = open_folder(&here.join(&name)) {
                    self.folder(&inner, &below, depth + 1, carried)?;
                }
            } else if kind.is_file() {
                carried.seen += 1;
                if carried.seen > MAX_FILES {
                    carried.left.push(below);
                } else if let Ok(file) = open_file(&here.join(&name)) {
                    self.file(file, below, carried)?;
                }
            }
        }
        Ok(())
    }

    fn file(&self, file: File, path: String, carried: &mut Carried) -> io::Result<()> {
        if !file.metadata()?.is_file() {
            return Ok(());
        }
        let was = self.old_shipped.get(&path);
        if let Some(was) = was
            && digest(file.try_clone()?)? == *was
        {
            return Ok(());
        }
        let is_free = match self.new_shipped.get(&path) {
            // The package has the same in both versions, and the server changed it.
            Some(new) => was == Some(new),
            None => true,
        };
        if is_free && put(&file, self.new, &path)? {
            carried.files += 1;
            return Ok(());
        }
        put(&file, self.left, &path)?;
        carried.left.push(path);
        Ok(())
    }
}

/// Copies a file to its place below a folder; false where something else is in the way, as a link to what is shared.
fn put(file: &File, root: &Path, path: &str) -> io::Result<bool> {
    let mut folder = root.to_owned();
    let mut parts: Vec<&str> = path.split('/').collect();
    let name = parts.pop().unwrap_or_default();
    for part in parts {
        folder.push(part);
        match folder.symlink_metadata() {
            Ok(kind) if kind.is_dir() => {}
            Ok(_) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                DirBuilder::new().mode(0o755).create(&folder)?;
            }
            Err(error) => return Err(error),
        }
    }
    let to = folder.join(name);
    match to.symlink_metadata() {
        Ok(kind) if kind.is_file() => std::fs::remove_file(&to)?,
        Ok(_) => return Ok(false),
        Err(_) => {}
    }
    let meta = file.metadata()?;
    let mode = meta.permissions().mode() & 0o777;
    let mut target = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode | 0o200)
        .open(&to)?;
    let mut source = file;
    io::Seek::rewind(&mut source)?;
    io::copy(&mut source, &mut target)?;
    target.set_modified(meta.modified()?)?;
    Ok(true)
}

fn open_folder(path: &Path) -> io::Result<File> {
    let flags = libc::O_NOFOLLOW | libc::O_DIRECTORY;
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

/// Opens a file, and neither follows a link nor waits for who writes a pipe.
fn open_file(path: &Path) -> io::Result<File> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

//! Carries what a server has written beside its code from the view of one version into that of the next.
//!
//! The old view is a folder that the server may write, and may still be writing: no link in it is followed.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::super::manifest::digest;
use super::{LINK, PRIVATE, Shipped, ViewError};

/// Files that are looked at in an old view. What is beyond is left behind.
const MAX_FILES: usize = 100_000;
/// Folders in each other that are looked into.
const MAX_DEPTH: usize = 64;

/// What is carried, from where to where.
pub(super) struct Carry<'a> {
    /// The view of the version before.
    pub(super) old: &'a Path,
    /// What of it needs no carrying: what it was made with, what was carried before.
    pub(super) known: &'a Shipped,
    /// The new view, as its package ships it, and what it was made with; without, all is put aside.
    pub(super) to: Option<(&'a Path, &'a Shipped)>,
    /// Where those are put that cannot be carried over.
    pub(super) left: &'a Path,
}

/// How it went.
#[derive(Default, Debug)]
pub(super) struct Carried {
    /// Files that are in the new view, and their digests.
    pub(super) files: Shipped,
    /// Files that were put aside: the new version has another in their place.
    pub(super) left: Vec<String>,
    /// What is in neither place: links, what is no plain file, what cannot be read, what is beyond the limits.
    pub(super) lost: Vec<String>,
    seen: usize,
}

impl Carry<'_> {
    /// Carries over. Blocks.
    ///
    /// # Errors
    /// When something cannot be written: then nothing may be removed.
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
            let name = found.file_name();
            let is_text = name.to_str().is_some();
            let name = name.to_string_lossy().into_owned();
            if is_not_carried(&name, depth) {
                continue;
            }
            let below = if rel.is_empty() {
                name.clone()
            } else {
                format!("{rel}/{name}")
            };
            let kind = found.file_type()?;
            let is_carried = if kind.is_dir() {
                self.inner(&here.join(&name), &below, depth, carried)?
            } else if kind.is_file() && is_text {
                carried.seen += 1;
                match open_file(&here.join(&name)) {
                    Ok(file) if carried.seen <= MAX_FILES => self.file(&file, &below, carried)?,
                    _ => false,
                }
            } else {
                kind.is_symlink() && self.is_known_link(&here.join(&name), &below)
            };
            if !is_carried {
                carried.lost.push(below);
            }
        }
        Ok(())
    }

    /// Carries what is in a folder; false if it cannot be looked into.
    fn inner(
        &self,
        path: &Path,
        below: &str,
        depth: usize,
        carried: &mut Carried,
    ) -> io::Result<bool> {
        let Ok(inner) = open_folder(path) else {
            return Ok(false);
        };
        if depth == MAX_DEPTH {
            return Ok(false);
        }
        self.folder(&inner, below, depth + 1, carried)?;
        Ok(true)
    }

    /// A link that the view was made with.
    fn is_known_link(&self, link: &Path, below: &str) -> bool {
        let known = self.known.get(below).and_then(|was| was.strip_prefix(LINK));
        known.is_some_and(|known| std::fs::read_link(link).is_ok_and(|to| to == Path::new(known)))
    }

    /// Carries a file, or puts it aside; false if it is no plain file any more.
    fn file(&self, file: &File, path: &str, carried: &mut Carried) -> io::Result<bool> {
        if !file.metadata()?.is_file() {
            return Ok(false);
        }
        let was = self.known.get(path);
        if let Some(was) = was
            && digest(file.try_clone()?)? == *was
        {
            return Ok(true);
        }
        if let Some((new, shipped)) = self.to {
            let is_free = match shipped.get(path) {
                // The package has the same in both versions, and the server changed it.
                Some(new) => was == Some(new),
                None => true,
            };
            if is_free && let Some(digest) = put(file, new, path)? {
                carried.files.insert(path.to_owned(), digest);
                return Ok(true);
            }
        }
        let is_put = put(file, self.left, path)?.is_some();
        if is_put {
            carried.left.push(path.to_owned());
        }
        Ok(is_put)
    }
}

/// Whether there are files in a view that it was not made with, or that were changed after `made`. What cannot be looked
/// at counts as such. Blocks.
pub(super) fn is_written_to(view: &Path, shipped: &Shipped, made: SystemTime) -> bool {
    let Ok(root) = open_folder(view) else {
        return true;
    };
    let mut seen = 0;
    has_written(&root, "", 0, &mut seen, &|path, file| {
        let changed = file.metadata().and_then(|meta| meta.modified());
        !shipped.contains_key(path) || changed.map_or(true, |changed| changed > made)
    })
}

fn has_written(
    folder: &File,
    rel: &str,
    depth: usize,
    seen: &mut usize,
    is_written: &dyn Fn(&str, &std::fs::DirEntry) -> bool,
) -> bool {
    let here = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()));
    let Ok(items) = std::fs::read_dir(&here) else {
        return true;
    };
    for item in items {
        *seen += 1;
        let (Ok(item), true) = (item, *seen <= MAX_FILES && depth <= MAX_DEPTH) else {
            return true;
        };
        let name = item.file_name().to_string_lossy().into_owned();
        if is_not_carried(&name, depth) {
            continue;
        }
        let below = if rel.is_empty() {
            name.clone()
        } else {
            format!("{rel}/{name}")
        };
        let is_dir = item.file_type().is_ok_and(|kind| kind.is_dir());
        let inner = is_dir.then(|| open_folder(&here.join(&name)));
        let is_it = match inner {
            None => is_written(&below, &item),
            Some(Ok(inner)) => has_written(&inner, &below, depth + 1, seen, is_written),
            Some(Err(_)) => true,
        };
        if is_it {
            return true;
        }
    }
    false
}

/// Bytecode is of the code beside it; the rest is of the view itself.
fn is_not_carried(name: &str, depth: usize) -> bool {
    let is_ours = depth == 0 && PRIVATE.contains(&name);
    is_ours || name == "__pycache__" || name.ends_with(".pyc")
}

/// Copies a file to its place below a folder, and returns the copy's digest; `None` where something else is in the
/// way, as a link to what is shared.
fn put(file: &File, root: &Path, path: &str) -> io::Result<Option<String>> {
    let mut folder = root.to_owned();
    DirBuilder::new().recursive(true).mode(0o700).create(root)?;
    let mut parts: Vec<&str> = path.split('/').collect();
    let name = parts.pop().unwrap_or_default();
    for part in parts {
        folder.push(part);
        match folder.symlink_metadata() {
            Ok(kind) if kind.is_dir() => {}
            Ok(_) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                DirBuilder::new().mode(0o755).create(&folder)?;
            }
            Err(error) => return Err(error),
        }
    }
    let to = folder.join(name);
    match to.symlink_metadata() {
        Ok(kind) if kind.is_file() => std::fs::remove_file(&to)?,
        Ok(_) => return Ok(None),
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
    // It may have been read for its digest.
    io::Seek::rewind(&mut source)?;
    io::copy(&mut source, &mut target)?;
    target.set_modified(meta.modified()?)?;
    digest(File::open(&to)?).map(Some)
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

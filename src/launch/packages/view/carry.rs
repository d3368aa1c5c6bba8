//! Carries what a server has written beside its code from the view of one version into that of the next.
//!
//! The old view is a folder that the server may write, and may still be writing: no link in it is followed.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::SystemTime;

use super::super::manifest::digest;
use super::error::ViewError;
use super::layout::{LINK, PRIVATE, Shipped};
use super::walk::{FoundFile, Kind, open_file, walk};

/// The carrying of files from one view to another.
pub(super) struct Carry<'a> {
    /// The view of the version before.
    pub(super) old: &'a Path,
    /// Files of the old view that need no carrying: what it was made with, what was carried before.
    pub(super) known: &'a Shipped,
    /// The new view, as its package ships it, and what it was made with; without, all is put aside.
    pub(super) to: Option<(&'a Path, &'a Shipped)>,
    /// Where those are put that cannot be carried over.
    pub(super) left: &'a Path,
}

/// The outcome for the files that a server wrote.
#[derive(Default, Debug)]
pub(super) struct Carried {
    /// Files that are in the new view, and their digests.
    pub(super) files: Shipped,
    /// Files that were put aside: the new version has another in their place.
    pub(super) left: Vec<String>,
    /// What is in neither place: links, what is no plain file, what cannot be read, what is beyond the limits.
    pub(super) lost: Vec<String>,
}

impl Carry<'_> {
    /// Carries over. Blocks.
    ///
    /// # Errors
    /// When something cannot be written: then nothing may be removed.
    pub(super) fn run(&self) -> Result<Carried, ViewError> {
        let mut carried = Carried::default();
        let mut visit = |found: &FoundFile<'_>| {
            if !self.one(found, &mut carried)? {
                carried.lost.push(found.path.to_owned());
            }
            Ok(ControlFlow::Continue(()))
        };
        let walked = walk(self.old, &is_not_carried, &mut visit);
        let _all = walked.map_err(ViewError::io("carry over", self.old))?;
        Ok(carried)
    }

    /// Carries one thing; false if it is lost.
    fn one(&self, found: &FoundFile<'_>, carried: &mut Carried) -> io::Result<bool> {
        match found.kind {
            Kind::File => match open_file(&found.at) {
                Ok(file) => self.file(&file, found.path, carried),
                Err(_) => Ok(false),
            },
            Kind::Link => Ok(self.is_known_link(&found.at, found.path)),
            Kind::Other | Kind::Closed | Kind::Beyond => Ok(false),
        }
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
                // The package has one text of it in both versions, and the server changed it.
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
    let mut visit = |found: &FoundFile<'_>| {
        let is_written = match found.kind {
            Kind::Closed | Kind::Beyond => true,
            Kind::File | Kind::Link | Kind::Other => {
                let changed = found.at.symlink_metadata().and_then(|meta| meta.modified());
                !shipped.contains_key(found.path) || changed.map_or(true, |changed| changed > made)
            }
        };
        Ok(if is_written {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        })
    };
    let walked = walk(view, &is_not_carried, &mut visit);
    walked.map_or(true, |flow| flow.is_break())
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
    // The file may have been read for its digest.
    io::Seek::rewind(&mut source)?;
    io::copy(&mut source, &mut target)?;
    target.set_modified(meta.modified()?)?;
    digest(File::open(&to)?).map(Some)
}

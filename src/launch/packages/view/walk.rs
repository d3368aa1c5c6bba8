//! Walks a folder that a server may write, and may still be writing: no link in it is followed, and there is an end to it.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::ControlFlow;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Files that are looked at. A folder below that is [`Kind::Beyond`].
const MAX_FILES: usize = 100_000;
/// Folders in each other that are looked into.
const MAX_DEPTH: usize = 64;

/// The kind of a file that was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in super::super) enum Kind {
    /// A regular file.
    File,
    /// A symbolic link.
    Link,
    /// Something else, or a file with a name that is no text.
    Other,
    /// A folder that cannot be looked into, or is too deep.
    Closed,
    /// There is more than is looked at.
    Beyond,
}

/// A file or link below a folder. Of folders that can be looked into the contents are found, not the folders.
#[derive(Debug)]
pub(in super::super) struct FoundFile<'a> {
    /// The item's path from the folder.
    pub(in super::super) path: &'a str,
    /// Where the item is at this moment, whatever is renamed above it.
    pub(in super::super) at: PathBuf,
    /// What the item is.
    pub(in super::super) kind: Kind,
}

/// Whether something of that name, so many folders deep, is passed over with all that is in it.
type Skip<'a> = dyn Fn(&str, usize) -> bool + 'a;
/// Is shown what is found, until it has seen enough.
type Visit<'a> = dyn FnMut(&FoundFile<'_>) -> io::Result<ControlFlow<()>> + 'a;

/// Walks a folder. Blocks.
///
/// # Errors
/// When the folder cannot be read, and those of `visit`.
pub(in super::super) fn walk(
    folder: &Path,
    skip: &Skip<'_>,
    visit: &mut Visit<'_>,
) -> io::Result<ControlFlow<()>> {
    let root = open_folder(folder)?;
    let mut seen = 0;
    let mut walk = Walk {
        skip,
        visit,
        seen: &mut seen,
    };
    walk.folder(&root, "", 0)
}

struct Walk<'a, 'b> {
    skip: &'a Skip<'b>,
    visit: &'a mut Visit<'b>,
    seen: &'a mut usize,
}

impl Walk<'_, '_> {
    fn folder(&mut self, folder: &File, rel: &str, depth: usize) -> io::Result<ControlFlow<()>> {
        let here = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()));
        for item in std::fs::read_dir(&here)? {
            let item = item?;
            let name = item.file_name();
            let is_text = name.to_str().is_some();
            let at = here.join(&name);
            let name = name.to_string_lossy();
            if (self.skip)(&name, depth) {
                continue;
            }
            let below = if rel.is_empty() {
                name.into_owned()
            } else {
                format!("{rel}/{name}")
            };
            let kind = item.file_type()?;
            *self.seen += 1;
            let kind = if *self.seen > MAX_FILES {
                Kind::Beyond
            } else if kind.is_dir() {
                match open_folder(&at) {
                    Ok(inner) if depth < MAX_DEPTH => {
                        if self.folder(&inner, &below, depth + 1)?.is_break() {
                            return Ok(ControlFlow::Break(()));
                        }
                        continue;
                    }
                    _ => Kind::Closed,
                }
            } else if kind.is_symlink() {
                Kind::Link
            } else if kind.is_file() && is_text {
                Kind::File
            } else {
                Kind::Other
            };
            let path = below.as_str();
            if (self.visit)(&FoundFile { path, at, kind })?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// Opens a folder, and follows no link.
pub(in super::super) fn open_folder(path: &Path) -> io::Result<File> {
    let flags = libc::O_NOFOLLOW | libc::O_DIRECTORY;
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

/// Opens a file, and neither follows a link nor waits for who writes a pipe.
pub(super) fn open_file(path: &Path) -> io::Result<File> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_found_once_and_no_link_is_followed() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(at("a/b")).expect("made");
        std::fs::write(at("a/b/x"), "").expect("written");
        std::fs::write(at("skipped"), "").expect("written");
        std::os::unix::fs::symlink("/etc", at("link")).expect("linked");
        let mut found = Vec::new();
        let skip = |name: &str, depth: usize| name == "skipped" && depth == 0;
        let mut visit = |item: &FoundFile<'_>| {
            found.push((item.path.to_owned(), item.kind));
            Ok(ControlFlow::Continue(()))
        };
        let _end = walk(folder.path(), &skip, &mut visit).expect("readable");
        found.sort_by(|a, b| a.0.cmp(&b.0));
        let expected = [
            ("a/b/x".to_owned(), Kind::File),
            ("link".to_owned(), Kind::Link),
        ];
        assert_eq!(found, expected);
    }
}

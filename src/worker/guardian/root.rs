//! The root of the file system of a worker with `sandbox = "strict"`: an empty one, in which is mounted what the worker is to see, and nothing
//! else of the host's; with a `/proc` of its own namespace of processes and a `/dev` without devices.
//!
//! The root is made with nothing but what the leader is given: what is seen, and that it may be, is decided by the supervisor.
#![allow(unsafe_code, reason = "system calls between fork and exec")]

use std::ffi::{CStr, CString, OsStr, OsString};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, umask};
use serde::{Deserialize, Serialize};

use super::devices::{DEVICES, FOLDERS, LINKS};
use super::mount_call::{NewFilesystem, mount};
use super::mounts::FileContents;

/// The root of the file system that a worker sees.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Root {
    /// The entries in order: a folder before what is below it.
    pub(crate) entries: Vec<RootEntry>,
    /// A folder of its own that is `/tmp` and `/var/tmp` too; without, they are in memory.
    pub(crate) tmp: Option<OsString>,
    /// Files with contents of their own, over what else is at their paths.
    pub(crate) files: Vec<FileContents>,
}

/// Something that a worker sees, at the path that it has on the host.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum RootEntry {
    /// A link, and what it leads to.
    Link(OsString, OsString),
    /// A file or folder with all in it, as far as it is there, which cannot be written to.
    ReadOnly(OsString),
    /// A folder with all in it. No link is followed.
    Writable(OsString),
    /// An empty folder instead of what is there.
    Empty(OsString),
}

impl Root {
    /// Where a worker may write, as it sees it.
    pub(super) fn writable(&self) -> Vec<PathBuf> {
        let own = self.entries.iter().filter_map(|entry| match entry {
            RootEntry::Writable(path) => Some(PathBuf::from(path)),
            RootEntry::Link(..) | RootEntry::ReadOnly(_) | RootEntry::Empty(_) => None,
        });
        own.chain(["/tmp", "/var/tmp", "/dev", "/proc"].map(PathBuf::from))
            .collect()
    }

    /// Makes this root the process's own. The process's namespace of mounts has to be new, and that of processes not the host's. The working
    /// directory is then `/`. With `hides_processes`, `/proc` shows those of its own user alone.
    ///
    /// # Errors
    /// When the host does not allow it: then the process must not go on.
    pub(super) fn enter(&self, hides_processes: bool) -> io::Result<()> {
        umask(Mode::from_bits_truncate(0o022));
        // Mounts made here are seen nowhere else.
        mount(None, c"/", None, libc::MS_REC | libc::MS_SLAVE)?;
        // Before the root changes, since links lead to paths of the host.
        let opened = self.entries.iter().map(tree_of);
        let opened = opened.collect::<io::Result<Vec<_>>>()?;
        let tmp = self.tmp.as_deref().map(|path| tree(path, libc::O_NOFOLLOW));
        let tmp = tmp.transpose()?;
        let devices = DEVICES.map(|name| tree(OsStr::new(&format!("/dev/{name}")), 0));
        change_root()?;
        make_proc(hides_processes)?;
        make_dev(devices)?;
        make_tmp(tmp)?;
        for (entry, tree) in self.entries.iter().zip(opened) {
            put(entry, tree)?;
        }
        write_files(&self.files)?;
        leave_old_root()?;
        set_attributes(None, c"/", libc::MOUNT_ATTR_RDONLY)
    }
}

/// Where the new root is mounted while it is none yet: whichever is there. Its contents are not needed.
const BASES: [&CStr; 3] = [c"/tmp", c"/run", c"/dev"];
/// Where the root of the host is meanwhile.
const OLD_ROOT: &str = "/.host";

/// A folder with nothing in it.
const EMPTY: NewFilesystem<'_> = NewFilesystem {
    kind: c"tmpfs",
    options: c"mode=0755,size=1m,nr_inodes=4096",
};

fn change_root() -> io::Result<()> {
    let is_there = |base: &&&CStr| Path::new(OsStr::from_bytes(base.to_bytes())).is_dir();
    let base = BASES.iter().find(is_there);
    let base = *base.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))?;
    mount(None, base, Some(EMPTY), libc::MS_NOSUID | libc::MS_NODEV)?;
    std::env::set_current_dir(OsStr::from_bytes(base.to_bytes()))?;
    make_folder(Path::new(".host"), 0o700)?;
    // SAFETY: both strings end in a zero byte and live for the call.
    if unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".host".as_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    std::env::set_current_dir("/")
}

fn leave_old_root() -> io::Result<()> {
    let old = c_string(OsStr::new(OLD_ROOT))?;
    // SAFETY: the string ends in a zero byte and lives for the call.
    if unsafe { libc::umount2(old.as_ptr(), libc::MNT_DETACH) } != 0 {
        return Err(io::Error::last_os_error());
    }
    std::fs::remove_dir(OLD_ROOT)
}

fn make_proc(hides_processes: bool) -> io::Result<()> {
    make_folder(Path::new("/proc"), 0o755)?;
    let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    let options = if hides_processes {
        c"hidepid=invisible"
    } else {
        c""
    };
    let processes = NewFilesystem {
        kind: c"proc",
        options,
    };
    mount(None, c"/proc", Some(processes), flags)
}

fn make_dev(devices: [io::Result<Option<OwnedFd>>; DEVICES.len()]) -> io::Result<()> {
    for folder in FOLDERS {
        make_folder(Path::new(folder), 0o755)?;
    }
    for (name, device) in DEVICES.iter().zip(devices) {
        // A host without one, as some containers have no terminals, has none here either.
        let Some(device) = device? else { continue };
        let path = format!("/dev/{name}");
        File::create(&path)?;
        let attributes = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC;
        set_attributes(Some(&device), c"", attributes)?;
        attach(&device, Path::new(&path))?;
    }
    for (link, target) in LINKS {
        symlink(target, link)?;
    }
    let flags = libc::MS_NOSUID | libc::MS_NOEXEC;
    let terminals = NewFilesystem {
        kind: c"devpts",
        options: c"newinstance,ptmxmode=0666,mode=0600",
    };
    mount(None, c"/dev/pts", Some(terminals), flags)?;
    in_memory(c"/dev/shm")
}

fn make_tmp(own: Option<Option<OwnedFd>>) -> io::Result<()> {
    for (folder, path) in [("/tmp", c"/tmp"), ("/var/tmp", c"/var/tmp")] {
        make_folder(Path::new(folder), 0o755)?;
        match own.as_ref().and_then(Option::as_ref) {
            Some(own) => {
                let copy = clone_tree(own)?;
                set_attributes(Some(&copy), c"", OF_FILES)?;
                attach(&copy, Path::new(folder))?;
            }
            None => in_memory(path)?,
        }
    }
    make_folder(Path::new("/run"), 0o755)
}

/// A folder for all of its processes, whose size is bounded.
fn in_memory(path: &CStr) -> io::Result<()> {
    let files = NewFilesystem {
        kind: c"tmpfs",
        options: c"mode=1777,size=64m,nr_inodes=16384",
    };
    mount(None, path, Some(files), libc::MS_NOSUID | libc::MS_NODEV)
}

/// What every mount of files is without.
const OF_FILES: u64 = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;

fn put(entry: &RootEntry, tree: Option<OwnedFd>) -> io::Result<()> {
    let (path, attributes) = match entry {
        RootEntry::Link(path, target) => {
            let path = Path::new(path);
            path.parent().map_or(Ok(()), |it| make_folder(it, 0o755))?;
            return match symlink(target, path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                made => made,
            };
        }
        RootEntry::Empty(path) => return hide(Path::new(path)),
        RootEntry::ReadOnly(path) => (path, OF_FILES | libc::MOUNT_ATTR_RDONLY),
        RootEntry::Writable(path) => (path, OF_FILES),
    };
    let Some(tree) = tree else { return Ok(()) };
    set_attributes(Some(&tree), c"", attributes)?;
    attach(&tree, Path::new(path))
}

/// Writes files where nothing is, and puts them over what is there.
fn write_files(files: &[FileContents]) -> io::Result<()> {
    let folder = Path::new("/.files");
    for (at, file) in files.iter().enumerate() {
        make_folder(folder, 0o755)?;
        let made = folder.join(at.to_string());
        std::fs::write(&made, &file.text)?;
        let Some(tree) = tree(made.as_os_str(), 0)? else {
            continue;
        };
        set_attributes(Some(&tree), c"", OF_FILES | libc::MOUNT_ATTR_RDONLY)?;
        match attach(&tree, Path::new(&file.path)) {
            // A folder of the host's without that file, or with a link that leads to nothing here: programs do without.
            Err(error) if is_not_there(&error) => {}
            done => done?,
        }
    }
    Ok(())
}

fn is_not_there(error: &io::Error) -> bool {
    use io::ErrorKind::{AlreadyExists, NotFound, ReadOnlyFilesystem};
    matches!(error.kind(), AlreadyExists | NotFound | ReadOnlyFilesystem)
}

/// Puts an empty folder over one that is seen.
fn hide(path: &Path) -> io::Result<()> {
    if !path.is_dir() {
        return Ok(());
    }
    let path = c_string(path.as_os_str())?;
    mount(None, &path, Some(EMPTY), libc::MS_NOSUID | libc::MS_NODEV)
}

fn tree_of(entry: &RootEntry) -> io::Result<Option<OwnedFd>> {
    match entry {
        RootEntry::Link(..) | RootEntry::Empty(_) => Ok(None),
        RootEntry::ReadOnly(path) => tree(path, 0),
        RootEntry::Writable(path) => match tree(path, libc::O_NOFOLLOW)? {
            Some(tree) => Ok(Some(tree)),
            None => Err(io::Error::from_raw_os_error(libc::ENOENT)),
        },
    }
}

/// A copy of what is mounted at a path and below, mounted nowhere; `None` where nothing is there.
fn tree(path: &OsStr, more: libc::c_int) -> io::Result<Option<OwnedFd>> {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH | more)
        .open(path);
    match opened {
        Ok(file) => Ok(Some(clone_tree(&file.into())?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn clone_tree(opened: &OwnedFd) -> io::Result<OwnedFd> {
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    let at = (libc::AT_EMPTY_PATH | libc::AT_RECURSIVE).cast_unsigned();
    // SAFETY: the string is empty and ends in a zero byte; the descriptor is open.
    let tree = unsafe {
        libc::syscall(
            libc::SYS_open_tree,
            opened.as_raw_fd(),
            c"".as_ptr(),
            flags | at,
        )
    };
    if tree < 0 {
        return Err(io::Error::last_os_error());
    }
    let tree = i32::try_from(tree).map_err(io::Error::other)?;
    // SAFETY: it was opened just now and is nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(tree) })
}

/// Mounts what is mounted nowhere; what is to hold it is made where it is missing.
fn attach(tree: &OwnedFd, path: &Path) -> io::Result<()> {
    if !path.exists() {
        // A descriptor of a folder is one by which something in it is found.
        let is_folder = nix::sys::stat::fstat(tree)?.st_mode & libc::S_IFMT == libc::S_IFDIR;
        if is_folder {
            make_folder(path, 0o755)?;
        } else {
            path.parent().map_or(Ok(()), |it| make_folder(it, 0o755))?;
            File::create(path)?;
        }
    }
    /// `MOVE_MOUNT_F_EMPTY_PATH`
    const FROM_DESCRIPTOR: libc::c_uint = 4;
    let target = c_string(path.as_os_str())?;
    // SAFETY: the strings end in a zero byte and live for the call; the descriptor is open.
    let moved = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            target.as_ptr(),
            FROM_DESCRIPTOR,
        )
    };
    match moved {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sets attributes of what is mounted at a descriptor, with all below, which then is private: what the host mounts in
/// there later is not seen, since it would be without them. Or those of the one mount at a path.
fn set_attributes(tree: Option<&OwnedFd>, path: &CStr, set: u64) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: set,
        attr_clr: 0,
        propagation: if tree.is_some() { libc::MS_PRIVATE } else { 0 },
        userns_fd: 0,
    };
    let (fd, flags) = match tree {
        Some(tree) => (tree.as_raw_fd(), libc::AT_EMPTY_PATH | libc::AT_RECURSIVE),
        None => (libc::AT_FDCWD, 0),
    };
    // SAFETY: the string ends in a zero byte, `attributes` is of the size that is said; both live for the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd,
            path.as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn make_folder(path: &Path, mode: u32) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(mode).create(path)
}

/// A path with a zero byte names nothing.
fn c_string(path: &OsStr) -> io::Result<CString> {
    Ok(CString::new(path.as_bytes())?)
}

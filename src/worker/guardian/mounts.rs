//! What a worker sees of the file system otherwise than the host: in a mount namespace of its own, folders are mounted
//! read-only, and others are hidden below an empty one.
//!
//! A worker that is not root can undo none of it. As another user than root stdiopool needs a user namespace for it, in
//! which the worker keeps its own user and group, and gets no rights. Where the host allows neither, permissions are all
//! there is (`stdiopool doctor` says so).
#![allow(unsafe_code, reason = "system calls between fork and exec")]

use std::ffi::{CStr, CString, OsStr, OsString};
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use nix::sys::prctl::set_dumpable;
use nix::unistd::{getegid, geteuid};
use serde::{Deserialize, Serialize};

use super::mount_call::{NewFilesystem, mount};
use crate::process::may_mount;

/// Something that a worker sees otherwise.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Mount {
    /// An empty folder, which lets everybody pass, lies over this one, unless that is hidden already.
    Hide(OsString),
    /// The path is seen though a folder above it is hidden. No link is followed.
    Show(OsString),
    /// The path is seen though a folder above it is hidden, and cannot be written to. Left out where it is not there.
    ShowReadOnly(OsString),
}

/// A file that a worker sees with other contents than those of the host's, as far as the host has it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct FileContents {
    /// Where.
    pub(crate) path: OsString,
    /// The text that the worker reads there.
    pub(crate) text: String,
}

/// All that a worker sees otherwise of the file system.
pub(super) struct Mounts {
    /// Mounts in order: a folder before what is below it.
    all: Vec<Mount>,
    written: Vec<FileContents>,
    /// The worker may make a user namespace, in which set-user-ID programs have no effect and there are no other users.
    may_make_user_namespace: bool,
}

impl Mounts {
    /// The mounts of a worker that may be put into a user namespace where it takes one: neither if it may gain privileges,
    /// nor if it becomes another user, who does not exist in there.
    pub(super) fn new(all: Vec<Mount>, may_make_user_namespace: bool) -> Self {
        Self {
            all,
            written: vec![],
            may_make_user_namespace,
        }
    }

    /// And files with these contents.
    pub(super) fn with(mut self, written: Vec<FileContents>) -> Self {
        self.written = written;
        self
    }

    /// Makes them for this process and what it starts; not for one that may gain privileges, if it takes a
    /// user namespace. The process has one thread; its working directory is still where it was.
    ///
    /// # Errors
    /// When the host does not allow it; some may be made then.
    pub(super) fn apply(&self) -> io::Result<()> {
        if self.all.is_empty() && self.written.is_empty() {
            return Ok(());
        }
        if unshare(libc::CLONE_NEWNS).is_err() {
            if !self.may_make_user_namespace {
                return Ok(());
            }
            let (uid, gid) = (geteuid(), getegid());
            // Else what maps the user in /proc is root's. The program executed next has its own again.
            set_dumpable(true)?;
            unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS)?;
            std::fs::write("/proc/self/setgroups", "deny")?;
            std::fs::write("/proc/self/uid_map", format!("{uid} {uid} 1"))?;
            std::fs::write("/proc/self/gid_map", format!("{gid} {gid} 1"))?;
        }
        // Mounts made here are seen nowhere else; those of the host are seen here.
        mount(None, c"/", None, libc::MS_REC | libc::MS_SLAVE)?;
        // Opened before anything hides it.
        let sources = self
            .all
            .iter()
            .map(source)
            .collect::<io::Result<Vec<_>>>()?;
        // A link leads to where nothing may be seen below.
        let real = |it: &FileContents| Path::new(&it.path).canonicalize();
        let written = self.written.iter().map(|it| (real(it), &*it.text));
        let written: Vec<_> = written
            .filter_map(|(real, text)| Some((real.ok()?, text)))
            .collect();
        for (what, source) in self.all.iter().zip(sources) {
            match what {
                Mount::Hide(path) => hide(Path::new(path))?,
                Mount::Show(path) => {
                    show(source.as_ref(), Path::new(path))?;
                }
                Mount::ShowReadOnly(path) => {
                    if let Some(target) = show(source.as_ref(), Path::new(path))? {
                        set_read_only(&target)?;
                    }
                }
            }
        }
        write_over(&written)
    }
}

/// Puts files with those contents over those at these paths, without links in them.
fn write_over(files: &[(std::path::PathBuf, &str)]) -> io::Result<()> {
    /// Folders in which the files are made: the first that is there, and has none of the paths in it.
    const BASES: [&CStr; 3] = [c"/tmp", c"/run", c"/dev"];
    if files.is_empty() {
        return Ok(());
    }
    let of = |base: &CStr| Path::new(OsStr::from_bytes(base.to_bytes())).to_owned();
    let is_free = |base: &&&CStr| {
        let base = of(base);
        base.is_dir() && !files.iter().any(|(path, _)| path.starts_with(&base))
    };
    let base = BASES.iter().find(is_free);
    let base = *base.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))?;
    let options = Some(NewFilesystem {
        kind: c"tmpfs",
        options: c"mode=0755,size=1m,nr_inodes=64",
    });
    let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    mount(None, base, options, flags)?;
    for (at, (path, text)) in files.iter().enumerate() {
        let made = of(base).join(at.to_string());
        std::fs::write(&made, text)?;
        std::fs::set_permissions(&made, Permissions::from_mode(0o444))?;
        let made = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_PATH)
            .open(&made)?;
        if let Some(target) = show(Some(&made.into()), path)? {
            set_read_only(&target)?;
        }
    }
    // Mounts of the base elsewhere stay.
    // SAFETY: the string ends in a zero byte and lives for the call.
    match unsafe { libc::umount2(base.as_ptr(), libc::MNT_DETACH) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Mounts a `/proc` in which a process sees those of its own user alone, with which the command lines of others are
/// hidden too. A host that does not let it be mounted anew goes without: what is behind `/proc` is kept by permissions.
pub(super) fn hide_processes() {
    let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    let options = Some(NewFilesystem {
        kind: c"proc",
        options: c"hidepid=invisible",
    });
    let _kept_by_permissions = mount(None, c"/proc", options, flags);
}

/// What is shown, opened; `None` where it is not there, or nothing is to be.
fn source(what: &Mount) -> io::Result<Option<OwnedFd>> {
    let (path, more) = match what {
        Mount::Hide(_) => return Ok(None),
        Mount::Show(path) => (path, libc::O_NOFOLLOW),
        Mount::ShowReadOnly(path) => (path, 0),
    };
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH | more)
        .open(path);
    match opened {
        Ok(file) => Ok(Some(file.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn hide(path: &Path) -> io::Result<()> {
    if !path.is_dir() {
        // The place is in one that is hidden.
        return Ok(());
    }
    let target = c_string(path.as_os_str())?;
    let options = Some(NewFilesystem {
        kind: c"tmpfs",
        options: c"mode=0711,size=1m,nr_inodes=4096",
    });
    mount(None, &target, options, libc::MS_NOSUID | libc::MS_NODEV)
}

/// Mounts what was opened at its path, which is made anew where it is hidden; the path.
fn show(source: Option<&OwnedFd>, path: &Path) -> io::Result<Option<CString>> {
    let Some(source) = source else {
        return Ok(None);
    };
    let opened = format!("/proc/self/fd/{}", source.as_raw_fd());
    if !path.exists() {
        let folder = |path: &Path| DirBuilder::new().recursive(true).mode(0o711).create(path);
        if Path::new(&opened).is_dir() {
            folder(path)?;
        } else {
            path.parent().map_or(Ok(()), folder)?;
            File::create(path)?;
        }
    }
    let target = c_string(path.as_os_str())?;
    let source = c_string(OsStr::new(&opened))?;
    mount(Some(&source), &target, None, libc::MS_BIND | libc::MS_REC)?;
    Ok(Some(target))
}

/// A path with a zero byte names nothing.
fn c_string(path: &OsStr) -> io::Result<CString> {
    Ok(CString::new(path.as_bytes())?)
}

/// First argument that makes this program try what workers see otherwise, in a folder that follows it.
const ARGUMENT: &str = "__mounts";
/// Before that folder: other programs than this one take it for a mistake.
const OF: &str = "--of";

/// Whether this host lets workers see folders otherwise: hidden, and without being able to write to them. The first call
/// starts a process, and blocks until it has ended.
pub fn can_make_read_only() -> bool {
    static CAN: OnceLock<bool> = OnceLock::new();
    *CAN.get_or_init(try_mounts)
}

/// Whether this host lets folders be hidden from workers that run as users of their own: in a user namespace these do not exist.
pub fn can_hide_from_users() -> bool {
    may_mount() && can_make_read_only()
}

fn try_mounts() -> bool {
    let Ok(folder) = tempfile::tempdir() else {
        return false;
    };
    let mut command = Command::new("/proc/self/exe");
    command
        .args([ARGUMENT, OF])
        .arg(folder.path())
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    #[allow(
        clippy::disallowed_methods,
        reason = "it is no worker, and ends at once"
    )]
    let status = command.status();
    status.is_ok_and(|status| status.success())
}

/// Tries it and ends, if the program was started for that; else does nothing.
pub(super) fn try_if_asked() {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_none_or(|arg| arg != ARGUMENT) {
        return;
    }
    let folder = args.nth(1).unwrap_or_default();
    let all = vec![
        Mount::Hide(folder.clone()),
        Mount::ShowReadOnly(folder.clone()),
        Mount::Hide(folder),
    ];
    let tried = Mounts::new(all, true).apply();
    std::process::exit(i32::from(tried.is_err()));
}

fn unshare(flags: libc::c_int) -> io::Result<()> {
    // SAFETY: takes numbers only.
    match unsafe { libc::unshare(flags) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Makes a mount read-only, and leaves its other attributes, which a user namespace must not take off.
fn set_read_only(folder: &CString) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RDONLY,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: the string ends in a zero byte, `attributes` is of the size that is said; both live for the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            folder.as_ptr(),
            libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

//! Folders that a worker sees and cannot write to: in a mount namespace of its own they are mounted read-only.
//!
//! As root, mistakes are stopped: a process of root's can mount them anew. As another user, who needs a user
//! namespace for it, that is beyond a worker; it keeps its own user and group, and gets no rights by it. Where the host
//! allows neither, permissions are all there is (`stdiopool doctor` says so).
#![allow(unsafe_code, reason = "system calls between fork and exec")]

use std::ffi::{CStr, CString, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use nix::sys::prctl::set_dumpable;
use nix::unistd::{getegid, geteuid};

/// Folders to be made read-only. Made before the fork: nothing is allocated after it.
pub(super) struct ReadOnly {
    folders: Vec<CString>,
    /// It may make a user namespace, in which set-user-ID programs have no effect.
    may_make_user_namespace: bool,
    uid_map: String,
    gid_map: String,
}

impl ReadOnly {
    /// These folders, for a worker that may gain privileges by set-user-ID programs or not.
    pub(super) fn new(folders: Vec<OsString>, may_gain_privileges: bool) -> Self {
        let (uid, gid) = (geteuid(), getegid());
        let paths = folders.into_iter().map(OsString::into_vec);
        Self {
            // A path with a zero byte names nothing.
            folders: paths.filter_map(|path| CString::new(path).ok()).collect(),
            may_make_user_namespace: !may_gain_privileges,
            uid_map: format!("{uid} {uid} 1"),
            gid_map: format!("{gid} {gid} 1"),
        }
    }

    /// Makes them read-only for this process and what it starts; not for one that may gain privileges, if it takes a
    /// user namespace. Runs between fork and exec: only system calls.
    ///
    /// # Errors
    /// When the host does not allow it; some may be read-only then.
    pub(super) fn apply(&self) -> io::Result<()> {
        if self.folders.is_empty() {
            return Ok(());
        }
        if unshare(libc::CLONE_NEWNS).is_err() {
            if !self.may_make_user_namespace {
                return Ok(());
            }
            // Else what maps the user in /proc is root's. What is executed next is its own again.
            set_dumpable(true)?;
            unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS)?;
            write(c"/proc/self/setgroups", "deny")?;
            write(c"/proc/self/uid_map", &self.uid_map)?;
            write(c"/proc/self/gid_map", &self.gid_map)?;
        }
        // What is mounted here is seen nowhere else; what the host mounts is seen here.
        mount(None, c"/", libc::MS_REC | libc::MS_SLAVE)?;
        for folder in &self.folders {
            mount(Some(folder), folder, libc::MS_BIND | libc::MS_REC)?;
            set_read_only(folder)?;
        }
        Ok(())
    }
}

/// Whether this host lets workers have folders that they cannot write to. The first call starts a process, and blocks
/// until it has ended.
pub fn can_make_read_only() -> bool {
    static CAN: OnceLock<bool> = OnceLock::new();
    *CAN.get_or_init(try_read_only)
}

fn try_read_only() -> bool {
    let Ok(folder) = tempfile::tempdir() else {
        return false;
    };
    let read_only = ReadOnly::new(vec![folder.path().as_os_str().to_owned()], false);
    let mut command = Command::new("/proc/self/exe");
    command
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    // SAFETY: `apply` only makes system calls: it allocates nothing and takes no lock.
    unsafe {
        command.pre_exec(move || read_only.apply());
    }
    #[allow(
        clippy::disallowed_methods,
        reason = "it is no worker, and ends at once"
    )]
    let status = command.status();
    status.is_ok_and(|status| status.success())
}

fn unshare(flags: libc::c_int) -> io::Result<()> {
    // SAFETY: takes numbers only.
    match unsafe { libc::unshare(flags) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn mount(source: Option<&CString>, target: &CStr, flags: libc::c_ulong) -> io::Result<()> {
    let source = source.map_or(std::ptr::null(), |source| source.as_ptr());
    let none = std::ptr::null();
    // SAFETY: the strings end in a zero byte and live for the call; no type and no data are needed for these flags.
    match unsafe { libc::mount(source, target.as_ptr(), none, flags, none.cast()) } {
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

/// Writes a file without allocating, as `File::open` may for its path.
fn write(path: &CStr, text: &str) -> io::Result<()> {
    // SAFETY: the path ends in a zero byte and lives for the call.
    let fd = unsafe { libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was opened just now and belongs to nobody else.
    let mut file = unsafe { <File as std::os::fd::FromRawFd>::from_raw_fd(fd) };
    file.write_all(text.as_bytes())
}

//! mount(2), for what is mounted between fork and exec.
#![allow(unsafe_code, reason = "a system call between fork and exec")]

use std::ffi::{CStr, CString};
use std::io;

/// A file system that is made by mounting it.
#[derive(Clone, Copy)]
pub(super) struct NewFilesystem<'a> {
    /// The type of the file system, such as `tmpfs`.
    pub(super) kind: &'a CStr,
    /// What mount(8) has behind `-o`, without the flags.
    pub(super) options: &'a CStr,
}

/// Mounts a new file system, or `source`, at `target`; with neither, changes the mount that is there.
///
/// # Errors
/// What the system says.
pub(super) fn mount(
    source: Option<&CString>,
    target: &CStr,
    new: Option<NewFilesystem<'_>>,
    flags: libc::c_ulong,
) -> io::Result<()> {
    let source = source.map_or(std::ptr::null(), |source| source.as_ptr());
    let kind = new.map_or(std::ptr::null(), |new| new.kind.as_ptr());
    let data = new.map_or(std::ptr::null(), |new| new.options.as_ptr());
    // SAFETY: the strings end in a zero byte and live for the call; what is null is not needed with these flags.
    match unsafe { libc::mount(source, target.as_ptr(), kind, flags, data.cast()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

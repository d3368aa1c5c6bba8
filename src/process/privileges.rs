//! What root may do and stdiopool never does.
#![allow(unsafe_code, reason = "capget and capset, which nix has not")]

use std::io;

use nix::unistd::geteuid;

/// Numbers of the rights that the guardian's processes need and the supervisor does not: to raw sockets, by which they see what is tried in a
/// worker's own network; and to change the root, which setns(2) asks for where it enters the namespace of mounts of a process that waits.
const OF_THE_GUARDIAN: [u32; 2] = [13, 18];

/// The number of the right to read and write files whatever their permissions are. Not that of opening files by their numbers, which leads around
/// what is mounted.
const DAC_OVERRIDE: u32 = 1;

/// Numbers in capabilities(7) that neither supervisor nor guardian needs: kernel modules and memory, devices, the
/// clock, restarts, audit, tracing of the host, programs in the kernel, security modules.
const NEVER_USED: [u32; 22] = [
    9, 11, 14, 15, 16, 17, 20, 22, 25, 26, 27, 28, 29, 30, 32, 33, 34, 35, 36, 37, 38, 39,
];

/// The header of capget(2), and one half of its three sets.
#[repr(C)]
struct Header {
    version: u32,
    pid: libc::c_int,
}
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Half {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// This process, by `_LINUX_CAPABILITY_VERSION_3`, with 64 capabilities.
static OWN: Header = Header {
    version: 0x2008_0522,
    pid: 0,
};

/// Takes from this process, where it is root, what it never uses. A program that it executes as root has all of that again, as
/// servers with `sandbox = "none"` have. The guardian keeps what it alone needs. The process has one thread.
///
/// # Errors
/// When the kernel refuses it; then it has what it had.
pub(crate) fn give_up_privileges(is_guardian: bool) -> io::Result<()> {
    if !geteuid().is_root() {
        return Ok(());
    }
    let mut sets = [Half::default(); 2];
    // SAFETY: both are of the layout that this version has, and live for the call.
    done(unsafe { libc::syscall(libc::SYS_capget, &raw const OWN, sets.as_mut_ptr()) })?;
    let of_the_guardian = OF_THE_GUARDIAN.into_iter().filter(|_| !is_guardian);
    for number in NEVER_USED.into_iter().chain(of_the_guardian) {
        let (half, bit) = (usize::from(number >= 32), 1 << (number % 32));
        if let Some(half) = sets.get_mut(half) {
            half.effective &= !bit;
            half.permitted &= !bit;
        }
    }
    set(&sets)
}

/// Takes every capability from this process, those included that a change of the user leaves: the inheritable ones.
///
/// # Errors
/// When the kernel refuses it.
pub(crate) fn give_up_all_privileges() -> io::Result<()> {
    set(&[Half::default(); 2])
}

/// Has programs that this process executes inherit those of its capabilities, by their numbers below 32, as far as they ask for them.
///
/// # Errors
/// When the kernel refuses it, or the process has them not.
pub(crate) fn inherit_privileges(numbers: &[u32]) -> io::Result<()> {
    let mut sets = [Half::default(); 2];
    // SAFETY: both are of the layout that this version has, and live for the call.
    done(unsafe { libc::syscall(libc::SYS_capget, &raw const OWN, sets.as_mut_ptr()) })?;
    for number in numbers {
        sets[0].inheritable |= 1 << number;
    }
    set(&sets)
}

/// Takes every capability from this process but the one by which root comes to files whatever their permissions are. A program that it
/// executes as root has the others again, unless the process may gain no privileges.
///
/// # Errors
/// When the kernel refuses it.
pub(crate) fn keep_privileges_for_files() -> io::Result<()> {
    let mut sets = [Half::default(); 2];
    // SAFETY: both are of the layout that this version has, and live for the call.
    done(unsafe { libc::syscall(libc::SYS_capget, &raw const OWN, sets.as_mut_ptr()) })?;
    let [first, second] = &mut sets;
    first.permitted &= 1 << DAC_OVERRIDE;
    first.effective = first.permitted;
    first.inheritable = 0;
    *second = Half::default();
    set(&sets)
}

fn set(sets: &[Half; 2]) -> io::Result<()> {
    // SAFETY: both are of the layout that this version has, and live for the call.
    done(unsafe { libc::syscall(libc::SYS_capset, &raw const OWN, sets.as_ptr()) })
}

fn done(result: libc::c_long) -> io::Result<()> {
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

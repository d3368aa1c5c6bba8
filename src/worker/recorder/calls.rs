//! The system calls that are recorded, and where their arguments are.

use Act::{Change, Enter, Look, LookAtLink, Make, Remove};
use Part::{
    CloneFlags, Connect, Family, HowTo, Listen, Message, Messages, Namespaces, Open, Path, Program,
    Receive, Refused, Send, Write,
};

/// What a call does to a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Act {
    /// Asks what is there.
    Look,
    /// Asks what is there, of a link itself.
    LookAtLink,
    /// Makes it the working directory.
    Enter,
    /// Opens it, with these flags of open(2).
    Open(u64),
    /// Makes it.
    Make,
    /// Removes it, or moves it away.
    Remove,
    /// Changes what it is.
    Change,
    /// Executes it.
    Execute,
}

/// A part of a call that is recorded; numbers are those of arguments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Part {
    /// A path, from the folder of a descriptor if there is one.
    Path(Option<usize>, usize, Act),
    /// A path that is opened, with flags.
    Open(Option<usize>, usize, usize),
    /// A path that is opened, with a structure of flags (openat2(2)).
    HowTo,
    /// A path that is executed.
    Program(Option<usize>, usize),
    /// A family of sockets.
    Family,
    /// A socket, and an address it is connected to.
    Connect,
    /// A socket that takes connections.
    Listen,
    /// Bytes on a socket, perhaps to an address (sendto(2)).
    Send,
    /// Bytes on any descriptor.
    Write,
    /// A message on a socket (sendmsg(2)).
    Message,
    /// Several of them (sendmmsg(2)).
    Messages,
    /// Bytes from any descriptor.
    Receive,
    /// Flags that may make namespaces.
    Namespaces,
    /// Flags that may do so, in memory (clone3(2)).
    CloneFlags,
    /// A call that a strict server may not make.
    Refused(&'static str),
}

/// A call with its parts.
pub(crate) type Call = (i64, &'static [Part]);

/// Calls that are recorded always: those on paths, and those that a strict server may not make.
pub(crate) const CALLS: &[Call] = &[
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_open, &[Open(None, 0, 1)]),
    (libc::SYS_openat, &[Open(Some(0), 1, 2)]),
    (libc::SYS_openat2, &[HowTo]),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_creat, &[Path(None, 0, Make)]),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_stat, &[Path(None, 0, Look)]),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_lstat, &[Path(None, 0, LookAtLink)]),
    (libc::SYS_newfstatat, &[Path(Some(0), 1, Look)]),
    (libc::SYS_statx, &[Path(Some(0), 1, Look)]),
    (libc::SYS_statfs, &[Path(None, 0, Look)]),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_access, &[Path(None, 0, Look)]),
    (libc::SYS_faccessat, &[Path(Some(0), 1, Look)]),
    (libc::SYS_faccessat2, &[Path(Some(0), 1, Look)]),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_readlink, &[Path(None, 0, LookAtLink)]),
    (libc::SYS_readlinkat, &[Path(Some(0), 1, LookAtLink)]),
    (libc::SYS_inotify_add_watch, &[Path(None, 1, Look)]),
    (libc::SYS_chdir, &[Path(None, 0, Enter)]),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_mkdir, &[Path(None, 0, Make)]),
    (libc::SYS_mkdirat, &[Path(Some(0), 1, Make)]),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_mknod, &[Path(None, 0, Make)]),
    (libc::SYS_mknodat, &[Path(Some(0), 1, Make)]),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_rmdir, &[Path(None, 0, Remove)]),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_unlink, &[Path(None, 0, Remove)]),
    (libc::SYS_unlinkat, &[Path(Some(0), 1, Remove)]),
    #[cfg(target_arch = "x86_64")]
    (
        libc::SYS_rename,
        &[Path(None, 0, Remove), Path(None, 1, Make)],
    ),
    (
        libc::SYS_renameat,
        &[Path(Some(0), 1, Remove), Path(Some(2), 3, Make)],
    ),
    (
        libc::SYS_renameat2,
        &[Path(Some(0), 1, Remove), Path(Some(2), 3, Make)],
    ),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_link, &[Path(None, 0, Look), Path(None, 1, Make)]),
    (
        libc::SYS_linkat,
        &[Path(Some(0), 1, Look), Path(Some(2), 3, Make)],
    ),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_symlink, &[Path(None, 1, Make)]),
    (libc::SYS_symlinkat, &[Path(Some(1), 2, Make)]),
    (libc::SYS_truncate, &[Path(None, 0, Change)]),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_chmod, &[Path(None, 0, Change)]),
    (libc::SYS_fchmodat, &[Path(Some(0), 1, Change)]),
    (FCHMODAT2, &[Path(Some(0), 1, Change)]),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_chown, &[Path(None, 0, Change)]),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_lchown, &[Path(None, 0, Change)]),
    (libc::SYS_fchownat, &[Path(Some(0), 1, Change)]),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_utime, &[Path(None, 0, Change)]),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_utimes, &[Path(None, 0, Change)]),
    (libc::SYS_utimensat, &[Path(Some(0), 1, Change)]),
    (libc::SYS_setxattr, &[Path(None, 0, Change)]),
    (libc::SYS_execve, &[Program(None, 0)]),
    (libc::SYS_execveat, &[Program(Some(0), 1)]),
    (libc::SYS_socket, &[Family]),
    (libc::SYS_connect, &[Connect]),
    (libc::SYS_clone, &[Namespaces]),
    (libc::SYS_unshare, &[Namespaces]),
    (libc::SYS_clone3, &[CloneFlags]),
    (libc::SYS_io_uring_setup, &[Refused("io_uring_setup")]),
    // Of its requests, those alone that a strict server may not make.
    (libc::SYS_ioctl, &[Refused("ioctl of a terminal's input")]),
    (libc::SYS_ptrace, &[Refused("ptrace")]),
    (libc::SYS_process_vm_readv, &[Refused("process_vm_readv")]),
    (libc::SYS_process_vm_writev, &[Refused("process_vm_writev")]),
    (libc::SYS_process_madvise, &[Refused("process_madvise")]),
    (libc::SYS_kcmp, &[Refused("kcmp")]),
    (libc::SYS_pidfd_getfd, &[Refused("pidfd_getfd")]),
    (libc::SYS_perf_event_open, &[Refused("perf_event_open")]),
    (libc::SYS_bpf, &[Refused("bpf")]),
    (libc::SYS_init_module, &[Refused("init_module")]),
    (libc::SYS_finit_module, &[Refused("finit_module")]),
    (libc::SYS_delete_module, &[Refused("delete_module")]),
    (libc::SYS_kexec_load, &[Refused("kexec_load")]),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_kexec_file_load, &[Refused("kexec_file_load")]),
    (libc::SYS_add_key, &[Refused("add_key")]),
    (libc::SYS_request_key, &[Refused("request_key")]),
    (libc::SYS_keyctl, &[Refused("keyctl")]),
    (libc::SYS_userfaultfd, &[Refused("userfaultfd")]),
    (libc::SYS_mount, &[Refused("mount")]),
    (libc::SYS_umount2, &[Refused("umount2")]),
    (libc::SYS_pivot_root, &[Refused("pivot_root")]),
    (libc::SYS_chroot, &[Refused("chroot")]),
    (libc::SYS_open_tree, &[Refused("open_tree")]),
    (libc::SYS_move_mount, &[Refused("move_mount")]),
    (libc::SYS_fsopen, &[Refused("fsopen")]),
    (libc::SYS_fsconfig, &[Refused("fsconfig")]),
    (libc::SYS_fsmount, &[Refused("fsmount")]),
    (libc::SYS_fspick, &[Refused("fspick")]),
    (libc::SYS_mount_setattr, &[Refused("mount_setattr")]),
    (OPEN_TREE_ATTR, &[Refused("open_tree_attr")]),
    (libc::SYS_setns, &[Refused("setns")]),
    (libc::SYS_open_by_handle_at, &[Refused("open_by_handle_at")]),
    (libc::SYS_fanotify_init, &[Refused("fanotify_init")]),
    (libc::SYS_reboot, &[Refused("reboot")]),
    (libc::SYS_swapon, &[Refused("swapon")]),
    (libc::SYS_swapoff, &[Refused("swapoff")]),
    (libc::SYS_acct, &[Refused("acct")]),
    (libc::SYS_syslog, &[Refused("syslog")]),
    (libc::SYS_vhangup, &[Refused("vhangup")]),
    (libc::SYS_quotactl, &[Refused("quotactl")]),
    (libc::SYS_quotactl_fd, &[Refused("quotactl_fd")]),
    (libc::SYS_settimeofday, &[Refused("settimeofday")]),
    (libc::SYS_clock_settime, &[Refused("clock_settime")]),
    (libc::SYS_sethostname, &[Refused("sethostname")]),
    (libc::SYS_setdomainname, &[Refused("setdomainname")]),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_iopl, &[Refused("iopl")]),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_ioperm, &[Refused("ioperm")]),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_modify_ldt, &[Refused("modify_ldt")]),
];

/// Of Linux 6.6 and 6.15; the numbers are those of all processors.
const FCHMODAT2: i64 = 452;
const OPEN_TREE_ATTR: i64 = 467;

/// Calls by which hosts, and what resolvers are asked and say, are seen. Recorded for `stdiopool profile` alone: programs make them all the
/// time.
pub(crate) const CALLS_OF_HOSTS: &[Call] = &[
    (libc::SYS_listen, &[Listen]),
    (libc::SYS_sendto, &[Send]),
    (libc::SYS_sendmsg, &[Message]),
    (libc::SYS_sendmmsg, &[Messages]),
    (libc::SYS_write, &[Write]),
    (libc::SYS_read, &[Receive]),
    (libc::SYS_recvfrom, &[Receive]),
    (libc::SYS_recvmsg, &[Receive]),
    (libc::SYS_recvmmsg, &[Receive]),
];

/// The parts of a call; none for one that is not recorded.
pub(super) fn parts_of(number: i64) -> &'static [Part] {
    let mut all = CALLS.iter().chain(CALLS_OF_HOSTS);
    all.find(|(it, _)| *it == number)
        .map_or(&[], |(_, parts)| parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_is_there_once() {
        let mut all: Vec<i64> = CALLS
            .iter()
            .chain(CALLS_OF_HOSTS)
            .map(|(number, _)| *number)
            .collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }

    #[test]
    fn every_call_that_a_strict_server_may_not_make_is_recorded() {
        for number in crate::worker::guardian::FORBIDDEN {
            assert!(
                matches!(parts_of(*number), [Refused(_)]),
                "system call {number} has no name"
            );
        }
    }
}

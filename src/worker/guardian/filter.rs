//! The system calls that a worker with `sandbox = "strict"` may make (seccomp(2)).
//!
//! What programs use is left to them: forbidden is what reaches other processes' memory, makes namespaces or mounts, loads code into the
//! kernel, or has been the way into it again and again and is needed by no server. A call that programs try and do without
//! has no implementation (`ENOSYS`); of the others they hear that they may not (`EPERM`).

use std::io;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch, apply_filter, sock_filter,
};

/// Calls that a program may not make.
pub(crate) const FORBIDDEN: &[i64] = &[
    // Memory, descriptors and registers of other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    libc::SYS_perf_event_open,
    // Programs in the kernel, and parts of it.
    libc::SYS_bpf,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_kexec_file_load,
    // Keyrings, which no namespace divides.
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // Pages that a program serves: it holds the kernel where it wants.
    libc::SYS_userfaultfd,
    // Mounts, roots, and namespaces of others.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    OPEN_TREE_ATTR,
    libc::SYS_setns,
    // Files by number, past the folders that lead to them.
    libc::SYS_open_by_handle_at,
    libc::SYS_fanotify_init,
    // The host's own.
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_syslog,
    libc::SYS_vhangup,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
];
/// Of Linux 6.15; the number is that of all processors.
const OPEN_TREE_ATTR: i64 = 467;

/// Calls that are not there for a program, which then takes others.
const MISSING: &[i64] = &[
    // The flags of clone3 are in memory, where no filter sees them; libc then calls clone(2).
    libc::SYS_clone3,
    // What io_uring asks of the kernel is in memory as well.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_lookup_dcookie,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_uselib,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ustat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_sysfs,
    #[cfg(target_arch = "x86_64")]
    libc::SYS__sysctl,
];
/// No call is known of this number or above: those of Linux that came after this was written, and on x86 those of the x32 interface, which would
/// be those above by other numbers.
const UNKNOWN: u32 = 480;

/// Families of sockets that a program may have: local ones, the two of the internet, and what tells the state of the
/// network. Others, such as vsock, which leads out of a virtual machine, are divided by no namespace, or need rights.
pub(crate) const FAMILIES: [libc::c_int; 4] = [
    libc::AF_UNIX,
    libc::AF_INET,
    libc::AF_INET6,
    libc::AF_NETLINK,
];

/// Flags of clone(2) and unshare(2) that make a namespace.
const NEW_NAMESPACES: [libc::c_int; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];
/// Another one, of unshare(2) alone: to clone(2) it is part of a signal's number.
const CLONE_NEWTIME: libc::c_int = 0x80;

/// Requests to a terminal that put text into its input (TIOCSTI), or change its keyboard (TIOCLINUX).
pub(super) const OF_TERMINALS: [u32; 2] = [0x5412, 0x541c];

/// Puts this process, and what it starts, behind the filter. Not to be undone; it must be unable to gain privileges.
///
/// # Errors
/// When the kernel has no filters, or the processor is none that this is written for.
pub(super) fn apply() -> io::Result<()> {
    for program in programs().map_err(io::Error::other)? {
        apply_filter(&program).map_err(|error| match error {
            seccompiler::Error::Prctl(error) | seccompiler::Error::Seccomp(error) => error,
            error => io::Error::other(error),
        })?;
    }
    Ok(())
}

/// The filters; of those that decide, the kernel follows the strictest.
fn programs() -> Result<Vec<BpfProgram>, seccompiler::BackendError> {
    let forbidden = rules(FORBIDDEN).chain(conditional()?);
    let families = FAMILIES.map(|family| condition(0, Op::Ne, unsigned(family)));
    let families = families.into_iter().collect::<Result<Vec<_>, _>>()?;
    let socket = (libc::SYS_socket, vec![SeccompRule::new(families)?]);
    Ok(vec![
        unknown(),
        filter(forbidden, libc::EPERM)?,
        filter(rules(MISSING), libc::ENOSYS)?,
        filter([socket], libc::EAFNOSUPPORT)?,
    ])
}

type Rules = (i64, Vec<SeccompRule>);

fn rules(calls: &'static [i64]) -> impl Iterator<Item = Rules> {
    calls.iter().map(|call| (*call, vec![]))
}

/// What depends on an argument.
fn conditional() -> Result<[Rules; 3], seccompiler::BackendError> {
    let has = |flag: &libc::c_int| {
        let flag = unsigned(*flag);
        SeccompRule::new(vec![condition(0, Op::MaskedEq(flag), flag)?])
    };
    let clone = NEW_NAMESPACES.iter().map(has);
    let unshare = NEW_NAMESPACES.iter().chain([&CLONE_NEWTIME]).map(has);
    let ioctl = OF_TERMINALS
        .iter()
        .map(|request| SeccompRule::new(vec![condition(1, Op::Eq, u64::from(*request))?]));
    Ok([
        (libc::SYS_clone, clone.collect::<Result<_, _>>()?),
        (libc::SYS_unshare, unshare.collect::<Result<_, _>>()?),
        (libc::SYS_ioctl, ioctl.collect::<Result<_, _>>()?),
    ])
}

/// The kernel takes the lower half of these arguments.
fn condition(
    argument: u8,
    op: Op,
    value: u64,
) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(argument, Len::Dword, op, value)
}

fn unsigned(number: libc::c_int) -> u64 {
    u64::from(number.cast_unsigned())
}

fn filter(
    rules: impl IntoIterator<Item = Rules>,
    errno: libc::c_int,
) -> Result<BpfProgram, seccompiler::BackendError> {
    let arch: TargetArch = std::env::consts::ARCH.try_into()?;
    let refused = SeccompAction::Errno(errno.cast_unsigned());
    let rules = rules.into_iter().collect();
    SeccompFilter::new(rules, SeccompAction::Allow, refused, arch)?.try_into()
}

/// Refuses calls above all that are known: `if (nr >= UNKNOWN) return ERRNO(ENOSYS); return ALLOW;`
fn unknown() -> BpfProgram {
    /// `BPF_LD | BPF_W | BPF_ABS`, `BPF_JMP | BPF_JGE | BPF_K`, `BPF_RET | BPF_K`.
    const LOAD: u16 = 0x20;
    const JUMP_IF_NOT_LESS: u16 = 0x35;
    const RETURN: u16 = 0x06;
    let statement = |code, k, jf| sock_filter { code, jt: 0, jf, k };
    let refused = u32::from(SeccompAction::Errno(libc::ENOSYS.cast_unsigned()));
    vec![
        // The number is what the kernel's structure begins with.
        statement(LOAD, 0, 0),
        statement(JUMP_IF_NOT_LESS, UNKNOWN, 1),
        statement(RETURN, refused, 0),
        statement(RETURN, u32::from(SeccompAction::Allow), 0),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_filter_is_one_that_the_kernel_takes() {
        let programs = programs().expect("they are built");
        assert_eq!(programs.len(), 4);
        // BPF_MAXINSNS
        assert!(programs.iter().all(|it| (1..=4096).contains(&it.len())));
    }

    #[test]
    fn no_call_is_refused_in_two_ways_and_all_are_below_the_unknown_ones() {
        let mut all: Vec<i64> = FORBIDDEN.iter().chain(MISSING).copied().collect();
        assert!(all.iter().all(|call| *call < i64::from(UNKNOWN)));
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
        let conditional = conditional().expect("they are built");
        assert!(conditional.iter().all(|(call, _)| !all.contains(call)));
    }
}

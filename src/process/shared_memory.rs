//! Processes that have one memory together.
#![allow(unsafe_code, reason = "kcmp(2) has no safe wrapper")]

/// `KCMP_VM` of kcmp(2): whether two processes share an address space.
const ADDRESS_SPACE: libc::c_int = 1;

/// Whether two processes have one address space, as a child of vfork(2) has its parent's until it executes a program. Not
/// where the kernel does not tell: without CAP_SYS_PTRACE of processes of other users, or without kcmp(2).
pub(crate) fn share_memory(one: u32, other: u32) -> bool {
    let (one, other) = (one.cast_signed(), other.cast_signed());
    // SAFETY: takes numbers only.
    unsafe { libc::syscall(libc::SYS_kcmp, one, other, ADDRESS_SPACE, 0, 0) == 0 }
}

//! The table of a process's descriptors.

use std::io;
use std::os::fd::RawFd;

/// Makes this process's table of descriptors large enough for that many, and no larger than `RLIMIT_NOFILE` lets it be.
///
/// The kernel doubles a table that is full: at 256 descriptors, 512, and so on. In a process with threads, whoever opens the
/// descriptor that does not fit waits meanwhile until no processor can still read the old table (`expand_fdtable` in Linux's
/// `fs/file.c`): 5 to 20 ms, in which a thread of the runtime serves nobody. A table never shrinks.
///
/// # Errors
/// When the limit is lower, or there is no memory for it.
pub(crate) fn grow_descriptor_table(count: u64) -> io::Result<()> {
    let last = count.saturating_sub(1);
    let last = RawFd::try_from(last).map_err(io::Error::other)?;
    // The lowest that is free from there on (fcntl(2)); closed again at once.
    rustix::io::fcntl_dupfd_cloexec(io::stderr(), last)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").expect("it is there");
        let line = status.lines().find_map(|line| line.strip_prefix("FDSize:"));
        let count = line.expect("its size").trim();
        count.parse().expect("a number")
    }

    #[test]
    fn a_table_has_room_before_it_is_needed() {
        let wanted = slots() + 1;
        grow_descriptor_table(wanted).expect("it may");
        assert!(slots() >= wanted, "{} of {wanted}", slots());
        assert!(grow_descriptor_table(u64::MAX).is_err());
    }
}

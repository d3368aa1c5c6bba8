//! Who descends from whom: a view of `/proc`, and a way to kill without hitting a stranger.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;

use rustc_hash::FxHashMap;

use super::MARKER_VARIABLE;

/// Most of `/proc/PID/environ` that is searched for the marker, in bytes.
const MAX_ENVIRON: u64 = 4 * 1024 * 1024;

/// One process at the time of the scan. Pid and start time together are never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    /// Clock ticks after boot.
    pub(crate) started: u64,
    pub(crate) parent: u32,
    pub(crate) session: u32,
}

/// All processes that this one may see, at about one point in time: a process that is born while
/// the scan runs may be missing, so killing means to scan again until nothing is found.
#[derive(Debug, Default)]
pub(crate) struct ProcessTable {
    by_pid: FxHashMap<u32, Process>,
    children: FxHashMap<u32, Vec<u32>>,
}

impl ProcessTable {
    /// Reads `/proc`. About 10 microseconds a process; blocks, but on no disk.
    ///
    /// # Errors
    /// When `/proc` cannot be listed.
    pub(crate) fn scan() -> io::Result<Self> {
        let mut table = Self::default();
        for entry in fs::read_dir("/proc")? {
            // An entry that cannot be read belongs to a process that just ended.
            let pid = entry?.file_name().to_str().and_then(|n| n.parse().ok());
            if let Some(process) = pid.and_then(read) {
                table.insert(process);
            }
        }
        Ok(table)
    }

    fn insert(&mut self, process: Process) {
        self.children
            .entry(process.parent)
            .or_default()
            .push(process.pid);
        self.by_pid.insert(process.pid, process);
    }

    /// The processes whose parent is `pid`.
    pub(crate) fn children(&self, pid: u32) -> impl Iterator<Item = Process> + '_ {
        let pids = self.children.get(&pid).map(Vec::as_slice);
        pids.unwrap_or_default()
            .iter()
            .filter_map(|pid| self.by_pid.get(pid).copied())
    }

    /// The process itself, if it lives.
    pub(crate) fn get(&self, pid: u32) -> Option<Process> {
        self.by_pid.get(&pid).copied()
    }

    /// All that descends from `roots`, the roots first.
    pub(crate) fn descent(&self, roots: impl IntoIterator<Item = Process>) -> Vec<Process> {
        let mut found: Vec<Process> = roots.into_iter().collect();
        let mut seen: HashSet<u32> = found.iter().map(|p| p.pid).collect();
        let mut next = 0;
        while let Some(process) = found.get(next).copied() {
            next += 1;
            // `seen`: reused pids may make a torn scan look like a circle.
            found.extend(self.children(process.pid).filter(|c| seen.insert(c.pid)));
        }
        found
    }
}

/// Reads `/proc/PID/stat` (proc_pid_stat(5)).
fn read(pid: u32) -> Option<Process> {
    let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The name, field 2, may hold spaces and parentheses: count from the last one.
    let rest = &text[memchr::memrchr(b')', &text)? + 1..];
    let fields: Vec<&str> = std::str::from_utf8(rest)
        .ok()?
        .split_ascii_whitespace()
        .collect();
    let field = |number: usize| fields.get(number - 3);
    Some(Process {
        pid,
        parent: field(4)?.parse().ok()?,
        session: field(6)?.parse().ok()?,
        started: field(22)?.parse().ok()?,
    })
}

/// The value of [`MARKER_VARIABLE`] for the workers of one guardian.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Marker {
    prefix: String,
}

impl Marker {
    /// The marker of the guardian with this nonce.
    pub(crate) fn new(nonce: &str) -> Self {
        Self {
            prefix: format!("{nonce}-"),
        }
    }

    /// The variable's value for one worker.
    pub(crate) fn value(&self, id: u64) -> String {
        format!("{}{id}", self.prefix)
    }

    /// The worker named in the environment with which `pid` was executed. `None` also when that
    /// cannot be read, as of a zombie or a process of another user.
    pub(crate) fn of_process(&self, pid: u32) -> Option<u64> {
        use std::io::Read;
        let mut text = Vec::new();
        fs::File::open(format!("/proc/{pid}/environ"))
            .and_then(|file| file.take(MAX_ENVIRON).read_to_end(&mut text))
            .ok()?;
        self.find(&text)
    }

    fn find(&self, environ: &[u8]) -> Option<u64> {
        environ.split(|&byte| byte == 0).find_map(|variable| {
            let value = variable
                .strip_prefix(MARKER_VARIABLE.as_bytes())?
                .strip_prefix(b"=")?
                .strip_prefix(self.prefix.as_bytes())?;
            std::str::from_utf8(value).ok()?.parse().ok()
        })
    }
}

/// Which worker each descendant belonged to when it was last seen, so that one that is orphaned
/// later, with its environment cleared, is still known.
pub(crate) type Lineage = HashMap<(u32, u64), u64>;

/// Kills `process`, unless it has ended and its pid means another by now.
#[allow(unsafe_code, reason = "the pidfd calls have no safe wrapper in nix")]
pub(crate) fn kill(process: Process) {
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
    // SAFETY: takes two numbers and touches no memory of ours.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, process.pid, 0) };
    let Ok(fd) = i32::try_from(fd) else { return };
    if fd < 0 {
        return;
    }
    // SAFETY: the kernel just made this descriptor for us; nothing else owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // The pidfd holds on to one process; only now is it safe to ask which one that is.
    if read(process.pid).is_none_or(|now| now.started != process.started) {
        return;
    }
    let no_info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a null siginfo is allowed (pidfd_send_signal(2)); the rest are numbers.
    let _ended_meanwhile = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            fd.as_raw_fd(),
            libc::SIGKILL,
            no_info,
            0,
        )
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, parent: u32) -> Process {
        Process {
            pid,
            started: 1,
            parent,
            session: pid,
        }
    }

    #[test]
    fn this_process_is_found_below_its_parent() {
        let table = ProcessTable::scan().expect("scans");
        let me = table.get(std::process::id()).expect("found");
        assert!(table.children(me.parent).any(|p| p == me));
        assert!(table.descent(table.get(me.parent)).contains(&me));
    }

    #[test]
    fn a_torn_scan_that_looks_like_a_circle_ends() {
        let mut table = ProcessTable::default();
        table.insert(process(1, 2));
        table.insert(process(2, 1));
        table.insert(process(3, 2));
        assert_eq!(table.descent(table.get(1)).len(), 3);
    }

    #[test]
    fn only_the_own_marker_counts() {
        let marker = Marker::new("ab");
        assert_eq!(marker.value(7), "ab-7");
        assert_eq!(marker.find(b"A=1\0STDIOPOOL_WORKER=ab-7\0"), Some(7));
        assert_eq!(marker.find(b"STDIOPOOL_WORKER=cd-7\0"), None);
        assert_eq!(marker.find(b"XSTDIOPOOL_WORKER=ab-7\0"), None);
        assert_eq!(marker.find(b""), None);
    }
}

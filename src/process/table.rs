//! The process tree: a view of `/proc`, and kills that hit no stranger.

use std::collections::HashSet;
use std::fs;
use std::io;

use nix::unistd::{Pid, getsid};
use rustc_hash::FxHashMap;
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

use super::pidfd::open_pidfd;

/// A process at the time of the scan. Pid and start time together are never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    /// Clock ticks after boot.
    pub(crate) started: u64,
    pub(crate) parent: u32,
    pub(crate) session: u32,
    pub(crate) state: RunState,
    /// A child of this process that `/proc` does not show it (`hidepid`, where that child is not dumpable). When it
    /// started is not known then, nor what its own children are but for those that are shown.
    pub(crate) is_hidden: bool,
}

/// The state of a process at the time of the scan, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum RunState {
    /// The process runs or waits.
    Living,
    /// A signal or a debugger stopped it.
    Stopped,
    /// The process has ended and was not waited for.
    Zombie,
}

/// All processes that this one may see, at about one point in time: a process that is born while
/// the scan runs may be missing, so killing means to scan again until nothing is found.
#[derive(Debug, Default)]
pub(crate) struct ProcessTable {
    by_pid: FxHashMap<u32, Process>,
    children: FxHashMap<u32, Vec<u32>>,
}

impl ProcessTable {
    /// Reads `/proc`, and what children this process has beside those in it. About 10 microseconds a process; blocks, but
    /// on no disk.
    ///
    /// # Errors
    /// When `/proc` cannot be listed, or a process in it cannot be read though it may be there: a table that
    /// misses it would say that nothing is left.
    pub(crate) fn scan() -> io::Result<Self> {
        let mut table = Self::default();
        for entry in fs::read_dir("/proc")? {
            let pid = entry?.file_name().to_str().and_then(|n| n.parse().ok());
            let process = match pid {
                Some(pid) => read(pid)?,
                None => None,
            };
            if let Some(process) = process {
                table.insert(process);
            }
        }
        for pid in own_children() {
            if !table.by_pid.contains_key(&pid)
                && let Some(process) = hidden_child(pid)
            {
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

    /// All processes.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.by_pid.keys().copied().collect()
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

impl Process {
    /// The process that has this pid now, if any.
    pub(crate) fn now(pid: u32) -> Option<Self> {
        read(pid).ok().flatten().or_else(|| hidden_child(pid))
    }
}

/// The children of this process, of whatever thread, also those that a host with `hidepid` (proc(5)) does not show it: such that
/// are not dumpable. None on a kernel that was built without these lists.
fn own_children() -> Vec<u32> {
    let Ok(threads) = fs::read_dir("/proc/self/task") else {
        return Vec::new();
    };
    let lists = threads
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    let pids = lists.map(|list| {
        let pids = list.split_ascii_whitespace().map(str::parse);
        pids.flatten().collect::<Vec<u32>>()
    });
    pids.flatten().collect()
}

/// What can be told of a child without `/proc`; `None` when it was waited for.
fn hidden_child(pid: u32) -> Option<Process> {
    let child = rustix::process::Pid::from_raw(pid.cast_signed())?;
    let looks = WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    let of = WaitIdOptions::EXITED | WaitIdOptions::STOPPED;
    let status = waitid(WaitId::Pid(child), looks | of).ok()?;
    let session = getsid(Some(Pid::from_raw(pid.cast_signed()))).ok()?;
    Some(Process {
        pid,
        started: 0,
        parent: std::process::id(),
        session: session.as_raw().cast_unsigned(),
        state: match status {
            Some(status) if status.stopped() => RunState::Stopped,
            Some(_) => RunState::Zombie,
            None => RunState::Living,
        },
        is_hidden: true,
    })
}

/// Reads `/proc/PID/stat` (proc_pid_stat(5)); `None` when the process has ended.
fn read(pid: u32) -> io::Result<Option<Process>> {
    match fs::read(format!("/proc/{pid}/stat")) {
        Ok(text) => Ok(parse(pid, &text)),
        Err(error) => match error.raw_os_error() {
            // The process ended before the file was opened, or read; or it is hidden (`hidepid`), and none of ours but for children,
            // which are asked for beside it.
            Some(libc::ENOENT | libc::ESRCH | libc::EACCES | libc::EPERM) => Ok(None),
            _ => Err(error),
        },
    }
}

fn parse(pid: u32, text: &[u8]) -> Option<Process> {
    // The name, field 2, may hold spaces and parentheses: count from the last one.
    let rest = &text[memchr::memrchr(b')', text)? + 1..];
    let fields: Vec<&str> = std::str::from_utf8(rest)
        .ok()?
        .split_ascii_whitespace()
        .collect();
    let field = |number: usize| fields.get(number - 3);
    Some(Process {
        pid,
        parent: field(4)?.parse().ok()?,
        session: field(6)?.parse().ok()?,
        state: match *field(3)? {
            "T" | "t" => RunState::Stopped,
            "Z" | "X" => RunState::Zombie,
            _ => RunState::Living,
        },
        started: field(22)?.parse().ok()?,
        is_hidden: false,
    })
}

/// Kills `process`, unless it has ended and its pid means another by now.
pub(crate) fn kill(process: Process) {
    if process.is_hidden {
        kill_hidden_child(process.pid);
        return;
    }
    let Ok(pidfd) = open_pidfd(process.pid) else {
        return;
    };
    // The pidfd holds on to one process; only now is it safe to ask which one that is.
    if Process::now(process.pid).is_none_or(|now| now.started != process.started) {
        return;
    }
    let _ended_meanwhile = pidfd_send_signal(&pidfd, Signal::KILL);
}

/// Kills a child that only its pid is known of, unless that was waited for.
fn kill_hidden_child(pid: u32) {
    let Ok(pidfd) = open_pidfd(pid) else {
        return;
    };
    // As long as it is this process's child, it is the one that was found: only this process could have waited for that.
    if hidden_child(pid).is_some() {
        let _ended_meanwhile = pidfd_send_signal(&pidfd, Signal::KILL);
    }
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
            state: RunState::Living,
            is_hidden: false,
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
}

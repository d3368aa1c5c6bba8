//! The process table, as proc(5) shows it.

use std::collections::BTreeMap;
use std::fs;

use super::until;

/// A process: pid and start time, so that a reused pid is not taken for it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    start: u64,
}

/// State, parent and start time of a process that has not been reaped.
fn stat(pid: u32) -> Option<(char, u32, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name, in parentheses, may hold anything.
    let rest = &text[text.rfind(')')? + 2..];
    let fields: Vec<_> = rest.split(' ').collect();
    Some((
        fields[0].chars().next()?,
        fields[1].parse().ok()?,
        fields[19].parse().ok()?,
    ))
}

fn all() -> Vec<u32> {
    let entries = fs::read_dir("/proc").expect("proc is mounted");
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

/// Whether it is there and not merely a zombie.
pub(crate) fn alive(process: Process) -> bool {
    stat(process.pid).is_some_and(|(state, _, start)| start == process.start && state != 'Z')
}

/// The process and everything descended from it.
pub(crate) fn in_tree_of(root: u32) -> Vec<Process> {
    let mut children: BTreeMap<u32, Vec<Process>> = BTreeMap::new();
    let mut tree = vec![];
    for pid in all() {
        if let Some((_, parent, start)) = stat(pid) {
            let process = Process { pid, start };
            if pid == root {
                tree.push(process);
            }
            children.entry(parent).or_default().push(process);
        }
    }
    let mut next = 0;
    while let Some(process) = tree.get(next) {
        let more = children.remove(&process.pid).unwrap_or_default();
        tree.extend(more);
        next += 1;
    }
    tree
}

/// The environment a process was started with.
pub(crate) fn environment_of(pid: u32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let entries = bytes.split(|b| *b == 0).filter(|entry| !entry.is_empty());
    entries
        .map(|entry| String::from_utf8_lossy(entry).into_owned())
        .collect()
}

/// What a process was started as, its arguments separated by blanks.
pub(crate) fn command_line_of(process: Process) -> String {
    let bytes = fs::read(format!("/proc/{}/cmdline", process.pid)).unwrap_or_default();
    let args = bytes.split(|b| *b == 0).map(String::from_utf8_lossy);
    args.collect::<Vec<_>>().join(" ")
}

/// The process group of a process.
pub(crate) fn group_of(process: Process) -> Option<u32> {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(process.pid).ok()?);
    let group = nix::unistd::getpgid(Some(pid)).ok()?;
    u32::try_from(group.as_raw()).ok()
}

/// Waits until none of them is alive.
pub(crate) fn until_gone(processes: &[Process]) {
    until("the processes are gone", || {
        processes
            .iter()
            .all(|process| !alive(*process))
            .then_some(())
    });
}

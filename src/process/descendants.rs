//! Ends everything below this process.

use std::time::{Duration, Instant};

use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use super::table::{ProcessTable, RunState, kill};

/// Between two looks while something is dying.
const ROUND: Duration = Duration::from_millis(5);

/// Kills every descendant of this process, which must be a child subreaper, until none lives, and reaps its
/// children. Blocks, for `limit` at the most; whether nothing is left.
pub(crate) fn end_descendants(limit: Duration) -> bool {
    let me = std::process::id();
    let began = Instant::now();
    let mut clean = 0;
    while began.elapsed() < limit {
        let living = ProcessTable::scan().map(|table| {
            let mut below = table.descent(table.children(me));
            below.retain(|process| process.state != RunState::Zombie);
            below
        });
        if let Ok(living) = &living {
            living.iter().for_each(|process| kill(*process));
        }
        reap_all();
        // A table is read entry by entry and may miss a process born meanwhile: look twice.
        clean = if living.is_ok_and(|it| it.is_empty()) {
            clean + 1
        } else {
            0
        };
        if clean == 2 {
            return true;
        }
        if clean == 0 {
            std::thread::sleep(ROUND);
        }
    }
    false
}

fn reap_all() {
    // An unknown signal number reads as an error, but the child with that signal was reaped.
    for _ in 0..10_000 {
        match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
            Ok(nix::sys::wait::WaitStatus::StillAlive) | Err(nix::errno::Errno::ECHILD) => return,
            Ok(_) | Err(_) => {}
        }
    }
}

//! The supervisor's part when its guardian was killed: the guardian's descendants fall to the
//! supervisor (the next child subreaper) and must go.

use std::process::{Child, Command};
use std::time::Duration;

use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use parking_lot::Mutex;

use crate::process::{ProcessTable, kill};

/// Between two looks while something is dying.
const ROUND: Duration = Duration::from_millis(5);
/// Between two looks once [`QUICK_ROUNDS`] were not enough.
const SLOW_ROUND: Duration = Duration::from_millis(100);
const QUICK_ROUNDS: u32 = 200;
/// After so many rounds, half a minute, what is left hangs in the kernel, and waiting for it would hang too.
const MAX_ROUNDS: u32 = QUICK_ROUNDS + 290;

/// Guardians of this process that are in use. Guardians are in sessions of their own, like orphans of
/// workers, and must not be taken for such. As long as there are guardians; normally one.
static GUARDIANS: Mutex<Vec<u32>> = Mutex::new(Vec::new());

/// Starts a guardian and notes it, so that no sweep sees it before it is noted.
pub(super) fn start(command: &mut Command) -> std::io::Result<Child> {
    let mut guardians = GUARDIANS.lock();
    #[allow(
        clippy::disallowed_methods,
        reason = "the guardian is not a worker: it is what starts them"
    )]
    let child = command.spawn()?;
    guardians.push(child.id());
    Ok(child)
}

/// Forgets a guardian that was waited for.
pub(super) fn unregister(pid: u32) {
    GUARDIANS.lock().retain(|&known| known != pid);
}

/// Kills and reaps everything the guardian left, until nothing is found or half a minute has passed.
///
/// Processes that fall to this one from a dead guardian are children in foreign sessions: every worker
/// starts one, and the supervisor's own children stay in the supervisor's. So a helper command
/// must not be started with setsid(2). Cancelling leaves some of it alive.
pub(super) async fn sweep() {
    let mut clean = 0;
    for round in 0_u32.. {
        let found = tokio::task::spawn_blocking(look).await;
        clean = if matches!(found, Ok(0)) { clean + 1 } else { 0 };
        // A table is read entry by entry and may miss a process born meanwhile: look twice.
        if clean == 2 {
            return;
        }
        if round == MAX_ROUNDS {
            tracing::error!(
                processes = found.unwrap_or_default(),
                "processes of workers do not end though they were killed: they hang in the kernel (a disk or network file system that does not answer?)"
            );
            return;
        }
        if clean == 0 {
            let wait = if round < QUICK_ROUNDS {
                ROUND
            } else {
                SLOW_ROUND
            };
            tokio::time::sleep(wait).await;
        }
    }
}

/// Kills what is found, reaps what ended, says how many were found.
fn look() -> usize {
    let Ok(table) = ProcessTable::scan() else {
        return usize::MAX;
    };
    let me = std::process::id();
    let Some(own_session) = table.get(me).map(|p| p.session) else {
        return usize::MAX;
    };
    // After the scan: a guardian that is in the table is in the list.
    let guardians = GUARDIANS.lock().clone();
    let fallen = table
        .children(me)
        .filter(|child| child.session != own_session && !guardians.contains(&child.pid));
    let found = table.descent(fallen);
    for process in &found {
        kill(*process);
        if process.parent == me {
            // Only this pid: the exits of other children are waited for by others.
            let pid = i32::try_from(process.pid).unwrap_or(i32::MAX);
            let _not_yet = waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG));
        }
    }
    found.len()
}

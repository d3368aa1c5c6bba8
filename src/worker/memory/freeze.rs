//! Stops processes where they are, and lets them go on: SIGSTOP and SIGCONT (signal(7)).

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Stops these processes: nothing in them runs until [`thaw`]. One that has ended is none.
pub fn freeze(pids: &[u32]) {
    send(pids, Signal::SIGSTOP);
}

/// Lets them go on.
pub fn thaw(pids: &[u32]) {
    send(pids, Signal::SIGCONT);
}

fn send(pids: &[u32], signal: Signal) {
    for pid in pids.iter().filter_map(|pid| i32::try_from(*pid).ok()) {
        if let Err(error) = kill(Pid::from_raw(pid), signal)
            && error != nix::errno::Errno::ESRCH
        {
            tracing::warn!(pid, %signal, %error, "a worker's process cannot be signalled");
        }
    }
}

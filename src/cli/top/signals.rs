//! Signals that concern the terminal.
#![allow(unsafe_code, reason = "the default of a signal is put back")]

use std::io;

use nix::errno::Errno;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, raise, sigaction};
use tokio::signal::unix::{self, SignalKind, signal};

/// What a signal asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Asked {
    /// End: SIGTERM, SIGINT, SIGHUP.
    End,
    /// Stop for a while: SIGTSTP.
    Suspend,
    /// Go on: SIGCONT. Others may have drawn on the terminal.
    Continue,
}

/// The signals, taken from their defaults.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: unix::Signal,
    interrupt: unix::Signal,
    hangup: unix::Signal,
    stop: unix::Signal,
    go_on: unix::Signal,
}

impl Signals {
    /// # Errors
    /// When they cannot be had.
    pub(super) fn take() -> io::Result<Self> {
        let raw = |which: Signal| signal(SignalKind::from_raw(which as i32));
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            stop: raw(Signal::SIGTSTP)?,
            go_on: raw(Signal::SIGCONT)?,
        })
    }

    /// The next one.
    ///
    /// # Cancel-Safety
    /// A call that is cancelled loses nothing.
    pub(super) async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::End,
            _ = self.interrupt.recv() => Asked::End,
            _ = self.hangup.recv() => Asked::End,
            _ = self.stop.recv() => Asked::Suspend,
            _ = self.go_on.recv() => Asked::Continue,
        }
    }
}

/// Stops this process as SIGTSTP does by itself, and returns when it goes on. Where nobody could make it go on, as in a
/// session without a shell, the kernel lets it go on at once.
///
/// # Errors
/// When the signal's action cannot be changed.
pub(super) fn stop_this_process() -> Result<(), Errno> {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: the default action runs no code of this process.
    let before = unsafe { sigaction(Signal::SIGTSTP, &default) }?;
    let stopped = raise(Signal::SIGTSTP);
    // SAFETY: the action is the one that was there, tokio's, whose handler is there as long as the process.
    unsafe { sigaction(Signal::SIGTSTP, &before) }?;
    stopped
}

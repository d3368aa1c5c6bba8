//! The guardian: a small process that is parent of all workers, so that none outlives its purpose.
//!
//! It is this program started once more, before any thread exists, and renamed `sp-guardian`. Being
//! single-threaded it may fork cheaply and set a parent-death signal that means its own death;
//! being a child subreaper it inherits every orphan a worker leaves, wherever that moved to.
//!
//! ```text
//!  supervisor --- Request (Spawn + fds, Signal, KillTree) ---> guardian --- fork, exec ---> leader
//!             <-- Report (Spawned, LeaderExited, Gone) -------     ^                           |
//!                                                                  +---- orphans, by kernel ---+
//!
//!  a worker:  Live --leader exits or KillTree--> Dying --nothing of its tree left--> Gone
//! ```
//!
//! Invariants
//! - A report `Gone` means that no process of the worker is left, zombies included.
//! - When the socket closes, for whatever reason, every descendant is killed until none is left.
//! - No signal is sent to a process that was reaped: children are signalled before they are waited
//!   for, everything else through a pidfd whose start time was compared.
//! - When the guardian itself is killed, the supervisor (a subreaper too) does the same in its place.
//!
//! Not done here: pipes, framing and deadlines (the supervisor's side), and privilege separation: a
//! worker that runs as the same user can kill the guardian, which costs all workers their lives.

mod handle;
mod process;
mod spawn;
mod sweep;
mod tree;
mod wire;

pub(crate) use handle::{Control, LaunchError, Launched, News};
pub use handle::{Guardian, GuardianError};
pub use process::run_guardian_if_asked;

pub(crate) use wire::{Launch, SpawnFailure, Stage};

/// Environment variable that marks the processes of a worker: `<nonce>-<worker id>`.
pub const MARKER_VARIABLE: &str = "STDIOPOOL_WORKER";

//! The guardian: a small process that is parent of all workers, so that none outlives its purpose.
//!
//! It is this program started once more, before any thread exists, with an empty environment, and renamed
//! `sp-guardian`. Being single-threaded it may fork cheaply. Of each worker it forks an init process (`init.rs`),
//! which is a child subreaper: what a worker starts, wherever that moves to, stays below it.
//!
//! ```text
//!  supervisor --- Request (Spawn + fds, Signal, KillTree, Ping) ---> guardian --fork--> init --fork, exec--> leader
//!             <-- Report (Spawned, LeaderExited, Gone, Pong) -------     ^                ^                    |
//!                                                                        |                +------ orphans -----+
//!                                                                        +-- what is left if init is killed
//!
//!  a worker:  Starting --> Live --leader exits or KillTree--> Dying --nothing below init--> init ended --> Gone
//! ```
//!
//! Invariants
//! - Which worker a process belongs to follows from its ancestors alone, which it cannot choose.
//! - A report `Gone` means that no process of the worker is left, zombies included.
//! - When the socket closes, for whatever reason, every descendant is killed until none is left.
//! - No signal is sent to a process that was reaped: children are signalled before they are waited
//!   for, everything else through a pidfd whose start time was compared.
//! - When the guardian itself is killed, or does not answer (`heartbeat.rs`), its init processes and the supervisor
//!   (a subreaper too) do the same in its place.
//! - No secret passes through the guardian's memory: the process that becomes the leader reads the launch data.
//!
//! Not done here: pipes, framing and deadlines (the supervisor's side), and privilege separation: a
//! worker that runs as the same user can kill the guardian, which costs all workers their lives.

mod handle;
mod heartbeat;
mod init;
mod mounts;
mod process;
mod spawn;
mod sweep;
mod wire;

pub(crate) use handle::{Control, LaunchError, Launched, News};
pub use handle::{Guardian, GuardianError};
pub use mounts::can_make_read_only;
pub use process::run_guardian_if_asked;

pub(crate) use wire::{Launch, SpawnFailure, Stage};

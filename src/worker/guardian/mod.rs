//! The guardian: a small process that is parent of all workers, so that none outlives its purpose.
//!
//! The guardian is this program started once more, before any thread exists, with an empty environment, and renamed
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
//! - The worker that a process belongs to follows from its ancestors alone, which it cannot choose.
//! - A report `Gone` means that no process of the worker is left, zombies included.
//! - When the socket closes, for whatever reason, every descendant is killed until none is left.
//! - No signal is sent to a process that was reaped: children are signalled before they are waited
//!   for, everything else through a pidfd whose start time was compared.
//! - When the guardian itself is killed, or does not answer (`heartbeat.rs`), its init processes and the supervisor
//!   (a subreaper too) kill in its place.
//! - No secret passes through the guardian's memory: the process that becomes the leader reads the launch data.
//! - What a worker cannot take back is set before its program is executed, in this order: its namespaces, what it sees of the file
//!   system, its user, its Landlock domain, its filter of system calls (`namespaces.rs`, `root.rs` or `mounts.rs`, `identity.rs`, `domain.rs`,
//!   `filter.rs`, or `recording.rs` where its calls are recorded and none is refused).
//!
//! A node process that waits, nobody's yet, has an init process as any worker; when it becomes a tenant's worker, it changes its id, and is given
//! what an ordinary start sets before the program is executed (`adoption.rs`).
//!
//! Not done here: pipes, framing and deadlines (the supervisor's side). A worker that runs as stdiopool's own user, without a
//! domain, can kill the guardian, which costs all workers their lives.

mod adoption;
mod command;
mod connection;
mod control;
mod devices;
mod domain;
mod filter;
mod handle;
mod heartbeat;
mod helper;
mod identity;
mod init;
mod mount_call;
mod mounts;
mod namespaces;
mod network;
mod probe;
mod process;
mod queue;
mod recording;
mod reports;
mod root;
mod spawn;
mod state;
mod sweep;
mod templates;
mod wire;

pub use connection::GuardianError;
pub(crate) use connection::{LaunchError, ProcessState};
pub(crate) use control::Control;
pub use domain::{Domains, domains};
pub use handle::Guardian;
pub(crate) use handle::Launched;
pub use mounts::{can_hide_from_users, can_make_read_only};
pub use process::run_guardian_if_asked;
pub use templates::{TEMPLATE_PROGRAM, can_be_primed, system_calls_of_templates};

pub(crate) use command::{CommandWalls, enter_walls};
pub(crate) use devices::{DEVICES, TERMINALS, is_in_own_dev};
pub(crate) use filter::FAMILIES;
#[cfg(test)]
pub(crate) use filter::FORBIDDEN;
pub(crate) use mounts::{FileContents, Mount};
pub(crate) use network::Sockets;
pub use probe::{
    IsolationUnavailable, can_be_recorded, can_be_strict, can_have_list_of_hosts,
    can_have_no_network,
};
pub(crate) use queue::TakesQueue;
pub(crate) use recording::Recording;
pub(crate) use root::{Root, RootEntry};
pub(crate) use wire::{Files, ForkedFrom, Launch, SpawnFailure, Stage};

/// The first argument of a process that waits, as it is of an ordinary start by `#!/usr/bin/env node`.
pub(crate) const WAITING_ARG0: &str = "node";

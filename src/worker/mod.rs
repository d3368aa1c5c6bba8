//! Runs one process tree at a time: starts it, moves lines in and out, ends it for sure.
//!
//! ```text
//!            send                       stdin.rs            +--------+
//!  caller ---------> queue ----------> writer task -------> |        |
//!         <--------- Inbox <-- framing.rs -- reader task <- | worker | <--- guardian (parent,
//!  stderr_tail <---- ring  <--------------- stderr task <-- |        |      subreaper, killer)
//!                                                           +--------+
//!            stop, kill ---> life task (life.rs, in the order of stop_sequence.rs) ---> guardian: SIGTERM, kill the tree
//!
//!  Running --stop--> stdin closes --> SIGTERM --> tree killed --> Gone
//!     +----- the leader exits: what it wrote is delivered, Inbox::exited, rest killed --^
//! ```
//!
//! Invariants
//! - `Inbox::exited` comes once and last. `Worker::wait` returns when no process of the tree is left.
//! - None of the three pipes waits for another, and no pipe of one worker for another worker.
//! - Memory is bounded by [`Options`]: one message, the unsent bytes, the stderr lines.
//! - Nobody survives the supervisor: see the module `guardian`.
//!
//! The connections of a worker with a list of hosts go through the supervisor (module `egress`), and end with the worker.
//!
//! What a recorded worker does is looked at, call by call, on a thread of its own (module `recorder`), which ends with it.
//!
//! Not done here: what a line means, restarts, deadlines of calls, how many workers there are.

mod cgroup;
mod confine;
mod disk;
mod egress;
mod egress_attempt;
mod exit;
pub mod framing;
mod guardian;
mod handle;
mod inbox;
mod launch_folders;
mod life;
pub mod memory;
mod mount_plan;
mod options;
mod output;
mod own_folders;
mod pipes;
mod processor_use;
mod recorder;
mod resolving;
mod spawn;
mod spawn_error;
mod spawn_waiting;
mod state;
mod stderr;
mod stdin;
mod stop_sequence;
mod strict;
mod waiting;

pub use cgroup::{Breaches, Groups, TenantGroup, groups};
pub use confine::{MAX_PROCESSES, confine, install_group, most_memory};
pub use disk::{disk_usage, limit_files};
pub use egress::descriptors_for_hosts;
pub use egress_attempt::EgressAttempt;
pub use exit::{Exit, ExitStatusKind};
pub use guardian::{
    Domains, Guardian, GuardianError, IsolationUnavailable, TEMPLATE_PROGRAM, can_be_primed,
    can_be_recorded, can_be_strict, can_have_list_of_hosts, can_have_no_network,
    can_hide_from_users, can_make_read_only, domains, run_guardian_if_asked,
    system_calls_of_templates,
};
pub use handle::Worker;
pub use inbox::{Inbox, Oversized};
pub use options::{Options, Stats};
pub use processor_use::{Precedence, ProcessorUse, processor_time, set_precedence};
pub use spawn::{
    PrimedWorker, find_program, out_of_reach, spawn, spawn_from_waiting, spawn_primed,
    spawn_template,
};
pub use spawn_error::SpawnError;
pub use spawn_waiting::{Programs, spawn_waiting, write_programs};
pub use stdin::SendError;
pub use waiting::{Waiting, WaitingEnd};

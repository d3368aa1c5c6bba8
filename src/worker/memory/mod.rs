//! How much memory a process tree holds, and how to page it out.
//!
//! A tree holds the proportional share of each process (proc_pid_smaps(5), `Pss`), so that pages
//! shared with others count once, and of what is swapped out to compressed memory the part that it
//! takes there.
//!
//! Invariants: what cannot be read is told as not known, never as nothing; nothing of a process is written but the advice to
//! page out.
//!
//! This module deliberately does not decide who hibernates: the pool does.

mod footprint;
mod freeze;
mod host;
mod page_out;

pub use footprint::{Footprint, footprint, resident};
pub use freeze::{freeze, thaw};
pub use host::{
    HibernationError, SwapWeight, can_hibernate, has_zram, host_memory, memory_pressure,
};
pub use page_out::page_out;

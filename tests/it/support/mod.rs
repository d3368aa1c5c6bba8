//! A stdiopool to test against, a client that shows what is on the wire, and the process table.

mod client;
mod processes;
mod server;

pub(crate) use client::{Answer, Client, Events};
pub(crate) use processes::{alive, environment_of, in_tree_of, processes_marked, until_gone};
pub(crate) use server::{Stdiopool, demo, faulty, until};

/// The longest any condition is waited for. Generous, because machines are shared.
pub(crate) const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

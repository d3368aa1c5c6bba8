//! A stdiopool to test against, a client that shows what is on the wire, and the process table.

mod client;
mod processes;
mod server;

pub(crate) use client::Client;
pub(crate) use processes::{
    Process, alive, command_line_of, environment_of, group_of, in_tree_of, until_gone,
};
pub(crate) use server::{BINARY, Stdiopool, demo, faulty, until};

/// The longest any condition is waited for. Generous, because machines are shared.
pub(crate) const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

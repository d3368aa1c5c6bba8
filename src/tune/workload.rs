//! The calls of a simulation, their times, and what the servers are like.

use std::time::Duration;

/// The profile of a server's workers.
#[derive(Clone, PartialEq, Debug)]
pub struct Profile {
    /// The server's name.
    pub name: String,
    /// How long a start takes, from nothing until the server answers.
    pub start: Duration,
    /// How long a hibernated worker takes until it answers.
    pub wake: Duration,
    /// Bytes that a worker holds awake.
    pub awake: u64,
    /// Bytes that it holds asleep.
    pub asleep: u64,
}

impl Profile {
    /// A server of which nothing was measured: like a small Node server started directly.
    pub fn unknown(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            start: Duration::from_millis(800),
            wake: Duration::from_millis(20),
            awake: 50 << 20,
            asleep: 10 << 20,
        }
    }
}

/// A request that needs a worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Call {
    /// Since the beginning.
    pub at: Duration,
    /// Number of the tenant whose request it is.
    pub tenant: u32,
    /// Index into [`Workload::servers`].
    pub server: u16,
    /// What the worker needs for it.
    pub takes: Duration,
}

/// Calls in the order of their times, and the servers they are for.
#[derive(Clone, PartialEq, Debug)]
pub struct Workload {
    /// The servers.
    pub servers: Vec<Profile>,
    /// The calls.
    pub calls: Vec<Call>,
    /// How long the recording is, from the first moment to the last.
    pub length: Duration,
    /// How many tenants there are, also those that never call.
    pub tenants: usize,
}

//! Numbers by which the bridge tells sessions, calls and questions apart.

use std::fmt;

use crate::ids::WorkerId;

/// A session as the bridge knows it: a number, unique while the supervisor runs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct SessionNo(pub u64);

/// A request towards a worker: the JSON-RPC id and progress token the worker sees.
/// Not the client's id, which is any JSON string or number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct CallId(pub u64);

/// A worker's request towards a client, as named to the client: `w3-2`, unique while the
/// supervisor runs, whichever worker a session is served by.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct AskRef {
    /// The worker that asks.
    pub worker: WorkerId,
    /// The question's number among those of its worker, from 0.
    pub number: u64,
}

impl AskRef {
    /// Reads the raw JSON id of a client's response.
    pub fn parse(raw_id: &str) -> Option<Self> {
        let text = raw_id.strip_prefix('"')?.strip_suffix('"')?;
        let (worker, number) = text.strip_prefix('w')?.split_once('-')?;
        Some(Self {
            worker: WorkerId(worker.parse().ok()?),
            number: number.parse().ok()?,
        })
    }
}

impl fmt::Display for AskRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}-{}\"", self.worker, self.number)
    }
}

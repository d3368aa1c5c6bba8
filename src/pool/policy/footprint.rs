//! What workers hold in memory: whether each is paged out, what all are charged with, what was learnt of each server's.

use lru::LruCache;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::ids::{ServerName, WorkerId};

/// Whether a worker's memory is paged out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sleep {
    /// The worker is in memory.
    Awake,
    /// The worker is being paged out.
    FallingAsleep,
    /// The worker was paged out and has not been used since.
    Asleep,
}

/// A running mean that forgets: each new value counts for a quarter.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Mean(pub(super) Option<u64>);

impl Mean {
    pub(super) fn add(&mut self, value: u64) {
        self.0 = Some(match self.0 {
            None => value,
            Some(mean) => mean / 4 * 3 + value / 4,
        });
    }
}

/// The history of a server's workers. Outlives them, so that the next start is judged by it.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct History {
    pub(super) awake: Mean,
    pub(super) asleep: Mean,
    pub(super) start_micros: Mean,
}

/// Everything about weight.
#[derive(Debug)]
pub(super) struct Memory {
    /// What all workers are charged with, in bytes.
    pub(super) total: u64,
    /// What is held beside all workers, in bytes.
    pub(super) reserved: u64,
    /// Workers that stop or fall asleep.
    pub(super) leaving: FxHashSet<WorkerId>,
    /// The idle ones that are awake and can sleep, in the order of their last use: the idle ones
    /// that sleep already are the oldest, and many.
    pub(super) sleepable: LruCache<WorkerId, ()>,
    pub(super) history: FxHashMap<ServerName, History>,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            total: 0,
            reserved: 0,
            leaving: FxHashSet::default(),
            sleepable: LruCache::unbounded(),
            history: FxHashMap::default(),
        }
    }
}

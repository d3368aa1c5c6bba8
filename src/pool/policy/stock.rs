//! The spares that are wanted.

use std::sync::Arc;

use super::limits::KeyFacts;
use crate::ids::PoolKey;

/// How many spares of a key are wanted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stock {
    /// The key of the spares.
    pub key: PoolKey,
    /// The facts of the spares' key; `max_workers_per_key` is how many there are to be.
    pub facts: Arc<KeyFacts>,
}

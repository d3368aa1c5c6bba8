//! When tokens were last used: gathered in memory, written down now and then.

use std::time::SystemTime;

use parking_lot::Mutex;
use rustc_hash::FxHashMap;

/// The uses that are not written down yet, by the hash of the token. Bounded by the number of tokens there are.
#[derive(Debug, Default)]
pub struct Uses(Mutex<FxHashMap<[u8; 32], SystemTime>>);

impl Uses {
    pub(super) fn note(&self, hash: [u8; 32]) {
        self.0.lock().insert(hash, SystemTime::now());
    }

    /// The tokens that were used since the last time, by hash.
    pub fn take(&self) -> Vec<([u8; 32], SystemTime)> {
        std::mem::take(&mut *self.0.lock()).into_iter().collect()
    }
}

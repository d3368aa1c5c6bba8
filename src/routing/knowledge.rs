//! What running servers have told of themselves, as far as the route of a request depends on it.

use super::catalog::Catalog;
use super::dialects::DialectCache;
use super::one_at_a_time::OneAtATime;
use super::roots::RootsTable;
use crate::held::Ledger;

/// The knowledge of all servers. Each part has its own small lock; none is held while another is taken.
#[derive(Debug)]
pub(crate) struct Knowledge {
    /// Introductions of servers, and their lists.
    pub(crate) catalog: Catalog,
    /// The eras that their programs speak.
    pub(crate) dialects: DialectCache,
    /// The programs that ask for roots, and the roots of each worker.
    pub(crate) roots: RootsTable,
    /// The servers that have one process at a time.
    pub(crate) one_at_a_time: OneAtATime,
}

impl Knowledge {
    /// With what an earlier run has learnt of dialects; what is remembered is charged to its tenant there.
    pub(crate) fn new(dialects: DialectCache, ledger: Ledger) -> Self {
        Self {
            catalog: Catalog::new(ledger),
            dialects,
            roots: RootsTable::default(),
            one_at_a_time: OneAtATime::default(),
        }
    }

    /// Grows whenever sessions may have to take another route than before.
    pub(crate) fn edition(&self) -> u64 {
        self.dialects.edition() + self.roots.edition() + self.one_at_a_time.edition()
    }
}

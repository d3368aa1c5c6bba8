//! How many connections out of workers' networks there are: of one worker, and of all.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Connections of one worker at once.
const OF_WORKER: usize = 128;
/// Connections of all workers at once.
pub(super) const OF_ALL: usize = 1024;
/// Slots that only a worker takes that has fewer than [`FEW`].
const FOR_FEW: usize = OF_ALL / 4;
const FEW: usize = 8;

static ALL: AtomicUsize = AtomicUsize::new(0);

/// Descriptors that connections of workers to hosts take at the most: two each.
pub fn descriptors_for_hosts() -> u64 {
    2 * OF_ALL as u64
}

/// The connection slots of one worker.
#[derive(Clone, Default, Debug)]
pub(super) struct EgressSlots(Arc<AtomicUsize>);

/// The slot of one connection, taken until it is dropped.
#[derive(Debug)]
pub(super) struct EgressSlot(Arc<AtomicUsize>);

impl Drop for EgressSlot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
        ALL.fetch_sub(1, Ordering::Relaxed);
    }
}

impl EgressSlots {
    /// Takes a slot, if there is one.
    pub(super) fn take(&self) -> Option<EgressSlot> {
        let own = self.0.fetch_add(1, Ordering::Relaxed);
        let most = most_of_all(own);
        let all = ALL.fetch_add(1, Ordering::Relaxed);
        let slot = EgressSlot(Arc::clone(&self.0));
        (own < OF_WORKER && all < most).then_some(slot)
    }
}

/// How many there may be of all before a worker with so many takes another.
fn most_of_all(own: usize) -> usize {
    match own < FEW {
        true => OF_ALL,
        false => OF_ALL - FOR_FEW,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_has_so_many_connections_and_those_with_few_have_a_share_of_their_own() {
        let workers: Vec<EgressSlots> = (0..9).map(|_| EgressSlots::default()).collect();
        let mut held = Vec::new();
        for slots in &workers {
            held.extend((0..200).map_while(|_| slots.take()));
        }
        assert_eq!(held.len(), 6 * OF_WORKER + 3 * FEW);
        assert!(workers[0].take().is_none());
        held.clear();
        assert!(workers[0].take().is_some());
    }
}

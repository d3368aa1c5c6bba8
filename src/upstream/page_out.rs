//! Pages workers out while they sleep.

use std::sync::Arc;

use super::connection::{LifeStage, WorkerConnection};
use super::workers::Workers;
use crate::worker::memory;

/// Pages a worker out, unless it is needed meanwhile.
pub(super) async fn page_out(workers: &Arc<Workers>, connection: Arc<WorkerConnection>) {
    // A few at a time: it is CPU-bound, for the pages are compressed.
    let Ok(_permit) = workers.page_outs.acquire().await else {
        return;
    };
    let (id, server) = (connection.id(), connection.plan().server.clone());
    let stops = workers.services.config.get().config.pool.hibernate_stop;
    let paged_out = Arc::clone(&connection);
    let paged = tokio::task::spawn_blocking(move || {
        let connection = paged_out;
        let Some(worker) = connection.worker().filter(|_| connection.is_asleep()) else {
            return Ok(None);
        };
        let processes = worker.tree();
        memory::page_out(&processes, || !connection.is_asleep())?;
        let left = memory::footprint(&processes).filter(|_| connection.is_asleep());
        if stops {
            connection.freeze(processes);
        }
        Ok(left)
    });
    let result = paged.await.map_err(std::io::Error::other).flatten();
    match result {
        Ok(Some(left)) => {
            let held = left.held(memory::SwapWeight::now());
            tracing::debug!(worker = %id, held_kib = held >> 10, "worker hibernated");
            connection.note_life(
                LifeStage::Hibernated,
                &format!("holds {} MiB", held.div_ceil(1 << 20)),
            );
            workers.pool().hibernated(id, Some(held));
            if let Some(trace) = &workers.services.trace {
                trace.memory(&server, held, true);
            }
        }
        // Needed meanwhile, or gone: the pool knows.
        Ok(None) => {}
        Err(error) => {
            tracing::warn!(worker = %id, %error, "worker cannot be paged out (see `stdiopool doctor`)");
            workers.pool().hibernated(id, None);
        }
    }
}

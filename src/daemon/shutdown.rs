//! The way down, each step with its own deadline.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::doors::Doors;
use super::service::{EXPIRY_PERIOD, Service};
use super::service_manager;
use crate::admin::EventKind;
use crate::front::Front;
use crate::pool::StopReason;
use crate::telemetry::Exporter;
use crate::worker::Guardian;

/// How long the shutdown may take beside `pool.drain_timeout`: workers stop within seconds, a guardian that does not
/// answer is given up after half a minute, and so are processes that hang in the kernel.
const MAX_SHUTDOWN: Duration = Duration::from_secs(90);

/// What goes on beside requests. A panic in a task is logged where it happens.
pub(super) struct Background {
    /// Looks after what tenants have authorised upstream, until `grants_stop`: workers need tokens until the last has ended.
    pub(super) grants: JoinHandle<()>,
    pub(super) grants_stop: CancellationToken,
    /// Sends spans, until the last request is over.
    pub(super) exporter: Option<Exporter>,
    /// End when the shutdown says so.
    pub(super) others: Vec<JoinHandle<()>>,
}

impl Service {
    /// Ends everything in order: what is in flight finishes first, for at most `pool.drain_timeout`; the guardian goes last. `shutdown`
    /// ends what serves until then.
    pub(super) async fn shut_down(
        &self,
        front: &Arc<Front>,
        doors: Doors,
        background: Background,
        shutdown: &CancellationToken,
        guardian: &Guardian,
    ) {
        let drain_timeout = self.gateway.runtime_config().config.pool.drain_timeout;
        let longest = drain_timeout + MAX_SHUTDOWN;
        service_manager::stopping(longest);
        let _in_time = EndLimit::start(longest);
        self.finish_requests(front, drain_timeout).await;
        // Closed streams let their connections end.
        self.gateway.sessions().close_streams();
        doors.close_front();
        let pool = self.gateway.workers().pool();
        self.gateway.workers().stop_all_templates();
        pool.stop_all(StopReason::Drained).await;
        self.gateway.join().await;
        background.grants_stop.cancel();
        // The task has ended with that.
        let _ended = background.grants.await;
        front.grants.settle().await;
        // Before the sessions, whose uses are waited for: all of them go one way.
        self.reloader.note_token_uses();
        self.gateway.sessions().note_uses(2 * EXPIRY_PERIOD).await;
        shutdown.cancel();
        doors.join().await;
        if let Some(exporter) = background.exporter {
            exporter.shut_down().await;
        }
        for task in background.others {
            // The task has ended with the others.
            let _ended = task.await;
        }
        guardian.shutdown().await;
        tracing::info!("stopped");
    }

    /// Takes no new work on, and waits for what is in flight.
    async fn finish_requests(&self, front: &Arc<Front>, drain_timeout: Duration) {
        // Said when it is so.
        front.draining.cancel();
        // A caller who would have to come back for an answer cannot.
        front.parked.clear();
        self.gateway.sessions().end_suspended();
        let pool = self.gateway.workers().pool();
        // Before installs end, of which those who wait would start something else instead.
        pool.drain();
        self.gateway.stop_installs().await;
        tracing::info!("draining: no new work; waiting for what is in flight");
        let events = &self.running.events;
        events.tell(EventKind::Draining, "draining".to_owned());
        if tokio::time::timeout(drain_timeout, pool.quiet())
            .await
            .is_err()
        {
            tracing::warn!(
                "requests were still in flight after {}",
                humantime::format_duration(drain_timeout)
            );
        }
    }
}

/// Ends this process when its shutdown hangs; what is left of workers the guardian then kills. A thread of its own
/// watches, since a runtime that is stuck runs no timer.
#[derive(Debug)]
struct EndLimit {
    /// Dropped in time: the thread ends.
    _in_time: std::sync::mpsc::Sender<()>,
}

impl EndLimit {
    fn start(limit: Duration) -> Self {
        let (in_time, ended) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            if ended.recv_timeout(limit) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                tracing::error!(
                    "the shutdown did not end within {}: stopped at once, and all workers with it",
                    humantime::format_duration(limit)
                );
                std::process::exit(1);
            }
        });
        Self { _in_time: in_time }
    }
}

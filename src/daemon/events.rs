//! Turns what happens into metrics and into the admin API's events.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::broadcast;

use crate::admin::{Event, EventKind};
use crate::ids::{ServerName, TenantId, WorkerId};
use crate::pool::{Observer, StopReason};
use crate::protocol::Reason;
use crate::session::{Happening, PackageEvent, Watcher};
use crate::telemetry::Metrics;
use crate::telemetry::labels::{EvictionReason, ExitReason};

/// Events kept for a slow listener; it misses older ones.
const KEPT: usize = 1024;

/// Where events are sent.
#[derive(Clone, Debug)]
pub(super) struct Events(broadcast::Sender<Event>);

impl Events {
    pub(super) fn new() -> Self {
        Self(broadcast::channel(KEPT).0)
    }

    pub(super) fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.0.subscribe()
    }

    pub(super) fn tell(&self, kind: EventKind, message: String) {
        self.send(kind, None, None, None, message);
    }

    fn send(
        &self,
        kind: EventKind,
        server: Option<&ServerName>,
        tenant: Option<&TenantId>,
        worker: Option<WorkerId>,
        message: String,
    ) {
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let at_ms = u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX);
        let (server, tenant) = (server.cloned(), tenant.cloned());
        // An error means that nobody listens.
        let _unheard = self.0.send(Event {
            at_ms,
            kind,
            server,
            tenant,
            worker,
            message,
        });
    }
}

impl Watcher for Events {
    fn happened(&self, happening: Happening<'_>) {
        match happening {
            Happening::WorkerStarting(link) => {
                self.of_worker(EventKind::WorkerStarting, link, "starting".to_owned());
            }
            Happening::WorkerReady(link) => {
                self.of_worker(EventKind::WorkerReady, link, "ready".to_owned());
            }
            Happening::WorkerStartFailed(link, why) => {
                self.of_worker(EventKind::WorkerStartFailed, link, why.to_owned());
            }
            Happening::WorkerExited(link, exit) => {
                self.of_worker(EventKind::WorkerExited, link, exit.to_string());
            }
            Happening::Package(event, server, message) => {
                let kind = match event {
                    PackageEvent::Installing => EventKind::PackageInstalling,
                    PackageEvent::Installed => EventKind::PackageInstalled,
                    PackageEvent::Failed => EventKind::PackageFailed,
                };
                self.send(kind, Some(server), None, None, message.to_owned());
            }
            Happening::SessionOpened(session) => {
                self.of_session(EventKind::SessionOpened, session);
            }
            Happening::SessionClosed(session) => {
                self.of_session(EventKind::SessionClosed, session);
            }
        }
    }
}

impl Events {
    pub(super) fn of_grant(
        &self,
        kind: EventKind,
        server: &ServerName,
        tenant: &TenantId,
        message: String,
    ) {
        self.send(kind, Some(server), Some(tenant), None, message);
    }

    fn of_worker(&self, kind: EventKind, link: &crate::session::Link, message: String) {
        let order = link.order();
        self.send(
            kind,
            Some(&order.server),
            order.tenant.as_ref(),
            Some(link.id()),
            message,
        );
    }

    fn of_session(&self, kind: EventKind, session: &crate::session::Session) {
        let message = format!(
            "session {}",
            crate::admin::Fingerprint::of(session.id.as_str())
        );
        self.send(
            kind,
            Some(&session.server),
            Some(session.tenant()),
            None,
            message,
        );
    }
}

/// Counts what the pool does.
#[derive(Debug)]
pub(super) struct PoolMetrics(pub(super) Arc<Metrics>);

impl Observer for PoolMetrics {
    fn waited(&self, wait: Duration) {
        self.0.queue_waited(wait);
    }

    fn refused(&self, _reason: Reason) {
        // Counted where the caller is answered, with the refusals that never reach the pool.
    }

    fn gone(&self, server: &ServerName, reason: &'static str) {
        let known = ExitReason::ALL
            .iter()
            .find(|label| label.as_str() == reason);
        self.0
            .server(server)
            .worker_exited(known.copied().unwrap_or(ExitReason::Crashed));
    }

    fn evicted(&self, _server: &ServerName, reason: StopReason) {
        self.0.evicted(match reason {
            StopReason::EvictedOfTenant => EvictionReason::MaxWorkersPerTenant,
            StopReason::EvictedForMemory => EvictionReason::MaxMemory,
            StopReason::EvictedOfServer => EvictionReason::MaxWorkersPerServer,
            _ => EvictionReason::MaxWorkers,
        });
    }
}

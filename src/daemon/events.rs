//! Turns what happens into metrics and into the admin API's events.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::broadcast;

use super::ended::{Ended, now_ms, shortened};
use super::history::History;
use crate::admin::{Event, EventFollow, EventKind, LastError};
use crate::ids::{ServerName, TenantId};
use crate::pool::{CircuitChange, CircuitOf, CircuitTurn, Observer, StopReason};
use crate::protocol::{ExitReason, Reason};
use crate::session::{Happening, Link, PackageEvent, Watcher};
use crate::telemetry::labels::{CircuitState, EvictionReason};
use crate::telemetry::{Metrics, Warnings};

/// Events kept for a slow listener; it misses older ones.
const KEPT: usize = 1024;
/// Events that are remembered of one tenant, and of all.
const REMEMBERED: (usize, usize) = (512, 8192);

/// Where events are sent, and remembered with the workers that have ended.
#[derive(Clone, Debug)]
pub(super) struct Events {
    sender: broadcast::Sender<Event>,
    history: Arc<Mutex<History<Event>>>,
    pub(super) ended: Arc<Ended>,
}

impl Events {
    pub(super) fn new() -> Self {
        Self {
            sender: broadcast::channel(KEPT).0,
            history: Arc::new(Mutex::new(History::new(REMEMBERED.0, REMEMBERED.1))),
            ended: Arc::default(),
        }
    }

    /// What happens from now on, and what has happened since that time and is remembered.
    pub(super) fn follow(&self, since_ms: Option<u64>) -> EventFollow {
        let history = self.history.lock();
        let is_meant = |event: &Event| since_ms.is_some_and(|since| event.at_ms >= since);
        EventFollow {
            past: history.where_(is_meant),
            // What happens is sent under the lock.
            next: self.sender.subscribe(),
        }
    }

    /// Something happened that concerns no tenant.
    pub(super) fn tell(&self, kind: EventKind, message: String) {
        self.send(event(kind, message));
    }

    fn send(&self, event: Event) {
        let mut history = self.history.lock();
        history.push(event.tenant.as_ref(), event.clone());
        // An error means that nobody listens.
        let _unheard = self.sender.send(event);
    }
}

/// An event of now that concerns nobody yet.
fn event(kind: EventKind, message: String) -> Event {
    Event {
        at_ms: now_ms(),
        kind,
        server: None,
        tenant: None,
        worker: None,
        reason: None,
        message: shortened(&message),
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
                self.failed(link, why);
            }
            Happening::WorkerExited(link, exit) => {
                let (reason, message) = link.ending(Some(exit));
                if !exit.asked && reason == ExitReason::Crashed {
                    self.failed(link, &format!("worker {} {message}", link.id()));
                }
                self.send(Event {
                    reason: Some(reason.as_str().to_owned()),
                    ..of_worker(EventKind::WorkerExited, link, message)
                });
            }
            Happening::WorkerGone(link, exit) => self.ended.remember(link, exit),
            Happening::Package(event, server, message) => {
                let kind = match event {
                    PackageEvent::Installing => EventKind::PackageInstalling,
                    PackageEvent::Installed => EventKind::PackageInstalled,
                    PackageEvent::Failed => EventKind::PackageFailed,
                    PackageEvent::LeftBehind => EventKind::PackageFilesLeft,
                };
                if event == PackageEvent::Failed {
                    let error = LastError {
                        at_ms: now_ms(),
                        tenant: None,
                        worker: None,
                        message: message.to_owned(),
                    };
                    self.ended.failed(server, error);
                }
                self.send(Event {
                    server: Some(server.clone()),
                    ..self::event(kind, message.to_owned())
                });
            }
            Happening::RuleUnmatched(server, message) => self.send(Event {
                server: server.cloned(),
                ..event(EventKind::RuleUnmatched, message.to_owned())
            }),
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
        self.send(Event {
            server: Some(server.clone()),
            tenant: Some(tenant.clone()),
            ..event(kind, message)
        });
    }

    fn of_worker(&self, kind: EventKind, link: &Link, message: String) {
        self.send(of_worker(kind, link, message));
    }

    fn failed(&self, link: &Link, message: &str) {
        let error = LastError {
            at_ms: now_ms(),
            tenant: link.order().tenant.clone(),
            worker: Some(link.id()),
            message: message.to_owned(),
        };
        self.ended.failed(&link.order().server, error);
    }

    fn of_session(&self, kind: EventKind, session: &crate::session::Session) {
        let message = format!(
            "session {}",
            crate::admin::Fingerprint::of(session.id.as_str())
        );
        self.send(Event {
            server: Some(session.server.clone()),
            tenant: Some(session.tenant().clone()),
            ..event(kind, message)
        });
    }
}

fn of_worker(kind: EventKind, link: &Link, message: String) -> Event {
    let order = link.order();
    Event {
        server: Some(order.server.clone()),
        tenant: order.tenant.clone(),
        worker: Some(link.id()),
        ..event(kind, message)
    }
}

/// Counts what the pool does, and tells of its circuits.
#[derive(Debug)]
pub(super) struct PoolMetrics {
    metrics: Arc<Metrics>,
    events: Events,
    /// Circuits that open and close, in the log, by server; there are as many as servers have ever been configured.
    warnings: Mutex<BTreeMap<ServerName, Warnings>>,
}

impl PoolMetrics {
    pub(super) fn new(metrics: Arc<Metrics>, events: Events) -> Self {
        Self {
            metrics,
            events,
            warnings: Mutex::default(),
        }
    }
}

impl Observer for PoolMetrics {
    fn waited(&self, wait: Duration) {
        self.metrics.queue_waited(wait);
    }

    fn circuit(&self, change: &CircuitChange) {
        let CircuitChange { server, of, turn } = change;
        let tenant = match of {
            CircuitOf::Everyone => None,
            CircuitOf::Tenant(tenant) | CircuitOf::Configuration(tenant) => Some(tenant),
        };
        let (kind, state) = match turn {
            CircuitTurn::Opens { .. } => (EventKind::CircuitOpened, CircuitState::Open),
            CircuitTurn::Closes | CircuitTurn::Forgotten => {
                (EventKind::CircuitClosed, CircuitState::Closed)
            }
        };
        self.metrics.server(server).circuit_changed(state);
        let message = change.to_string();
        let untold = {
            let mut warnings = self.warnings.lock();
            let of_server = warnings.entry(server.clone()).or_default();
            of_server.next(tokio::time::Instant::now())
        };
        if let Some(untold) = untold {
            let tenant = tenant.map(TenantId::as_str);
            match turn {
                CircuitTurn::Opens { .. } => {
                    tracing::warn!(%server, tenant, untold, "{message}");
                }
                CircuitTurn::Closes | CircuitTurn::Forgotten => {
                    tracing::info!(%server, tenant, untold, "{message}");
                }
            }
        }
        self.events.send(Event {
            server: Some(server.clone()),
            tenant: tenant.cloned(),
            ..event(kind, message)
        });
    }

    fn refused(&self, _reason: Reason) {
        // Counted where the caller is answered, with the refusals that never reach the pool.
    }

    fn gone(&self, server: &ServerName, reason: ExitReason) {
        self.metrics.server(server).worker_exited(reason);
    }

    fn evicted(&self, _server: &ServerName, reason: StopReason) {
        self.metrics.evicted(match reason {
            StopReason::EvictedOfTenant => EvictionReason::MaxWorkersPerTenant,
            StopReason::EvictedForMemory => EvictionReason::MaxMemory,
            StopReason::EvictedOfServer => EvictionReason::MaxWorkersPerServer,
            _ => EvictionReason::MaxWorkers,
        });
    }
}

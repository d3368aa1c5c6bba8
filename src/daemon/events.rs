//! Turns what happens into metrics and into the admin API's events.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::broadcast;

use super::ended::{Ended, now_ms, shortened};
use super::history::History;
use crate::admin::{Event, EventFollow, EventKind, LastError};
use crate::gateway::{EventSink, GatewayEvent};
use crate::ids::{ServerName, TenantId};
use crate::pool::{CircuitChange, CircuitOf, CircuitTransition, Observer, StopReason};
use crate::protocol::ExitReason;
use crate::telemetry::labels::{CircuitState, EvictionReason, Limit};
use crate::telemetry::{Metrics, Warnings};
use crate::upstream::{
    PackageEvent, WorkerConnection, WorkerEvent, WorkerEventSink, circuit_changed, exit_reason,
};

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

    /// What happened last, the newest first, at most so many; sessions come and go too often to be told of here.
    pub(super) fn latest(&self, most: usize) -> Vec<Event> {
        let is_meant = |event: &Event| {
            let kind = event.kind;
            !matches!(kind, EventKind::SessionOpened | EventKind::SessionClosed)
        };
        self.history.lock().latest(most, is_meant)
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

impl WorkerEventSink for Events {
    fn worker_event(&self, event: WorkerEvent<'_>) {
        match event {
            WorkerEvent::Starting(connection) => {
                self.of_worker(EventKind::WorkerStarting, connection, "starting".to_owned());
            }
            WorkerEvent::Ready(connection) => {
                self.of_worker(EventKind::WorkerReady, connection, "ready".to_owned());
            }
            WorkerEvent::StartFailed(connection, why) => {
                self.of_worker(EventKind::WorkerStartFailed, connection, why.to_owned());
                self.failed(connection, why);
            }
            WorkerEvent::Observed(connection, kind, how) => self.send(Event {
                reason: Some(kind.as_str().to_owned()),
                ..of_worker(EventKind::WorkerObserved, connection, how.to_owned())
            }),
            WorkerEvent::Exited(connection, exit) => {
                let (reason, message) = connection.ending(Some(exit));
                if !exit.asked && reason == ExitReason::Crashed {
                    self.failed(connection, &format!("worker {} {message}", connection.id()));
                }
                self.send(Event {
                    reason: Some(reason.as_str().to_owned()),
                    ..of_worker(EventKind::WorkerExited, connection, message)
                });
            }
            WorkerEvent::Gone(connection, exit) => self.ended.remember(connection, exit),
            WorkerEvent::Package(event, server, message) => {
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
        }
    }
}

impl EventSink for Events {
    fn gateway_event(&self, event: GatewayEvent<'_>) {
        match event {
            GatewayEvent::RuleUnmatched(server, message) => self.send(Event {
                server: server.cloned(),
                ..self::event(EventKind::RuleUnmatched, message.to_owned())
            }),
            GatewayEvent::SessionOpened(session) => {
                self.of_session(EventKind::SessionOpened, session);
            }
            GatewayEvent::SessionClosed(session) => {
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

    fn of_worker(&self, kind: EventKind, connection: &WorkerConnection, message: String) {
        self.send(of_worker(kind, connection, message));
    }

    /// A worker reached a limit, and is kept from going further.
    pub(super) fn limited(&self, connection: &WorkerConnection, limit: Limit, how: String) {
        self.send(Event {
            reason: Some(limit.as_str().to_owned()),
            ..of_worker(EventKind::WorkerLimited, connection, how)
        });
    }

    fn failed(&self, connection: &WorkerConnection, message: &str) {
        let error = LastError {
            at_ms: now_ms(),
            tenant: connection.plan().tenant.clone(),
            worker: Some(connection.id()),
            message: message.to_owned(),
        };
        self.ended.failed(&connection.plan().server, error);
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

fn of_worker(kind: EventKind, connection: &WorkerConnection, message: String) -> Event {
    let plan = connection.plan();
    Event {
        server: Some(plan.server.clone()),
        tenant: plan.tenant.clone(),
        worker: Some(connection.id()),
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
        let CircuitChange {
            server,
            of,
            transition,
        } = change;
        let tenant = match of {
            CircuitOf::Everyone => None,
            CircuitOf::Tenant(tenant) | CircuitOf::Configuration(tenant) => Some(tenant),
        };
        let (kind, state) = match transition {
            CircuitTransition::Opens { .. } => (EventKind::CircuitOpened, CircuitState::Open),
            CircuitTransition::Closes | CircuitTransition::Forgotten => {
                (EventKind::CircuitClosed, CircuitState::Closed)
            }
        };
        self.metrics.server(server).circuit_changed(state);
        let message = circuit_changed(change);
        let untold = {
            let mut warnings = self.warnings.lock();
            let of_server = warnings.entry(server.clone()).or_default();
            of_server.next(tokio::time::Instant::now())
        };
        if let Some(untold) = untold {
            let tenant = tenant.map(TenantId::as_str);
            match transition {
                CircuitTransition::Opens { .. } => {
                    tracing::warn!(%server, tenant, untold, "{message}");
                }
                CircuitTransition::Closes | CircuitTransition::Forgotten => {
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

    fn gone(&self, server: &ServerName, stopped: Option<StopReason>) {
        let reason = exit_reason(stopped);
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

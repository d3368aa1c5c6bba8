//! What the admin API is told, and what it may do.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use super::acts::{acted, done, of_outcome, on_worker};
use super::dashboard::{Dashboard, Sight, of_not_hibernated};
use super::ended::timeline;
use super::events::Events;
use super::observed::observed;
use super::pool_view::{
    circuit_state, counts, label, next_try, open_circuits, open_configurations,
};
use super::reload::Reloader;
use super::shown::{started_with, up_to};
use super::usage::UsageKeeper;
use crate::admin::minutes::History;
use crate::admin::overview::Frame;
use crate::admin::{
    Accounting, Act, BarredRow, CircuitRow, EndedRow, EventFollow, Fingerprint, LimitsInForce,
    LogFilterRow, LogFollow, LongestWait, MAX_CONFIGURATIONS, NewLogFilter, NotHibernated,
    NotReloaded, OpenConfiguration, PrimedStarts, Reload, RequestFilter, RequestRow, RuleCheck,
    ServerRow, SessionRow, StartCounts, Status, Supervisor, SupervisorState, TemplateRow,
    TenantRow, Timeline, UsageNotRead, UsageReading, WorkerRow,
};
use crate::config::Share;
use crate::gateway::Gateway;
use crate::ids::{RequestId, WorkerId};
use crate::pool::{self, Snapshot, StopReason, WorkerView};
use crate::store::UsageFilter;
use crate::telemetry::audit::{Audit, AuditRecord};
use crate::telemetry::labels::{Era, WorkerState};
use crate::telemetry::{self, FilterError, Metrics};
use crate::upstream::{LifeStage, ShownTemplate, refused, start_failed};
use crate::worker::Worker;
use crate::worker::memory::can_hibernate;

/// Longest text of an error in a row, in bytes.
const MAX_ERROR: usize = 2 << 10;

/// The running stdiopool, as the admin API sees it.
#[derive(Debug)]
pub(super) struct Running {
    /// Where acts are written down.
    pub(super) audit: Option<Arc<Audit>>,
    /// Keeps what tenants have used.
    pub(super) usage: Arc<UsageKeeper>,
    pub(super) gateway: Gateway,
    pub(super) reloader: Arc<Reloader>,
    pub(super) events: Events,
    pub(super) config_path: Option<PathBuf>,
    pub(super) started: SystemTime,
    pub(super) dashboard: Arc<Dashboard>,
    /// Cancelled to begin the shutdown.
    pub(super) drain: CancellationToken,
}

fn since(at: SystemTime) -> f64 {
    at.elapsed().unwrap_or_default().as_secs_f64()
}

impl Running {
    /// Rows of workers. Their `processes` are looked up in one go, if they are wanted: each look reads all of `/proc`.
    fn worker_rows(&self, views: Vec<WorkerView>, processes: bool) -> Vec<WorkerRow> {
        let of_view = |view: &WorkerView| {
            self.gateway
                .workers()
                .connection(view.id)?
                .worker()
                .cloned()
        };
        let workers: Vec<Option<Worker>> = views.iter().map(of_view).collect();
        let mut trees = vec![];
        if processes {
            let there: Vec<Worker> = workers.iter().flatten().cloned().collect();
            trees = Worker::trees(&there);
        }
        let mut trees = trees.into_iter();
        let rows = views.into_iter().zip(workers);
        rows.map(|(view, worker)| {
            let processes = worker.as_ref().and_then(|_| trees.next());
            Self::worker_row(view, worker.as_ref(), processes.unwrap_or_default())
        })
        .collect()
    }

    fn worker_row(view: WorkerView, worker: Option<&Worker>, processes: Vec<u32>) -> WorkerRow {
        WorkerRow {
            id: view.id,
            server: view.server,
            tenant: view.tenant,
            state: label(view.state),
            pid: worker.map(Worker::pid),
            memory_bytes: view.measured,
            processes,
            in_flight: view.in_flight,
            pinned: view.is_pinned,
            requests: view.requests,
            age_seconds: view.age.as_secs_f64(),
            idle_seconds: view.idle_for.map(|idle| idle.as_secs_f64()),
            key: view.key.to_string(),
            stderr_lines: worker.map_or(0, |worker| worker.stats().stderr_lines),
            start: None,
            life: Timeline::default(),
        }
    }
}

impl Running {
    fn status_of(&self, snapshot: &Snapshot) -> Status {
        let config = Arc::clone(&self.gateway.runtime_config().config);
        let mut starts = StartCounts::default();
        for server in config.servers.keys() {
            let of_server = self.gateway.metrics().server(server).start_counts();
            starts.ok += of_server.0;
            starts.failed += of_server.1;
        }
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_seconds: since(self.started),
            state: if self.drain.is_cancelled() {
                SupervisorState::Draining
            } else {
                SupervisorState::Ready
            },
            config: self
                .config_path
                .as_ref()
                .map(|path| path.display().to_string()),
            workers: counts(snapshot),
            limits: LimitsInForce {
                max_workers: config.pool.max_workers,
                max_workers_per_tenant: config.pool.max_workers_per_tenant,
                max_starting: config.pool.max_starting,
                max_memory_bytes: self.gateway.workers().pool().limits().max_memory,
                queue_limit: config.pool.queue_limit,
                queue_timeout_seconds: config.pool.queue_timeout.as_secs_f64(),
                idle_timeout_seconds: config.pool.idle_timeout.as_secs_f64(),
            },
            memory_bytes: (snapshot.workers.iter())
                .filter_map(|worker| worker.measured)
                .sum(),
            queue_depth: snapshot.queue_depth,
            longest_wait: snapshot.longest_wait.as_ref().map(|it| LongestWait {
                seconds: it.waited.as_secs_f64(),
                tenant: it.tenant.clone(),
                server: it.server.clone(),
                message: up_to(&refused(&it.why).message, MAX_ERROR).to_owned(),
            }),
            sessions: self.gateway.sessions().count(),
            starts,
            circuits: snapshot
                .open_circuits
                .iter()
                .map(|circuit| CircuitRow {
                    server: circuit.server.clone(),
                    tenant: circuit.tenant.clone(),
                    configuration: false,
                    failures_in_a_row: None,
                    failing_configurations: u32::try_from(circuit.failing_keys).ok(),
                    retry_in_seconds: circuit.retry_in.as_secs_f64(),
                })
                .chain(
                    snapshot
                        .open_configurations
                        .iter()
                        .take(MAX_CONFIGURATIONS)
                        .map(|it| CircuitRow {
                            server: it.server.clone(),
                            tenant: Some(it.tenant.clone()),
                            configuration: true,
                            failures_in_a_row: Some(it.failures),
                            failing_configurations: None,
                            retry_in_seconds: it.retry_in.as_secs_f64(),
                        }),
                )
                .collect(),
        }
    }
}

impl Running {
    /// Writes down that pool.toml was read again.
    pub(super) fn reloaded(&self, is_ok: bool) {
        self.acted(of_outcome(done("reload"), is_ok));
    }

    fn acted(&self, record: AuditRecord) {
        acted(self.audit.as_deref(), record);
    }
}

impl Supervisor for Running {
    fn status(&self) -> Status {
        self.status_of(&self.gateway.workers().pool().snapshot())
    }

    fn overview(&self) -> Arc<Frame> {
        self.dashboard.overview(|| {
            let snapshot = self.gateway.workers().pool().snapshot();
            Sight {
                status: self.status_of(&snapshot),
                snapshot,
                gateway: &self.gateway,
                events: &self.events,
                grants: self.reloader.grants(),
            }
        })
    }

    fn history(&self, points: usize) -> History {
        self.dashboard.history(points)
    }

    fn workers(&self, processes: bool) -> Vec<WorkerRow> {
        let views = self.gateway.workers().pool().snapshot().workers;
        self.worker_rows(views, processes)
    }

    fn requests(&self, filter: &RequestFilter) -> Vec<RequestRow> {
        let found = telemetry::requests(filter.limit, |request| filter.is_meant(request));
        found.into_iter().map(RequestRow::from).collect()
    }

    fn request(&self, id: RequestId) -> Option<RequestRow> {
        telemetry::request(id).map(RequestRow::from)
    }

    fn sessions(&self) -> Vec<SessionRow> {
        let now = tokio::time::Instant::now();
        let mut rows: Vec<_> = self
            .gateway
            .sessions()
            .all()
            .into_iter()
            .map(|session| SessionRow {
                session: Fingerprint::of(session.id.as_str()),
                server: session.server.clone(),
                tenant: session.tenant().clone(),
                era: Era::Legacy,
                revision: session.revision().to_string(),
                client: session.client.client_info["name"]
                    .as_str()
                    .map(ToOwned::to_owned),
                worker: session.attached_to().last().copied(),
                in_flight: session.uses(),
                streams: session.outbox.readers(),
                age_seconds: since(session.created),
                idle_seconds: session.idle_for(now).unwrap_or_default().as_secs_f64(),
            })
            .collect();
        rows.sort_by(|a, b| b.age_seconds.total_cmp(&a.age_seconds));
        rows
    }

    fn usage(&self, filter: UsageFilter) -> UsageReading {
        let keeper = Arc::clone(&self.usage);
        Box::pin(async move {
            let report = keeper.read(filter).await;
            report.map_err(|error| UsageNotRead::from(Box::from(error)))
        })
    }

    fn servers(&self) -> Vec<ServerRow> {
        let snapshot = self.gateway.workers().pool().snapshot();
        let runtime = self.gateway.runtime_config();
        let config = Arc::clone(&runtime.config);
        let mut sessions: HashMap<_, usize> = HashMap::new();
        for session in self.gateway.sessions().all() {
            *sessions.entry(session.server.clone()).or_default() += 1;
        }
        let row = |(name, server): (&crate::ids::ServerName, &crate::config::Server)| {
            let (ok, failed) = self.gateway.metrics().server(name).start_counts();
            ServerRow {
                name: name.clone(),
                command: server.command.clone(),
                share: match server.share {
                    Share::Tenant => "tenant",
                    Share::Session => "session",
                    Share::Request => "request",
                }
                .to_owned(),
                workers: snapshot
                    .workers
                    .iter()
                    .filter(|worker| worker.server == *name)
                    .count(),
                sessions: sessions.get(name).copied().unwrap_or(0),
                queued: snapshot
                    .waiting_for
                    .iter()
                    .find(|(server, _)| server == name)
                    .map_or(0, |(_, waiting)| *waiting),
                starts: StartCounts { ok, failed },
                retry_in_seconds: next_try(&snapshot, name).map(|wait| wait.as_secs_f64()),
                circuit: circuit_state(&snapshot, name),
                circuit_tenants: open_circuits(&snapshot, name)
                    .filter_map(|circuit| circuit.tenant.clone())
                    .collect(),
                circuit_configurations_total: open_configurations(&snapshot, name).count(),
                circuit_configurations: open_configurations(&snapshot, name)
                    .take(MAX_CONFIGURATIONS)
                    .map(|it| OpenConfiguration {
                        tenant: it.tenant.clone(),
                        failures_in_a_row: it.failures,
                        retry_in_seconds: it.retry_in.as_secs_f64(),
                        last_error: it.last.as_ref().map_or(String::new(), |last| {
                            up_to(&start_failed(last).1, MAX_ERROR).to_owned()
                        }),
                    })
                    .collect(),
                last_error: self.events.ended.last_error(name),
                observed: observed(runtime.resolver.records(), name, server),
            }
        };
        config.servers.iter().map(row).collect()
    }

    fn rules(&self) -> RuleCheck {
        let (findings, unknown) = self.gateway.rule_findings();
        RuleCheck {
            unmatched: findings.into_iter().map(|it| it.message).collect(),
            unknown,
        }
    }

    fn templates(&self) -> PrimedStarts {
        let workers = self.gateway.workers();
        let row = |it: ShownTemplate| {
            let report = it.report.as_deref().cloned().unwrap_or_default();
            TemplateRow {
                server: it.server,
                entry: it.entry,
                program: it.program,
                state: it.state.to_owned(),
                pid: it.pid,
                memory_bytes: it.memory_bytes,
                forked: it.forked,
                imports_ms: report.took_ms,
                modules: report.modules,
                left_out: report.left_out,
            }
        };
        let barred = workers.barred_templates().into_iter();
        PrimedStarts {
            templates: workers.shown_templates().into_iter().map(row).collect(),
            barred: barred
                .map(|(key, why)| BarredRow {
                    entry: key.entry,
                    program: key.program,
                    why,
                })
                .collect(),
            unprimed: workers.obstacles_to_priming(),
        }
    }

    fn tenants(&self) -> Vec<TenantRow> {
        let snapshot = self.gateway.workers().pool().snapshot();
        let config = Arc::clone(&self.gateway.runtime_config().config);
        let sessions = self.gateway.sessions().all();
        // Where nobody has to be declared, those who are here count as well.
        let mut names: std::collections::BTreeSet<_> = config.tenants.keys().cloned().collect();
        names.extend(sessions.iter().map(|session| session.tenant().clone()));
        names.extend(snapshot.workers.iter().map(|worker| worker.tenant.clone()));
        let row = |name: crate::ids::TenantId| {
            let settings = config.tenants.get(&name);
            let waiting = snapshot.waiting.iter().find(|(tenant, _)| *tenant == name);
            TenantRow {
                workers: snapshot
                    .workers
                    .iter()
                    .filter(|worker| worker.tenant == name)
                    .count(),
                max_workers: settings
                    .and_then(|tenant| tenant.max_workers)
                    .unwrap_or(config.pool.max_workers_per_tenant),
                sessions: sessions
                    .iter()
                    .filter(|session| *session.tenant() == name)
                    .count(),
                queued: waiting.map_or(0, |(_, waiting)| *waiting),
                weight: settings.map_or(1, |tenant| tenant.weight),
                name,
            }
        };
        names.into_iter().map(row).collect()
    }

    fn worker(&self, id: WorkerId) -> Option<WorkerRow> {
        let views = self.gateway.workers().pool().snapshot().workers;
        let view = views.into_iter().find(|view| view.id == id)?;
        let connection = self.gateway.workers().connection(id);
        let mut row = self.worker_rows(vec![view], true).pop()?;
        if let Some(connection) = connection {
            row.start = Some(started_with(connection.plan()));
            row.life = timeline(&connection.life());
        }
        Some(row)
    }

    fn ended(&self) -> Vec<EndedRow> {
        self.events.ended.rows()
    }

    fn ended_worker(&self, id: WorkerId) -> Option<EndedRow> {
        self.events.ended.with_timeline(id)
    }

    fn logs(&self, id: WorkerId, lines: usize) -> Option<Vec<String>> {
        let Some(connection) = self.gateway.workers().connection(id) else {
            return self.events.ended.one(id, lines).map(|(_, lines)| lines);
        };
        Some(
            connection
                .worker()
                .map(|worker| worker.stderr_tail(lines))
                .unwrap_or_default(),
        )
    }

    fn follow_logs(&self, id: WorkerId, lines: usize) -> Option<LogFollow> {
        let Some(connection) = self.gateway.workers().connection(id) else {
            let (_, past) = self.events.ended.one(id, lines)?;
            // Closed at once: nothing comes any more.
            let next = broadcast::channel(1).1;
            return Some(LogFollow { past, next });
        };
        let worker = connection.worker()?;
        let (past, next) = worker.stderr_follow(lines);
        Some(LogFollow { past, next })
    }

    fn stop_worker(&self, id: WorkerId) -> bool {
        let connection = self.gateway.workers().connection(id);
        // No new requests first; those in flight are not waited for.
        let is_stopped = self.gateway.workers().pool().retire(id, StopReason::Admin);
        if let Some(connection) = connection.as_ref().filter(|_| is_stopped) {
            connection.stop_for_operator();
        }
        let plan = connection.as_ref().map(|connection| connection.plan());
        self.acted(on_worker("stop", id, plan, is_stopped));
        is_stopped
    }

    fn restart_worker(&self, id: WorkerId) -> bool {
        let connection = self.gateway.workers().connection(id);
        let is_there = self.gateway.workers().pool().retire(id, StopReason::Admin);
        if let Some(connection) = connection.as_ref().filter(|_| is_there) {
            connection.note_life(LifeStage::Retiring, "restarted by an operator");
        }
        let plan = connection.as_ref().map(|connection| connection.plan());
        self.acted(on_worker("restart", id, plan, is_there));
        is_there
    }

    fn hibernate_worker(&self, id: WorkerId) -> Result<(), NotHibernated> {
        let workers = self.gateway.workers();
        let connection = workers.connection(id);
        let done = match can_hibernate() {
            // Whatever the host can do.
            _ if connection.is_none() => Err(NotHibernated::NoSuchWorker),
            Ok(()) => workers.pool().hibernate(id).map_err(|why| {
                of_not_hibernated(id, why)
                    .map_or(NotHibernated::NoSuchWorker, NotHibernated::Unavailable)
            }),
            Err(error) => Err(NotHibernated::Unavailable(format!(
                "workers are not hibernated on this host: {error}"
            ))),
        };
        let plan = connection.as_ref().map(|connection| connection.plan());
        self.acted(on_worker("hibernate", id, plan, done.is_ok()));
        done
    }

    fn drain(&self) {
        self.acted(done("drain"));
        self.drain.cancel();
    }

    fn reload(&self) -> Reload {
        let (reloader, audit) = (Arc::clone(&self.reloader), self.audit.clone());
        Box::pin(async move {
            let outcome = reloader.reload().await;
            acted(
                audit.as_deref(),
                of_outcome(done("reload"), outcome.is_ok()),
            );
            outcome.map_err(|why| NotReloaded::from(Box::from(why)))
        })
    }

    fn log_filter(&self) -> Result<LogFilterRow, FilterError> {
        Ok(telemetry::log_filter()?.into())
    }

    fn set_log_filter(&self, new: &NewLogFilter) -> Result<LogFilterRow, FilterError> {
        let set = telemetry::set_log_filter(new.filter.as_deref(), new.lasting());
        self.acted(of_outcome(done("log-level"), set.is_ok()));
        let set = set?;
        if let Some(lasting) = new.lasting() {
            let change = set.change;
            tokio::spawn(async move {
                tokio::time::sleep(lasting).await;
                if let Err(error) = telemetry::take_log_filter_back(change) {
                    tracing::error!(%error, "the filter of the log stays as it is");
                }
            });
        }
        Ok(set.into())
    }

    fn account(&self, act: Act) -> Accounting {
        let (reloader, audit) = (Arc::clone(&self.reloader), self.audit.clone());
        Box::pin(async move {
            let record = super::accounts::record_of(&act);
            let outcome = reloader.account(act).await;
            if let Some(record) = record {
                acted(audit.as_deref(), of_outcome(record, outcome.is_ok()));
            }
            outcome
        })
    }

    fn events(&self, since_ms: Option<u64>) -> EventFollow {
        self.events.follow(since_ms)
    }
}

/// Sets the gauges from where the state lives. Runs before each scrape.
pub(super) fn set_gauges(gateway: &Gateway, metrics: &Metrics) {
    let snapshot = gateway.workers().pool().snapshot();
    metrics.set_queue_depth(gateway.workers().pool().queue_depth());
    metrics.set_held(gateway.ledger());
    let (all, callers) = (
        gateway.sessions().all(),
        gateway.sessions().callers_by_server(),
    );
    for connection in gateway.workers().connections() {
        connection.count_stderr();
    }
    for name in gateway.runtime_config().config.servers.keys() {
        let of_server = metrics.server(name);
        for state in WorkerState::ALL {
            let of_state =
                |worker: &&WorkerView| worker.server == *name && label(worker.state) == *state;
            of_server.set_workers(*state, snapshot.workers.iter().filter(of_state).count());
        }
        of_server.set_sessions(
            Era::Legacy,
            all.iter()
                .filter(|s| s.server == *name && !s.is_stateless())
                .count(),
        );
        let circuits = open_circuits(&snapshot, name).count();
        of_server.set_open_circuits(circuits + open_configurations(&snapshot, name).count());
        let modern = callers.get(name).copied().unwrap_or(0);
        of_server.set_sessions(Era::Modern, modern);
        let of_name = || {
            let workers = snapshot.workers.iter();
            workers.filter(|worker| worker.server == *name)
        };
        of_server.set_memory_bytes(of_name().filter_map(|worker| worker.measured).sum());
    }
    let asleep = snapshot
        .workers
        .iter()
        .filter(|worker| worker.state == pool::WorkerState::Hibernated);
    let saved = asleep.map(|worker| worker.awake_memory.saturating_sub(worker.memory));
    metrics.set_hibernated_bytes(saved.sum());
}

//! Templates of Python packages, and the starts that are forked from them: `launch::priming` decides which templates there are, and here
//! their processes are started and stopped.
//!
//! A template is a [`worker::Worker`] that the pool does not know. stdiopool starts it in the background when a start of its version has
//! succeeded, one at a time, as far as memory has room for it, and ends with its stdin.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::connection::WorkerConnection;
use super::template_set::{Priming, Process, ShownTemplate, WaitingProcess};
use super::workers::Workers;
use crate::config::Prime;
use crate::ids::{ServerName, WorkerId};
use crate::launch::LaunchSpec;
use crate::launch::packages::Installed;
use crate::launch::priming::{
    Interpreter, NoTemplate, Obstacle, Phase, Report, TemplateKey, obstacle, read_at_start,
};
use crate::worker::memory::{Footprint, SwapWeight, footprint};
use crate::worker::{self, Exit, Inbox, Oversized, SpawnError};

/// How long a template may take to import what it will.
pub(super) const READY_TIMEOUT: Duration = Duration::from_secs(120);
/// Lines of a template's stderr that are told when it fails.
const LAST_LINES: usize = 3;
/// Name of the log field and of the folder of templates.
pub(super) const FOLDER: &str = ".templates";

/// Takes the one line that a template says.
struct Line(Mutex<Option<oneshot::Sender<Bytes>>>);

impl Inbox for Line {
    fn message(&self, line: Bytes) {
        if let Some(waits) = self.0.lock().take() {
            let _gave_up = waits.send(line);
        }
    }

    fn oversized(&self, _line: Oversized) {
        self.0.lock().take();
    }

    fn exited(&self, _exit: Exit) {
        self.0.lock().take();
    }
}

impl Workers {
    /// What priming is to a start of an installed package.
    pub(super) fn priming(
        &self,
        connection: &WorkerConnection,
        spec: &LaunchSpec,
        installed: &Arc<Installed>,
    ) -> Priming {
        let server = &connection.plan().server;
        let runtime = self.services.config.get();
        let prime = runtime.config.servers.get(server).map(|it| it.prime);
        let obstacle = match (prime, worker::can_be_primed()) {
            (Some(Prime::Off), _) => Some(Obstacle::Off),
            (_, Err(why)) => Some(Obstacle::Host(why)),
            (_, Ok(())) => obstacle(spec, installed),
        };
        let told = obstacle.as_ref().map(ToString::to_string);
        self.note_obstacle(server, told);
        let program = installed.program.file_name();
        let program = program.map_or(String::new(), |name| name.to_string_lossy().into_owned());
        let key = TemplateKey {
            entry: installed.entry.clone(),
            program,
        };
        let unused = self.templates.policy.lock().runs(server, &key);
        self.stop_templates(&unused);
        Priming {
            key,
            installed: Arc::clone(installed),
            obstacle,
        }
    }

    fn note_obstacle(&self, server: &ServerName, why: Option<String>) {
        let mut obstacles = self.templates.obstacles.lock();
        match why {
            Some(why) => drop(obstacles.insert(server.clone(), why)),
            None => drop(obstacles.remove(server)),
        }
    }

    /// Why the last start of each server was not primed, where its launch told.
    pub fn obstacles_to_priming(&self) -> BTreeMap<ServerName, String> {
        self.templates.obstacles.lock().clone()
    }

    /// Starts a worker from the template of its version, if that is ready and serves such launches. `None`: it is to be started ordinarily,
    /// also because that failed.
    pub(super) async fn start_primed(
        self: &Arc<Self>,
        connection: &Arc<WorkerConnection>,
        priming: &Priming,
        spec: &LaunchSpec,
        inbox: &Arc<dyn Inbox>,
    ) -> Option<worker::Worker> {
        if priming.obstacle.is_some() {
            return None;
        }
        let template = self
            .templates
            .policy
            .lock()
            .take(Instant::now(), &priming.key)?;
        let node = match Interpreter::of(&priming.installed) {
            Some(Interpreter::Node) => self.node_of(spec).await,
            _ => None,
        };
        {
            let processes = self.templates.processes.lock();
            let process = processes.get(&template)?;
            let report = process.report.as_ref()?;
            let unserved = if process.at_start != read_at_start(&spec.env) {
                Some("its template was made for another locale or other certificates".to_owned())
            } else if process.node != node {
                Some("its template runs another node".to_owned())
            } else if process.writable != spec.writable {
                Some("its template was made for other `writable_dependencies`".to_owned())
            } else {
                let read = report.read_of(&spec.env, &process.at_start);
                read.map(|name| format!("a library of its template has read `{name}`"))
            };
            if unserved.is_some() {
                self.note_obstacle(&connection.plan().server, unserved);
                return None;
            }
        }
        if let Some(waiting) = self.take_waiting(template) {
            return self
                .start_waiting(connection, priming, template, waiting, spec, inbox)
                .await;
        }
        let plan = connection.plan();
        let spawned = worker::spawn_primed(
            &self.guardian,
            worker::PrimedWorker {
                id: connection.id(),
                template,
            },
            spec,
            &plan.options,
            Arc::clone(inbox),
            connection.flow().clone(),
        )
        .await;
        match spawned {
            Ok(worker) => {
                if let Some(process) = self.templates.processes.lock().get_mut(&template) {
                    process.forked += 1;
                }
                Some(worker)
            }
            Err(error) => {
                self.primed_start_failed(connection, priming, &error);
                None
            }
        }
    }

    /// A process that waits, which is nobody else's from now on.
    fn take_waiting(&self, id: WorkerId) -> Option<WaitingProcess> {
        let waiting = {
            let mut processes = self.templates.processes.lock();
            let waiting = processes.get_mut(&id)?.waiting.take()?;
            processes.remove(&id);
            waiting
        };
        self.templates.policy.lock().taken(id);
        self.charge_for_templates();
        Some(waiting)
    }

    /// A primed start failed before its program ran.
    pub(super) fn primed_start_failed(
        &self,
        connection: &WorkerConnection,
        priming: &Priming,
        error: &SpawnError,
    ) {
        // The launch itself may be at fault, which an ordinary start tells.
        let is_of_launch = matches!(
            error,
            SpawnError::NoSuchFolder { .. }
                | SpawnError::ClosedFolder { .. }
                | SpawnError::Inaccessible { .. }
                | SpawnError::NoUser(_)
                | SpawnError::Folder(_)
        );
        connection.plan().metrics.primed_start(false);
        if !is_of_launch {
            self.not_primed(priming, &error.to_string());
        }
    }

    /// Counts a primed start whose worker did not come to serve, so that the start is repeated for whoever waited for it.
    pub(super) fn count_failed_primed_start(&self) {
        self.templates.failed_starts.fetch_add(1, Ordering::AcqRel);
    }

    /// A number that grows with each primed start whose worker did not come to serve.
    pub(crate) fn failed_primed_starts(&self) -> u64 {
        self.templates.failed_starts.load(Ordering::Acquire)
    }

    /// A primed start has failed: the version is not primed again.
    pub(super) fn not_primed(&self, priming: &Priming, why: &str) {
        let key = &priming.key;
        tracing::warn!(
            entry = key.entry,
            program = key.program,
            "a primed start failed; this version of the package is started ordinarily from now on: {why}"
        );
        let now = Instant::now();
        let stopped = self.templates.policy.lock().failed(now, key, why);
        self.stop_templates(stopped.as_slice());
    }

    /// An ordinary start of a package's program has succeeded: its template is started, if there is to be one.
    pub(super) fn prime(
        self: &Arc<Self>,
        connection: &WorkerConnection,
        priming: &Priming,
        spec: &LaunchSpec,
    ) {
        if priming.obstacle.is_some()
            || self.templates.policy.lock().has(&priming.key)
            || !self.has_room_for_template(connection)
        {
            return;
        }
        if Interpreter::of(&priming.installed) == Some(Interpreter::Node) {
            return self.prime_waiting(connection, priming, spec);
        }
        let server = connection.plan().server.clone();
        let runtime = self.services.config.get();
        let id = WorkerId(self.templates.next.fetch_add(1, Ordering::Relaxed));
        let settings = settings(&priming.installed, spec);
        let args = ["-c", worker::TEMPLATE_PROGRAM, &settings].map(Into::into);
        let python = priming.installed.folder.join("venv/bin/python");
        let template = runtime.resolver.resolve_template(&server, spec, FOLDER);
        let Some(template) = template else { return };
        let template = LaunchSpec {
            program: python.display().to_string(),
            args: args.into(),
            ..template
        };
        let now = Instant::now();
        if !self.templates.policy.lock().wants(now, &priming.key, id) {
            return;
        }
        let process = Process::new(priming, server, spec);
        self.templates.processes.lock().insert(id, process);
        let workers = Arc::clone(self);
        self.tasks().spawn(async move {
            let why = workers.live_as_template(id, &template).await;
            workers.forget_template(id, &why);
            workers.clean_up(id, template).await;
        });
    }

    /// The life of a template; how it ended.
    async fn live_as_template(&self, id: WorkerId, spec: &LaunchSpec) -> String {
        let Ok(_permit) = self.templates.imports.acquire().await else {
            return "nothing is started any more".to_owned();
        };
        let (said, line) = oneshot::channel();
        let inbox = Arc::new(Line(Mutex::new(Some(said))));
        let flow = self.services.ledger.scheduler().flow();
        let options = worker::Options::default();
        let spec = spec.for_worker(id);
        let spawned =
            worker::spawn_template(&self.guardian, id, &spec, &options, inbox, flow).await;
        let template = match spawned {
            Ok(template) => template,
            Err(error) => return error.to_string(),
        };
        let is_wanted = {
            let mut processes = self.templates.processes.lock();
            let process = processes.get_mut(&id);
            process.is_some_and(|process| {
                process.worker = Some(template.clone());
                self.is_to_become_ready(id)
            })
        };
        let told = match is_wanted {
            true => tokio::time::timeout(READY_TIMEOUT, line).await,
            false => Ok(Ok(Bytes::new())),
        };
        let report = match told {
            Ok(Ok(line)) => Report::read(&line),
            Ok(Err(_)) => Err(NoTemplate::Ended),
            Err(_elapsed) => Err(NoTemplate::TooSlow),
        };
        drop(_permit);
        match report {
            Ok(report) => {
                tracing::info!(
                    template = %id, pid = template.pid(), modules = report.modules.len(),
                    left_out = report.left_out.len(), took_ms = report.took_ms, "template ready"
                );
                if let Some(process) = self.templates.processes.lock().get_mut(&id) {
                    process.report = Some(Arc::new(report));
                }
                self.measure_template(id).await;
                self.templates.policy.lock().ready(Instant::now(), id);
            }
            Err(why) => {
                template.kill();
                template.wait().await;
                let last = template.stderr_tail(LAST_LINES).join(" / ");
                if is_wanted {
                    tracing::info!(template = %id, "a package cannot be primed: {why} {last}");
                }
                return why.to_string();
            }
        }
        let exit = template.wait().await;
        if !exit.asked {
            let last = template.stderr_tail(LAST_LINES).join(" / ");
            tracing::warn!(template = %id, "a template {exit} {last}");
        }
        exit.to_string()
    }

    pub(super) fn forget_template(&self, id: WorkerId, why: &str) {
        self.templates.processes.lock().remove(&id);
        let now = Instant::now();
        self.templates.policy.lock().ended(now, id, why);
        self.charge_for_templates();
    }

    pub(super) fn phase(&self, id: WorkerId) -> Option<Phase> {
        let all = self.templates.policy.lock().all();
        all.iter().find(|it| it.worker == id).map(|it| it.phase)
    }

    /// Whether a template that is being made is wanted still.
    pub(super) fn is_to_become_ready(&self, id: WorkerId) -> bool {
        !self.templates.imports.is_closed() && self.phase(id) == Some(Phase::Starting)
    }

    pub(super) fn stop_templates(&self, ids: &[WorkerId]) {
        let processes = self.templates.processes.lock();
        ids.iter()
            .filter_map(|id| processes.get(id))
            .for_each(|process| self.stop_template(process));
    }

    fn stop_template(&self, process: &Process) {
        if let Some(worker) = &process.worker {
            worker.stop();
        }
        if let Some(end) = process.end.clone() {
            self.tasks().spawn(async move { end.kill().await });
        }
    }

    /// Ends all templates; none becomes ready any more.
    pub fn stop_all_templates(&self) {
        // Whoever has made a process takes this lock to have it noted, and ends it if that is too late.
        let processes = self.templates.processes.lock();
        processes
            .values()
            .for_each(|process| self.stop_template(process));
        self.templates.imports.close();
    }

    /// Stops templates that nobody has used for long, those of versions that no server with `prime = "auto"` runs, and, where memory is short, the one that was used longest ago.
    pub fn look_at_templates(&self, is_memory_short: bool) {
        let runtime = self.services.config.get();
        let servers = &runtime.config.servers;
        let is_primed = |name: &ServerName| {
            let server = servers.get(name);
            server.is_some_and(|server| server.prime == Prime::Auto)
        };
        let mut policy = self.templates.policy.lock();
        let mut stopped = policy.tick(Instant::now());
        stopped.extend(policy.keep(is_primed));
        if is_memory_short {
            stopped.extend(policy.shed());
        }
        drop(policy);
        self.stop_templates(&stopped);
    }

    pub(super) async fn measure_template(&self, id: WorkerId) {
        let pid = {
            let processes = self.templates.processes.lock();
            processes.get(&id).and_then(Process::pid)
        };
        let Some(pid) = pid else { return };
        let measured = tokio::task::spawn_blocking(move || {
            footprint(&[pid]).map(|it: Footprint| it.held(SwapWeight::now()))
        });
        let measured = measured.await;
        if let (Ok(Some(held)), Some(process)) =
            (measured, self.templates.processes.lock().get_mut(&id))
        {
            process.held = held;
        }
        self.charge_for_templates();
    }

    /// Tells the pool what templates hold.
    fn charge_for_templates(&self) {
        let processes = self.templates.processes.lock();
        let held = processes.values().map(|it| it.held).sum();
        drop(processes);
        self.pool().reserve(held);
    }

    /// Whether memory has room for a template, which holds about what a worker of its server does.
    fn has_room_for_template(&self, connection: &WorkerConnection) -> bool {
        self.pool().has_room_for(&connection.plan().server)
    }

    /// The templates there are.
    pub fn shown_templates(&self) -> Vec<ShownTemplate> {
        let found = self.templates.found.lock().clone();
        let started_of = |key| found.get(key).map_or(0, |found| found.started);
        let processes = self.templates.processes.lock();
        let mut all: Vec<_> = processes
            .iter()
            .map(|(id, process)| ShownTemplate {
                entry: process.key.entry.clone(),
                program: process.key.program.clone(),
                server: process.server.clone(),
                state: match self.phase(*id) {
                    Some(Phase::Ready) => "ready",
                    Some(Phase::Starting) => "starting",
                    Some(Phase::Stopping) | None => "stopping",
                },
                pid: process.pid(),
                memory_bytes: process.held,
                forked: process.forked + started_of(&process.key),
                report: process.report.clone(),
            })
            .collect();
        all.sort_by(|a, b| (&a.entry, &a.program).cmp(&(&b.entry, &b.program)));
        all
    }

    /// Versions that are not primed, and why.
    pub fn barred_templates(&self) -> Vec<(TemplateKey, String)> {
        let policy = self.templates.policy.lock();
        let all = policy.all_barred();
        all.map(|(key, barred)| (key.clone(), barred.why.clone()))
            .collect()
    }
}

/// What a template is told (`template.py`).
fn settings(installed: &Installed, spec: &LaunchSpec) -> String {
    let at_start = read_at_start(&spec.env);
    let variables: Vec<_> = spec
        .env
        .keys()
        .filter(|it| !at_start.contains_key(*it))
        .collect();
    serde_json::json!({
        "script": installed.program,
        "venv": installed.folder.join("venv"),
        "package": installed.package,
        "writable": spec.writable,
        "variables": variables,
        "calls": worker::system_calls_of_templates(),
    })
    .to_string()
}

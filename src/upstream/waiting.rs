//! Processes that wait for a tenant, of node packages: which dependencies they may import, how they come to wait, and the starts that they serve.
//! `launch::priming` decides which versions have one, as for templates.
//!
//! ```text
//!  a start has succeeded ──▶ probe (once a version) ──▶ a process imports, waits ──▶ becomes a worker ──▶ the next one
//! ```

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use secrecy::ExposeSecret;

use super::connection::WorkerConnection;
use super::template_set::{Found, Priming, Process, WaitingProcess};
use super::templates::{FOLDER, READY_TIMEOUT};
use super::workers::Workers;
use crate::folders;
use crate::ids::WorkerId;
use crate::launch::LaunchSpec;
use crate::launch::priming::{NoTemplate, Report, read_at_start};
use crate::worker::{self, Inbox, Programs, SpawnError, Waiting, WaitingEnd};

/// How long a probe may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(60);
/// Options of node by which a probe can look at modules.
const PROBE_OPTIONS: [&str; 3] = [
    "--experimental-vm-modules",
    "--experimental-import-meta-resolve",
    "--no-warnings",
];
/// The folder of node's programs, in that of templates.
const PROGRAMS: &str = "programs";
/// As `#!/usr/bin/env node` starts it.
const NODE: &str = "node";
/// Variables of which each start has its own value, whatever else it sets.
const OF_EACH: [&str; 3] = ["HOME", "TMPDIR", "PATH"];

/// Why no process waits for the next start of a version.
#[derive(Debug, thiserror::Error)]
enum NotWaiting {
    /// The node of the launch is none, or one that its tenant may change.
    #[error("there is no node in its `PATH` that is one for all tenants")]
    NoNode,
    /// The programs that node is to run are not there.
    #[error("its programs cannot be written: {0}")]
    Programs(#[source] io::Error),
    /// The process could not be started.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// The process has ended, or says what it must not.
    #[error("it ended before it was ready: {error} {said}")]
    Ended {
        /// The error of the read from its socket.
        #[source]
        error: io::Error,
        /// The last lines of its stderr.
        said: String,
    },
    /// The process has imported nothing, or what it says cannot be read.
    #[error(transparent)]
    Report(#[from] NoTemplate),
}

/// The launches that a process which waits is made by.
struct Making {
    priming: Priming,
    /// The launch of the worker that was started before.
    spec: LaunchSpec,
    /// The part of it that is nobody's.
    template: LaunchSpec,
}

impl Workers {
    /// The node that a launch finds in its `PATH`; `None` where that is in a folder that its tenant may write.
    pub(super) async fn node_of(&self, spec: &LaunchSpec) -> Option<PathBuf> {
        let path = spec.env.get("PATH")?.expose_secret().to_owned();
        let (cwd, packages) = (spec.cwd.clone(), spec.packages.clone());
        let found = tokio::task::spawn_blocking(move || worker::find_program(NODE, &path, &cwd));
        let found = found.await.ok()?.ok()?;
        let is_tenants = !packages.as_os_str().is_empty() && found.starts_with(&packages);
        (!is_tenants).then_some(found)
    }

    /// Makes a worker of a process that has waited. `None`: it is to be started ordinarily.
    pub(super) async fn start_waiting(
        self: &Arc<Self>,
        connection: &Arc<WorkerConnection>,
        priming: &Priming,
        id: WorkerId,
        process: WaitingProcess,
        spec: &LaunchSpec,
        inbox: &Arc<dyn Inbox>,
    ) -> Option<worker::Worker> {
        let plan = connection.plan();
        let WaitingProcess { waiting, template } = process;
        let end = waiting.end();
        let spawned = worker::spawn_from_waiting(
            waiting,
            connection.id(),
            spec,
            &plan.options,
            Arc::clone(inbox),
            connection.flow().clone(),
        )
        .await;
        let worker = spawned.as_ref().ok().cloned();
        let workers = Arc::clone(self);
        self.tasks().spawn(async move {
            // The user that it had is another's only when nothing of it is left.
            match worker {
                Some(worker) => {
                    let _told_elsewhere = worker.wait().await;
                }
                None => {
                    let _killed = end.wait().await;
                }
            }
            workers.clean_up(id, template).await;
        });
        match spawned {
            Ok(worker) => {
                if let Some(found) = self.templates.found.lock().get_mut(&priming.key) {
                    found.started += 1;
                }
                Some(worker)
            }
            Err(error @ SpawnError::Late { .. }) => {
                plan.metrics.primed_start(false);
                tracing::warn!("a process that waited is not used: {error}");
                let (now, why) = (Instant::now(), error.to_string());
                let stopped = self.templates.policy.lock().late(now, &priming.key, &why);
                self.stop_templates(stopped.as_slice());
                None
            }
            Err(error) => {
                self.primed_start_failed(connection, priming, &error);
                None
            }
        }
    }

    /// Has a process made ready for the next start of that version, if there is to be one.
    pub(super) fn prime_waiting(
        self: &Arc<Self>,
        connection: &WorkerConnection,
        priming: &Priming,
        spec: &LaunchSpec,
    ) {
        let server = connection.plan().server.clone();
        let runtime = self.services.config.get();
        let template = runtime.resolver.resolve_template(&server, spec, FOLDER);
        let Some(template) = template else { return };
        let id = WorkerId(self.templates.next.fetch_add(1, Ordering::Relaxed));
        let now = Instant::now();
        if !self.templates.policy.lock().wants(now, &priming.key, id) {
            return;
        }
        let process = Process::new(priming, server, spec);
        self.templates.processes.lock().insert(id, process);
        let workers = Arc::clone(self);
        let making = Making {
            priming: priming.clone(),
            spec: spec.clone(),
            template,
        };
        self.tasks().spawn(async move {
            if let Some(why) = workers.live_waiting(id, &making).await {
                workers.forget_template(id, &why);
                workers.clean_up(id, making.template).await;
            }
        });
    }

    /// The life of a process that waits; how it ended, or `None` if it has become a worker.
    async fn live_waiting(&self, id: WorkerId, making: &Making) -> Option<String> {
        let Ok(permit) = self.templates.imports.acquire().await else {
            return Some("nothing is started any more".to_owned());
        };
        let waiting = match self.make_waiting(id, making).await {
            Ok(waiting) => waiting,
            Err(why) => {
                if self.is_to_become_ready(id) {
                    tracing::info!(template = %id, "a package cannot be primed: {why}");
                }
                return Some(why.to_string());
            }
        };
        drop(permit);
        let (end, pid) = (waiting.end(), waiting.pid());
        let is_wanted = {
            let mut processes = self.templates.processes.lock();
            match processes.get_mut(&id) {
                Some(process) => {
                    let template = making.template.clone();
                    process.waiting = Some(WaitingProcess { waiting, template });
                    self.is_to_become_ready(id)
                }
                None => false,
            }
        };
        if is_wanted {
            self.measure_template(id).await;
            self.templates.policy.lock().ready(Instant::now(), id);
            tracing::info!(template = %id, pid, "a process waits for the next start of its package");
        } else {
            end.kill().await;
        }
        let exit = end.wait().await?;
        Some(format!("it {exit} while it waited"))
    }

    /// Starts a process and has it import what may be imported.
    async fn make_waiting(&self, id: WorkerId, making: &Making) -> Result<Waiting, NotWaiting> {
        let node = self.node_of(&making.spec).await;
        let node = node.ok_or(NotWaiting::NoNode)?;
        let scratch = making.template.scratch.clone().unwrap_or_default();
        let folder = scratch.join(PROGRAMS);
        let written = tokio::task::spawn_blocking(move || {
            let programs = worker::write_programs(&folder);
            programs.map(|programs| (folder, programs))
        });
        let written = written.await.map_err(io::Error::from).flatten();
        let (folder, programs) = written.map_err(NotWaiting::Programs)?;
        let key = &making.priming.key;
        let launch = |args: Vec<String>| {
            let mut launch = making.template.clone();
            launch.program = node.display().to_string();
            launch.args = args.into_iter().map(Into::into).collect();
            launch.read_only.push(folder.clone());
            launch
        };
        let known = self.templates.found.lock().get(key).cloned();
        let found = match known {
            Some(found) if found.node == node => found,
            _ => {
                let report = self.probe(id, making, &programs, &launch).await?;
                let report = Arc::new(report);
                let found = Found {
                    report,
                    node: node.clone(),
                    started: 0,
                };
                self.templates.note_found(key, found.clone());
                found
            }
        };
        let launch = launch(vec![programs.waiting.display().to_string()]);
        let mut waiting = self.spawn_waiting(id, &launch).await?;
        self.note_end(id, waiting.end()).await;
        let report = &found.report;
        let settings = serde_json::json!({
            "addon": programs.addon,
            "folder": making.priming.installed.folder.join("node_modules"),
            "modules": report.modules,
            "required": report.required,
            "left_out": report.left_out.keys().collect::<Vec<_>>(),
            "isModule": report.is_module,
        });
        let said = self.asked(&mut waiting, &settings, READY_TIMEOUT).await;
        let said = said.and_then(|line| Ok(Report::read(&line)?));
        match said {
            Ok(said) => {
                let report = Report {
                    took_ms: said.took_ms,
                    ..Report::clone(report)
                };
                if let Some(process) = self.templates.processes.lock().get_mut(&id) {
                    process.report = Some(Arc::new(report));
                    process.node = Some(node);
                }
                Ok(waiting)
            }
            Err(why) => {
                let end = waiting.end();
                end.kill().await;
                let _killed = end.wait().await;
                Err(why)
            }
        }
    }

    /// Finds out which dependencies may be imported ahead.
    async fn probe(
        &self,
        made: WorkerId,
        making: &Making,
        programs: &Programs,
        launch: &impl Fn(Vec<String>) -> LaunchSpec,
    ) -> Result<Report, NotWaiting> {
        let id = WorkerId(self.templates.next.fetch_add(1, Ordering::Relaxed));
        let options = PROBE_OPTIONS.map(str::to_owned).into_iter();
        let program = programs.probe.display().to_string();
        let launch = launch(options.chain([program]).collect());
        let installed = &making.priming.installed;
        let at_start = read_at_start(&making.spec.env);
        let names = making.spec.env.keys().map(String::as_str).chain(OF_EACH);
        let variables: Vec<_> = names.filter(|name| !at_start.contains_key(*name)).collect();
        let settings = serde_json::json!({
            "script": installed.program,
            "folder": installed.folder.join("node_modules"),
            "package": installed.package,
            "variables": variables,
        });
        let said = match self.spawn_waiting(id, &launch).await {
            Ok(mut probe) => {
                self.note_end(made, probe.end()).await;
                let said = self.asked(&mut probe, &settings, PROBE_TIMEOUT).await;
                let end = probe.end();
                end.kill().await;
                let _killed = end.wait().await;
                said
            }
            Err(error) => Err(error.into()),
        };
        self.clean_up(id, making.template.clone()).await;
        Ok(Report::read(&said?)?)
    }

    /// Notes how a process ends by which one that is to wait is made. Where none is wanted any more, ends that process.
    async fn note_end(&self, id: WorkerId, end: WaitingEnd) {
        let is_wanted = {
            let mut processes = self.templates.processes.lock();
            if let Some(process) = processes.get_mut(&id) {
                process.end = Some(end.clone());
            }
            self.is_to_become_ready(id)
        };
        if !is_wanted {
            end.kill().await;
        }
    }

    async fn spawn_waiting(
        &self,
        id: WorkerId,
        launch: &LaunchSpec,
    ) -> Result<Waiting, SpawnError> {
        let launch = launch.for_worker(id);
        worker::spawn_waiting(&self.guardian, id, &launch, NODE).await
    }

    async fn asked(
        &self,
        waiting: &mut Waiting,
        settings: &serde_json::Value,
        limit: Duration,
    ) -> Result<Vec<u8>, NotWaiting> {
        match tokio::time::timeout(limit, waiting.ask(&settings.to_string())).await {
            Ok(Ok(line)) => Ok(line),
            Ok(Err(error)) => {
                let said = waiting.last_words();
                Err(NotWaiting::Ended { error, said })
            }
            Err(_elapsed) => Err(NoTemplate::TooSlow.into()),
        }
    }

    /// Gives back the user and the folder that a process had for its life.
    pub(super) async fn clean_up(&self, id: WorkerId, template: LaunchSpec) {
        let folder = template.scratch_of(id);
        template.give_back(id);
        let removed = tokio::task::spawn_blocking(move || {
            folder.map_or(Ok(()), |folder| folders::remove(&folder))
        });
        if let Ok(Err(error)) = removed.await {
            tracing::warn!("the folder of a template stays: {error}");
        }
    }
}

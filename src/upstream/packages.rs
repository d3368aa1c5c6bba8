//! What is started for a worker whose server runs a package: the program of the package, in its tenant's own view of it.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::Span;

use super::connection::WorkerConnection;
use super::template_set::Priming;
use super::workers::Workers;
use crate::launch::packages::view::{StillRunning, View, ViewError};
use crate::launch::packages::{Installed, Unscripted, npm_cache, wanted_by_npx};
use crate::launch::{LaunchSpec, PackageRun, Sandbox, direct, quieten};
use crate::routing::{NotStarted, Start, Withheld, as_written};
use crate::worker::{can_hide_from_users, can_make_read_only};

/// How long a start waits for workers of another version of its package, whose files it takes over.
const OLD_VERSION_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a start looks whether workers of the other version have ended.
const OLD_VERSION_PERIOD: Duration = Duration::from_millis(100);

/// The program that is started for a worker.
#[derive(Debug)]
pub(crate) struct ToStart<'a> {
    pub(crate) spec: Cow<'a, LaunchSpec>,
    /// Why the process is not the program of its package, if that could not be installed.
    pub(crate) not_installed: Option<String>,
    /// The template that the process may be forked from, if it is the program of its package.
    pub(crate) priming: Option<Priming>,
}

impl<'a> ToStart<'a> {
    fn of(spec: Cow<'a, LaunchSpec>, priming: Priming) -> Self {
        Self {
            spec,
            not_installed: None,
            priming: Some(priming),
        }
    }
}

/// Why the program of a package is not started.
struct NoProgram {
    why: String,
    /// The package's install has failed.
    has_failed: bool,
}

impl NoProgram {
    /// Nothing has failed.
    fn yet(why: String) -> Self {
        let has_failed = false;
        Self { why, has_failed }
    }
}

impl Workers {
    /// Warns that the command of a worker is run as written.
    pub(super) fn warn_as_written(connection: &WorkerConnection, why: &str) {
        let server = &connection.plan().server;
        tracing::warn!(worker = %connection.id(), %server, "{}", as_written(server, why));
    }

    /// What is started for a worker: the program of its package, in its tenant's own view of it, if that is
    /// installed; else the command as written.
    ///
    /// # Errors
    /// [`NotStarted`] when there is no such view, or the command as written would ask another registry than the operator's.
    ///
    /// # Cancel-Safety
    /// Cancel-safe: a view that is being made is there for the next.
    pub(crate) async fn to_start<'a>(
        self: &Arc<Self>,
        connection: &Arc<WorkerConnection>,
        spec: Cow<'a, LaunchSpec>,
    ) -> Result<ToStart<'a>, NotStarted> {
        let spec = self.with_packages_protected(spec);
        let plan = connection.plan();
        let refused = |why: String, withheld: &Withheld| NotStarted::OtherRegistry {
            why,
            withheld: withheld.clone(),
            server: plan.server.clone(),
        };
        let missing = match &plan.start {
            Start::AsWritten => return Ok(self.command_as_written(spec, None).await),
            Start::NotUnderstood(why) => NoProgram::yet(why.clone()),
            Start::Refused { why, withheld } => return Err(refused(why.clone(), withheld)),
            Start::Package(package) => match self.program(connection, &package.run, &spec).await? {
                Ok((program, installed)) => {
                    let priming = self.priming(connection, &program, &installed);
                    return Ok(ToStart::of(Cow::Owned(program), priming));
                }
                Err(missing) if !package.withheld.is_empty() => {
                    return Err(refused(missing.why, &package.withheld));
                }
                Err(missing) => missing,
            },
        };
        // Where its install has failed, a start that fails as well says both.
        if !missing.has_failed {
            Self::warn_as_written(connection, &missing.why);
        }
        let not_installed = missing.has_failed.then_some(missing.why);
        Ok(self.command_as_written(spec, not_installed).await)
    }

    /// What is started, with the package cache out of its processes' reach, as far as this host has means for that.
    fn with_packages_protected<'a>(&self, mut spec: Cow<'a, LaunchSpec>) -> Cow<'a, LaunchSpec> {
        let is_users = spec.sandbox.as_ref().is_some_and(|it| it.user().is_some());
        let can_mount = match is_users {
            true => can_hide_from_users(),
            false => can_make_read_only(),
        };
        if can_mount {
            let spec = spec.to_mut();
            let folders = &mut spec.read_only;
            folders.retain(|folder| folder.is_dir());
            let cache = self.installer.folder().to_owned();
            if let Some(sandbox) = &mut spec.sandbox {
                sandbox.hidden.push(cache);
                folders.extend(self.installer.shown_folders());
            } else {
                folders.push(cache);
            }
        } else if !spec.read_only.is_empty() {
            spec.to_mut().read_only.clear();
        }
        spec
    }

    /// The program of a worker's package, in its tenant's own view of it; or why there is none to be started.
    ///
    /// # Errors
    /// [`NotStarted`] when there is no such view.
    async fn program(
        self: &Arc<Self>,
        connection: &Arc<WorkerConnection>,
        run: &PackageRun,
        spec: &LaunchSpec,
    ) -> Result<Result<(LaunchSpec, Arc<Installed>), NoProgram>, NotStarted> {
        let plan = connection.plan();
        let Some(slot) = plan.slot(&self.installer) else {
            let why = "too many packages are in use".to_owned();
            return Ok(Err(NoProgram::yet(why)));
        };
        self.installer.doubt(&slot);
        match slot.settled() {
            Some(Ok(installed)) => {
                connection.started_from(&installed.entry);
                self.installer.used(&slot);
                let view = self.view(&installed, spec).await;
                if view.as_ref().is_err_and(ViewError::is_damage) {
                    self.suspect_package(connection, true);
                }
                let view = view?;
                connection.runs_from(Arc::clone(&view));
                let program = direct(spec, run, &installed, view.folder());
                Ok(Ok((program, installed)))
            }
            Some(Err(why)) => Ok(Err(NoProgram {
                why: slot.refusal(&why),
                has_failed: true,
            })),
            None => {
                // The install is for the next worker: this one has its place in the pool already.
                self.installer
                    .ensure(&slot, plan.whose(), &self.install_events());
                let why = format!("package `{}` is not installed yet", slot.name());
                Ok(Err(NoProgram::yet(why)))
            }
        }
    }

    /// A command that is run as written.
    async fn command_as_written<'a>(
        self: &Arc<Self>,
        mut spec: Cow<'a, LaunchSpec>,
        not_installed: Option<String>,
    ) -> ToStart<'a> {
        self.keep_what_was_written(&spec).await;
        quieten(spec.to_mut());
        ToStart {
            spec,
            not_installed,
            priming: None,
        }
    }

    /// What of the package of a worker that did not start may be why, in words to put behind why; empty if nothing is known.
    ///
    /// # Cancel-Safety
    /// Cancel-safe.
    pub(crate) async fn blame_of_package(&self, connection: &WorkerConnection) -> String {
        let plan = connection.plan();
        let server = plan.server.as_str();
        if connection.entry().is_some() {
            let settled = plan.slot(&self.installer).and_then(|slot| slot.settled());
            let unscripted = settled.and_then(|settled| settled.ok()?.unscripted.clone());
            let mut said = unscripted.map_or(String::new(), |unscripted| {
                format!("; {} ({})", unscripted.told(), unscripted.remedy(server))
            });
            if let Some(dependency) = connection.blames_dependency(self.installer.folder()) {
                said.push_str(&format!(
                    "; dependency `{dependency}` writes beside its own code, which is one for all tenants (name it in `servers.{server}.writable_dependencies`)"
                ));
            }
            return said;
        }
        let spec = plan.spec.for_worker(connection.id());
        let Some(cache) = npm_cache(&spec) else {
            return String::new();
        };
        let shown = cache.display().to_string();
        let wanted = tokio::task::spawn_blocking(move || wanted_by_npx(&cache)).await;
        let packages = wanted.unwrap_or_default();
        if packages.is_empty() {
            return String::new();
        }
        let why = "npm runs only those that are allowed, from 12 on".to_owned();
        let unscripted = Unscripted { packages, why };
        format!(
            "; npx has installed what wants install scripts, of {}: {} ({}; and remove {shown}/_npx, since npx runs none later)",
            unscripted.packages.join(", "),
            unscripted.why,
            unscripted.remedy(server)
        )
    }

    /// The private view of a package. Workers of another version are waited for, so that what they
    /// write is whole when it is taken over; but not for long, as they may have calls to finish.
    async fn view(
        self: &Arc<Self>,
        installed: &Arc<Installed>,
        spec: &LaunchSpec,
    ) -> Result<Arc<View>, ViewError> {
        let since = Instant::now();
        loop {
            let still_running = if since.elapsed() < OLD_VERSION_TIMEOUT {
                StillRunning::Refuse
            } else {
                StillRunning::GoOn
            };
            let (workers, installed) = (Arc::clone(self), Arc::clone(installed));
            let (root, writable) = (spec.packages.clone(), spec.writable.clone());
            let user = spec.sandbox.as_ref().and_then(Sandbox::user);
            let span = Span::current();
            let prepare = move || {
                span.in_scope(|| {
                    let installer = &workers.installer;
                    installer.view(&installed, &root, &writable, user, still_running)
                })
            };
            let prepared = tokio::task::spawn_blocking(prepare).await;
            match prepared.unwrap_or_else(|error| Err(ViewError::Unfinished(error.to_string()))) {
                Err(ViewError::InUse { .. }) => tokio::time::sleep(OLD_VERSION_PERIOD).await,
                prepared => return prepared,
            }
        }
    }

    /// A start from a package failed, if the connection was started from one; `is_known`: because it is damaged.
    pub(crate) fn suspect_package(self: &Arc<Self>, connection: &WorkerConnection, is_known: bool) {
        if connection.entry().is_some()
            && let Some(slot) = connection.plan().slot(&self.installer)
        {
            let events = self.install_events();
            self.installer
                .suspect(&slot, connection.view(), &events, is_known);
        }
    }
}

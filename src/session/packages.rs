//! Packages on the way to a worker: who needs one waits here for its install, not in the pool, where
//! it would take the place of starts that need none.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use bytes::Bytes;
use secrecy::ExposeSecret;
use serde_json::json;
use tokio::time::Instant;
use tracing::Span;

use super::link::Link;
use super::mailbox::Mailbox;
use super::record::Session;
use super::route::{Order, Route};
use super::service::Sessions;
use super::shared::{Happening, PackageEvent, Shared};
use crate::config::downloads::{Word, downloaders};
use crate::config::{Arg, Launch, Server};
use crate::ids::ServerName;
use crate::launch::packages::view::{StillRunning, View, ViewError};
use crate::launch::packages::{
    Installed, News, Request, Slot, State, Unscripted, Watcher, wanted_by_npx,
};
use crate::launch::{
    LaunchSpec, PackageRun, Recipe, direct, known_at_a_start, quieten, takes_precedence,
    understand, unheeded, withheld,
};
use crate::pool::{StopReason, Warmth};
use crate::protocol::{Failure, Reason};
use crate::telemetry::labels::InstallOutcome;
use crate::tenancy::InstallEnvironment;
use crate::worker::can_make_read_only;

/// How often a client that waits hears how far an install is, though nothing has changed.
const PROGRESS_PERIOD: Duration = Duration::from_secs(2);
/// How soon one that may not wait longer is told to try again.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// Longest that a client waits which is told of progress; then it is told to come again.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// How long a start waits for workers of another version of its package, whose files it takes over.
const OLD_VERSION_PATIENCE: Duration = Duration::from_secs(10);
/// How often it looks whether they have ended.
const OLD_VERSION_PERIOD: Duration = Duration::from_millis(100);

/// The environment of a server's installs, kept once for all its orders.
#[derive(Clone, Default, Debug)]
pub(super) struct Installs {
    variables: Arc<BTreeMap<String, String>>,
    /// Why it does not fit all tenants.
    differs: Option<String>,
}

impl From<InstallEnvironment> for Installs {
    fn from(environment: InstallEnvironment) -> Self {
        Self {
            variables: Arc::new(environment.variables),
            differs: environment.differs,
        }
    }
}

/// Why nothing is started in place of a command.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotStarted {
    /// There is no private view of its package.
    #[error(transparent)]
    View(#[from] ViewError),
    /// Run as written, it would have its packages from elsewhere than the operator's settings say.
    #[error(
        "it would be run as written ({why}), and without {variables} of stdiopool's own environment it would ask another registry for its packages: name that in `pool.pass_env`, which gives it to every worker, or set it in `servers.{server}.env`"
    )]
    OtherRegistry {
        why: String,
        variables: String,
        server: ServerName,
    },
}

/// What is started for a worker.
#[derive(Debug)]
pub(super) struct ToStart<'a> {
    pub(super) spec: Cow<'a, LaunchSpec>,
    /// Why it is not the program of its package, if that could not be installed.
    pub(super) not_installed: Option<String>,
}

impl<'a> ToStart<'a> {
    fn of(spec: Cow<'a, LaunchSpec>) -> Self {
        Self {
            spec,
            not_installed: None,
        }
    }
}

/// How the command of an order is started.
#[derive(Debug)]
pub enum Start {
    /// As written: it runs no package, or shall not be understood.
    AsWritten,
    /// As written, though it runs a package, and why.
    NotUnderstood(String),
    /// The program of a package.
    Package(Box<PackageOrder>),
    /// Not at all: as written, it would ask another registry than stdiopool's own environment names.
    Refused {
        /// Why it would be run as written.
        why: String,
        /// What of that environment decides it.
        variables: String,
    },
}

/// A package that an order's workers are started from.
#[derive(Debug)]
pub struct PackageOrder {
    run: PackageRun,
    env: Arc<BTreeMap<String, String>>,
    is_pinned: bool,
    /// Variables without which the command as written would ask another registry; empty if there are none.
    withheld: String,
    /// Found when it is first needed; `None` in it when there are too many.
    slot: OnceLock<Option<Arc<Slot>>>,
}

impl Start {
    /// How that command is started.
    pub(super) fn of(server: &Server, spec: &LaunchSpec, installs: Option<&Installs>) -> Self {
        let args: Vec<_> = spec.exposed_args().into_iter().map(Some).collect();
        let words = args.iter().flatten().map(|arg| Word::known(arg));
        let words: Vec<_> = words.collect();
        let installs = installs.cloned().unwrap_or_default();
        Self::of_words(server, spec, (&args, &words), installs)
    }

    /// How the command of a launch is started whose arguments are these; `None` among them stands for one that is known
    /// at a start only. The words are the same arguments, as far as they are known.
    fn of_words(
        server: &Server,
        spec: &LaunchSpec,
        (args, words): (&[Option<&str>], &[Word]),
        installs: Installs,
    ) -> Self {
        let withheld = withheld(&spec.program, words, &installs.variables, &spec.env).join(", ");
        let refused = |why: String| Self::Refused {
            why,
            variables: withheld.clone(),
        };
        let plain = |why: &str| {
            if withheld.is_empty() {
                Self::AsWritten
            } else {
                refused(why.to_owned())
            }
        };
        let as_written = |why: String| {
            if withheld.is_empty() {
                Self::NotUnderstood(why)
            } else {
                refused(why)
            }
        };
        if server.launch == Launch::AsIs {
            return plain("`launch = \"as-is\"`");
        }
        let run = match understand(&spec.program, args) {
            None => return plain(&by_whom(&spec.program, words)),
            Some(Err(why)) => return as_written(spec.redactor.redact(&why.to_string())),
            Some(Ok(run)) => run,
        };
        if let Some(why) = takes_precedence(spec, &run) {
            return as_written(why);
        }
        if let Some(name) = unheeded(&spec.program, words, &installs.variables) {
            return as_written(format!("its launcher goes by `{name}`"));
        }
        if let Some(why) = depends_on_tenant(server, &run) {
            return as_written(why);
        }
        if let Some(why) = installs.differs {
            return as_written(why);
        }
        Self::Package(Box::new(PackageOrder {
            run,
            env: installs.variables,
            is_pinned: server.pin,
            withheld,
            slot: OnceLock::new(),
        }))
    }
}

/// Why a command is run as written that is none of a launcher that is known.
fn by_whom(program: &str, words: &[Word]) -> String {
    let found = downloaders(program, words);
    let program = program.rsplit('/').next().unwrap_or_default();
    match found.first().filter(|it| it.program != program) {
        Some(behind) => format!("`{program}` runs `{}`", behind.program),
        None => "what it runs is known to its launcher alone".to_owned(),
    }
}

/// Why what is installed may be another tenant's to choose: its line says where packages come from, and the config has a
/// part in that.
fn depends_on_tenant(server: &Server, run: &PackageRun) -> Option<String> {
    let Recipe::PyPi { options, .. } = &run.recipe else {
        return None;
    };
    let is_same_for_all = server.args.iter().all(|arg| match arg {
        Arg::Always(template) => template.as_literal().is_some(),
        Arg::When { .. } => false,
    });
    let of_index = options.iter().find(|option| option.contains("index"))?;
    let flag = of_index.split('=').next().unwrap_or_default();
    (!is_same_for_all).then(|| format!("`{flag}` may differ from tenant to tenant"))
}

/// Where the npm of a command line as written keeps what npx installs; `None` for other programs.
fn npm_cache(spec: &LaunchSpec) -> Option<PathBuf> {
    matches!(spec.program.rsplit('/').next(), Some("npx" | "npm")).then_some(())?;
    let set = |name: &str| {
        spec.env
            .get(name)
            .map(|it| PathBuf::from(it.expose_secret()))
    };
    set("npm_config_cache").or_else(|| Some(set("HOME")?.join(".npm")))
}

/// What a start of a server's command will come to, as far as its line and this host can say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outlook {
    /// The program of that package is started, once it is installed.
    Package(String),
    /// The command is run as it is written, as it shall be or as it runs no package.
    AsWritten,
    /// The command is run as it is written though it runs a package; why, as it is logged then.
    NotUnderstood(String),
    /// No start succeeds; why, as callers are told then.
    Refused(String),
    /// It is up to values that differ from tenant to tenant; what is not known before.
    Differs(String),
}

impl Outlook {
    /// Of a server with that launch, whose arguments are these; `None` among them stands for one that is known at a start
    /// only. Looks at a few files.
    pub fn of(
        (name, server): (&ServerName, &Server),
        spec: &LaunchSpec,
        args: &[Option<&str>],
        installs: InstallEnvironment,
    ) -> Self {
        let unknown = args.iter().position(Option::is_none);
        let is_unknown = |why: &str| unknown.is_some_and(|at| why == known_at_a_start(at));
        let words = server.words();
        match Start::of_words(server, spec, (args, &words), Installs::from(installs)) {
            Start::AsWritten => Self::AsWritten,
            Start::Package(package) => Self::Package(package.run.recipe.name()),
            Start::NotUnderstood(why) | Start::Refused { why, .. } if is_unknown(&why) => {
                Self::Differs(why)
            }
            Start::NotUnderstood(why) => Self::NotUnderstood(as_written(name, &why)),
            Start::Refused { why, variables } => {
                let server = name.clone();
                let refused = NotStarted::OtherRegistry {
                    why,
                    variables,
                    server,
                };
                Self::Refused(refused.to_string())
            }
        }
    }
}

/// What is said of a command that runs a package and is run as it is written.
fn as_written(server: &ServerName, why: &str) -> String {
    format!(
        "the command of server `{server}` is run as written: {why} (`launch = \"as-is\"` says that it shall be)"
    )
}

impl Shared {
    /// What is known of the package of an order; `None` for one without.
    pub(super) fn slot(&self, order: &Order) -> Option<Arc<Slot>> {
        let Start::Package(package) = &order.start else {
            return None;
        };
        let find = || {
            let request = Request::new(&package.run, Arc::clone(&package.env), package.is_pinned);
            self.installer.slot(&order.server, request)
        };
        package.slot.get_or_init(find).clone()
    }

    /// What is started for a worker: the program of its package, in its tenant's own view of it, if that is
    /// installed; else the command as written.
    ///
    /// # Errors
    /// [`NotStarted`] when there is no such view, or the command as written would ask another registry than the operator's.
    ///
    /// # Cancel-Safety
    /// Cancel-safe: a view that is being made is there for the next.
    pub(super) async fn to_start<'a>(
        self: &Arc<Self>,
        link: &Arc<Link>,
        spec: Cow<'a, LaunchSpec>,
    ) -> Result<ToStart<'a>, NotStarted> {
        let mut not_installed = None;
        let order = link.order();
        let mut spec = spec;
        if can_make_read_only() {
            let folders = &mut spec.to_mut().read_only;
            folders.retain(|folder| folder.is_dir());
            folders.push(self.installer.folder().to_owned());
        } else if !spec.read_only.is_empty() {
            spec.to_mut().read_only.clear();
        }
        let refused = |why: String, variables: &str| NotStarted::OtherRegistry {
            why,
            variables: variables.to_owned(),
            server: order.server.clone(),
        };
        let withheld = match &order.start {
            Start::Package(package) => package.withheld.as_str(),
            _ => "",
        };
        let why = match &order.start {
            Start::AsWritten => {
                self.keep_what_was_written(&spec).await;
                quieten(spec.to_mut());
                return Ok(ToStart::of(spec));
            }
            Start::NotUnderstood(why) => why.clone(),
            Start::Refused { why, variables } => return Err(refused(why.clone(), variables)),
            Start::Package(package) => match self.slot(order) {
                None => "too many packages are in use".to_owned(),
                Some(slot) => {
                    self.installer.doubt(&slot);
                    match slot.settled() {
                        Some(Ok(installed)) => {
                            link.started_from(&installed.entry);
                            self.installer.used(&slot);
                            let view = self.view(&installed, &spec).await;
                            if view.as_ref().is_err_and(ViewError::is_damage) {
                                self.suspect_package(link, true);
                            }
                            let view = view?;
                            link.runs_from(Arc::clone(&view));
                            let direct = direct(&spec, &package.run, &installed, view.folder());
                            return Ok(ToStart::of(Cow::Owned(direct)));
                        }
                        Some(Err(why)) => {
                            let why = slot.refusal(&why);
                            not_installed = Some(why.clone());
                            why
                        }
                        None => {
                            // For the next one. This one has its place in the pool already.
                            self.installer
                                .ensure(&slot, order.whose(), &self.package_watcher());
                            format!("package `{}` is not installed yet", slot.name())
                        }
                    }
                }
            },
        };
        if !withheld.is_empty() {
            return Err(refused(why, withheld));
        }
        tracing::warn!(
            worker = %link.id(), server = %order.server,
            "{}", as_written(&order.server, &why)
        );
        self.keep_what_was_written(&spec).await;
        quieten(spec.to_mut());
        Ok(ToStart {
            spec,
            not_installed,
        })
    }

    /// What of the package of a worker that did not start may be why, in words to put behind why; empty if nothing is known.
    ///
    /// # Cancel-Safety
    /// Cancel-safe.
    pub(super) async fn blame_of_package(&self, link: &Link) -> String {
        let order = link.order();
        let server = order.server.as_str();
        if link.entry().is_some() {
            let settled = self.slot(order).and_then(|slot| slot.settled());
            let unscripted = settled.and_then(|settled| settled.ok()?.unscripted.clone());
            let mut said = unscripted.map_or(String::new(), |unscripted| {
                format!("; {} ({})", unscripted.told(), unscripted.remedy(server))
            });
            if let Some(dependency) = link.blames_dependency(self.installer.folder()) {
                said.push_str(&format!(
                    "; dependency `{dependency}` writes beside its own code, which is one for all tenants (name it in `servers.{server}.writable_dependencies`)"
                ));
            }
            return said;
        }
        let spec = order.spec.for_worker(link.id());
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
            let still_running = if since.elapsed() < OLD_VERSION_PATIENCE {
                StillRunning::Refuse
            } else {
                StillRunning::GoOn
            };
            let (shared, installed) = (Arc::clone(self), Arc::clone(installed));
            let (root, writable) = (spec.packages.clone(), spec.writable.clone());
            let span = Span::current();
            let prepare = move || {
                span.in_scope(|| {
                    let installer = &shared.installer;
                    installer.view(&installed, (&root, &writable), still_running)
                })
            };
            let prepared = tokio::task::spawn_blocking(prepare).await;
            match prepared.unwrap_or_else(|error| Err(ViewError::Unfinished(error.to_string()))) {
                Err(ViewError::InUse { .. }) => tokio::time::sleep(OLD_VERSION_PERIOD).await,
                prepared => return prepared,
            }
        }
    }

    /// A start from a package failed, if the link was started from one; `is_known`: because it is damaged.
    pub(super) fn suspect_package(self: &Arc<Self>, link: &Link, is_known: bool) {
        if link.entry().is_some()
            && let Some(slot) = self.slot(link.order())
        {
            let watcher = self.package_watcher();
            self.installer
                .suspect(&slot, link.view(), &watcher, is_known);
        }
    }

    /// Whoever has to be told what happens to packages.
    pub(super) fn package_watcher(self: &Arc<Self>) -> Arc<dyn Watcher> {
        Arc::new(Teller {
            shared: Arc::downgrade(self),
        })
    }
}

impl Sessions {
    /// Waits until a package is installed, or cannot be, for as long as a request may wait
    /// for a worker.
    ///
    /// # Errors
    /// [`Reason::Installing`] when it takes longer; a later try may succeed.
    ///
    /// # Cancel-Safety
    /// A dropped call leaves the install under way.
    pub(super) async fn installed(&self, slot: &Slot) -> Result<(), Failure> {
        let limit = self.setup().config.pool.queue_timeout;
        let since = Instant::now();
        match tokio::time::timeout(limit, until_settled(slot)).await {
            Ok(()) => Ok(()),
            Err(_elapsed) => {
                let stage = match slot.state() {
                    State::Installing { since, stage } => {
                        let took = Duration::from_secs(since.elapsed().as_secs());
                        format!(
                            "{}, for {}",
                            stage.as_str(),
                            humantime::format_duration(took)
                        )
                    }
                    _ => "waiting for other installs".to_owned(),
                };
                let why = format!(
                    "package `{}` of server `{}` is still being installed after {}: {stage} (`stdiopool prefetch` does so before anyone waits)",
                    slot.name(),
                    slot.server,
                    humantime::format_duration(Duration::from_secs(since.elapsed().as_secs())),
                );
                Err(Failure::new(Reason::Installing, why).retry_after(RETRY_AFTER))
            }
        }
    }

    /// The package that has to be installed before the route can have a worker.
    pub(super) fn missing(&self, route: &Route) -> Option<Arc<Slot>> {
        let slot = self.shared.slot(&route.order)?;
        if slot.settled().is_some() || self.pool().warmth(route.key) != Warmth::Cold {
            return None;
        }
        let watcher = self.shared.package_watcher();
        self.shared
            .installer
            .ensure(&slot, route.order.whose(), &watcher);
        Some(slot)
    }

    /// The install that requests of that caller have to wait for; it is begun if it was not. What else stands
    /// in their way is told when they are sent.
    ///
    /// # Cancel-Safety
    /// Cancel-safe.
    pub async fn install_before(&self, caller: &Arc<Session>) -> Option<Install> {
        let route = self.route(caller, None).await.ok()?;
        self.missing(&route).map(Install)
    }

    /// Ends installs under way: whoever waits for them is let go.
    pub async fn stop_installs(&self) {
        self.shared.installer.stop().await;
    }

    /// Begins to look for newer versions of packages and to remove those that nobody uses, and
    /// returns at once.
    pub fn look_after_packages(&self) {
        let packages = self.setup().config.packages.clone();
        let installer = Arc::clone(&self.shared.installer);
        if let Some(interval) = packages.refresh {
            installer.refresh(interval, &self.shared.package_watcher());
        }
        let links = self.links();
        let running = links.iter().filter_map(|link| link.entry());
        let running: Vec<String> = running.map(ToOwned::to_owned).collect();
        let is_running = move |entry: &str| running.iter().any(|running| running == entry);
        let tasks = self.shared.tasks.clone();
        tasks.spawn(async move { installer.collect(packages.keep, is_running).await });
    }
}

/// A package that has to be installed before a request can be answered.
#[derive(Debug)]
pub struct Install(Arc<Slot>);

impl Install {
    /// Waits until it is installed, or cannot be; tells a client how far it is, which asked with that
    /// progress token (raw JSON).
    ///
    /// # Cancel-Safety
    /// A dropped call leaves the install under way.
    pub async fn told(&self, token: &str, mailbox: &Mailbox) {
        told_until_settled(&self.0, token, mailbox).await;
    }
}

/// Waits until it is installed, or cannot be.
pub(super) async fn until_settled(slot: &Slot) {
    let mut changes = slot.changes();
    while slot.settled().is_none() {
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// The same, telling a client how far it is, which asked with that progress token (raw JSON).
pub(super) async fn told_until_settled(slot: &Slot, token: &str, mailbox: &Mailbox) {
    let wait = async {
        let mut changes = slot.changes();
        // Progress must grow with each notification (basic/utilities/progress).
        let mut step = 0_u32;
        while slot.settled().is_none() {
            step += 1;
            mailbox.push(progress(slot, token, step));
            let changed = tokio::time::timeout(PROGRESS_PERIOD, changes.changed());
            if let Ok(Err(_gone)) = changed.await {
                return;
            }
        }
    };
    // What follows says how it ended.
    let _settled = tokio::time::timeout(LONGEST_WAIT, wait).await;
}

fn progress(slot: &Slot, token: &str, step: u32) -> Bytes {
    let (name, state) = (slot.name(), slot.state());
    let message = match state {
        State::Installing { since, stage } => {
            format!(
                "package {name}: {} ({} s)",
                stage.as_str(),
                since.elapsed().as_secs()
            )
        }
        _ => format!("package {name}: waiting"),
    };
    let message = json!(message);
    format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{token},"progress":{step},"message":{message}}}}}"#
    )
    .into()
}

/// Tells the log, the metrics and the admin API what happens to packages, and the pool that a
/// newer version is there.
struct Teller {
    shared: Weak<Shared>,
}

impl Watcher for Teller {
    fn package(&self, slot: &Slot, news: News) {
        let Some(shared) = self.shared.upgrade() else {
            return;
        };
        let (server, name) = (&slot.server, slot.name());
        let metrics = shared.metrics.server(server);
        let happened = |event, message: &str| {
            shared
                .watcher
                .happened(Happening::Package(event, server, message));
        };
        match news {
            News::Installing => {
                let message = format!("package {name} is being installed");
                tracing::info!(%server, "{message}");
                happened(PackageEvent::Installing, &message);
            }
            News::Installed {
                installed,
                is_new,
                before,
                took,
            } => {
                let outcome = if is_new {
                    InstallOutcome::Installed
                } else {
                    InstallOutcome::Unchanged
                };
                metrics.package_install(outcome, took);
                let message = match &before {
                    Some(before) => format!(
                        "package {name}: version {} in place of {}",
                        installed.version, before.version
                    ),
                    None => format!("package {name} is there, in version {}", installed.version),
                };
                if is_new || before.is_some() {
                    let took_ms = took.as_millis();
                    tracing::info!(%server, took_ms, "{message}");
                    happened(PackageEvent::Installed, &message);
                    say_what_it_lacks(slot, &installed);
                } else {
                    tracing::debug!(%server, "{message}");
                }
                if let Some(before) = before {
                    shared.replace_workers_of(slot, &before.entry);
                }
            }
            News::Failed { why, keeps_old } => {
                metrics.package_install(InstallOutcome::Failed, Duration::ZERO);
                let what = if keeps_old {
                    "goes on in its old version"
                } else {
                    "cannot be installed"
                };
                let message = format!("package {name} {what}: {}", slot.masked(&why));
                tracing::warn!(%server, "{message}");
                happened(PackageEvent::Failed, &message);
            }
        }
    }
}

/// Warns of what an install has not done that its package may need.
fn say_what_it_lacks(slot: &Slot, installed: &Installed) {
    let (server, name) = (&slot.server, slot.name());
    if let Some(unscripted) = &installed.unscripted {
        tracing::warn!(
            %server,
            "package {name}: {}; {}",
            unscripted.told(),
            unscripted.remedy(server.as_str())
        );
    }
    if !installed.left.in_home.is_empty() {
        tracing::warn!(
            %server,
            "package {name}: its install scripts have left {} in HOME, where no worker looks (`launch = \"as-is\"` installs it in each tenant's own)",
            installed.left.in_home.join(", ")
        );
    }
}

impl Shared {
    /// Workers that run an older version of a package finish what they have in flight; what was said
    /// of it is forgotten.
    fn replace_workers_of(&self, slot: &Slot, entry: &str) {
        let is_older = |link: &Arc<Link>| {
            let of_slot = self.slot(link.order());
            link.entry() == Some(entry) && of_slot.is_some_and(|other| std::ptr::eq(&*other, slot))
        };
        for link in self.links().iter().filter(|link| is_older(link)) {
            self.pool().retire(link.id(), StopReason::Package);
        }
        self.catalog.all_changed();
    }
}

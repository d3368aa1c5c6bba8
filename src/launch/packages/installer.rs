//! Installs for a running supervisor: each package once, however many ask, and again when it is
//! time to look for a newer version.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, Span};

use super::cache::{Cache, CacheError};
use super::install::{check, install};
use super::install_queue::{InstallQueue, Requesters};
use super::install_sandbox::InstallSandbox;
use super::manifest::ManifestError;
use super::pins::Pins;
use super::refusal::{masked, refusal};
use super::request::{Installation, Request, Stage};
use super::seals::Seals;
use super::view::{self, StillRunning, View, ViewError, Views, Wanted};
use crate::ids::ServerName;
use crate::launch::line::Entry;

/// Packages that are kept track of. Beyond it, command lines are run as written.
const MAX_SLOTS: usize = 4096;
/// How long after a failed install it is tried again, if it is asked for.
const RETRY_AFTER: Duration = Duration::from_secs(300);
/// How soon after an entry was found to be sound it is looked at again, when starts from it go on failing.
const CHECK_PERIOD: Duration = Duration::from_secs(60);
/// In place of a tenant's name, where no tenant asked: newer versions, repairs.
const NOBODY: &str = "";
/// Files that are named in the log when a server has changed them.
const NAMED: usize = 5;

/// The state of a package's install.
#[derive(Clone, Debug)]
pub enum State {
    /// Nothing yet.
    Unknown,
    /// The package is being installed.
    Installing {
        /// Since when.
        since: Instant,
        /// The stage of the install.
        stage: Stage,
    },
    /// The package is installed.
    Installed(Arc<Installed>),
    /// The package cannot be installed: its line is run as written.
    Failed {
        /// Why.
        why: Arc<str>,
        /// When that was.
        at: Instant,
    },
}

/// An install that is not over.
#[derive(Clone, Debug)]
pub struct UnderWay {
    /// The package.
    pub package: String,
    /// A server that runs it: the first that asked.
    pub server: ServerName,
    /// How far the install is.
    pub stage: Stage,
    /// How long it has taken until now.
    pub lasted: Duration,
}

/// The installation that workers are started from.
pub type Installed = Installation;

/// An event of packages.
#[derive(Clone, Debug)]
pub enum InstallEvent {
    /// A package is being installed.
    Installing,
    /// The package is there, after so long; `is_new` if it had to be put in place.
    Installed {
        /// What was installed.
        installed: Arc<Installed>,
        /// Whether the package was installed just now.
        is_new: bool,
        /// The version that is replaced by it, if another was in use.
        before: Option<Arc<Installed>>,
        /// How long the install took.
        took: Duration,
    },
    /// The package cannot be installed.
    Failed {
        /// Why.
        why: Arc<str>,
        /// Whether a version that was there before goes on being used.
        keeps_old: bool,
    },
}

/// Is told what happens. Must not block.
pub trait InstallEventSink: Send + Sync + 'static {
    /// Something happened to a package that this server runs.
    fn package(&self, slot: &Slot, event: InstallEvent);
}

/// One package and what is known of it.
pub struct Slot {
    /// What is wanted.
    pub request: Request,
    /// A server that runs it: the first that asked.
    pub server: ServerName,
    state: watch::Sender<State>,
    /// Tenants that wait for the install under way.
    requesters: Mutex<Option<Requesters>>,
    /// When the package's entry was last compared with its manifest because a start failed.
    checked: Mutex<Option<Instant>>,
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot")
            .field("package", &self.name())
            .finish_non_exhaustive()
    }
}

impl Slot {
    /// The package, for people.
    pub fn name(&self) -> String {
        self.request.recipe.name()
    }

    /// Log lines of an install of it are in this span.
    fn span(&self) -> Span {
        // There is one for each install, so that it may be there whatever the log is filtered by.
        tracing::error_span!(parent: None, "install", package = self.name())
    }

    /// The state at this moment.
    pub fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// The program to start, or why the command is run as written. `None` while it is not known yet.
    pub fn settled(&self) -> Option<Result<Arc<Installed>, Arc<str>>> {
        match &*self.state.borrow() {
            State::Installed(installed) => Some(Ok(Arc::clone(installed))),
            State::Failed { why, at } if at.elapsed() < RETRY_AFTER => Some(Err(Arc::clone(why))),
            State::Unknown | State::Installing { .. } | State::Failed { .. } => None,
        }
    }

    /// Why the package cannot be installed, for whoever calls its server: with what to do, and without credentials.
    pub fn refusal(&self, why: &str) -> String {
        refusal(&self.name(), self.server.as_str(), why, &self.request.env)
    }

    /// A text of npm's or uv's about the package, without credentials.
    pub fn masked(&self, why: &str) -> String {
        masked(why, &self.request.env)
    }

    /// Hears of every change from now on.
    pub fn changes(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// Takes the slot for an install, unless someone has it. Returns what was there.
    fn begin(&self, anew: bool) -> Option<Option<Arc<Installed>>> {
        let mut before = None;
        let is_taken = self.state.send_if_modified(|state| {
            match state {
                State::Installing { .. } => return false,
                State::Installed(_) if !anew => return false,
                State::Failed { at, .. } if at.elapsed() < RETRY_AFTER && !anew => return false,
                State::Installed(installed) => {
                    // A refresh: the old one serves meanwhile.
                    before = Some(Arc::clone(installed));
                    return true;
                }
                State::Unknown | State::Failed { .. } => {}
            }
            *state = State::Installing {
                since: Instant::now(),
                stage: Stage::Waiting,
            };
            true
        });
        is_taken.then_some(before)
    }
}

/// Installs packages.
pub struct Installer {
    cache: Cache,
    views: Views,
    /// Seals of the entries that have been compared with their manifests.
    seals: Seals,
    /// Whether some worker may write to entries.
    is_within_reach: AtomicBool,
    pins: Option<Pins>,
    slots: Mutex<FxHashMap<(String, Entry), Arc<Slot>>>,
    queue: InstallQueue,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl fmt::Debug for Installer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Installer")
            .field("cache", &self.cache)
            .finish_non_exhaustive()
    }
}

impl Installer {
    /// Opens the installer with its cache in that folder, and pool.lock beside pool.toml if there is one.
    ///
    /// # Errors
    /// [`CacheError`] when the folder cannot be made.
    pub fn open(root: &Path, beside: Option<&Path>) -> Result<Self, CacheError> {
        let cache = Cache::open(root)?;
        cache.clear_leftovers();
        Ok(Self {
            cache,
            views: Views::default(),
            seals: Seals::default(),
            is_within_reach: AtomicBool::new(false),
            pins: beside.map(Pins::beside),
            slots: Mutex::default(),
            queue: InstallQueue::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        })
    }

    /// Keeps installs apart with that.
    #[must_use]
    pub fn with_sandbox(mut self, sandbox: InstallSandbox) -> Self {
        self.cache = self.cache.with_sandbox(sandbox);
        self
    }

    /// The slot of a request; `None` when there are too many.
    pub fn slot(&self, server: &ServerName, request: Request) -> Option<Arc<Slot>> {
        let key = (request.id(), request.entry.clone());
        let mut slots = self.slots.lock();
        if let Some(slot) = slots.get(&key) {
            return Some(Arc::clone(slot));
        }
        if slots.len() >= MAX_SLOTS {
            return None;
        }
        let slot = Arc::new(Slot {
            request,
            server: server.clone(),
            state: watch::Sender::new(State::Unknown),
            requesters: Mutex::default(),
            checked: Mutex::default(),
        });
        slots.insert(key, Arc::clone(&slot));
        Some(slot)
    }

    /// Begins to install a package for a tenant of that name, unless that is done or under way, and returns at once. A
    /// tenant that has no install under way does not wait for all those of another.
    pub fn ensure(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        tenant: &str,
        events: &Arc<dyn InstallEventSink>,
    ) {
        if let Some(requesters) = &*slot.requesters.lock() {
            requesters.add(tenant.into());
        }
        self.begin(slot, tenant, events, false);
    }

    /// Forgets what is installed if it is not there any more, as after someone emptied the cache.
    pub fn doubt(&self, slot: &Slot) {
        slot.state.send_if_modified(|state| match state {
            State::Installed(installed) if !installed.program.exists() => {
                *state = State::Unknown;
                true
            }
            _ => false,
        });
    }

    /// The installs under way, the one that was begun first at the front.
    pub fn under_way(&self) -> Vec<UnderWay> {
        let slots: Vec<_> = self.slots.lock().values().cloned().collect();
        let all = slots.into_iter().filter_map(|slot| {
            let begun = match &*slot.state.borrow() {
                State::Installing { since, stage } => Some((*since, *stage)),
                State::Unknown | State::Installed(_) | State::Failed { .. } => None,
            };
            begun.map(|(since, stage)| (since, stage, slot))
        });
        let mut all: Vec<_> = all.collect();
        all.sort_by_key(|(since, ..)| *since);
        let now = Instant::now();
        let told = all.into_iter().map(|(since, stage, slot)| UnderWay {
            package: slot.masked(&slot.name()),
            server: slot.server.clone(),
            stage,
            lasted: now.saturating_duration_since(since),
        });
        told.collect()
    }

    /// Notes that a worker is started from it.
    pub fn used(&self, slot: &Slot) {
        self.cache.touch(&slot.request.id());
    }

    /// Lets one command of an install take so long, of those that begin from now on.
    pub fn set_timeout(&self, timeout: Duration) {
        self.cache.set_timeout(timeout);
    }

    /// Says whether some worker may write to the package cache: then each start from an entry looks first whether that is
    /// as it was installed.
    pub fn set_within_reach(&self, is_within_reach: bool) {
        self.is_within_reach
            .store(is_within_reach, Ordering::Relaxed);
    }

    /// Whether an entry is still as it was installed, where workers may write to it. Blocks.
    fn still_sound(&self, installed: &Installed) -> Result<(), ManifestError> {
        if !self.is_within_reach.load(Ordering::Relaxed) {
            return Ok(());
        }
        let name = &installed.entry;
        let checked = self.seals.check(name, &installed.folder);
        if let Err(ManifestError::Rewritten) = &checked
            && let Err(error) = self.cache.remove(name)
        {
            // By its own list, it is sound.
            tracing::warn!("a package whose list of files was written anew stays: {error}");
        }
        checked
    }

    /// The folder that no worker has a reason to write to.
    pub fn folder(&self) -> &Path {
        self.cache.root()
    }

    /// Folders of the package cache that workers read whose view of it is closed otherwise.
    pub fn shown_folders(&self) -> [PathBuf; 2] {
        self.cache.entry_folders()
    }

    /// The private view of a package below `root`, in which those dependencies may be written, by workers that run as
    /// `user`, or as stdiopool's own; see [`Views::prepare`]. Blocks.
    ///
    /// # Errors
    /// [`ViewError`]; there is nothing to start from then.
    pub fn view(
        &self,
        installed: &Installed,
        root: &Path,
        writable: &[String],
        user: Option<u32>,
        still_running: StillRunning,
    ) -> Result<Arc<View>, ViewError> {
        self.still_sound(installed)?;
        let program = installed.program.strip_prefix(&installed.folder);
        let wanted = Wanted {
            package: &installed.package,
            version: &installed.version,
            entry: &installed.folder,
            program: program.unwrap_or(&installed.program),
            writable,
            user,
        };
        self.views.prepare(root, &wanted, still_running)
    }

    /// A start from a package failed: compares its entry with its manifest in the background, and installs it again
    /// if it is damaged; says what of the package the server has changed in `view`. At most once a minute for a package,
    /// unless `is_known`: that it is damaged was seen already.
    pub fn suspect(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        view: Option<Arc<View>>,
        events: &Arc<dyn InstallEventSink>,
        is_known: bool,
    ) {
        let State::Installed(installed) = slot.state() else {
            return;
        };
        {
            let mut checked = slot.checked.lock();
            if !is_known && checked.is_some_and(|at| at.elapsed() < CHECK_PERIOD) {
                return;
            }
            *checked = Some(Instant::now());
        }
        let (this, slot, events) = (Arc::clone(self), Arc::clone(slot), Arc::clone(events));
        let span = slot.span();
        let look = async move {
            let checked = check(&this.cache, &installed.entry);
            match this.stop.run_until_cancelled(checked).await {
                None => {}
                Some(Ok(())) => {
                    if let Some(view) = view {
                        say_what_changed(slot.name(), view).await;
                    }
                }
                Some(Err(_damaged)) => {
                    // The install compares it once more, under its lock, and says what is wrong.
                    slot.state.send_if_modified(|state| match state {
                        State::Installed(now) if now.entry == installed.entry => {
                            *state = State::Unknown;
                            true
                        }
                        _ => false,
                    });
                    this.begin(&slot, NOBODY, &events, false);
                }
            }
        };
        self.tasks.spawn(look.instrument(span));
    }

    /// Looks for newer versions of what may have them and was looked at longer than `interval` ago.
    pub fn refresh(self: &Arc<Self>, interval: Duration, events: &Arc<dyn InstallEventSink>) {
        let slots: Vec<_> = self.slots.lock().values().cloned().collect();
        for slot in slots {
            if let State::Installed(installed) = slot.state()
                && is_due(
                    &slot.request,
                    installed.checked,
                    SystemTime::now(),
                    interval,
                )
            {
                self.begin(&slot, NOBODY, events, true);
            }
        }
    }

    /// Removes what nobody uses; see [`Cache::collect`].
    pub async fn collect(
        &self,
        keep: Duration,
        is_running: impl Fn(&str) -> bool + Send + 'static,
    ) {
        let cache = self.cache.clone();
        let collect = move || {
            cache.clear_leftovers();
            cache.collect(keep, SystemTime::now(), is_running)
        };
        match tokio::task::spawn_blocking(collect).await {
            Ok(Ok(0)) => {}
            Ok(Ok(removed)) => tracing::info!(removed, "old packages were removed from the cache"),
            Ok(Err(error)) => tracing::warn!("{error}"),
            Err(error) => tracing::error!(%error, "collecting old packages failed"),
        }
    }

    /// Ends what is being installed.
    ///
    /// # Cancel-Safety
    /// A dropped call has still told every install to end.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn begin(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        requester: &str,
        events: &Arc<dyn InstallEventSink>,
        anew: bool,
    ) {
        if self.stop.is_cancelled() {
            return;
        }
        let Some(before) = slot.begin(anew) else {
            return;
        };
        let requesters = Requesters::new(requester.into());
        *slot.requesters.lock() = Some(requesters.clone());
        let (this, slot, events) = (Arc::clone(self), Arc::clone(slot), Arc::clone(events));
        let span = slot.span();
        let install = async move {
            let work = this.work(&slot, &*events, before, &requesters);
            if this.stop.run_until_cancelled(work).await.is_none() {
                let why = "stdiopool is shutting down".into();
                slot.state.send_replace(State::Failed {
                    why,
                    at: Instant::now(),
                });
            }
        };
        self.tasks.spawn(install.instrument(span));
    }

    async fn work(
        &self,
        slot: &Arc<Slot>,
        events: &dyn InstallEventSink,
        before: Option<Arc<Installed>>,
        requesters: &Requesters,
    ) {
        let since = Instant::now();
        let is_refresh = before.is_some();
        let _permit = self.queue.take(requesters).await;
        let tell = |stage| {
            // Not before it is known that it is not there already.
            if stage == Stage::Resolving && !is_refresh {
                events.package(slot, InstallEvent::Installing);
            }
            slot.state.send_if_modified(|state| match state {
                State::Installing { stage: known, .. } => {
                    *known = stage;
                    true
                }
                _ => false,
            });
        };
        let pins = self.pins.as_ref();
        let outcome = install(&self.cache, &slot.request, pins, is_refresh, &tell).await;
        match outcome {
            Ok(outcome) => {
                let installed = Arc::new(outcome.installation);
                if outcome.is_new {
                    self.seals.forget(&installed.entry);
                }
                slot.state
                    .send_replace(State::Installed(Arc::clone(&installed)));
                let before = before.filter(|before| before.entry != installed.entry);
                let event = InstallEvent::Installed {
                    installed,
                    is_new: outcome.is_new,
                    before,
                    took: since.elapsed(),
                };
                events.package(slot, event);
            }
            Err(why) => {
                let why: Arc<str> = why.to_string().into();
                match before {
                    // Looked at again after another interval: the registry is not hammered.
                    Some(before) => {
                        let same = Installed {
                            checked: SystemTime::now(),
                            ..(*before).clone()
                        };
                        slot.state.send_replace(State::Installed(Arc::new(same)));
                    }
                    None => {
                        let why = Arc::clone(&why);
                        slot.state.send_replace(State::Failed {
                            why,
                            at: Instant::now(),
                        });
                    }
                }
                events.package(
                    slot,
                    InstallEvent::Failed {
                        why,
                        keeps_old: is_refresh,
                    },
                );
            }
        }
    }
}

/// Whether a package is to be looked at again.
fn is_due(request: &Request, checked: SystemTime, now: SystemTime, interval: Duration) -> bool {
    // A time in the future was written under another clock.
    let age = now.duration_since(checked).unwrap_or(Duration::MAX);
    request.recipe.may_change() && !request.is_pinned && age >= interval
}

/// Says what of its package a server has changed in its private view: that may be why it does not start.
async fn say_what_changed(package: String, view: Arc<View>) {
    let look = move || {
        let changed = view::changes(view.folder());
        if !changed.is_empty() {
            tracing::warn!(
                view = %view.folder().display(), files = changed.len(),
                "a start of package {package} failed, and its server has changed files of the package in its private copy: {} (remove the folder to have it made anew)",
                changed[..changed.len().min(NAMED)].join(", ")
            );
        }
    };
    if let Err(error) = tokio::task::spawn_blocking(look).await {
        tracing::debug!(%error, "what a server has changed of its package is not known");
    }
}

#[cfg(test)]
mod tests;

//! The parts that live as long as the process, wired to each other.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use tokio_util::sync::CancellationToken;

use super::accounts::Accounts;
use super::assemble::{self, RuntimeParts, ServeError};
use super::events::{Events, PoolMetrics};
use super::grants::GrantEvents;
use super::install_sandbox::{install_sandbox, warn_of_lacking};
use super::limits;
use super::options::{Options, Source};
use super::reload::{InForce, Reloader};
use super::supervisor::{self, Running};
use super::usage::UsageKeeper;
use super::users;
use crate::config::Config;
use crate::folders;
use crate::front::{Addresses, ConnectionSlots, Front, Guard, Parked, RateLimits, Tls};
use crate::gateway::{EventSink, Gateway, Observers, Records};
use crate::held::Ledger;
use crate::ids::TenantId;
use crate::launch::packages::Installer;
use crate::profile::RecordBook;
use crate::routing::RuntimeConfig;
use crate::store::{HandleRow, HandleStore, OpenedState, StateDir, Vault};
use crate::telemetry;
use crate::telemetry::audit::Audit;
use crate::telemetry::{Metrics, TraceRecorder};
use crate::tenancy::oauth::Grants;
use crate::tenancy::{Handles, Secrets, Uses};
use crate::usage::Usage;
use crate::worker::Guardian;

/// How often sessions that nobody uses are looked for.
pub(super) const EXPIRY_PERIOD: Duration = Duration::from_secs(30);

/// What is kept beyond this run, as far as anything is.
struct Kept {
    opened: Option<OpenedState>,
    audit: Option<Arc<Audit>>,
    accounts: Option<Accounts>,
    grants: Arc<Grants>,
    vault: Arc<Vault>,
}

impl Kept {
    /// Opens the state folder's database and the audit log.
    ///
    /// # Errors
    /// One of them cannot be opened or read.
    async fn open(
        options: &Options,
        config: &Config,
        state: &Arc<StateDir>,
    ) -> Result<Self, ServeError> {
        // One command is hosted for the moment: its folder goes with it.
        let opened = match &options.source {
            Source::Command(_) => None,
            Source::File(_) => Some(OpenedState::open(state)?),
            Source::Profile(profiling) => {
                let mut opened = OpenedState::open(state)?;
                opened.account_rows = profiling.accounts.clone();
                Some(opened)
            }
        };
        let audit = audit(config, opened.as_ref())?;
        let accounts = match &opened {
            Some(opened) => Some(Accounts::open(opened, config).await?),
            None => None,
        };
        let grants = accounts
            .as_ref()
            .map_or_else(Arc::default, |a| Arc::clone(&a.grants));
        let vault = accounts.as_ref().map(|a| Arc::clone(a.vault()));
        let vault = vault.unwrap_or_else(|| Arc::new(Vault::without_key()));
        Ok(Self {
            opened,
            audit,
            accounts,
            grants,
            vault,
        })
    }

    /// The config with the tenants that are kept beside those of the file.
    ///
    /// # Errors
    /// What is kept does not go with the file.
    fn merged(&self, config: &Arc<Config>) -> Result<Arc<Config>, ServeError> {
        Ok(match &self.accounts {
            Some(accounts) => Arc::new(accounts.merge_into(config)?),
            None => Arc::clone(config),
        })
    }

    /// Configs that callers have stored in an earlier run, and where.
    fn take_handles(&mut self) -> Option<(HandleStore, Vec<HandleRow>)> {
        let opened = self.opened.as_mut()?;
        let rows = std::mem::take(&mut opened.handle_rows);
        Some((opened.handles.clone(), rows))
    }
}

/// What is in force first.
struct Begun {
    metrics: Arc<Metrics>,
    events: Events,
    kept: Kept,
    /// The config with the tenants that are kept beside those of the file.
    merged: Arc<Config>,
    in_force: InForce,
    uses: Arc<Uses>,
    runtime: RuntimeConfig,
    usage: Arc<Usage>,
}

impl Begun {
    /// Puts the config in force, with what an earlier run has kept.
    ///
    /// # Errors
    /// What is kept cannot be opened, or does not go with the config.
    async fn with(
        options: &Options,
        config: &Arc<Config>,
        state: &Arc<StateDir>,
    ) -> Result<Self, ServeError> {
        let metrics = Metrics::new();
        let events = Events::new();
        let kept = Kept::open(options, config, state).await?;
        kept.grants.set_events(Arc::new(GrantEvents {
            audit: kept.audit.clone(),
            events: events.clone(),
            metrics: Arc::clone(&metrics),
        }));
        let in_force = InForce {
            config: Arc::clone(config),
            secrets: Arc::new(Secrets::new(Arc::clone(&kept.vault))),
        };
        let uses = Arc::new(Uses::default());
        let merged = kept.merged(config)?;
        let parts = RuntimeParts {
            state: Arc::clone(state),
            secrets: Arc::clone(&in_force.secrets),
            uses: Arc::clone(&uses),
            grants: Arc::clone(&kept.grants),
        };
        let runtime = assemble::runtime_config(Arc::clone(&merged), 0, parts, None)?;
        let of_month = kept.opened.iter().flat_map(|it| it.used_in_month.clone());
        let usage = Usage::new(of_month);
        Ok(Self {
            metrics,
            events,
            kept,
            merged,
            in_force,
            uses,
            runtime,
            usage,
        })
    }
}

/// The audit log that the config asks for.
fn audit(config: &Config, kept: Option<&OpenedState>) -> Result<Option<Arc<Audit>>, ServeError> {
    let (Some(options), Some(kept)) = (assemble::audit_options(config), kept) else {
        return Ok(None);
    };
    assemble::open_audit(options, kept).map(|audit| Some(Arc::new(audit)))
}

/// Where requests are recorded, if they are to be.
fn recorder(options: &Options) -> Result<Option<TraceRecorder>, ServeError> {
    let Some(path) = &options.record_trace else {
        return Ok(None);
    };
    let recorder = TraceRecorder::create(path).map_err(|source| {
        let path = path.clone();
        ServeError::Trace { path, source }
    })?;
    Ok(Some(recorder))
}

/// The package cache, with pool.lock beside the file if there is one.
fn installer(config: &Config, state: &StateDir) -> Result<Installer, ServeError> {
    let beside = config
        .only_server
        .is_none()
        .then_some(config.base_dir.as_path());
    let installer = Installer::open(&config.package_cache(state.path()), beside)?;
    let mut hidden = vec![state.path().to_owned()];
    hidden.extend(config.profiled.clone());
    let mut sandbox = install_sandbox(config, hidden);
    if sandbox.users.is_none() {
        // Closed by nothing else.
        let secrets = state.secret_root().ok();
        sandbox.hidden.extend(secrets.map(Path::to_owned));
    }
    warn_of_lacking(&sandbox);
    Ok(installer.with_sandbox(sandbox))
}

/// The receivers of events: the metrics, usage, and whoever follows events.
fn observers(metrics: &Arc<Metrics>, events: &Events, usage: Arc<Usage>) -> Observers {
    Observers {
        metrics: Arc::clone(metrics),
        pool: Arc::new(PoolMetrics::new(Arc::clone(metrics), events.clone())),
        events: Arc::new(events.clone()) as Arc<dyn EventSink>,
        usage,
    }
}

/// Configs that callers store: in the state folder if there is one, else in memory.
fn handles(
    kept: Option<(HandleStore, Vec<HandleRow>)>,
    vault: &Arc<Vault>,
    ledger: Ledger,
    has_tenant: impl Fn(&TenantId) -> bool,
) -> Handles {
    match kept {
        Some((store, rows)) => {
            let handles = Handles::new(store, Arc::clone(vault), rows, ledger);
            handles.keep_tenants(has_tenant);
            handles
        }
        None => Handles::in_memory(ledger),
    }
}

/// Sets what is looked up only when somebody asks for the metrics.
fn set_when_scraped(
    metrics: &Metrics,
    gateway: &Gateway,
    places: &Arc<ConnectionSlots>,
    audit: Option<Arc<Audit>>,
) {
    let places = Arc::clone(places);
    let gateway = gateway.downgrade();
    metrics.on_scrape(move |metrics| {
        metrics.set_log_dropped(telemetry::log_lines_dropped());
        metrics.set_removals_failed(folders::removals_failed());
        if let Some((exported, dropped)) = telemetry::exported_traces() {
            metrics.set_traces(exported, dropped);
        }
        if let Some(audit) = &audit {
            metrics.set_audit_lost(audit.lost());
        }
        metrics.set_connections(places.count(), places.closed());
        if let Some(gateway) = gateway.upgrade() {
            supervisor::set_gauges(&gateway, metrics);
        }
    });
}

/// The parts that live as long as the process.
pub(super) struct Service {
    pub(super) gateway: Gateway,
    pub(super) events: Events,
    pub(super) running: Arc<Running>,
    pub(super) reloader: Arc<Reloader>,
    pub(super) handles: Arc<Handles>,
    pub(super) drain: CancellationToken,
}

impl Service {
    /// Makes the parts, without anybody being served yet.
    ///
    /// # Errors
    /// What is kept cannot be opened, or the config cannot be put in force.
    pub(super) async fn assemble(
        options: &Options,
        config: &Arc<Config>,
        state: Arc<StateDir>,
        guardian: &Guardian,
        tls: Option<Tls>,
    ) -> Result<Self, ServeError> {
        let mut begun = Begun::with(options, config, &state).await?;
        let trace = recorder(options)?;
        let packages = Arc::new(installer(config, &state)?);
        // Behind what makes folders in the state folder, whose modes it looks after.
        let users = users::separate(config, &state, begun.kept.opened.as_ref())?;
        begun.runtime.resolver.set_users(users);
        if let Source::Profile(profiling) = &options.source {
            let records = RecordBook::one(Arc::clone(&profiling.record));
            begun.runtime.resolver.set_records(Arc::new(records));
        }
        let kept_handles = begun.kept.take_handles();
        let Begun {
            metrics,
            events,
            kept,
            merged,
            in_force,
            uses,
            runtime,
            usage,
        } = begun;
        let store = kept.opened.as_ref().map(|it| it.usage.clone());
        let keeper = UsageKeeper::new(Arc::clone(&usage), store);
        let records = Records {
            kept: kept.opened,
            trace,
            audit: kept.audit.clone(),
            packages,
        };
        let (runtime, bounds) = (Arc::new(runtime), limits::of(config));
        let observers = observers(&metrics, &events, usage);
        let gateway = Gateway::new(runtime, bounds, guardian.clone(), observers, records);
        let ledger = gateway.ledger().clone();
        let is_there = |tenant: &TenantId| merged.has_tenant(tenant);
        let handles = handles(kept_handles, &kept.vault, ledger, is_there);
        let slots = ConnectionSlots::new(limits::of_connections(config), gateway.ledger());
        set_when_scraped(&metrics, &gateway, &slots, kept.audit.clone());
        let reloader = Reloader {
            path: options.path().map(Path::to_owned),
            started: Arc::clone(config),
            listens: options.listens(),
            gateway,
            state,
            accounts: kept.accounts,
            handles: Arc::new(handles),
            tls,
            slots,
            uses,
            in_force: parking_lot::Mutex::new(in_force),
            events,
            generation: AtomicU64::new(0),
            reloaded: tokio::sync::Notify::new(),
            reloading: tokio::sync::Mutex::default(),
        };
        Ok(Self::around(
            Arc::new(reloader),
            kept.audit,
            keeper,
            options.drain(),
        ))
    }

    /// What reloads pool.toml, with what the operator sees of it. A cancelled `drain` begins the shutdown.
    fn around(
        reloader: Arc<Reloader>,
        audit: Option<Arc<Audit>>,
        usage: Arc<UsageKeeper>,
        drain: CancellationToken,
    ) -> Self {
        let running = Arc::new(Running {
            audit,
            usage,
            gateway: reloader.gateway.clone(),
            reloader: Arc::clone(&reloader),
            events: reloader.events.clone(),
            config_path: reloader.path.clone(),
            started: SystemTime::now(),
            dashboard: Arc::default(),
            drain: drain.clone(),
        });
        Self {
            gateway: reloader.gateway.clone(),
            events: reloader.events.clone(),
            running,
            handles: Arc::clone(&reloader.handles),
            reloader,
            drain,
        }
    }

    /// What requests are answered with at that address.
    pub(super) fn front(&self, config: &Config, address: SocketAddr) -> Arc<Front> {
        let http = &config.http;
        let parked = Arc::new(Parked::default());
        let keeper: Weak<Parked> = Arc::downgrade(&parked);
        self.gateway.ledger().reclaims_from(keeper);
        Arc::new(Front {
            gateway: self.gateway.clone(),
            sessions: Arc::clone(self.gateway.sessions()),
            guard: Guard::new(address, http.public_url.as_deref()),
            audit: self.running.audit.clone(),
            limits: Arc::new(RateLimits::new(self.gateway.ledger().clone())),
            addresses: addresses(config),
            max_body: usize::try_from(http.max_body).unwrap_or(usize::MAX),
            only_server: config.only_server.clone(),
            parked,
            channels: Arc::default(),
            handles: Arc::clone(&self.handles),
            grants: self.reloader.grants(),
            draining: CancellationToken::new(),
        })
    }
}

/// What the front door is known as.
pub(super) fn addresses(config: &Config) -> Addresses {
    let http = &config.http;
    Addresses::new(http.public_url.as_deref(), http.tls.is_some())
}

//! The life of `stdiopool serve`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::accounts::Accounts;
use super::assemble::{self, ServeError};
use super::events::{Events, PoolMetrics};
use super::grants::{self, GrantEvents};
use super::limits;
use super::profiling::Profiling;
use super::read::{self, Found};
use super::refresh;
use super::reload::{InForce, Listens, Reloader};
use super::sampler;
use super::start_up;
use super::supervisor::{self, Running};
use super::users;
use crate::admin::{self, EventKind};
use crate::config::{self, Config};
use crate::folders;
use crate::front::{
    Addresses, ConnectionLimits, Dispatch, Front, Guard, Listener, Parked, Places, RateLimits, Tls,
};
use crate::gateway::{EventSink, Gateway, Records};
use crate::held::Ledger;
use crate::launch::packages::Installer;
use crate::pool::StopReason;
use crate::profile::RecordBook;
use crate::store::{Opened, StateDir, Vault};
use crate::telemetry;
use crate::telemetry::audit::Audit;
use crate::telemetry::{Metrics, TraceRecorder};
use crate::tenancy::{Handles, Secrets, Uses};
use crate::worker::Guardian;

/// How often sessions that nobody uses are looked for.
const EXPIRY_PERIOD: Duration = Duration::from_secs(30);
/// How often old packages are looked for at the most; newer ones are at the same time, if it is time
/// for that.
const PACKAGES_PERIOD: Duration = Duration::from_secs(60);
/// How long connections may take to close once everything they waited for is answered.
const CLOSING_PATIENCE: Duration = Duration::from_secs(2);
/// How long the shutdown may take beside `pool.drain_timeout`: workers stop within seconds, a guardian that does not
/// answer is given up after half a minute, and so are processes that hang in the kernel.
const MAX_SHUTDOWN: Duration = Duration::from_secs(90);

/// What to serve.
#[derive(Clone, Debug)]
pub enum Source {
    /// What this file says.
    File(PathBuf),
    /// One command, without a file.
    Command(Vec<String>),
    /// One server of a file, to be recorded.
    Profile(Arc<Profiling>),
}

/// How to serve it.
#[derive(Clone, Debug)]
pub struct Options {
    /// What to serve.
    pub source: Source,
    /// Instead of `[http] listen`.
    pub http: Option<SocketAddr>,
    /// Instead of `[admin] listen`.
    pub admin: Option<SocketAddr>,
    /// Where requests are recorded for `stdiopool tune`.
    pub record_trace: Option<PathBuf>,
}

fn listens(options: &Options) -> Listens {
    Listens {
        http: options.http,
        admin: options.admin,
    }
}

fn read(options: &Options) -> Result<Found, ServeError> {
    let mut found = match &options.source {
        Source::File(path) => read::read(path)?,
        Source::Command(argv) => Found::of_command(config::single_command(argv.clone())?),
        Source::Profile(profiling) => Found::of_config(profiling.config.clone()),
    };
    listens(options).put_into(&mut found.config)?;
    match found.notices.fatal() {
        Some(why) => Err(ServeError::Host(why)),
        None => Ok(found),
    }
}

/// Serves until SIGTERM, SIGINT or a drain through the admin API, then shuts down in good order.
///
/// # Errors
/// [`ServeError`] when it cannot start.
pub async fn serve(options: Options) -> Result<(), ServeError> {
    let found = read(&options)?;
    found.notices.warn();
    let config = Arc::new(found.config);
    limits::raise_open_files();
    limits::keep_out_of_core_dumps();
    limits::say_if_page_out_unsupported(&config);
    limits::say_if_packages_are_writable();
    let state = Arc::new(if config.only_server.is_some() {
        StateDir::temporary(&config.state.dir)?
    } else {
        StateDir::open(&config.state.dir)?
    });
    let http = bind(config.http.listen, "http.listen").await?;
    let admin_listener = bind(config.admin.listen, "admin.listen").await?;
    if let Err(error) = state.note_admin(admin_listener.address()) {
        tracing::warn!(%error, "the address of the admin listener cannot be noted in the state folder: after a change of `admin.listen`, commands need --admin until the next restart");
    }
    let guardian = Guardian::start().await?;
    guardian.close_to_workers(vec![http.address(), admin_listener.address()]);
    let tls = config.http.tls.as_ref().map(Tls::load).transpose()?;
    let service = Service::assemble(&options, &config, state, &guardian, tls.clone()).await?;

    let shutdown = CancellationToken::new();
    let mut listeners = JoinSet::new();
    let admin_router = admin::router(
        Arc::clone(&service.running),
        Arc::clone(service.gateway.metrics()),
        admin::Options {
            listen: admin_listener.address(),
            token: config.admin.token.clone(),
            shutdown: shutdown.clone(),
        },
    )?;
    let front = service.front(&config, http.address());
    if let Some(base) = callback_base(&config, http.address()) {
        front.grants.set_base(&base);
    }
    // Before anybody is told that it is there: until then a signal ends the process as it does any other.
    let mut signals = Signals::listen()?;
    match &options.source {
        Source::Profile(profiling) => profiling.serves_at(http.address()),
        Source::File(_) | Source::Command(_) => {
            say_where(&config, http.address(), admin_listener.address());
        }
    }
    let front_stop = CancellationToken::new();
    let patience = CLOSING_PATIENCE;
    let places = Arc::clone(&service.reloader.places);
    let stop = front_stop.clone();
    listeners.spawn(Dispatch::from(Arc::clone(&front)).serve(http, tls, places, stop, patience));
    let places = Places::new(
        ConnectionLimits::of_few(limits::ADMIN_CONNECTIONS),
        // The operator waits for no tenant.
        &Ledger::unlimited(),
    );
    let stop = shutdown.clone();
    listeners.spawn(Dispatch::from(admin_router).serve(
        admin_listener,
        None,
        places,
        stop,
        patience,
    ));

    let sampling_stop = shutdown.child_token();
    let sampling = tokio::spawn(sampler::run(
        Arc::clone(service.gateway.workers()),
        service.events.clone(),
        sampling_stop,
    ));
    let refreshing_stop = shutdown.child_token();
    let refreshing = tokio::spawn(refresh::run(Arc::clone(&service.reloader), refreshing_stop));

    let grants_stop = shutdown.child_token();
    let grants = tokio::spawn(grants::look_after(
        Arc::clone(&front.grants),
        Arc::clone(&service.reloader),
        grants_stop.clone(),
    ));

    let settling = tokio::spawn(start_up::settle(shutdown.child_token()));
    service.until_drain(&mut signals).await;

    let drain_timeout = service.gateway.runtime_config().config.pool.drain_timeout;
    let _in_time = EndLimit::start(drain_timeout + MAX_SHUTDOWN);
    // Said when it is so.
    front.draining.cancel();
    // Who would have to come back for an answer cannot.
    front.parked.clear();
    service.gateway.sessions().end_suspended();
    service.gateway.stop_installs().await;
    let pool = service.gateway.workers().pool();
    pool.drain();
    tracing::info!("draining: no new work; waiting for what is in flight");
    let events = &service.running.events;
    events.tell(EventKind::Draining, "draining".to_owned());
    if tokio::time::timeout(drain_timeout, pool.quiet())
        .await
        .is_err()
    {
        tracing::warn!(
            "requests were still in flight after {}",
            humantime::format_duration(drain_timeout)
        );
    }
    // Closed streams let their connections end.
    service.gateway.sessions().close_streams();
    front_stop.cancel();
    pool.stop_all(StopReason::Drained).await;
    service.gateway.join().await;
    grants_stop.cancel();
    // The task has ended with that; a panic in it was logged.
    let _ended = grants.await;
    front.grants.settle().await;
    // Before the sessions, whose uses are waited for: all of them go one way.
    service.reloader.note_token_uses();
    service
        .gateway
        .sessions()
        .note_uses(2 * EXPIRY_PERIOD)
        .await;
    shutdown.cancel();
    while let Some(ended) = listeners.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a listener's task failed");
        }
    }
    // Both tasks have ended with the others; a panic in them was logged.
    let _ended = sampling.await;
    let _ended = refreshing.await;
    let _ended = settling.await;
    guardian.shutdown().await;
    tracing::info!("stopped");
    Ok(())
}

/// Ends this process when its shutdown hangs; what is left of workers the guardian then kills. A thread of its own
/// watches, since a runtime that is stuck runs no timer.
#[derive(Debug)]
struct EndLimit {
    /// Dropped in time: the thread ends.
    _in_time: std::sync::mpsc::Sender<()>,
}

impl EndLimit {
    fn start(limit: Duration) -> Self {
        let (in_time, ended) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            if ended.recv_timeout(limit) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                tracing::error!(
                    "the shutdown did not end within {}: stopped at once, and all workers with it",
                    humantime::format_duration(limit)
                );
                std::process::exit(1);
            }
        });
        Self { _in_time: in_time }
    }
}

async fn bind(address: SocketAddr, key: &'static str) -> Result<Listener, ServeError> {
    Listener::bind(address)
        .await
        .map_err(|source| ServeError::Listen {
            address,
            key,
            source,
        })
}

/// Where providers send browsers back to; unknown where the front door has no name of its own.
fn callback_base(config: &Config, http: SocketAddr) -> Option<String> {
    addresses(config).base_at(http)
}

/// What the front door is known as.
fn addresses(config: &Config) -> Addresses {
    let http = &config.http;
    Addresses::new(http.public_url.as_deref(), http.tls.is_some())
}

/// Says where it listens, on stderr like the rest of the log, so that a script that started it on
/// port 0 can find it.
fn say_where(config: &Config, http: SocketAddr, admin: SocketAddr) {
    let path = if config.only_server.is_some() {
        "/mcp"
    } else {
        "/{server}/mcp"
    };
    let scheme = if config.http.tls.is_some() {
        "https"
    } else {
        "http"
    };
    tracing::info!("MCP at {scheme}://{http}{path}");
    tracing::info!("admin at http://{admin}/");
}

/// The audit log that the config asks for.
fn audit(config: &Config, kept: Option<&Opened>) -> Result<Option<Arc<Audit>>, ServeError> {
    let (Some(options), Some(kept)) = (assemble::audit_options(config), kept) else {
        return Ok(None);
    };
    assemble::open_audit(options, kept).map(|audit| Some(Arc::new(audit)))
}

/// The signals that are acted on.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn listen() -> Result<Self, ServeError> {
        let listen = |kind| signal(kind).map_err(ServeError::Signals);
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }
}

/// The parts that live as long as the process.
struct Service {
    gateway: Gateway,
    events: Events,
    running: Arc<Running>,
    reloader: Arc<Reloader>,
    handles: Arc<Handles>,
    drain: CancellationToken,
}

impl Service {
    async fn assemble(
        options: &Options,
        config: &Arc<Config>,
        state: Arc<StateDir>,
        guardian: &Guardian,
        tls: Option<Tls>,
    ) -> Result<Self, ServeError> {
        let metrics = Metrics::new();
        let events = Events::new();
        // One command is hosted for the moment: its folder goes with it.
        let mut kept = match &options.source {
            Source::Command(_) => None,
            Source::File(_) | Source::Profile(_) => Some(Opened::open(&state)?),
        };
        let audit = audit(config, kept.as_ref())?;
        let accounts = match &kept {
            Some(opened) => Some(Accounts::open(opened, config).await?),
            None => None,
        };
        let grants = accounts
            .as_ref()
            .map_or_else(Arc::default, |a| Arc::clone(&a.grants));
        grants.set_events(Arc::new(GrantEvents {
            audit: audit.clone(),
            events: events.clone(),
            metrics: Arc::clone(&metrics),
        }));
        let vault = accounts.as_ref().map(|a| Arc::clone(a.vault()));
        let vault = vault.unwrap_or_else(|| Arc::new(Vault::without_key()));
        let in_force = InForce {
            config: Arc::clone(config),
            secrets: Arc::new(Secrets::new(Arc::clone(&vault))),
        };
        let uses = Arc::new(Uses::default());
        let merged = match &accounts {
            Some(accounts) => {
                let merged = accounts.merge_into(config)?;
                Arc::new(merged)
            }
            None => Arc::clone(config),
        };
        let (of_secrets, of_uses) = (Arc::clone(&in_force.secrets), Arc::clone(&uses));
        let mut runtime = assemble::runtime_config(
            Arc::clone(&merged),
            0,
            Arc::clone(&state),
            of_secrets,
            of_uses,
            Arc::clone(&grants),
            None,
        )?;
        let trace = match &options.record_trace {
            Some(path) => Some(TraceRecorder::create(path).map_err(|source| {
                let path = path.clone();
                ServeError::Trace { path, source }
            })?),
            None => None,
        };
        let beside = config
            .only_server
            .is_none()
            .then_some(config.base_dir.as_path());
        let packages = Installer::open(&config.package_cache(state.path()), beside)?;
        // Behind what makes folders in the state folder, whose modes it looks after.
        let users = users::separate(config, &state, kept.as_ref())?;
        runtime.resolver.set_users(users);
        if let Source::Profile(profiling) = &options.source {
            let record = Arc::clone(&profiling.record);
            runtime
                .resolver
                .set_records(Arc::new(RecordBook::one(record)));
        }
        let kept_handles = kept.as_mut().map(|kept| {
            let rows = std::mem::take(&mut kept.handle_rows);
            (kept.handles.clone(), rows)
        });
        let gateway = Gateway::new(
            Arc::new(runtime),
            limits::of(config),
            guardian.clone(),
            Arc::clone(&metrics),
            Arc::new(PoolMetrics::new(Arc::clone(&metrics), events.clone())),
            Arc::new(events.clone()) as Arc<dyn EventSink>,
            Records {
                kept,
                trace,
                audit: audit.clone(),
                packages: Arc::new(packages),
            },
        );
        let ledger = gateway.ledger().clone();
        let handles = match kept_handles {
            Some((store, rows)) => {
                let handles = Handles::new(store, Arc::clone(&vault), rows, ledger);
                handles.keep_tenants(|tenant| merged.has_tenant(tenant));
                handles
            }
            None => Handles::in_memory(ledger),
        };
        let handles = Arc::new(handles);
        let places = Places::new(limits::of_connections(config), gateway.ledger());
        let counted = Arc::clone(&places);
        let scraped = gateway.downgrade();
        let audited = audit.clone();
        metrics.on_scrape(move |metrics| {
            metrics.set_log_dropped(telemetry::log_lines_dropped());
            metrics.set_removals_failed(folders::removals_failed());
            if let Some(audit) = &audited {
                metrics.set_audit_lost(audit.lost());
            }
            metrics.set_connections(counted.count(), counted.closed());
            if let Some(gateway) = scraped.upgrade() {
                supervisor::set_gauges(&gateway, metrics);
            }
        });
        let path = match &options.source {
            Source::File(path) => Some(path.clone()),
            Source::Command(_) | Source::Profile(_) => None,
        };
        let reloader = Arc::new(Reloader {
            path: path.clone(),
            started: Arc::clone(config),
            listens: listens(options),
            gateway: gateway.clone(),
            state,
            accounts,
            handles: Arc::clone(&handles),
            tls,
            places,
            uses,
            in_force: parking_lot::Mutex::new(in_force),
            events: events.clone(),
            generation: AtomicU64::new(0),
            reloaded: tokio::sync::Notify::new(),
            turn: tokio::sync::Mutex::default(),
        });
        let drain = match &options.source {
            Source::Profile(profiling) => profiling.stop.clone(),
            Source::File(_) | Source::Command(_) => CancellationToken::new(),
        };
        let running = Arc::new(Running {
            audit: audit.clone(),
            gateway: gateway.clone(),
            reloader: Arc::clone(&reloader),
            events: events.clone(),
            config_path: path,
            started: SystemTime::now(),
            drain: drain.clone(),
        });
        Ok(Self {
            gateway,
            events,
            running,
            reloader,
            handles,
            drain,
        })
    }

    fn front(&self, config: &Config, address: SocketAddr) -> Arc<Front> {
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

    /// Runs until it is time to go.
    async fn until_drain(&self, signals: &mut Signals) {
        let mut expiry = tokio::time::interval(EXPIRY_PERIOD);
        let refresh = self.gateway.runtime_config().config.packages.refresh;
        let period = refresh.unwrap_or(PACKAGES_PERIOD);
        let period = period.clamp(Duration::from_secs(1), PACKAGES_PERIOD);
        let mut packages = tokio::time::interval(period);
        enum Woken {
            Drain,
            Reload,
            Expire,
            Packages,
        }
        loop {
            let woken = tokio::select! {
                () = self.drain.cancelled() => Woken::Drain,
                _ = signals.terminate.recv() => Woken::Drain,
                _ = signals.interrupt.recv() => Woken::Drain,
                _ = signals.hang_up.recv() => Woken::Reload,
                _ = expiry.tick() => Woken::Expire,
                _ = packages.tick() => Woken::Packages,
            };
            match woken {
                Woken::Drain => {
                    self.drain.cancel();
                    return;
                }
                Woken::Reload => {
                    // What is wrong is logged and told as an event.
                    let told = self.reloader.reload().await;
                    self.running.reloaded(told.is_ok());
                }
                Woken::Packages => self.gateway.look_after_packages(),
                Woken::Expire => {
                    // Twice the period: what was used just after the last look counts too.
                    self.gateway.sessions().note_uses(2 * EXPIRY_PERIOD).await;
                    self.reloader.note_token_uses();
                    self.handles.expire(SystemTime::now());
                    self.reloader.forget_handles();
                    let timeout = self.gateway.runtime_config().config.pool.session_timeout;
                    let ended = self.gateway.sessions().expire(timeout);
                    if ended > 0 {
                        tracing::info!(ended, "sessions expired");
                    }
                }
            }
        }
    }
}

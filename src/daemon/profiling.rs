//! What `stdiopool profile` serves: one server of a pool.toml, for one tenant, without what keeps it from anything but `standard`.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use data_encoding::HEXLOWER;
use parking_lot::Mutex;
use secrecy::SecretString;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::config::{Auth, AuthMode, Config, Isolation, Policy};
use crate::egress::Network;
use crate::ids::{ServerName, TenantId};
use crate::profile::Record;
use crate::store::{AccountRows, DatabaseError, ProfileSlot, tenant_rows, users_of_installs};
use crate::tenancy::{TenantSettings, users_of_host};

/// How long the worker is kept that is recorded, however little it has to do.
const KEPT: Duration = Duration::from_secs(24 * 3600);

/// A server that is served to be recorded.
pub struct Profiling {
    /// What is served.
    pub config: Config,
    /// What the state folder that is served otherwise has of the tenant.
    pub accounts: AccountRows,
    /// The record of what the profiled server does.
    pub record: Arc<Record>,
    /// Ends it, in good order.
    pub stop: CancellationToken,
    started: Mutex<Option<oneshot::Sender<SocketAddr>>>,
}

impl Profiling {
    /// A server of that config; the receiver gets the address of its front door once clients are taken on there.
    pub fn new(
        config: Config,
        accounts: AccountRows,
        record: Arc<Record>,
    ) -> (Self, oneshot::Receiver<SocketAddr>) {
        let (started, address) = oneshot::channel();
        let profiling = Self {
            config,
            accounts,
            record,
            stop: CancellationToken::new(),
            started: Mutex::new(Some(started)),
        };
        (profiling, address)
    }

    /// Clients are taken on at that address.
    pub(super) fn serves_at(&self, address: SocketAddr) {
        if let Some(started) = self.started.lock().take() {
            let _nobody_waits = started.send(address);
        }
    }
}

impl fmt::Debug for Profiling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Profiling").finish_non_exhaustive()
    }
}

/// What the state folder has of a tenant for a server that is profiled: its settings for that server, if it is a tenant of the store, and its
/// secrets, sealed.
///
/// # Errors
/// [`DatabaseError`] when there is a state that cannot be read.
pub fn accounts_of_profile(
    config: &Config,
    name: &ServerName,
    tenant: &TenantId,
) -> Result<AccountRows, DatabaseError> {
    let mut rows = tenant_rows(&config.state.dir, tenant.as_str())?;
    for row in &mut rows.tenants {
        // What cannot be read is told by whoever takes it into the config.
        let settings = serde_json::from_str::<TenantSettings>(&row.settings);
        let only = settings.and_then(|mut settings| {
            settings.config.retain(|server, _| server == name.as_str());
            serde_json::to_string(&settings)
        });
        if let Ok(settings) = only {
            row.settings = settings;
        }
    }
    Ok(rows)
}

/// A server that is to be profiled, and where.
#[derive(Clone, Copy, Debug)]
pub struct ProfiledServer<'a> {
    /// The server's name in pool.toml.
    pub name: &'a ServerName,
    /// The tenant that it runs for.
    pub tenant: &'a TenantId,
    /// The folder and users that it runs with.
    pub slot: &'a ProfileSlot,
    /// What the state folder has of the tenant.
    pub accounts: &'a AccountRows,
    /// The address at which it is served; `None`: one of loopback, with a free port.
    pub listen: Option<SocketAddr>,
    /// How long it has for its start and each answer at least.
    pub timeout: Duration,
}

/// The config under which a server is profiled: of `config`, that server and what the tenant has for it. Whoever reaches the
/// address is let in, as that tenant; nothing is kept. The key of stored secrets is there if the tenant has some.
///
/// # Errors
/// When the system has no random numbers for the token of the admin API.
pub fn config_of_profile(
    config: &Config,
    profiled: &ProfiledServer<'_>,
) -> Result<Config, getrandom::Error> {
    let ProfiledServer {
        name,
        tenant,
        slot,
        accounts,
        listen,
        timeout,
    } = *profiled;
    let mut config = config.clone();
    config.servers.retain(|it, _| it == name);
    config.tenants.retain(|it, _| it == tenant);
    for server in config.servers.values_mut() {
        server.sandbox = Isolation::Standard;
        // What these would give it is to be found out.
        server.readable.clear();
        server.writable.clear();
        server.network = Network::On;
        server.limits.memory = None;
        server.limits.pids = None;
        server.limits.cpu_millis = None;
        server.limits.cpu_weight = None;
        server.limits.disk = None;
        server.limits.cpu_seconds = 0;
        // Each recorded call takes longer.
        server.start_timeout = server.start_timeout.max(timeout);
        server.request_timeout = server.request_timeout.max(timeout);
        server.min_idle = 0;
        server.starts_on_connect = true;
        server.idle_timeout = KEPT;
        server.max_lifetime = KEPT;
        server.max_requests = 0;
    }
    for tenant in config.tenants.values_mut() {
        tenant.networks.clear();
        tenant.tokens.clear();
    }
    config.auth = Auth {
        mode: AuthMode::None,
        required_scopes: Default::default(),
    };
    config.policy = Policy::default();
    config.audit.file = None;
    let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    config.http.listen = listen.unwrap_or(anywhere);
    config.http.public_url = None;
    config.http.tls = None;
    config.admin.listen = anywhere;
    // The server reaches the loopback.
    let mut token = [0; 16];
    getrandom::fill(&mut token)?;
    config.admin.token = Some(SecretString::from(HEXLOWER.encode(&token)));
    config.pool.hibernate_after = None;
    config.pool.idle_timeout = KEPT;
    config.state.dir = slot.folder().to_owned();
    if accounts.secrets.is_empty() {
        config.state.key = None;
    }
    config.state.secrets_refresh = None;
    if let Some(users) = slot.users() {
        let of_host = users_of_host(&config).ok();
        config.sandbox.of_installs = of_host.and_then(|range| users_of_installs(&range));
        config.sandbox.uids = Some(users.clone());
        config.sandbox.is_given = true;
    }
    config.profiled = Some(slot.served().to_owned());
    Ok(config)
}

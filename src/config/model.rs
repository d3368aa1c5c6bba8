//! What pool.toml says, with defaults filled in and everything checked. Immutable once read.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ipnet::IpNet;
use secrecy::SecretString;
use serde_json::{Map, Value};

use super::audit::Audit;
use super::auth::{Auth, AuthMode};
use super::mistake::Warning;
use super::origins::Origins;
use super::rates::{DefaultRates, Rates};
use super::template::Template;
use super::units::SizeOrShare;
use crate::held;
use crate::ids::{ServerName, TenantId, is_valid_name};
use crate::protocol::FailureStatus;

/// The tenant of callers that name none, where nobody has to say who they are.
pub const DEFAULT_TENANT: &str = "default";

/// One pool.toml, or one command.
#[derive(Clone, Debug)]
pub struct Config {
    /// `[http]`
    pub http: Http,
    /// `[admin]`
    pub admin: Admin,
    /// `[auth]`
    pub auth: Auth,
    /// `[limits]`
    pub rates: DefaultRates,
    /// `[audit]`
    pub audit: Audit,
    /// `[aggregate]`
    pub aggregate: Aggregate,
    /// `[pool]`
    pub pool: Pool,
    /// `[state]`
    pub state: State,
    /// `[launch]`
    pub packages: Packages,
    /// `[servers.NAME]`
    pub servers: BTreeMap<ServerName, Server>,
    /// `[policy]`
    pub policy: super::Policy,
    /// `[tenants.NAME]`
    pub tenants: BTreeMap<TenantId, Tenant>,
    /// The server at `/mcp`, where one command is hosted without a file.
    pub only_server: Option<ServerName>,
    /// The folder that relative paths start from: pool.toml's.
    pub base_dir: PathBuf,
    /// What is odd but usable, for the log and for `check`.
    pub warnings: Vec<Warning>,
}

/// `[http]`: the front door.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Http {
    /// Where it listens.
    pub listen: SocketAddr,
    /// What clients know it as.
    pub public_url: Option<String>,
    /// Which status the answer to a request has that failed.
    pub failure_status: FailureStatus,
    /// Origins of pages in browsers that may speak to it.
    pub allowed_origins: Origins,
    /// Largest request body, in bytes.
    pub max_body: u64,
    /// Who may have how many connections, and for how long.
    pub connections: Connections,
    /// Bytes that all tenants together may make stdiopool hold.
    pub memory: u64,
    /// `[http.tls]`; `None`: plain HTTP.
    pub tls: Option<Tls>,
}

/// Connections of the front door.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Connections {
    /// At once.
    pub all: usize,
    /// Of one peer.
    pub per_peer: usize,
    /// Of one tenant.
    pub per_tenant: usize,
    /// Peers for which the two above do not hold.
    pub proxies: Vec<IpNet>,
    /// How long one may be without a request.
    pub idle_timeout: Duration,
    /// How long a peer may take nothing of what is written to it.
    pub write_timeout: Duration,
}

/// `[http.tls]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tls {
    /// The certificate and those that lead to its root, PEM.
    pub cert: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// Roots of clients' certificates, PEM; with it, a client needs one.
    pub client_ca: Option<PathBuf>,
}

/// `[admin]`: metrics and the admin API.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Who may speak to it; needed off loopback.
    pub token: Option<SecretString>,
}

/// `[aggregate]`: all servers of a tenant offered as one, at `/mcp`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Aggregate {
    /// What stands between a server's name and the name of a tool or prompt of it.
    pub separator: String,
    /// How long a list waits for one server.
    pub list_timeout: Duration,
}

/// `[pool]`
#[derive(Clone, PartialEq, Debug)]
pub struct Pool {
    /// Workers of all tenants.
    pub max_workers: usize,
    /// Workers of one tenant, unless the tenant says otherwise.
    pub max_workers_per_tenant: usize,
    /// Workers being started at once.
    pub max_starting: usize,
    /// Memory of all workers. Not enforced yet.
    pub max_memory: SizeOrShare,
    /// Requests that wait.
    pub queue_limit: usize,
    /// How long they wait at the most.
    pub queue_timeout: Duration,
    /// How long a worker may be idle.
    pub idle_timeout: Duration,
    /// Open sessions of one tenant.
    pub max_sessions_per_tenant: usize,
    /// How long what a server said of itself is remembered; `None`: not at all.
    pub catalog_age: Option<Duration>,
    /// How long until an idle worker's memory is paged out; `None`: never.
    pub hibernate_after: Option<Duration>,
    /// Hibernated workers are stopped as well.
    pub hibernate_stop: bool,
    /// How long a worker may live.
    pub max_lifetime: Duration,
    /// Requests after which a worker is recycled; 0 for never.
    pub max_requests: u64,
    /// How long a session may go unused.
    pub session_timeout: Duration,
    /// How long a shutdown waits for what is in flight.
    pub drain_timeout: Duration,
    /// Variables of stdiopool's own environment that every worker gets.
    pub pass_env: Vec<String>,
}

/// `[state]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct State {
    /// The state folder, absolute; the folder it is made in where one command is hosted.
    pub dir: PathBuf,
    /// Where the key of the secrets in it is; `None`: with systemd, or nowhere.
    pub key: Option<SecretSource>,
    /// How often secrets of running workers are read again from files and commands; `None`: never.
    pub secrets_refresh: Option<Duration>,
}

/// `[launch]`: the packages that npx and uvx lines run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Packages {
    /// How often a newer version is looked for; `None`: never.
    pub refresh: Option<Duration>,
    /// How long a package that no worker is started from is kept.
    pub keep: Duration,
    /// How long one command of npm or uv may take in an install.
    pub install_timeout: Duration,
}

/// How a server's command is started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Launch {
    /// The program of its package directly, if it runs one.
    Auto,
    /// As written.
    AsIs,
}

/// How workers are shared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Share {
    /// By all sessions of a tenant.
    Tenant,
    /// Each session has its own.
    Session,
    /// Each request has its own.
    Request,
}

/// What a server's workers are told of clients without sessions, who say with each request what
/// they can be asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Interactive {
    /// That they can be asked, if the request says so or the server is known to ask.
    Exclusive,
    /// That they can be asked everything.
    Always,
    /// That they can be asked nothing.
    Never,
}

/// `[servers.NAME]`: a stdio MCP server on offer.
#[derive(Clone, Debug)]
pub struct Server {
    /// What to run.
    pub command: String,
    /// Its arguments.
    pub args: Vec<Arg>,
    /// Its environment, beside what every worker gets.
    pub env: BTreeMap<String, Template>,
    /// Where it runs; `None` for the tenant's own folder.
    pub cwd: Option<Template>,
    /// It is among the servers that are offered as one.
    pub is_aggregated: bool,
    /// How workers are shared.
    pub share: Share,
    /// What its workers are told of what clients can be asked.
    pub interactive: Interactive,
    /// Losing a worker ends its sessions.
    pub stateful: bool,
    /// Folders that the server is told are its roots, instead of those of its clients.
    pub roots: Vec<Template>,
    /// A worker is started when a client connects, though what it would answer is known.
    pub starts_on_connect: bool,
    /// Spares kept ready.
    pub min_idle: usize,
    /// How its command is started.
    pub launch: Launch,
    /// What its package was resolved to is kept in pool.lock.
    pub pin: bool,
    /// Dependencies of its package that its workers may write beside their code, each tenant its own; `*` for all.
    pub writable_dependencies: Vec<String>,
    /// Requests at once per worker.
    pub max_in_flight: usize,
    /// Workers for one key when all are busy.
    pub max_workers_per_key: usize,
    /// Whether only one process for the same tenant and config may be there, whatever its clients declare; `None` where
    /// more may be for each key, `Some(false)` where nothing is said.
    pub one_at_a_time: Option<bool>,
    /// Workers of this server, of all tenants; 0 for no limit of its own.
    pub max_workers: usize,
    /// How long a request may take without progress.
    pub request_timeout: Duration,
    /// How long a request may take, whatever its progress.
    pub max_request_time: Duration,
    /// How long a start may take.
    pub start_timeout: Duration,
    /// Largest message from a worker, in bytes.
    pub max_message: usize,
    /// How long a worker may be idle.
    pub idle_timeout: Duration,
    /// How long a worker may live.
    pub max_lifetime: Duration,
    /// Requests after which a worker is recycled; 0 for never.
    pub max_requests: u64,
    /// `sandbox = "none"`: its processes may gain privileges.
    pub may_gain_privileges: bool,
    /// Limits on a process.
    pub limits: Limits,
    /// `tools`: which tools are offered.
    pub tools: super::Tools,
    /// The JSON Schema of a tenant's config.
    pub schema: Option<Arc<Value>>,
    /// Keys of that config which callers may set themselves.
    pub client_config: Vec<String>,
    /// Arguments of its tools that are set for callers.
    pub bind: super::Bind,
    /// What it is told of callers.
    pub identity: Vec<String>,
    /// Secrets that callers may bring themselves, by a handle.
    pub client_secrets: Vec<String>,
    /// Where tenants authorise it, and how its access tokens are had.
    pub oauth: Option<Arc<super::OAuth>>,
}

/// An item of `args`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Arg {
    /// One argument, or several where it is a list's value.
    Always(Template),
    /// Arguments that are there only if the config has a value for the key.
    When {
        /// The key.
        key: String,
        /// The arguments.
        args: Vec<Template>,
    },
}

/// `limits` of a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Bytes of memory that one worker may hold, its descendants included.
    pub memory: Option<u64>,
    /// Processes. Not enforced yet.
    pub pids: Option<u64>,
    /// Open files of each process.
    pub open_files: u64,
    /// Seconds of CPU time of each process; 0 for no limit.
    pub cpu_seconds: u64,
}

/// `[tenants.NAME]`
#[derive(Clone, Debug)]
pub struct Tenant {
    /// Its tokens.
    pub tokens: Vec<Token>,
    /// How much it may ask; `None` for `[limits] tenant`.
    pub rates: Option<Rates>,
    /// Bytes that it may make stdiopool hold; `None` for `limits.memory_held`.
    pub memory_held: Option<u64>,
    /// Bytes of bodies a second that it may send; `None` for `limits.body_rate`.
    pub body_rate: Option<NonZeroU64>,
    /// Its share under contention.
    pub weight: u32,
    /// Workers it may have; `None` for `pool.max_workers_per_tenant`.
    pub max_workers: Option<usize>,
    /// Its values for servers' schemas.
    pub config: BTreeMap<ServerName, Map<String, Value>>,
    /// Where its secrets are.
    pub secrets: BTreeMap<String, SecretSource>,
}

/// A bearer token.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Token {
    /// SHA-256 of it.
    pub hash: [u8; 32],
    /// What it is called in logs.
    pub name: Option<Arc<str>>,
    /// The user it stands for.
    pub subject: Option<String>,
    /// What it may be used for.
    pub scopes: Arc<BTreeSet<String>>,
    /// When it stops being valid.
    pub expires: Option<SystemTime>,
}

/// Where a secret is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum SecretSource {
    /// In a variable of stdiopool's environment.
    Env(String),
    /// In a file; a line break at its end does not count.
    File(PathBuf),
    /// On standard output of a command.
    Command(Vec<String>),
    /// In the state store, sealed.
    Stored(Arc<[u8]>),
}

impl SecretSource {
    /// Whether there may be another secret there later, without pool.toml or the state store having
    /// changed.
    pub fn may_change(&self) -> bool {
        match self {
            Self::File(_) | Self::Command(_) => true,
            Self::Env(_) | Self::Stored(_) => false,
        }
    }
}

impl Config {
    /// Whether the server is on offer.
    pub fn has_server(&self, name: &ServerName) -> bool {
        self.servers.contains_key(name)
    }

    /// Whether the tenant may be served. Where nobody has to say who they are, any well-formed
    /// name may.
    pub fn has_tenant(&self, id: &TenantId) -> bool {
        match self.auth.mode {
            AuthMode::None => is_valid_name(id.as_str()),
            AuthMode::Token | AuthMode::Jwt(_) | AuthMode::Header(_) => {
                self.tenants.contains_key(id)
            }
        }
    }

    /// The name of a server on offer.
    pub fn server_name(&self, text: &str) -> Option<ServerName> {
        self.servers
            .get_key_value(text)
            .map(|(name, _)| name.clone())
    }

    /// Where packages are installed, with the state in that folder: in it, so that they stay; in the
    /// user's cache folder where one command is hosted, whose state goes with it.
    pub fn package_cache(&self, state: &Path) -> PathBuf {
        let given = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let cache = || {
            let of_home = || Some(PathBuf::from(given("HOME")?).join(".cache"));
            given("XDG_CACHE_HOME").map(PathBuf::from).or_else(of_home)
        };
        match cache().filter(|_| self.only_server.is_some()) {
            Some(cache) => cache.join("stdiopool/packages"),
            None => state.join("packages"),
        }
    }

    /// What tenants may make stdiopool hold, in bytes.
    pub fn held_limits(&self) -> held::Limits {
        held::Limits {
            of_tenant: self.rates.memory_held,
            of_all: self.http.memory,
        }
    }

    /// Bytes of bodies a second that a tenant may send.
    pub fn body_rate(&self, tenant: &TenantId) -> NonZeroU64 {
        let own = self.tenants.get(tenant).and_then(|tenant| tenant.body_rate);
        own.unwrap_or(self.rates.body_rate)
    }

    /// The tenants that may make stdiopool hold more or less than others, and how many bytes.
    pub fn own_held_limits(&self) -> impl Iterator<Item = (TenantId, u64)> {
        let tenants = self.tenants.iter();
        tenants.filter_map(|(id, tenant)| Some((id.clone(), tenant.memory_held?)))
    }

    /// Whether clients have to show certificates.
    pub fn has_client_certificates(&self) -> bool {
        let tls = self.http.tls.as_ref();
        tls.is_some_and(|tls| tls.client_ca.is_some())
    }
}

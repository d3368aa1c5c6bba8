//! `[servers.NAME]`: a server on offer.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::oauth::OAuth;
use crate::config::bind::Bind;
use crate::config::template::Template;
use crate::config::tools::Tools;
use crate::egress::Network;

/// `[servers.NAME]`: a stdio MCP server on offer.
#[derive(Clone, Debug)]
pub struct Server {
    /// What to run.
    pub command: String,
    /// The command's arguments.
    pub args: Vec<Arg>,
    /// Variables of the server's environment, beside what every worker gets.
    pub env: BTreeMap<String, Template>,
    /// The server's working directory; `None` for the tenant's own folder.
    pub cwd: Option<Template>,
    /// Whether the server is among those that are offered as one.
    pub is_aggregated: bool,
    /// How workers are shared.
    pub share: Share,
    /// What the server's workers are told of what clients can be asked.
    pub interactive: Interactive,
    /// Losing a worker ends its sessions.
    pub stateful: bool,
    /// Folders that the server is told are its roots, instead of those of its clients.
    pub roots: Vec<Template>,
    /// A worker is started when a client connects, though what it would answer is known.
    pub starts_on_connect: bool,
    /// Spares kept ready.
    pub min_idle: usize,
    /// How the server's command is started.
    pub launch: LaunchMode,
    /// Whether starts of the server may be forked from a template.
    pub prime: Prime,
    /// Whether what the server's package was resolved to is kept in pool.lock.
    pub pin: bool,
    /// Dependencies of its package that its workers may write beside their code, each tenant its own; `*` for all.
    pub writable_dependencies: Vec<String>,
    /// Requests at once per worker.
    pub max_in_flight: usize,
    /// Workers for one key when all are busy.
    pub max_workers_per_key: usize,
    /// Whether only one process for a tenant and config may be there, whatever its clients declare; `None` where
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
    /// `sandbox`: how its processes are kept apart.
    pub sandbox: Isolation,
    /// `readable`: files and folders that a strict server reads. Absolute.
    pub readable: Vec<PathBuf>,
    /// `writable`: folders that a strict server writes to. Absolute.
    pub writable: Vec<PathBuf>,
    /// `network`: what it reaches, unless its tenant's reaches less.
    pub network: Network,
    /// WorkerLimits on a process.
    pub limits: WorkerLimits,
    /// `tools`: which tools are offered.
    pub tools: Tools,
    /// The JSON Schema of a tenant's config.
    pub schema: Option<Arc<Value>>,
    /// Keys of that config which callers may set themselves.
    pub client_config: Vec<String>,
    /// Arguments of its tools that are set for callers.
    pub bind: Bind,
    /// What the server is told of callers.
    pub identity: Vec<String>,
    /// Secrets that callers may bring themselves, by a handle.
    pub client_secrets: Vec<String>,
    /// Where tenants authorise the server, and how access tokens for it are had.
    pub oauth: Option<Arc<OAuth>>,
}

/// An item of `args`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Arg {
    /// One argument, or several where the template is a list's value.
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
pub struct WorkerLimits {
    /// Bytes of memory that one worker may hold, its descendants included.
    pub memory: Option<u64>,
    /// Processes and threads of one worker.
    pub pids: Option<u64>,
    /// Thousandths of a processor that one worker may take.
    pub cpu_millis: Option<u64>,
    /// Weight of one worker on the processors beside others of its tenant, 1 to 10,000.
    pub cpu_weight: Option<u64>,
    /// Bytes that the folders of a worker may take on the disk.
    pub disk: Option<u64>,
    /// Open files of each process.
    pub open_files: u64,
    /// Seconds of CPU time of each process; 0 for no limit.
    pub cpu_seconds: u64,
}

/// How workers are shared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Share {
    /// All sessions of a tenant share a worker.
    Tenant,
    /// Each session has a worker of its own.
    Session,
    /// Each request has a worker of its own.
    Request,
}

/// What a server's workers are told of clients without sessions, who say with each request what
/// they can be asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Interactive {
    /// Workers are told that clients can be asked, if the request says so or the server is known to ask.
    Exclusive,
    /// Workers are told that clients can be asked everything.
    Always,
    /// Workers are told that clients can be asked nothing.
    Never,
}

/// How a server's command is started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LaunchMode {
    /// The program of its package directly, if it runs one.
    Auto,
    /// The command is started as written.
    AsIs,
}

/// Whether starts of a server's package may be of processes that have imported its libraries: forked from one, or one that has waited.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Prime {
    /// Starts are forked where the process becomes what an ordinary start would make it.
    Auto,
    /// Never.
    Off,
}

/// How a server's processes are kept apart from those of other tenants, and from what stdiopool has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Isolation {
    /// Processes are apart in environment, folders and session alone, and may gain privileges.
    None,
    /// Processes are kept apart as far as this host lets them be.
    Standard,
    /// As [`Self::Standard`], and it is told what [`Self::Strict`] would have refused.
    Observe,
    /// Processes are in namespaces of their own, with nothing of the host's files but what they need, behind a filter of system
    /// calls; or not at all.
    Strict,
}

//! `[pool]`, `[state]`, `[sandbox]` and `[launch]`: the workers of all servers, and where they run.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::secret::SecretSource;
use crate::config::units::SizeOrShare;

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
    /// How long requests wait at the most.
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

/// `[sandbox]`: as whom servers run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SandboxUsers {
    /// Numbers of users, and of groups, of which each tenant has one where stdiopool is root, or root of a user namespace;
    /// `None`: none has.
    pub uids: Option<RangeInclusive<u32>>,
    /// Whether the numbers are written in the file.
    pub is_given: bool,
    /// Users of installs, where they are not of that range: while a server is profiled, which has few.
    pub of_installs: Option<RangeInclusive<u32>>,
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

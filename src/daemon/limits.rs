//! From pool.toml to the pool's limits, and the process's own.

use ipnet::IpNet;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::config::{AuthMode, Config, SizeOrShare};
use crate::front::ConnectionLimits;
use crate::pool::PoolLimits;
use crate::process::{grow_descriptor_table, keep_private};
use crate::worker::memory::{can_hibernate, host_memory};
use crate::worker::{can_make_read_only, descriptors_for_hosts};

/// Descriptors a worker costs: its three pipes, and one to spare.
const FDS_PER_WORKER: u64 = 4;
/// Descriptors for everything else: the store, the log, installs, connections of the admin listener.
const FDS_BESIDE: u64 = 512;
/// Connections of clients that there are at least, even where descriptors are too few for them.
const FEWEST_CONNECTIONS: u64 = 64;
/// Connections of the admin listener.
pub(super) const ADMIN_CONNECTIONS: usize = 256;

/// The pool's limits as configured.
pub(super) fn of(config: &Config) -> PoolLimits {
    let pool = &config.pool;
    let max_memory = match pool.max_memory {
        SizeOrShare::Bytes(bytes) => bytes,
        SizeOrShare::Percent(percent) => {
            host_memory().map_or(u64::MAX, |memory| memory / 100 * u64::from(percent))
        }
    };
    PoolLimits {
        max_memory,
        hibernate_after: pool.hibernate_after.filter(|_| can_hibernate().is_ok()),
        max_workers: pool.max_workers,
        max_starting: pool.max_starting,
        queue_limit: pool.queue_limit,
        queue_timeout: pool.queue_timeout,
        drain_timeout: pool.drain_timeout,
        ..PoolLimits::default()
    }
}

/// Says why idle workers are not paged out, where that was to be.
pub(super) fn say_if_page_out_unsupported(config: &Config) {
    if let (Some(_), Err(error)) = (config.pool.hibernate_after, can_hibernate()) {
        tracing::info!("idle workers are not hibernated: {error}");
    }
}

/// Says that workers could change what all run, where the host does not let that be ruled out.
pub(super) fn say_if_packages_are_writable() {
    if !can_make_read_only() {
        tracing::warn!(
            "only permissions keep workers from changing installed packages: this host gives them no mount namespaces (see `stdiopool doctor`)"
        );
    }
}

/// Opened secrets are in this process's memory: no core dump of it is written, and no other process
/// of its user may read it. What it executes begins anew in this, but inherits the limit: workers,
/// the guardian and commands, all of which hold secrets, leave no core dumps either.
pub(super) fn keep_out_of_core_dumps() {
    if let Err(error) = keep_private() {
        tracing::warn!(%error, "core dumps, with secrets in them, cannot be ruled out");
    }
}

/// Raises the soft limit on open files to the hard one, which is returned.
pub(super) fn raise_open_files() -> Option<u64> {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        if soft < hard {
            setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
        }
        Ok(hard)
    });
    raised
        .inspect_err(|error| {
            tracing::warn!(%error, "the limit on open files could not be raised");
        })
        .ok()
}

/// The limits of connections as configured, and as far as descriptors go when those for workers and everything
/// else are set aside, for all of which there is room from then on. Says so where that is less.
pub(super) fn of_connections(config: &Config) -> ConnectionLimits {
    let asked = &config.http.connections;
    let reserved = FDS_BESIDE
        + (FDS_PER_WORKER + of_lists(config)) * config.pool.max_workers as u64
        + to_hosts(config);
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft);
    let left = limit.saturating_sub(reserved).max(FEWEST_CONNECTIONS);
    let all = usize::try_from(left).unwrap_or(usize::MAX).min(asked.all);
    if all < asked.all {
        tracing::warn!(
            limit,
            reserved,
            connections = all,
            "too few open files for `http.connections` beside `pool.max_workers`: raise the hard limit (ulimit -Hn, LimitNOFILE), or lower the keys"
        );
    }
    // Now, and not when clients come.
    if let Err(error) = grow_descriptor_table((all as u64).saturating_add(reserved).min(limit)) {
        tracing::debug!(%error, "the table of descriptors grows as they are needed");
    }
    // One address and one tenant never hold all.
    let most = (all * 3 / 4).max(1);
    ConnectionLimits {
        all,
        per_peer: asked.per_peer.min(most),
        per_tenant: asked.per_tenant.min(most),
        proxies: proxies(config),
        idle_timeout: asked.idle_timeout,
        write_timeout: asked.write_timeout,
    }
}

/// Descriptors that a worker costs for the network in which it reaches the hosts of a list: a listener for each port, and two beside.
fn of_lists(config: &Config) -> u64 {
    let lists = config
        .servers
        .values()
        .filter_map(|it| it.network.allowed());
    lists
        .map(|list| list.ports().len() as u64 + 2)
        .max()
        .unwrap_or(0)
}

/// Descriptors for connections of workers to such hosts.
fn to_hosts(config: &Config) -> u64 {
    match of_lists(config) {
        0 => 0,
        _ => descriptors_for_hosts(),
    }
}

/// Peers that stand for many clients.
fn proxies(config: &Config) -> Vec<IpNet> {
    let trusted = match &config.auth.mode {
        AuthMode::Header(headers) => headers.trusted.as_slice(),
        AuthMode::None | AuthMode::Token | AuthMode::Jwt(_) => &[],
    };
    let named = config.http.connections.proxies.iter();
    named.chain(trusted).copied().collect()
}

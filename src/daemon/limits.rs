//! From pool.toml to the pool's limits, and the process's own.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::config::{Config, SizeOrShare};
use crate::pool::Limits;
use crate::worker::memory::{can_hibernate, host_memory};

/// Descriptors a worker costs: its three pipes, and one to spare.
const FDS_PER_WORKER: u64 = 4;
/// Descriptors for everything else: listeners, the state folder, a few connections.
const FDS_BESIDE: u64 = 256;

/// The pool's limits as configured.
pub(super) fn of(config: &Config) -> Limits {
    let pool = &config.pool;
    let max_memory = match pool.max_memory {
        SizeOrShare::Bytes(bytes) => bytes,
        SizeOrShare::Percent(percent) => {
            host_memory().map_or(u64::MAX, |memory| memory / 100 * u64::from(percent))
        }
    };
    Limits {
        max_memory,
        hibernate_after: pool.hibernate_after.filter(|_| can_hibernate().is_ok()),
        max_workers: pool.max_workers,
        max_starting: pool.max_starting,
        queue_limit: pool.queue_limit,
        queue_timeout: pool.queue_timeout,
        ..Limits::default()
    }
}

/// Says why idle workers are not paged out, where that was to be.
pub(super) fn say_if_sleepless(config: &Config) {
    if let (Some(_), Err(error)) = (config.pool.hibernate_after, can_hibernate()) {
        tracing::info!("idle workers are not hibernated: {error}");
    }
}

/// `RLIMIT_CORE`, in bytes: less than any core dump needs, and the one value at which the kernel
/// hands none to a program either (`kernel.core_pattern` with `|`; there, 0 does not count).
const CORE_LIMIT: u64 = 1;

/// Opened secrets are in this process's memory: no core dump of it is written, and no other process
/// of its user may read it. What it executes begins anew in this, but inherits the limit: workers,
/// the guardian and commands, all of which hold secrets, leave no core dumps either.
pub(super) fn keep_out_of_core_dumps() {
    let limited = getrlimit(Resource::RLIMIT_CORE).and_then(|(_, hard)| {
        let limit = CORE_LIMIT.min(hard);
        setrlimit(Resource::RLIMIT_CORE, limit, limit)
    });
    if let Err(error) = limited.and_then(|()| nix::sys::prctl::set_dumpable(false)) {
        tracing::warn!(%error, "core dumps, with secrets in them, cannot be ruled out");
    }
}

/// Raises the soft limit on open files to the hard one, and says so if that is still too few.
pub(super) fn raise_open_files(config: &Config) {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        if soft < hard {
            setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
        }
        Ok(hard)
    });
    let needed = FDS_BESIDE + FDS_PER_WORKER * config.pool.max_workers as u64;
    match raised {
        Ok(limit) if limit < needed => tracing::warn!(
            limit,
            needed,
            "too few open files for `pool.max_workers`: raise the hard limit (ulimit -Hn) or lower the key"
        ),
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "the limit on open files could not be raised"),
    }
}

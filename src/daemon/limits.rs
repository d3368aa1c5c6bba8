//! From pool.toml to the pool's limits, and the process's own.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::config::Config;
use crate::pool::Limits;

/// Descriptors a worker costs: its three pipes, and one to spare.
const FDS_PER_WORKER: u64 = 4;
/// Descriptors for everything else: listeners, the state folder, a few connections.
const FDS_BESIDE: u64 = 256;

/// The pool's limits as configured.
pub(super) fn of(config: &Config) -> Limits {
    let pool = &config.pool;
    Limits {
        max_workers: pool.max_workers,
        max_starting: pool.max_starting,
        queue_limit: pool.queue_limit,
        queue_timeout: pool.queue_timeout,
        ..Limits::default()
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

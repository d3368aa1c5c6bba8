//! What tenants and servers use, from what their workers do and what was tallied.

use std::time::Duration;

use rustc_hash::FxHashMap;

use super::rows::{Rates, ServerUse, TenantUse, WorkerUse};
use crate::admin::model::{CircuitState, LastError, StartCounts};
use crate::ids::{ServerName, TenantId};
use crate::telemetry::labels::WorkerState;
use crate::usage::{NOBODY, OTHERS, Tally, Used};

/// A configured tenant.
#[derive(Clone, Debug)]
pub struct TenantFacts {
    /// The tenant's name.
    pub name: TenantId,
    /// The most workers it may have.
    pub max_workers: usize,
}

/// A configured server, with what no worker of it tells.
#[derive(Clone, Debug)]
pub struct ServerFacts {
    /// The server's name.
    pub name: ServerName,
    /// Starts since the supervisor started.
    pub starts: StartCounts,
    /// Whether starts of the server are tried.
    pub circuit: CircuitState,
    /// Until a start of the server is tried again.
    pub retry_in: Option<Duration>,
    /// The last thing that went wrong with the server.
    pub last_error: Option<LastError>,
}

/// What was used in a span of time that ends now.
#[derive(Clone, Copy, Debug)]
pub struct UsedLately<'a> {
    /// What each tenant has used of each server.
    pub tally: &'a Tally,
    /// The length of the span.
    pub over: Duration,
}

/// Digits that are told.
fn rounded(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}

impl Rates {
    /// What was used in that time.
    #[allow(clippy::cast_precision_loss, reason = "what is shown has few digits")]
    pub fn of(used: Used, over: Duration) -> Self {
        let seconds = over.as_secs_f64();
        let per_second = |count: u64| match over.is_zero() {
            true => 0.0,
            false => count as f64 / seconds,
        };
        Self {
            over_seconds: rounded(seconds),
            calls_per_minute: rounded(60.0 * per_second(used.calls)),
            errors_per_minute: rounded(60.0 * per_second(used.errors)),
            cpu_cores: rounded(per_second(used.cpu_ms) / 1e3),
        }
    }
}

/// What is summed up for a tenant or a server.
#[derive(Clone, Copy, Default, Debug)]
struct Sum {
    workers: usize,
    in_flight: usize,
    queued: usize,
    awake: u64,
    asleep: u64,
    used: Used,
}

impl Sum {
    fn add(&mut self, worker: &WorkerUse) {
        self.workers += 1;
        self.in_flight += worker.in_flight;
        let memory = worker.memory_bytes.unwrap_or(0);
        match worker.state {
            WorkerState::Hibernated => self.asleep += memory,
            WorkerState::Starting
            | WorkerState::Spare
            | WorkerState::Idle
            | WorkerState::Busy
            | WorkerState::Draining
            | WorkerState::Stopping => self.awake += memory,
        }
    }
}

/// What every tenant uses: the configured ones, in their order, and then those who are here all the same, who may have `max_workers`
/// each. What is nobody's, or of those who are counted together, is no tenant's.
pub fn tenants(
    configured: &[TenantFacts],
    workers: &[WorkerUse],
    waiting: &[(TenantId, usize)],
    lately: UsedLately<'_>,
    max_workers: usize,
) -> Vec<TenantUse> {
    let mut sums: FxHashMap<&TenantId, Sum> = FxHashMap::default();
    for worker in workers {
        sums.entry(&worker.tenant).or_default().add(worker);
    }
    for (tenant, count) in waiting {
        sums.entry(tenant).or_default().queued += count;
    }
    for (tenant, _, used) in lately.tally.pairs() {
        sums.entry(tenant).or_default().used.add(used);
    }
    let row = |name: &TenantId, max_workers: usize, sum: Sum| {
        let rates = Rates::of(sum.used, lately.over);
        TenantUse {
            name: name.clone(),
            workers: sum.workers,
            max_workers,
            in_flight: sum.in_flight,
            queued: sum.queued,
            calls_per_minute: rates.calls_per_minute,
            errors_per_minute: rates.errors_per_minute,
            cpu_cores: rates.cpu_cores,
            memory_awake_bytes: sum.awake,
            memory_asleep_bytes: sum.asleep,
        }
    };
    let known = configured.iter().map(|facts| {
        let sum = sums.remove(&facts.name).unwrap_or_default();
        row(&facts.name, facts.max_workers, sum)
    });
    let mut rows: Vec<_> = known.collect();
    let is_one = |name: &TenantId| ![NOBODY, OTHERS].contains(&name.as_str());
    let others = sums.into_iter().filter(|(name, _)| is_one(name));
    rows.extend(others.map(|(name, sum)| row(name, max_workers, sum)));
    rows
}

/// What every configured server uses, in their order.
pub fn servers(
    configured: Vec<ServerFacts>,
    workers: &[WorkerUse],
    waiting: &[(ServerName, usize)],
    lately: UsedLately<'_>,
) -> Vec<ServerUse> {
    let mut sums: FxHashMap<&ServerName, Sum> = FxHashMap::default();
    for worker in workers {
        sums.entry(&worker.server).or_default().add(worker);
    }
    for (server, count) in waiting {
        sums.entry(server).or_default().queued += count;
    }
    for (_, server, used) in lately.tally.pairs() {
        sums.entry(server).or_default().used.add(used);
    }
    let row = |facts: ServerFacts| {
        let sum = sums.get(&facts.name).copied().unwrap_or_default();
        let rates = Rates::of(sum.used, lately.over);
        ServerUse {
            name: facts.name,
            workers: sum.workers,
            in_flight: sum.in_flight,
            queued: sum.queued,
            calls_per_minute: rates.calls_per_minute,
            errors_per_minute: rates.errors_per_minute,
            cpu_cores: rates.cpu_cores,
            memory_awake_bytes: sum.awake,
            memory_asleep_bytes: sum.asleep,
            starts: facts.starts,
            circuit: facts.circuit,
            retry_in_seconds: facts.retry_in.map(|wait| rounded(wait.as_secs_f64())),
            last_error: facts.last_error,
        }
    };
    configured.into_iter().map(row).collect()
}

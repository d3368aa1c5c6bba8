//! One look at everything.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::binding::{self, Fill};
use super::{Dashboard, Looks, RATES_OVER, Sight, memory_of, words};
use crate::admin::overview::{
    Binding, CircuitInWords, Evictions, Frame, GrantInDanger, InstallRow, Lately, MemoryUse, Mix,
    Rates, Rejection, ServerFacts, TenantFacts, UsedLately, WorkerUse, servers, tenants,
};
use crate::admin::{CircuitRow, StartCounts, Status, SupervisorState};
use crate::config::Config;
use crate::daemon::ended::now_ms;
use crate::daemon::pool_view::{circuit_state, label, next_try};
use crate::gateway::Gateway;
use crate::pool::{Grants, Snapshot};
use crate::protocol::Reason;
use crate::telemetry::Totals;
use crate::telemetry::labels::EvictionReason;
use crate::tenancy::oauth::Outlook;
use crate::usage::RateWindow;

/// Milliseconds between two answers of a stream.
const EVERY_MS: u64 = 2_000;
/// Events that are looked through for those that are shown.
const EVENTS: usize = 512;
/// How soon an authorisation ends that is told of.
const ENDS_SOON: Duration = Duration::from_secs(86_400);

impl Dashboard {
    pub(super) fn look(&self, looks: &mut Looks, sight: &Sight<'_>, now: Instant) -> Frame {
        let (gateway, snapshot) = (sight.gateway, &sight.snapshot);
        let config = Arc::clone(&gateway.runtime_config().config);
        let workers = workers(looks, gateway, snapshot, now);
        let tally = gateway.workers().usage().take_tally();
        let window = looks.window.get_or_insert_with(|| {
            // What was tallied before somebody looked is of an unknown span.
            RateWindow::new(now.into_std(), RATES_OVER)
        });
        window.push(now.into_std(), tally);
        let lately = UsedLately {
            tally: window.sum(),
            over: window.length(),
        };
        let known = tenants_of(&mut looks.tenants, &config);
        let max_workers = config.pool.max_workers_per_tenant;
        let tenants = tenants(&known, &workers, &snapshot.waiting, lately, max_workers);
        let facts = facts_of_servers(sight, &config);
        let servers = servers(facts, &workers, &snapshot.waiting_for, lately);
        let rates = Rates::of(lately.tally.total(), lately.over);
        let counted = self.counted(sight, now);
        let memory = memory(gateway, snapshot);
        let evicted = counted.totals.evictions;
        let evicting = looks.evicting.seen(now, evicted, counted.a_minute_ago);
        let binding = match () {
            () if sight.status.state == SupervisorState::Draining => Some(binding::draining()),
            () => binding_of(snapshot, &config, memory, evicting),
        };
        Frame {
            at_ms: now_ms(),
            every_ms: EVERY_MS,
            status: Status {
                circuits: vec![],
                ..sight.status.clone()
            },
            memory,
            binding,
            rates,
            tenants,
            servers,
            workers,
            mix: mix(&counted.totals, counted.grants),
            mix_lately: Lately {
                counted: minus(
                    mix(&counted.totals, counted.grants),
                    mix(&counted.totals_before, counted.grants_before),
                ),
                over_seconds: counted.over.as_secs_f64().round(),
            },
            rejections: rejections(&counted.totals, &counted.totals_before),
            rejections_over_seconds: counted.over.as_secs_f64().round(),
            evictions: evictions(evicted),
            evictions_lately: sum_of(evicted)
                .saturating_sub(sum_of(counted.totals_before.evictions)),
            circuits: circuits(snapshot),
            installs: installs(gateway),
            grants: grants(sight),
            events: sight.events.latest(EVENTS),
        }
    }

    /// What is counted, and how it stood before.
    fn counted(&self, sight: &Sight<'_>, now: Instant) -> Counted {
        let totals = sight.gateway.metrics().totals();
        let day = self.day.lock();
        let since_start = now.saturating_duration_since(self.started);
        let (before, over) = day.minutes.before(since_start);
        let a_minute_ago = day.minutes.stood();
        Counted {
            a_minute_ago: a_minute_ago.map_or(totals.evictions, |it| it.totals.evictions),
            totals,
            grants: sight.snapshot.grants,
            totals_before: before.totals,
            grants_before: before.grants,
            over,
        }
    }
}

struct Counted {
    totals: Totals,
    grants: Grants,
    totals_before: Totals,
    grants_before: Grants,
    /// How long ago that was.
    over: Duration,
    /// Evictions at the latest sample of the day.
    a_minute_ago: [u64; EvictionReason::ALL.len()],
}

fn workers(
    looks: &mut Looks,
    gateway: &Gateway,
    snapshot: &Snapshot,
    now: Instant,
) -> Vec<WorkerUse> {
    let connections = gateway.workers().connections();
    let used = connections.iter().filter_map(|connection| {
        let worker = connection.worker()?;
        Some((connection.id(), worker.taken_use()))
    });
    let rates = looks.processor.of(now, used);
    let row = |view: &crate::pool::WorkerView| {
        let cpu_cores = rates.get(&view.id).copied().unwrap_or(0.0);
        let tenths = |time: Duration| (time.as_secs_f64() * 10.0).round() / 10.0;
        WorkerUse {
            id: view.id,
            server: view.server.clone(),
            tenant: view.tenant.clone(),
            state: label(view.state),
            in_flight: view.in_flight,
            cpu_cores: (cpu_cores * 1e3).round() / 1e3,
            memory_bytes: view.measured,
            requests: view.requests,
            age_seconds: tenths(view.age),
            idle_seconds: view.idle_for.map(tenths),
            pinned: view.is_pinned,
        }
    };
    snapshot.workers.iter().map(row).collect()
}

/// The tenants that the config names, looked up again when another config is in force.
fn tenants_of(
    known: &mut Option<(Arc<Config>, Arc<[TenantFacts]>)>,
    config: &Arc<Config>,
) -> Arc<[TenantFacts]> {
    if let Some((of, tenants)) = known
        && Arc::ptr_eq(of, config)
    {
        return Arc::clone(tenants);
    }
    let of_pool = config.pool.max_workers_per_tenant;
    let facts = config.tenants.iter().map(|(name, settings)| TenantFacts {
        name: name.clone(),
        max_workers: settings.max_workers.unwrap_or(of_pool),
    });
    let tenants: Arc<[TenantFacts]> = facts.collect();
    *known = Some((Arc::clone(config), Arc::clone(&tenants)));
    tenants
}

fn facts_of_servers(sight: &Sight<'_>, config: &Config) -> Vec<ServerFacts> {
    let (metrics, snapshot) = (sight.gateway.metrics(), &sight.snapshot);
    let facts = config.servers.keys().map(|name| {
        let (ok, failed) = metrics.server(name).start_counts();
        ServerFacts {
            name: name.clone(),
            starts: StartCounts { ok, failed },
            circuit: circuit_state(snapshot, name),
            retry_in: next_try(snapshot, name),
            last_error: sight.events.ended.last_error(name),
        }
    });
    facts.collect()
}

fn memory(gateway: &Gateway, snapshot: &Snapshot) -> MemoryUse {
    let [awake_bytes, asleep_bytes, saved_bytes] = memory_of(snapshot);
    let max = gateway.workers().pool().limits().max_memory;
    MemoryUse {
        charged_bytes: snapshot.memory,
        awake_bytes,
        asleep_bytes,
        saved_bytes,
        max_bytes: Some(max).filter(|max| *max < u64::MAX),
    }
}

fn binding_of(
    snapshot: &Snapshot,
    config: &Config,
    memory: MemoryUse,
    evicting: Option<EvictionReason>,
) -> Option<Binding> {
    if let Some(wait) = &snapshot.longest_wait {
        return Some(binding::of_wait(wait, config));
    }
    if let Some(reason) = evicting {
        return Some(binding::of_eviction(reason));
    }
    binding::of_fill(Fill {
        workers: snapshot.workers.len(),
        max_workers: config.pool.max_workers,
        memory: memory.charged_bytes,
        max_memory: memory.max_bytes,
    })
}

fn mix(totals: &Totals, grants: Grants) -> Mix {
    Mix {
        warm: grants.warm,
        woken: grants.woken,
        adopted: totals.adopted,
        primed: totals.primed,
        cold: totals.started.saturating_sub(totals.primed),
        failed: totals.failed,
    }
}

fn minus(now: Mix, before: Mix) -> Mix {
    Mix {
        warm: now.warm.saturating_sub(before.warm),
        woken: now.woken.saturating_sub(before.woken),
        adopted: now.adopted.saturating_sub(before.adopted),
        primed: now.primed.saturating_sub(before.primed),
        cold: now.cold.saturating_sub(before.cold),
        failed: now.failed.saturating_sub(before.failed),
    }
}

fn rejections(totals: &Totals, before: &Totals) -> Vec<Rejection> {
    let counts = totals.rejections.iter().zip(&before.rejections);
    let all = Reason::ALL.iter().zip(counts);
    let told = all.filter(|(_, (total, _))| **total > 0);
    let row = |(reason, (total, before)): (&Reason, (&u64, &u64))| Rejection {
        reason: reason.as_str().to_owned(),
        total: *total,
        lately: total.saturating_sub(*before),
        about: reason.about().trim().to_owned(),
    };
    told.map(row).collect()
}

fn sum_of(evictions: [u64; EvictionReason::ALL.len()]) -> u64 {
    evictions.iter().sum()
}

fn evictions(counted: [u64; EvictionReason::ALL.len()]) -> Evictions {
    let of = |reason: EvictionReason| counted[reason as usize];
    Evictions {
        max_workers: of(EvictionReason::MaxWorkers),
        max_workers_per_tenant: of(EvictionReason::MaxWorkersPerTenant),
        max_workers_per_server: of(EvictionReason::MaxWorkersPerServer),
        max_memory: of(EvictionReason::MaxMemory),
    }
}

fn circuits(snapshot: &Snapshot) -> Vec<CircuitInWords> {
    let of_many = snapshot.open_circuits.iter().map(|it| CircuitInWords {
        circuit: CircuitRow {
            server: it.server.clone(),
            tenant: it.tenant.clone(),
            configuration: false,
            failures_in_a_row: None,
            failing_configurations: u32::try_from(it.failing_keys).ok(),
            retry_in_seconds: it.retry_in.as_secs_f64(),
        },
        message: words::of_circuit(it),
    });
    let of_one = snapshot
        .open_configurations
        .iter()
        .map(|it| CircuitInWords {
            circuit: CircuitRow {
                server: it.server.clone(),
                tenant: Some(it.tenant.clone()),
                configuration: true,
                failures_in_a_row: Some(it.failures),
                failing_configurations: None,
                retry_in_seconds: it.retry_in.as_secs_f64(),
            },
            message: words::of_configuration(it),
        });
    of_many.chain(of_one).collect()
}

fn installs(gateway: &Gateway) -> Vec<InstallRow> {
    let all = gateway.workers().installs().into_iter();
    let row = |it: crate::launch::packages::UnderWay| InstallRow {
        package: it.package,
        server: it.server,
        stage: it.stage.as_str().to_owned(),
        seconds: it.lasted.as_secs_f64().round(),
    };
    all.map(row).collect()
}

fn grants(sight: &Sight<'_>) -> Vec<GrantInDanger> {
    let now = now_ms();
    let all = sight.grants.in_danger(ENDS_SOON).into_iter();
    all.map(|(tenant, server, outlook)| {
        let ends_at_ms = match outlook {
            Outlook::Ends(left) => {
                Some(now.saturating_add(u64::try_from(left.as_millis()).unwrap_or(u64::MAX)))
            }
            Outlook::Fails { .. } => None,
        };
        GrantInDanger {
            message: words::of_grant(&tenant, &server, outlook),
            tenant,
            server,
            ends_at_ms,
        }
    })
    .collect()
}

//! Measures workers: what they hold goes to the pool, and who holds more than it may is ended.
//!
//! A measurement walks page tables, so it is taken only where the cheap figure, the resident set,
//! has moved; a worker that stays as it is is looked at less and less often.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::events::Events;
use crate::ids::WorkerId;
use crate::pool::{WorkerState, WorkerView};
use crate::telemetry::labels::Limit;
use crate::upstream::{WorkerConnection, Workers};
use crate::usage::Amounts;
use crate::worker::memory::{Footprint, SwapWeight, footprint, memory_pressure, resident};
use crate::worker::{Breaches, Worker, disk_usage, groups, limit_files};

/// How often the sampler looks which worker is due.
const PERIOD: Duration = Duration::from_secs(1);
/// Longest time between two looks at a worker, where no limit needs them sooner.
const MAX_INTERVAL: Duration = Duration::from_secs(30);
/// How often `/proc` is searched for processes that workers have started since.
const TREE_PERIOD: Duration = Duration::from_secs(5);
/// A resident set that moved by less than this part is as it was.
const MOVED_PART: u64 = 20;
/// Percent of the last ten seconds in which tasks waited for memory above which the host lacks it.
const HIGH_PRESSURE: f32 = 10.0;
/// The part of what workers hold that idle ones then shed each time.
const PRESSURE_PART: u64 = 20;
/// How often memory pressure may make the pool shed at the most: the kernel's figure is a mean of ten seconds.
const PRESSURE_PERIOD: Duration = Duration::from_secs(10);

/// How long one look at workers may take. Where there are more than it suffices for, those that wait
/// longest come first the next time.
const LOOK_BUDGET: Duration = Duration::from_millis(100);

/// Measuring folders takes at most this part of the time.
const DISK_SHARE: u32 = 20;

/// Whether a worker has limits that nobody keeps between two looks.
fn has_limits(connection: &WorkerConnection) -> bool {
    let plan = connection.plan();
    let limits = &plan.spec.limits;
    plan.max_memory.is_some() || limits.pids.is_some() || limits.disk.is_some()
}

/// The last sample of one worker.
#[derive(Debug)]
struct WorkerSample {
    due: Instant,
    interval: Duration,
    resident: u64,
    pids: Vec<u32>,
    held: Option<u64>,
    breaches: Breaches,
    /// When the worker's folders are measured next.
    disk_due: Instant,
    /// Whether the worker's folders take more than they may, so that its files grow no more.
    is_full: bool,
}

/// The sampling task's memory.
#[derive(Debug)]
pub(super) struct Sampler {
    events: Events,
    workers: Arc<Workers>,
    known: HashMap<WorkerId, WorkerSample>,
    trees_at: Option<Instant>,
    pressed_at: Option<Instant>,
    /// When what workers hold was last charged to their tenants.
    charged_at: Instant,
}

/// Samples until `stop`.
pub(super) async fn run(workers: Arc<Workers>, events: Events, stop: CancellationToken) {
    let mut sampler = Sampler {
        events,
        workers,
        known: HashMap::new(),
        trees_at: None,
        pressed_at: None,
        charged_at: Instant::now(),
    };
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        // /proc is in memory, but walking page tables takes its time.
        let Ok(back) = tokio::task::spawn_blocking(move || {
            sampler.look();
            sampler
        })
        .await
        else {
            tracing::error!("the sampling of memory failed: limits on memory are not in force");
            return;
        };
        sampler = back;
    }
}

impl Sampler {
    fn look(&mut self) {
        let now = Instant::now();
        let views = self.workers.pool().snapshot().workers;
        self.charge(now, &views);
        let states: HashMap<_, _> = views.iter().map(|view| (view.id, view.state)).collect();
        self.known.retain(|id, _| states.contains_key(id));
        let ready = [
            WorkerState::Idle,
            WorkerState::Hibernated,
            WorkerState::Busy,
            WorkerState::Draining,
        ];
        let mut all: Vec<(Arc<WorkerConnection>, Worker)> = Vec::new();
        for view in views.iter().filter(|view| ready.contains(&view.state)) {
            if let Some(connection) = self.workers.connection(view.id)
                && let Some(worker) = connection.worker().cloned()
            {
                all.push((connection, worker));
            }
        }
        let is_due = |connection: &WorkerConnection| {
            self.known
                .get(&connection.id())
                .is_none_or(|it| it.due <= now)
        };
        let due = all
            .iter()
            .map(|(connection, _)| connection)
            .filter(|it| is_due(it));
        let mut due: Vec<Arc<WorkerConnection>> = due.cloned().collect();
        if due.is_empty() {
            self.relieve_pressure(now, &views);
            return;
        }
        self.find_trees(now, &all);
        let swap = SwapWeight::now();
        // Workers that may hold only so much are never put off.
        let rank = |connection: &Arc<WorkerConnection>| {
            let due = self.known.get(&connection.id()).map(|known| known.due);
            (!has_limits(connection), due)
        };
        due.sort_by_key(rank);
        for connection in &due {
            if !has_limits(connection) && now.elapsed() > LOOK_BUDGET {
                break;
            }
            let is_asleep = states.get(&connection.id()) == Some(&WorkerState::Hibernated);
            self.sample(now, connection, swap, !is_asleep);
            if has_limits(connection) {
                self.check_limits(connection);
            }
        }
        self.relieve_pressure(now, &views);
    }

    /// Charges tenants what their workers hold, for the time since that was last done: as the pool counts it, which is as last
    /// measured. A worker that lives for less than a period is charged a whole one or none, and so on average what it held.
    fn charge(&mut self, now: Instant, views: &[WorkerView]) {
        let since = now.saturating_duration_since(self.charged_at);
        self.charged_at = now;
        let usage = self.workers.usage();
        for view in views {
            let is_asleep = view.state == WorkerState::Hibernated;
            let held = Amounts::of_memory(view.memory, since, is_asleep);
            usage.charge_worker(&view.tenant, &view.server, &held);
        }
    }

    /// Looks for the workers' processes, if any worker is new or the last look is old.
    fn find_trees(&mut self, now: Instant, all: &[(Arc<WorkerConnection>, Worker)]) {
        let is_new = |(connection, _): &(Arc<WorkerConnection>, Worker)| {
            !self.known.contains_key(&connection.id())
        };
        let is_old = self
            .trees_at
            .is_none_or(|at| now.saturating_duration_since(at) >= TREE_PERIOD);
        if !is_old && !all.iter().any(is_new) {
            return;
        }
        self.trees_at = Some(now);
        let workers: Vec<_> = all.iter().map(|(_, worker)| worker.clone()).collect();
        for ((connection, _), pids) in all.iter().zip(Worker::trees(&workers)) {
            let known = self.known.entry(connection.id()).or_insert(WorkerSample {
                due: now,
                interval: PERIOD,
                resident: 0,
                pids: Vec::new(),
                held: None,
                breaches: Breaches::default(),
                disk_due: now,
                is_full: false,
            });
            known.pids = pids;
        }
    }

    fn sample(
        &mut self,
        now: Instant,
        connection: &WorkerConnection,
        swap: SwapWeight,
        is_awake: bool,
    ) {
        let Some(known) = self.known.get_mut(&connection.id()) else {
            return;
        };
        let limit = connection.plan().max_memory;
        let resident = resident(&known.pids);
        let has_moved = resident.abs_diff(known.resident) > known.resident / MOVED_PART;
        let longest = match has_limits(connection) {
            true => PERIOD,
            false => MAX_INTERVAL,
        };
        if known.held.is_some() && !has_moved {
            known.interval = (known.interval * 2).min(longest);
        } else if let Some(held) = footprint(&known.pids).map(|f: Footprint| f.held(swap)) {
            known.resident = resident;
            known.held = Some(held);
            known.interval = PERIOD;
            self.workers.pool().measured(connection.id(), held);
            if is_awake {
                let server = &connection.plan().server;
                self.workers.record_memory(server, held, false);
            }
            if let Some(limit) = limit.filter(|limit| held > *limit) {
                connection.end_for_memory(held, limit);
            }
        }
        known.due = now + known.interval;
    }

    /// Whether a worker has reached its limits of processes and of the disk; what is kept by a control group is counted.
    fn check_limits(&mut self, connection: &WorkerConnection) {
        let (Some(known), Some(worker)) =
            (self.known.get_mut(&connection.id()), connection.worker())
        else {
            return;
        };
        let spec = connection.plan().spec.for_worker(connection.id());
        let breaches = worker.breaches();
        if let Some(limit) = spec.limits.pids {
            if breaches.pids > known.breaches.pids {
                let how = format!(
                    "was kept from starting more than the {limit} processes and threads it may have (`servers.{}.limits.pids`)",
                    connection.plan().server
                );
                connection.note_limit(Limit::Pids, &how);
                self.events.limited(connection, Limit::Pids, how);
            }
            let count = u64::try_from(known.pids.len()).unwrap_or(u64::MAX);
            if groups().pids.is_none() && count > limit {
                connection.end_for_pids(known.pids.len(), limit);
            }
        }
        if breaches.memory > known.breaches.memory
            && let Some(limit) = connection.plan().max_memory
        {
            connection.end_for_killed_process(limit);
        }
        known.breaches = breaches;
        let Some(limit) = spec
            .limits
            .disk
            .filter(|_| known.disk_due <= Instant::now())
        else {
            return;
        };
        let began = Instant::now();
        let used = disk_usage(&spec.folders, &known.pids);
        known.disk_due = began + (began.elapsed() * DISK_SHARE).clamp(PERIOD, MAX_INTERVAL);
        if used > limit.saturating_add(limit / 4) {
            connection.end_for_disk(used, limit);
            return;
        }
        let is_full = used > limit;
        if is_full || known.is_full {
            let longest = if is_full { 0 } else { limit };
            // Of all that are there now: what they start inherits it.
            let limited = limit_files(&worker.tree(), longest);
            if limited.is_err() && is_full && !worker.began_full() {
                // As root without CAP_SYS_RESOURCE. The next one starts with files that do not grow.
                connection.end_for_disk(used, limit);
                return;
            }
        }
        if is_full && !known.is_full {
            let how = format!(
                "has {} MiB in its folders, more than the {} MiB it may: its files grow no more until some of that is removed (`servers.{}.limits.disk`)",
                used.div_ceil(1 << 20),
                limit >> 20,
                connection.plan().server
            );
            connection.note_limit(Limit::Disk, &how);
            self.events.limited(connection, Limit::Disk, how);
        }
        known.is_full = is_full;
    }

    /// Lets idle workers shed some of what all hold while the host lacks memory.
    fn relieve_pressure(&mut self, now: Instant, views: &[WorkerView]) {
        let is_pressed = memory_pressure().is_some_and(|percent| percent >= HIGH_PRESSURE);
        let is_soon = self
            .pressed_at
            .is_some_and(|at| now.saturating_duration_since(at) < PRESSURE_PERIOD);
        self.workers.look_at_templates(is_pressed && !is_soon);
        if is_soon || !is_pressed {
            return;
        }
        self.pressed_at = Some(now);
        let held: u64 = views.iter().map(|view| view.memory).sum();
        tracing::warn!(
            held_mib = held >> 20,
            "tasks wait for memory on this host: idle workers are hibernated or stopped sooner"
        );
        self.workers.pool().pressure(held / PRESSURE_PART);
    }
}

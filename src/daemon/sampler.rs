//! Measures workers: what they hold goes to the pool, and who holds more than it may is ended.
//!
//! A measurement walks page tables, so it is taken only where the cheap figure, the resident set,
//! has moved; a worker that stays as it is is looked at less and less often.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::ids::WorkerId;
use crate::pool::{WorkerState, WorkerView};
use crate::session::{Link, Sessions};
use crate::worker::Worker;
use crate::worker::memory::{Footprint, SwapWeight, footprint, memory_pressure, resident};

/// How often it is looked who is due.
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
/// How often it may come to that: the kernel's figure is a mean of ten seconds.
const PRESSURE_PERIOD: Duration = Duration::from_secs(10);

/// How long one look at workers may take. Where there are more than it suffices for, those that wait
/// longest come first the next time.
const LOOK_BUDGET: Duration = Duration::from_millis(100);

/// What is remembered of one worker.
#[derive(Debug)]
struct Known {
    due: Instant,
    interval: Duration,
    resident: u64,
    pids: Vec<u32>,
    held: Option<u64>,
}

/// The sampling task's memory.
#[derive(Debug)]
pub(super) struct Sampler {
    sessions: Sessions,
    known: HashMap<WorkerId, Known>,
    trees_at: Option<Instant>,
    pressed_at: Option<Instant>,
}

/// Samples until `stop`.
pub(super) async fn run(sessions: Sessions, stop: CancellationToken) {
    let mut sampler = Sampler {
        sessions,
        known: HashMap::new(),
        trees_at: None,
        pressed_at: None,
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
        let views = self.sessions.pool().snapshot().workers;
        let states: HashMap<_, _> = views.iter().map(|view| (view.id, view.state)).collect();
        self.known.retain(|id, _| states.contains_key(id));
        let ready = [
            WorkerState::Idle,
            WorkerState::Hibernated,
            WorkerState::Busy,
            WorkerState::Draining,
        ];
        let mut all: Vec<(Arc<Link>, Worker)> = Vec::new();
        for view in views.iter().filter(|view| ready.contains(&view.state)) {
            if let Some(link) = self.sessions.link(view.id)
                && let Some(worker) = link.worker().cloned()
            {
                all.push((link, worker));
            }
        }
        let is_due = |link: &Link| self.known.get(&link.id()).is_none_or(|it| it.due <= now);
        let due = all.iter().map(|(link, _)| link).filter(|it| is_due(it));
        let mut due: Vec<Arc<Link>> = due.cloned().collect();
        if due.is_empty() {
            self.relieve_pressure(now, &views);
            return;
        }
        self.find_trees(now, &all);
        let swap = SwapWeight::now();
        // Those that may hold only so much are never put off.
        let rank = |link: &Arc<Link>| {
            let due = self.known.get(&link.id()).map(|known| known.due);
            (link.order().max_memory.is_none(), due)
        };
        due.sort_by_key(rank);
        for link in &due {
            if link.order().max_memory.is_none() && now.elapsed() > LOOK_BUDGET {
                break;
            }
            let is_asleep = states.get(&link.id()) == Some(&WorkerState::Hibernated);
            self.sample(now, link, swap, !is_asleep);
        }
        self.relieve_pressure(now, &views);
    }

    /// Looks for the workers' processes, if any worker is new or the last look is old.
    fn find_trees(&mut self, now: Instant, all: &[(Arc<Link>, Worker)]) {
        let is_new = |(link, _): &(Arc<Link>, Worker)| !self.known.contains_key(&link.id());
        let is_old = self
            .trees_at
            .is_none_or(|at| now.saturating_duration_since(at) >= TREE_PERIOD);
        if !is_old && !all.iter().any(is_new) {
            return;
        }
        self.trees_at = Some(now);
        let workers: Vec<_> = all.iter().map(|(_, worker)| worker.clone()).collect();
        for ((link, _), pids) in all.iter().zip(Worker::trees(&workers)) {
            let known = self.known.entry(link.id()).or_insert(Known {
                due: now,
                interval: PERIOD,
                resident: 0,
                pids: Vec::new(),
                held: None,
            });
            known.pids = pids;
        }
    }

    fn sample(&mut self, now: Instant, link: &Link, swap: SwapWeight, is_awake: bool) {
        let Some(known) = self.known.get_mut(&link.id()) else {
            return;
        };
        let limit = link.order().max_memory;
        let resident = resident(&known.pids);
        let has_moved = resident.abs_diff(known.resident) > known.resident / MOVED_PART;
        let longest = limit.map_or(MAX_INTERVAL, |_| PERIOD);
        if known.held.is_some() && !has_moved {
            known.interval = (known.interval * 2).min(longest);
        } else if let Some(held) = footprint(&known.pids).map(|f: Footprint| f.held(swap)) {
            known.resident = resident;
            known.held = Some(held);
            known.interval = PERIOD;
            self.sessions.pool().measured(link.id(), held);
            if is_awake {
                let server = &link.order().server;
                self.sessions.record_memory(server, held, false);
            }
            if let Some(limit) = limit.filter(|limit| held > *limit) {
                link.end_for_memory(held, limit);
            }
        }
        known.due = now + known.interval;
    }

    /// Lets idle workers shed some of what all hold while the host lacks memory.
    fn relieve_pressure(&mut self, now: Instant, views: &[WorkerView]) {
        let is_soon = self
            .pressed_at
            .is_some_and(|at| now.saturating_duration_since(at) < PRESSURE_PERIOD);
        if is_soon || memory_pressure().is_none_or(|percent| percent < HIGH_PRESSURE) {
            return;
        }
        self.pressed_at = Some(now);
        let held: u64 = views.iter().map(|view| view.memory).sum();
        tracing::warn!(
            held_mib = held >> 20,
            "tasks wait for memory on this host: idle workers are hibernated or stopped sooner"
        );
        self.sessions.pool().pressure(held / PRESSURE_PART);
    }
}

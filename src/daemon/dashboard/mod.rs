//! What those who look at the pool are shown, and the last day of it.
//!
//! ```text
//!  somebody asks ── a frame that is not a second old? ── yes ─▶ that one
//!                                                  └──── no ──▶ looked at anew: pool, usage, metrics, events
//!  each minute ──▶ one sample for the day; if nobody has asked for a minute: rates are counted no longer
//! ```
//!
//! Invariants:
//! - looks are made while somebody asks, once a second at the most, for all who ask;
//! - a look reads what is in memory: no `/proc`, no file, no worker;
//! - what is counted of late is so without anybody having looked before, but for the rates of single tenants and servers.

mod binding;
mod frame;
mod processor_rates;
mod words;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use self::binding::Evicting;
use self::processor_rates::ProcessorRates;
use super::ended::now_ms;
use super::events::Events;
use super::pool_view::counts;
use crate::admin::Status;
use crate::admin::minutes::{History, Minutes, Sample, Totalled};
use crate::admin::overview::{Frame, TenantFacts};
use crate::config::Config;
use crate::gateway::Gateway;
use crate::pool::{Snapshot, WorkerState};
use crate::tenancy::oauth::Grants;
use crate::usage::RateWindow;

pub(super) use self::words::of_not_hibernated;

/// How old a frame may be that is shown: a little less than half of the time between two answers of a stream.
const FRESH: Duration = Duration::from_millis(900);
/// The span of rates.
const RATES_OVER: Duration = Duration::from_secs(60);
/// How often a sample is taken for the day.
const SAMPLE_PERIOD: Duration = Duration::from_secs(60);
/// For so long after the last look rates go on being counted.
const WATCHED_FOR: Duration = Duration::from_secs(60);

/// Where a look is taken.
pub(super) struct Sight<'s> {
    /// The whole at a glance.
    pub(super) status: Status,
    /// The pool at that moment.
    pub(super) snapshot: Snapshot,
    pub(super) gateway: &'s Gateway,
    pub(super) events: &'s Events,
    pub(super) grants: Arc<Grants>,
}

/// What is remembered from look to look.
#[derive(Debug, Default)]
struct Looks {
    latest: Option<(Instant, Arc<Frame>)>,
    /// There while somebody looks.
    window: Option<RateWindow>,
    processor: ProcessorRates,
    evicting: Evicting,
    /// Tenants of that config.
    tenants: Option<(Arc<Config>, Arc<[TenantFacts]>)>,
}

/// The day, and when its latest point was taken, in milliseconds since 1970.
#[derive(Debug, Default)]
struct Day {
    minutes: Minutes,
    latest_ms: u64,
}

/// What those who look are shown.
#[derive(Debug)]
pub(super) struct Dashboard {
    started: Instant,
    looks: Mutex<Looks>,
    /// Locked behind [`Self::looks`], or alone.
    day: Mutex<Day>,
}

impl Default for Dashboard {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            looks: Mutex::default(),
            day: Mutex::default(),
        }
    }
}

impl Dashboard {
    /// The pool now, as `sight` gives it, or as it was less than a second ago.
    pub(super) fn overview<'s>(&self, sight: impl FnOnce() -> Sight<'s>) -> Arc<Frame> {
        // Held while a frame is made: who comes meanwhile gets the same.
        let mut looks = self.looks.lock();
        let now = Instant::now();
        if let Some((at, frame)) = &looks.latest
            && now.saturating_duration_since(*at) < FRESH
        {
            return Arc::clone(frame);
        }
        let frame = Arc::new(self.look(&mut looks, &sight(), now));
        looks.latest = Some((now, Arc::clone(&frame)));
        frame
    }

    /// The last day in at most so many points.
    pub(super) fn history(&self, points: usize) -> History {
        let day = self.day.lock();
        day.minutes.history(day.latest_ms, points)
    }

    /// Takes a sample for the day, and stops counting rates that nobody looks at.
    fn sample(&self, gateway: &Gateway) {
        let now = Instant::now();
        let sample = sample(gateway);
        let since_start = now.saturating_duration_since(self.started);
        let mut day = self.day.lock();
        day.minutes.push(since_start, &sample);
        day.latest_ms = now_ms();
        drop(day);
        let mut looks = self.looks.lock();
        let is_watched = |(at, _): &(Instant, _)| now.saturating_duration_since(*at) < WATCHED_FOR;
        if looks.window.is_some() && !looks.latest.as_ref().is_some_and(is_watched) {
            *looks = Looks::default();
            gateway.workers().usage().stop_tally();
        }
    }
}

/// What workers hold: awake, hibernated, and what the hibernated ones held awake and do not hold now, in bytes.
fn memory_of(snapshot: &Snapshot) -> [u64; 3] {
    let [mut awake, mut asleep, mut saved] = [0; 3];
    for worker in &snapshot.workers {
        let held = worker.measured.unwrap_or(0);
        match worker.state {
            WorkerState::Hibernated => {
                asleep += held;
                saved += worker.awake_memory.saturating_sub(worker.memory);
            }
            WorkerState::Starting
            | WorkerState::Idle
            | WorkerState::Spare
            | WorkerState::Busy
            | WorkerState::Draining
            | WorkerState::Stopping => awake += held,
        }
    }
    [awake, asleep, saved]
}

fn sample(gateway: &Gateway) -> Sample {
    let snapshot = gateway.workers().pool().snapshot();
    let [awake_bytes, asleep_bytes, _] = memory_of(&snapshot);
    Sample {
        workers: counts(&snapshot),
        awake_bytes,
        asleep_bytes,
        queue_depth: snapshot.queue_depth,
        totalled: Totalled {
            totals: gateway.metrics().totals(),
            grants: snapshot.grants,
        },
    }
}

/// Takes a sample each minute until `stop`.
pub(super) async fn run(dashboard: Arc<Dashboard>, gateway: Gateway, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(SAMPLE_PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        dashboard.sample(&gateway);
    }
}

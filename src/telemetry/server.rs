//! The metrics of one server.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus::{Histogram, IntCounter, IntGauge};

use super::exemplars::{Exemplars, SeriesExemplars};
use super::labels::{
    Anomaly, CircuitState, EgressOutcome, Era, ExitReason, InstallOutcome, Limit, Malformed,
    Method, Observed, Outcome, RefreshOutcome, StartOutcome, WorkerState,
};
use super::registration::gauge_value;
use super::server_families::{DIRECTIONS, PRIMED_OUTCOMES, REQUEST_BUCKETS, ServerVecs};
use super::totals::Totals;
use crate::ids::ServerName;
use crate::protocol::{Flaw, TraceId};

/// Handles to the series of one server. Recording is an array index, an atomic load and an atomic
/// add; a series is created when it is first recorded.
#[derive(Debug)]
pub struct ServerMetrics {
    name: ServerName,
    vecs: Arc<ServerVecs>,
    workers: [OnceLock<IntGauge>; WorkerState::ALL.len()],
    sessions: [OnceLock<IntGauge>; Era::ALL.len()],
    methods: [MethodMetrics; Method::ALL.len()],
    memory: OnceLock<IntGauge>,
    garbage_lines: OnceLock<IntCounter>,
    stderr_lines: OnceLock<IntCounter>,
    start_counts: StartCounts,
}

/// Starts, counted beside their series, which a look would make where nothing was recorded.
#[derive(Debug, Default)]
struct StartCounts {
    ok: AtomicU64,
    failed: AtomicU64,
    primed: AtomicU64,
    adopted: AtomicU64,
}

impl StartCounts {
    fn ended(&self, outcome: StartOutcome) {
        let count = match outcome {
            StartOutcome::Ok => &self.ok,
            // Called off, or to find out how a server is spoken to.
            StartOutcome::Cancelled | StartOutcome::Declined => return,
            StartOutcome::SpawnFailed
            | StartOutcome::Exited
            | StartOutcome::Timeout
            | StartOutcome::Refused => &self.failed,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

#[derive(Debug, Default)]
struct MethodMetrics {
    outcomes: [OnceLock<IntCounter>; Outcome::ALL.len()],
    seconds: OnceLock<Histogram>,
    /// Boxed: without an exporter there are none.
    exemplars: OnceLock<Box<SeriesExemplars>>,
}

impl ServerMetrics {
    pub(super) fn new(name: &ServerName, vecs: Arc<ServerVecs>) -> Self {
        Self {
            name: name.clone(),
            vecs,
            workers: Default::default(),
            sessions: Default::default(),
            methods: Default::default(),
            memory: OnceLock::new(),
            garbage_lines: OnceLock::new(),
            stderr_lines: OnceLock::new(),
            start_counts: StartCounts::default(),
        }
    }

    /// A request has its answer, or has been given up, `took` after it arrived. For a batch, once
    /// for each request in it.
    pub fn request(&self, method: Method, outcome: Outcome, took: Duration) {
        let metrics = &self.methods[method as usize];
        metrics.outcomes[outcome as usize]
            .get_or_init(|| {
                self.vecs.requests.with_label_values(&[
                    self.name.as_str(),
                    method.as_str(),
                    outcome.as_str(),
                ])
            })
            .inc();
        metrics
            .seconds
            .get_or_init(|| {
                self.vecs
                    .request_seconds
                    .with_label_values(&[self.name.as_str(), method.as_str()])
            })
            .observe(took.as_secs_f64());
    }

    /// A request that was recorded took so long, and its spans are exported.
    pub fn exemplar(&self, method: Method, trace: TraceId, took: Duration) {
        let exemplars = self.methods[method as usize]
            .exemplars
            .get_or_init(Box::default);
        exemplars.note(REQUEST_BUCKETS, trace, took);
    }

    /// Adds its exemplars to those of a scrape.
    pub(super) fn put_exemplars(&self, all: &mut Exemplars) {
        for (method, metrics) in Method::ALL.iter().zip(&self.methods) {
            if let Some(exemplars) = metrics.exemplars.get() {
                all.add(self.name.as_str(), method.as_str(), exemplars.all());
            }
        }
    }

    /// An attempt to start a worker ended after `took`; only successful ones go into the histogram,
    /// which timeouts would otherwise fill.
    pub fn worker_started(&self, outcome: StartOutcome, took: Duration) {
        self.start_counts.ended(outcome);
        self.vecs
            .starts
            .with_label_values(&[self.name.as_str(), outcome.as_str()])
            .inc();
        if outcome == StartOutcome::Ok {
            self.vecs
                .start_seconds
                .with_label_values(&[self.name.as_str()])
                .observe(took.as_secs_f64());
        }
    }

    /// A start that was forked from a template has come to its end.
    pub fn primed_start(&self, is_ok: bool) {
        let [ok, failed] = PRIMED_OUTCOMES;
        let outcome = if is_ok { ok } else { failed };
        let counts = &self.start_counts;
        counts.primed.fetch_add(is_ok.into(), Ordering::Relaxed);
        self.vecs
            .primed_starts
            .with_label_values(&[self.name.as_str(), outcome])
            .inc();
    }

    /// An attempt of a worker to reach a host has ended, after so many bytes to and from it.
    pub fn egress(&self, outcome: EgressOutcome, bytes: [u64; 2]) {
        let labels = [self.name.as_str(), outcome.as_str()];
        self.vecs.egress.with_label_values(&labels).inc();
        for (direction, bytes) in DIRECTIONS.iter().zip(bytes).filter(|(_, it)| *it > 0) {
            let labels = [self.name.as_str(), direction];
            self.vecs
                .egress_bytes
                .with_label_values(&labels)
                .inc_by(bytes);
        }
    }

    /// How many attempts to start a worker have ended: well, and in a failure. Attempts that were called off, or were to
    /// find out how a server is spoken to, are neither.
    pub fn start_counts(&self) -> (u64, u64) {
        let counts = &self.start_counts;
        (
            counts.ok.load(Ordering::Relaxed),
            counts.failed.load(Ordering::Relaxed),
        )
    }

    /// Adds what was counted of the server to what was of others.
    pub(super) fn add_to(&self, totals: &mut Totals) {
        for &method in Method::ALL {
            let counters = &self.methods[method as usize].outcomes;
            let of = |outcome: Outcome| {
                let counter = counters[outcome as usize].get();
                counter.map_or(0, IntCounter::get)
            };
            totals.errors += of(Outcome::Error) + of(Outcome::Failed);
            if method.is_call() {
                totals.calls += Outcome::ALL.iter().map(|outcome| of(*outcome)).sum::<u64>();
            }
        }
        let (ok, failed) = self.start_counts();
        totals.started += ok;
        totals.failed += failed;
        totals.primed += self.start_counts.primed.load(Ordering::Relaxed);
        totals.adopted += self.start_counts.adopted.load(Ordering::Relaxed);
    }

    /// A circuit of the server opened or closed.
    pub fn circuit_changed(&self, state: CircuitState) {
        self.vecs
            .circuits
            .with_label_values(&[self.name.as_str(), state.as_str()])
            .inc();
    }

    /// A worker is gone, its whole process tree with it.
    pub fn worker_exited(&self, reason: ExitReason) {
        self.vecs
            .exits
            .with_label_values(&[self.name.as_str(), reason.as_str()])
            .inc();
    }

    /// Circuits that are open now.
    pub fn set_open_circuits(&self, count: usize) {
        let gauge = self
            .vecs
            .open_circuits
            .with_label_values(&[self.name.as_str()]);
        gauge.set(gauge_value(count));
    }

    /// Workers in `state` now.
    pub fn set_workers(&self, state: WorkerState, count: usize) {
        self.workers[state as usize]
            .get_or_init(|| {
                self.vecs
                    .workers
                    .with_label_values(&[self.name.as_str(), state.as_str()])
            })
            .set(gauge_value(count));
    }

    /// Sessions open now.
    pub fn set_sessions(&self, era: Era, count: usize) {
        self.sessions[era as usize]
            .get_or_init(|| {
                self.vecs
                    .sessions
                    .with_label_values(&[self.name.as_str(), era.as_str()])
            })
            .set(gauge_value(count));
    }

    /// Memory of all of this server's workers, descendants included, as last sampled; bytes.
    pub fn set_memory_bytes(&self, bytes: u64) {
        self.memory
            .get_or_init(|| self.vecs.memory.with_label_values(&[self.name.as_str()]))
            .set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// A hibernated worker said its first word, `took` after it was needed again.
    pub fn worker_woke(&self, took: Duration) {
        self.vecs
            .wake_seconds
            .with_label_values(&[self.name.as_str()])
            .observe(took.as_secs_f64());
    }

    /// A spare became a tenant's worker, which took so long.
    pub fn spare_adopted(&self, took: Duration) {
        self.start_counts.adopted.fetch_add(1, Ordering::Relaxed);
        self.vecs
            .adoption_seconds
            .with_label_values(&[self.name.as_str()])
            .observe(took.as_secs_f64());
    }

    /// An access token of a tenant was asked for.
    pub fn token_refresh(&self, outcome: RefreshOutcome) {
        self.vecs
            .refreshes
            .with_label_values(&[self.name.as_str(), outcome.as_str()])
            .inc();
    }

    /// A package of the server was looked for, which took so long; only what was installed goes into
    /// the histogram.
    pub fn package_install(&self, outcome: InstallOutcome, took: Duration) {
        self.vecs
            .installs
            .with_label_values(&[self.name.as_str(), outcome.as_str()])
            .inc();
        if outcome == InstallOutcome::Installed {
            self.vecs
                .install_seconds
                .with_label_values(&[self.name.as_str()])
                .observe(took.as_secs_f64());
        }
    }

    /// `count` lines on stdout were not JSON.
    pub fn garbage_lines(&self, count: u64) {
        self.garbage_lines
            .get_or_init(|| {
                self.vecs
                    .garbage_lines
                    .with_label_values(&[self.name.as_str()])
            })
            .inc_by(count);
    }

    /// `count` lines came on stderr.
    pub fn stderr_lines(&self, count: u64) {
        self.stderr_lines
            .get_or_init(|| {
                self.vecs
                    .stderr_lines
                    .with_label_values(&[self.name.as_str()])
            })
            .inc_by(count);
    }

    /// A worker's message was off.
    pub fn malformed(&self, cause: Flaw, outcome: Malformed) {
        self.vecs
            .malformed
            .with_label_values(&[self.name.as_str(), cause.as_str(), outcome.as_str()])
            .inc();
    }

    /// A worker reached one of its limits.
    pub fn limit_reached(&self, limit: Limit) {
        self.vecs
            .limits_reached
            .with_label_values(&[self.name.as_str(), limit.as_str()])
            .inc();
    }

    /// A server with `sandbox = "observe"` did something, of a kind and place that it did not do before, which "strict" would have refused.
    pub fn observed(&self, kind: Observed) {
        self.vecs
            .observed
            .with_label_values(&[self.name.as_str(), kind.as_str()])
            .inc();
    }

    /// A worker broke the protocol.
    pub fn anomaly(&self, kind: Anomaly) {
        self.vecs
            .anomalies
            .with_label_values(&[self.name.as_str(), kind.as_str()])
            .inc();
    }
}

//! The metrics of one server.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus::{
    Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry,
};

use super::labels::{
    Anomaly, CircuitState, EgressOutcome, Era, ExitReason, InstallOutcome, Limit, Malformed,
    Method, Observed, Outcome, RefreshOutcome, StartOutcome, WorkerState,
};
use super::registration::{gauge_value, histogram, opts, register};
use crate::ids::ServerName;
use crate::protocol::Flaw;

/// Buckets of a start, from spawn to the answer to `initialize`, in seconds.
const START_BUCKETS: &[f64] = &[
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 60.0, 120.0,
];
/// Buckets of an install, in seconds.
const INSTALL_BUCKETS: &[f64] = &[
    0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0,
];
/// Buckets of a request, in seconds; `request_timeout` is 300 by default.
const REQUEST_BUCKETS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
    120.0, 300.0,
];

/// Buckets of a wake-up, in seconds.
const WAKE_BUCKETS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
];

/// `outcome` of `worker_primed_starts_total`.
const PRIMED_OUTCOMES: [&str; 2] = ["ok", "failed"];
/// `direction` of `egress_bytes_total`, as the worker sees it.
const DIRECTIONS: [&str; 2] = ["sent", "received"];

/// The families that have a `server` label.
#[derive(Debug)]
pub(super) struct ServerVecs {
    workers: IntGaugeVec,
    starts: IntCounterVec,
    primed_starts: IntCounterVec,
    start_seconds: HistogramVec,
    exits: IntCounterVec,
    circuits: IntCounterVec,
    open_circuits: IntGaugeVec,
    memory: IntGaugeVec,
    wake_seconds: HistogramVec,
    adoption_seconds: HistogramVec,
    installs: IntCounterVec,
    refreshes: IntCounterVec,
    install_seconds: HistogramVec,
    sessions: IntGaugeVec,
    requests: IntCounterVec,
    request_seconds: HistogramVec,
    garbage_lines: IntCounterVec,
    stderr_lines: IntCounterVec,
    anomalies: IntCounterVec,
    limits_reached: IntCounterVec,
    malformed: IntCounterVec,
    observed: IntCounterVec,
    egress: IntCounterVec,
    egress_bytes: IntCounterVec,
}

impl ServerVecs {
    pub(super) fn new(registry: &Registry) -> Self {
        let counter = |name: &str, help: &str, labels: &[&str]| {
            register(registry, IntCounterVec::new(opts(name, help), labels))
        };
        let gauge = |name: &str, help: &str, labels: &[&str]| {
            register(registry, IntGaugeVec::new(opts(name, help), labels))
        };
        let seconds = |name: &str, help: &str, buckets: &[f64], labels: &[&str]| {
            register(
                registry,
                HistogramVec::new(histogram(name, help, buckets), labels),
            )
        };
        Self {
            workers: gauge(
                "workers",
                "Worker processes now, by state.",
                &["server", "state"],
            ),
            starts: counter(
                "worker_starts_total",
                "Attempts to start a worker, by outcome.",
                &["server", "outcome"],
            ),
            primed_starts: counter(
                "worker_primed_starts_total",
                "Starts that were forked from a template, by whether the worker came to serve; the others are repeated as ordinary starts.",
                &["server", "outcome"],
            ),
            start_seconds: seconds(
                "worker_start_seconds",
                "Time from spawn to a ready worker, successful starts only.",
                START_BUCKETS,
                &["server"],
            ),
            exits: counter(
                "worker_exits_total",
                "Workers that are gone, by reason.",
                &["server", "reason"],
            ),
            circuits: counter(
                "circuit_changes_total",
                "Circuits of a server that opened or closed.",
                &["server", "state"],
            ),
            open_circuits: gauge(
                "circuits_open",
                "Circuits of a server that are open now: everyone's, tenants', and those of single configurations.",
                &["server"],
            ),
            wake_seconds: seconds(
                "wake_seconds",
                "Time from the request that woke a hibernated worker to its first word.",
                WAKE_BUCKETS,
                &["server"],
            ),
            adoption_seconds: seconds(
                "adoption_seconds",
                "Time from the request that got a spare to the spare's handshake.",
                WAKE_BUCKETS,
                &["server"],
            ),
            refreshes: counter(
                "oauth_refreshes_total",
                "Access tokens upstream that were asked for with a refresh token, by outcome.",
                &["server", "outcome"],
            ),
            installs: counter(
                "package_installs_total",
                "Packages that were looked for or installed, by outcome.",
                &["server", "outcome"],
            ),
            install_seconds: seconds(
                "package_install_seconds",
                "Time from the first wish for a package until it was installed.",
                INSTALL_BUCKETS,
                &["server"],
            ),
            memory: gauge(
                "worker_memory_bytes",
                "Memory of all workers' process trees at the last sample.",
                &["server"],
            ),
            sessions: gauge("sessions", "Open client sessions.", &["server", "era"]),
            requests: counter(
                "requests_total",
                "Requests of clients that have been answered or given up, by outcome.",
                &["server", "method", "outcome"],
            ),
            request_seconds: seconds(
                "request_seconds",
                "Time from a request's arrival to its answer: queue, start and worker included.",
                REQUEST_BUCKETS,
                &["server", "method"],
            ),
            garbage_lines: counter(
                "worker_garbage_lines_total",
                "Lines on a worker's stdout that are not JSON; skipped.",
                &["server"],
            ),
            stderr_lines: counter(
                "worker_stderr_lines_total",
                "Lines that workers wrote to stderr.",
                &["server"],
            ),
            malformed: counter(
                "worker_malformed_total",
                "Messages of workers that were off, by cause and by what became of them.",
                &["server", "cause", "outcome"],
            ),
            limits_reached: counter(
                "worker_limits_reached_total",
                "Times that workers reached one of their limits.",
                &["server", "limit"],
            ),
            observed: counter(
                "observed_total",
                "Kinds and places of what servers with `sandbox = \"observe\"` did that \"strict\" would have refused.",
                &["server", "kind"],
            ),
            egress: counter(
                "egress_total",
                "Attempts of workers to reach a host, where `network` has a list, by outcome.",
                &["server", "outcome"],
            ),
            egress_bytes: counter(
                "egress_bytes_total",
                "Bytes of connections that workers had to hosts, where `network` has a list, by direction.",
                &["server", "direction"],
            ),
            anomalies: counter(
                "worker_anomalies_total",
                "JSON of workers that breaks the protocol, by kind.",
                &["server", "kind"],
            ),
        }
    }

    /// Removes every series of `server`.
    pub(super) fn forget(&self, server: &ServerName) {
        let name = server.as_str();
        // A missing series is the only error there is, and it is fine: it was never recorded.
        let one = |result: prometheus::Result<()>| drop(result);
        for &state in WorkerState::ALL {
            one(self.workers.remove_label_values(&[name, state.as_str()]));
        }
        for &outcome in StartOutcome::ALL {
            one(self.starts.remove_label_values(&[name, outcome.as_str()]));
        }
        for outcome in PRIMED_OUTCOMES {
            one(self.primed_starts.remove_label_values(&[name, outcome]));
        }
        for &reason in ExitReason::ALL {
            one(self.exits.remove_label_values(&[name, reason.as_str()]));
        }
        for &state in CircuitState::ALL {
            one(self.circuits.remove_label_values(&[name, state.as_str()]));
        }
        one(self.open_circuits.remove_label_values(&[name]));
        for &era in Era::ALL {
            one(self.sessions.remove_label_values(&[name, era.as_str()]));
        }
        for &kind in Anomaly::ALL {
            one(self.anomalies.remove_label_values(&[name, kind.as_str()]));
        }
        for &limit in Limit::ALL {
            one(self
                .limits_reached
                .remove_label_values(&[name, limit.as_str()]));
        }
        for &kind in Observed::ALL {
            one(self.observed.remove_label_values(&[name, kind.as_str()]));
        }
        for &outcome in EgressOutcome::ALL {
            one(self.egress.remove_label_values(&[name, outcome.as_str()]));
        }
        for direction in DIRECTIONS {
            one(self.egress_bytes.remove_label_values(&[name, direction]));
        }
        for flaw in Flaw::ALL {
            for &outcome in Malformed::ALL {
                one(self
                    .malformed
                    .remove_label_values(&[name, flaw.as_str(), outcome.as_str()]));
            }
        }
        for &method in Method::ALL {
            let method = method.as_str();
            one(self.request_seconds.remove_label_values(&[name, method]));
            for &outcome in Outcome::ALL {
                one(self
                    .requests
                    .remove_label_values(&[name, method, outcome.as_str()]));
            }
        }
        one(self.start_seconds.remove_label_values(&[name]));
        one(self.memory.remove_label_values(&[name]));
        one(self.wake_seconds.remove_label_values(&[name]));
        one(self.adoption_seconds.remove_label_values(&[name]));
        one(self.adoption_seconds.remove_label_values(&[name]));
        for &outcome in RefreshOutcome::ALL {
            one(self
                .refreshes
                .remove_label_values(&[name, outcome.as_str()]));
        }
        for &outcome in InstallOutcome::ALL {
            one(self.installs.remove_label_values(&[name, outcome.as_str()]));
        }
        one(self.install_seconds.remove_label_values(&[name]));
        one(self.garbage_lines.remove_label_values(&[name]));
        one(self.stderr_lines.remove_label_values(&[name]));
    }
}

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
}

#[derive(Debug, Default)]
struct MethodMetrics {
    outcomes: [OnceLock<IntCounter>; Outcome::ALL.len()],
    seconds: OnceLock<Histogram>,
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

    /// An attempt to start a worker ended after `took`; only successful ones go into the histogram,
    /// which timeouts would otherwise fill.
    pub fn worker_started(&self, outcome: StartOutcome, took: Duration) {
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
        let of = |outcome: StartOutcome| {
            let labels = [self.name.as_str(), outcome.as_str()];
            self.vecs.starts.with_label_values(&labels).get()
        };
        let is_failure = |outcome: &&StartOutcome| match outcome {
            StartOutcome::Ok | StartOutcome::Cancelled | StartOutcome::Declined => false,
            StartOutcome::SpawnFailed
            | StartOutcome::Exited
            | StartOutcome::Timeout
            | StartOutcome::Refused => true,
        };
        let failed = StartOutcome::ALL.iter().filter(is_failure);
        (
            of(StartOutcome::Ok),
            failed.map(|outcome| of(*outcome)).sum(),
        )
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

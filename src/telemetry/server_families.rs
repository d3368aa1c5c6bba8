//! The metric families that have a `server` label, and how all series of a server go.

use prometheus::{HistogramVec, IntCounterVec, IntGaugeVec, Registry};

use super::labels::{
    Anomaly, CircuitState, EgressOutcome, Era, ExitReason, InstallOutcome, Limit, Malformed,
    Method, Observed, Outcome, RefreshOutcome, StartOutcome, WorkerState,
};
use super::registration::{counter_by, families, gauge_by, seconds_by};
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
pub(super) const REQUEST_BUCKETS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
    120.0, 300.0,
];

/// Buckets of a wake-up, in seconds.
const WAKE_BUCKETS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
];

/// `outcome` of `worker_primed_starts_total`.
pub(super) const PRIMED_OUTCOMES: [&str; 2] = ["ok", "failed"];
/// `direction` of `egress_bytes_total`, as the worker sees it.
pub(super) const DIRECTIONS: [&str; 2] = ["sent", "received"];

families! {
    /// The families that have a `server` label.
    pub(super) struct ServerVecs {
        workers: IntGaugeVec = gauge_by("workers", &["server", "state"], "Worker processes now, by state.");
        starts: IntCounterVec = counter_by("worker_starts_total", &["server", "outcome"], "Attempts to start a worker, by outcome.");
        primed_starts: IntCounterVec = counter_by("worker_primed_starts_total", &["server", "outcome"], "Starts that were forked from a template or were of a process that had waited, by whether the worker came to serve; the others are repeated as ordinary starts.");
        start_seconds: HistogramVec = seconds_by("worker_start_seconds", &["server"], START_BUCKETS, "Time from spawn to a ready worker, successful starts only.");
        exits: IntCounterVec = counter_by("worker_exits_total", &["server", "reason"], "Workers that are gone, by reason.");
        circuits: IntCounterVec = counter_by("circuit_changes_total", &["server", "state"], "Circuits of a server that opened or closed.");
        open_circuits: IntGaugeVec = gauge_by("circuits_open", &["server"], "Circuits of a server that are open now: everyone's, tenants', and those of single configurations.");
        memory: IntGaugeVec = gauge_by("worker_memory_bytes", &["server"], "Memory of all workers' process trees at the last sample.");
        wake_seconds: HistogramVec = seconds_by("wake_seconds", &["server"], WAKE_BUCKETS, "Time from the request that woke a hibernated worker to its first word.");
        adoption_seconds: HistogramVec = seconds_by("adoption_seconds", &["server"], WAKE_BUCKETS, "Time from the request that got a spare to the spare's handshake.");
        installs: IntCounterVec = counter_by("package_installs_total", &["server", "outcome"], "Packages that were looked for or installed, by outcome.");
        refreshes: IntCounterVec = counter_by("oauth_refreshes_total", &["server", "outcome"], "Access tokens upstream that were asked for with a refresh token, by outcome.");
        install_seconds: HistogramVec = seconds_by("package_install_seconds", &["server"], INSTALL_BUCKETS, "Time from the first wish for a package until it was installed.");
        sessions: IntGaugeVec = gauge_by("sessions", &["server", "era"], "Open client sessions.");
        requests: IntCounterVec = counter_by("requests_total", &["server", "method", "outcome"], "Requests of clients that have been answered or given up, by outcome.");
        request_seconds: HistogramVec = seconds_by("request_seconds", &["server", "method"], REQUEST_BUCKETS, "Time from a request's arrival to its answer: queue, start and worker included.");
        garbage_lines: IntCounterVec = counter_by("worker_garbage_lines_total", &["server"], "Lines on a worker's stdout that are not JSON; skipped.");
        stderr_lines: IntCounterVec = counter_by("worker_stderr_lines_total", &["server"], "Lines that workers wrote to stderr.");
        anomalies: IntCounterVec = counter_by("worker_anomalies_total", &["server", "kind"], "JSON of workers that breaks the protocol, by kind.");
        limits_reached: IntCounterVec = counter_by("worker_limits_reached_total", &["server", "limit"], "Times that workers reached one of their limits.");
        malformed: IntCounterVec = counter_by("worker_malformed_total", &["server", "cause", "outcome"], "Messages of workers that were off, by cause and by what became of them.");
        observed: IntCounterVec = counter_by("observed_total", &["server", "kind"], "Kinds and places of what servers with `sandbox = \"observe\"` did that \"strict\" would have refused.");
        egress: IntCounterVec = counter_by("egress_total", &["server", "outcome"], "Attempts of workers to reach a host, where `network` has a list, by outcome.");
        egress_bytes: IntCounterVec = counter_by("egress_bytes_total", &["server", "direction"], "Bytes of connections that workers had to hosts, where `network` has a list, by direction.");
    }
}

impl ServerVecs {
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

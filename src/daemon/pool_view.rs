//! The pool at one moment, as the rows of the admin API tell of it.

use std::time::Duration;

use crate::admin::{CircuitState, WorkerCounts};
use crate::ids::ServerName;
use crate::pool::{self, OpenCircuit, Snapshot};
use crate::telemetry::labels::WorkerState;

/// The state's label.
pub(super) fn label(state: pool::WorkerState) -> WorkerState {
    match state {
        pool::WorkerState::Starting => WorkerState::Starting,
        pool::WorkerState::Idle => WorkerState::Idle,
        pool::WorkerState::Hibernated => WorkerState::Hibernated,
        pool::WorkerState::Busy => WorkerState::Busy,
        pool::WorkerState::Draining => WorkerState::Draining,
        pool::WorkerState::Spare => WorkerState::Spare,
        pool::WorkerState::Stopping => WorkerState::Stopping,
    }
}

/// Live workers by state.
pub(super) fn counts(snapshot: &Snapshot) -> WorkerCounts {
    let mut workers = WorkerCounts::default();
    for worker in &snapshot.workers {
        workers.add(label(worker.state));
    }
    workers
}

/// The circuits of a server that are open.
pub(super) fn open_circuits<'a>(
    snapshot: &'a Snapshot,
    server: &'a ServerName,
) -> impl Iterator<Item = &'a OpenCircuit> {
    let circuits = snapshot.open_circuits.iter();
    circuits.filter(move |circuit| circuit.server == *server)
}

/// The configurations of a server that are not started.
pub(super) fn open_configurations<'a>(
    snapshot: &'a Snapshot,
    server: &'a ServerName,
) -> impl Iterator<Item = &'a pool::OpenConfiguration> {
    let all = snapshot.open_configurations.iter();
    all.filter(move |open| open.server == *server)
}

/// Whether starts of the server are tried.
pub(super) fn circuit_state(snapshot: &Snapshot, server: &ServerName) -> CircuitState {
    let waits = open_circuits(snapshot, server).map(|circuit| circuit.retry_in);
    let waits = waits.chain(open_configurations(snapshot, server).map(|open| open.retry_in));
    match waits.max() {
        None => CircuitState::Closed,
        Some(Duration::ZERO) => CircuitState::HalfOpen,
        Some(_) => CircuitState::Open,
    }
}

/// When the server is tried again that is not for now.
pub(super) fn next_try(snapshot: &Snapshot, server: &ServerName) -> Option<Duration> {
    let of_circuit = open_circuits(snapshot, server).map(|circuit| circuit.retry_in);
    let mut of_keys = snapshot.next_tries.iter();
    let of_keys = of_keys.find_map(|(name, wait)| (name == server).then_some(*wait));
    // Where a circuit is open the waits of keys decide nothing.
    of_circuit.min().or(of_keys)
}

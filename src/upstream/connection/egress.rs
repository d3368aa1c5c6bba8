//! Hosts that the worker tries to reach, where its network has a list: counted, logged, and in the audit log.

use tokio::time::Instant;

use super::WorkerConnection;
use crate::escape;
use crate::telemetry::audit::{AuditKind, AuditRecord};
use crate::telemetry::labels::EgressOutcome;
use crate::worker::EgressAttempt;

impl WorkerConnection {
    /// An attempt has come to its end.
    pub(super) fn note_reached(&self, reached: &EgressAttempt) {
        let bytes = [reached.sent, reached.received];
        self.plan.metrics.egress(reached.outcome, bytes);
        if reached.is_one_of_many {
            return;
        }
        self.log_reached(reached);
        self.audit_reached(reached);
    }

    fn log_reached(&self, reached: &EgressAttempt) {
        let (outcome, port) = (reached.outcome.as_str(), reached.port);
        let host = escape::for_log(&reached.host);
        if reached.outcome == EgressOutcome::Connected {
            tracing::debug!(parent: &self.span, worker = %self.id, server = %self.plan.server, tenant = self.plan.whose(), %host, port, sent = reached.sent, received = reached.received, "a connection to a host has ended");
            return;
        }
        if let Some(untold) = self.egress_warnings.next(Instant::now()) {
            let why = why(reached.outcome);
            tracing::warn!(parent: &self.span, worker = %self.id, server = %self.plan.server, tenant = self.plan.whose(), %host, port, outcome, untold, "worker did not reach a host: {why}");
        }
    }

    fn audit_reached(&self, reached: &EgressAttempt) {
        let Some(audit) = &self.services.audit else {
            return;
        };
        let is_connected = reached.outcome == EgressOutcome::Connected;
        let record = AuditRecord {
            kind: AuditKind::Egress,
            tenant: self.plan.tenant.as_ref().map(ToString::to_string),
            server: Some(self.plan.server.to_string()),
            method: Some("egress".to_owned()),
            outcome: Some(if is_connected { "ok" } else { "failed" }.to_owned()),
            reason: (!is_connected).then(|| reached.outcome.as_str().to_owned()),
            duration_ms: u64::try_from(reached.took.as_millis()).ok(),
            worker: Some(self.id.to_string()),
            host: Some(reached.host.clone()),
            port: (reached.port != 0).then_some(reached.port),
            sent_bytes: is_connected.then_some(reached.sent),
            received_bytes: is_connected.then_some(reached.received),
            ..AuditRecord::default()
        };
        match &self.account {
            Some(account) => audit.record_of(account, record),
            None => audit.record(record),
        }
    }
}

/// What an outcome means, and what to do about it.
fn why(outcome: EgressOutcome) -> &'static str {
    match outcome {
        EgressOutcome::Connected => "it did",
        EgressOutcome::RefusedName => {
            "its `network.allow` has no such name (add it, if the server is to reach it)"
        }
        EgressOutcome::RefusedPort => {
            "its `network.allow` has the host with other ports (add it with this one)"
        }
        EgressOutcome::RefusedAddress => {
            "its `network.allow` has no such address (add it, or have the server use a name that is listed)"
        }
        EgressOutcome::RefusedInternal => {
            "the name leads inside of a network, or to stdiopool itself (list that address too, with the port, if the server is to reach it; stdiopool's own ports are never reached)"
        }
        EgressOutcome::RefusedUdp => "UDP is not passed on, but for questions for names",
        EgressOutcome::Limited => {
            "it has as many connections, or has asked for as many names, as a worker may"
        }
        EgressOutcome::Unresolved => "the host's resolver has no address of it",
        EgressOutcome::Unreachable => "it does not accept connections, or not in time",
    }
}

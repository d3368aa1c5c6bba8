//! The metrics of what is held for tenants.

use prometheus::{Counter, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};

use super::registration::{opts, register};
use crate::held::{Kind, Ledger};

/// Gauges and counters that mirror a [`Ledger`].
#[derive(Debug)]
pub(super) struct HeldMetrics {
    of_kinds: Vec<(Kind, IntGauge)>,
    limit_of_tenant: IntGauge,
    limit_of_all: IntGauge,
    refused_of_tenants: IntCounter,
    refused_of_all: IntCounter,
    reclaimed: IntCounter,
    paced: Counter,
}

impl HeldMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let held = opts(
            "held_bytes",
            "Memory that is held for tenants now, by what it is held for.",
        );
        let held = register(registry, IntGaugeVec::new(held, &["kind"]));
        let limits = opts(
            "held_limit_bytes",
            "Memory that may be held: of a tenant without a limit of its own, and of all.",
        );
        let limits = register(registry, IntGaugeVec::new(limits, &["of"]));
        let refused = opts(
            "held_refusals_total",
            "How often memory was not taken in because a limit was reached, by whose.",
        );
        let refused = register(registry, IntCounterVec::new(refused, &["of"]));
        let reclaimed = opts(
            "held_reclaimed_total",
            "Answers kept for clients that were gone which went because their tenant had no room.",
        );
        let paced = opts(
            "body_pace_wait_seconds_total",
            "Time for which bodies were not read on, because their tenants sent faster than they may.",
        );
        let of_kind = |kind: Kind| (kind, held.with_label_values(&[kind.as_str()]));
        Self {
            of_kinds: Kind::ALL.into_iter().map(of_kind).collect(),
            limit_of_tenant: limits.with_label_values(&["tenant"]),
            limit_of_all: limits.with_label_values(&["all"]),
            refused_of_tenants: refused.with_label_values(&["tenant"]),
            refused_of_all: refused.with_label_values(&["all"]),
            reclaimed: register(registry, IntCounter::with_opts(reclaimed)),
            paced: register(registry, Counter::with_opts(paced)),
        }
    }

    pub(super) fn set(&self, ledger: &Ledger) {
        let value = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        for (kind, gauge) in &self.of_kinds {
            gauge.set(value(ledger.held_of(*kind)));
        }
        self.limit_of_tenant.set(value(ledger.limit_of_tenants()));
        self.limit_of_all.set(value(ledger.limit()));
        for (counter, now) in [
            (&self.refused_of_tenants, ledger.refused_of_tenants()),
            (&self.refused_of_all, ledger.refused_of_all()),
            (&self.reclaimed, ledger.reclaimed()),
        ] {
            counter.inc_by(now.saturating_sub(counter.get()));
        }
        let waited = ledger.paced().as_secs_f64() - self.paced.get();
        self.paced.inc_by(waited.max(0.0));
    }
}

//! The registry and the metrics that are not about one server.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, Histogram, IntCounter, IntCounterVec, IntGauge, Registry};
use rustc_hash::FxHashMap;

use super::exemplars::Exemplars;
use super::held::HeldMetrics;
use super::labels::{ConnectionEnd, DropReason, EvictionReason, SpanDrop};
use super::process::ProcessCollector;
use super::registration::{
    STATIC_NAMES, counter, families, gauge, gauge_value, opts, register, seconds,
};
use super::server::ServerMetrics;
use super::server_families::ServerVecs;
use super::totals::Totals;
use crate::held::Ledger;
use crate::ids::ServerName;
use crate::protocol::Reason;

/// Buckets of the time a request spends inside stdiopool, in seconds.
const OVERHEAD_BUCKETS: &[f64] = &[
    0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1,
];
/// Buckets of the wait for a slot, in seconds; `pool.queue_timeout` is 30 by default.
const QUEUE_WAIT_BUCKETS: &[f64] = &[
    0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];

families! {
    /// The families that have no `server` label.
    struct OverallFamilies {
        evictions: Vec<IntCounter> = counters("evictions_total", EvictionReason::ALL, "Idle workers stopped to make room, by the limit that needed it.");
        rejections: Vec<IntCounter> = counters("rejections_total", &Reason::ALL.iter().map(|it| it.as_str()).collect::<Vec<_>>(), "Requests that stdiopool answered with a failure of its own, by reason.");
        dropped: Vec<IntCounter> = counters("notifications_dropped_total", DropReason::ALL, "Notifications of workers that did not reach a client, by reason.");
        queue_depth: IntGauge = gauge("queue_depth", "Requests waiting for a worker's slot now.");
        hibernated_bytes: IntGauge = gauge("hibernated_bytes", "Memory that hibernated workers held awake and do not hold now.");
        catalog_hits: IntCounter = counter("catalog_hits_total", "Requests answered from what is remembered, without a worker.");
        audit_lost: IntCounter = counter("audit_lines_lost_total", "Lines of the audit log that could not be kept: the disk does not keep up.");
        log_dropped: IntCounter = counter("log_lines_dropped_total", "Lines of the log that were dropped: stderr is closed, or nobody reads it.");
        traces_exported: IntCounter = counter("trace_requests_exported_total", "Sampled requests whose spans a collector took.");
        traces_dropped: Vec<IntCounter> = counters("trace_requests_dropped_total", SpanDrop::ALL, "Sampled requests whose spans were dropped, by reason.");
        removals_failed: IntCounter = counter("folder_removals_failed_total", "Folders of workers, installs and earlier runs that could not be removed whole.");
        connections: IntGauge = gauge("connections", "Connections of clients to the front door now.");
        connections_closed: Vec<IntCounter> = counters("connections_closed_total", ConnectionEnd::ALL, "Connections of clients that stdiopool did not let stay, by reason.");
        queue_wait: Histogram = seconds("queue_wait_seconds", QUEUE_WAIT_BUCKETS, "Time requests waited for a worker's slot, those that had to wait only.");
        overhead: Histogram = seconds("overhead_seconds", OVERHEAD_BUCKETS, "Time of a request spent inside stdiopool: queue, start and worker excluded.");
    }
}

/// Runs before each scrape; sets gauges from the state of whoever owns it.
type ScrapeHook = Box<dyn Fn(&Metrics) + Send + Sync>;

/// Every metric of the supervisor. One per process (or per test), shared by `Arc`.
pub struct Metrics {
    registry: Registry,
    servers: RwLock<FxHashMap<ServerName, Arc<ServerMetrics>>>,
    vecs: Arc<ServerVecs>,
    families: OverallFamilies,
    held: HeldMetrics,
    hooks: Mutex<Vec<ScrapeHook>>,
}

impl Metrics {
    /// A registry of its own with every metric in it. Make it early: its birth is taken for the
    /// start of the process.
    pub fn new() -> Arc<Self> {
        let registry = Registry::new();
        registry
            .register(Box::new(ProcessCollector::new()))
            .expect(STATIC_NAMES);
        build_info(&registry);
        let families = OverallFamilies::new(&registry);
        let vecs = Arc::new(ServerVecs::new(&registry));
        let held = HeldMetrics::new(&registry);
        Arc::new(Self {
            registry,
            servers: RwLock::default(),
            vecs,
            families,
            held,
            hooks: Mutex::default(),
        })
    }

    /// The metrics of a **configured** server; the caller vouches for that, because the name
    /// becomes a label value. Cheap, but worth keeping where it is used for every request.
    pub fn server(&self, name: &ServerName) -> Arc<ServerMetrics> {
        if let Some(known) = self.servers.read().get(name) {
            return Arc::clone(known);
        }
        let mut servers = self.servers.write();
        let entry = servers
            .entry(name.clone())
            .or_insert_with(|| Arc::new(ServerMetrics::new(name, Arc::clone(&self.vecs))));
        Arc::clone(entry)
    }

    /// Forgets the series of servers for which `keep` is false, after a reload removed them. Holders of
    /// their [`ServerMetrics`] go on counting, unseen.
    pub fn retain_servers(&self, keep: impl Fn(&ServerName) -> bool) {
        self.servers.write().retain(|name, _| {
            let kept = keep(name);
            if !kept {
                self.vecs.forget(name);
            }
            kept
        });
    }

    /// An idle worker was stopped to make room.
    pub fn evicted(&self, reason: EvictionReason) {
        self.families.evictions[reason as usize].inc();
    }

    /// A request was answered with a failure of stdiopool's own.
    pub fn rejected(&self, reason: Reason) {
        self.families.rejections[reason as usize].inc();
    }

    /// `count` notifications did not reach their client.
    pub fn notifications_dropped(&self, reason: DropReason, count: u64) {
        self.families.dropped[reason as usize].inc_by(count);
    }

    /// Requests waiting now.
    pub fn set_queue_depth(&self, waiting: usize) {
        self.families.queue_depth.set(gauge_value(waiting));
    }

    /// A request was answered without a worker.
    pub fn catalog_hit(&self) {
        self.families.catalog_hits.inc();
    }

    /// Lines of the audit log lost since the start.
    pub fn set_audit_lost(&self, lost: u64) {
        self.families
            .audit_lost
            .inc_by(lost.saturating_sub(self.families.audit_lost.get()));
    }

    /// Lines of the log dropped since the start.
    pub fn set_log_dropped(&self, dropped: u64) {
        self.families
            .log_dropped
            .inc_by(dropped.saturating_sub(self.families.log_dropped.get()));
    }

    /// Sampled requests whose spans were exported since the start, and those whose spans were dropped, in the order of [`SpanDrop`].
    pub fn set_traces(&self, exported: u64, dropped: [u64; SpanDrop::ALL.len()]) {
        let counter = &self.families.traces_exported;
        counter.inc_by(exported.saturating_sub(counter.get()));
        for (counter, dropped) in self.families.traces_dropped.iter().zip(dropped) {
            counter.inc_by(dropped.saturating_sub(counter.get()));
        }
    }

    /// Folders that could not be removed since the start.
    pub fn set_removals_failed(&self, failed: u64) {
        self.families
            .removals_failed
            .inc_by(failed.saturating_sub(self.families.removals_failed.get()));
    }

    /// Connections of clients now, and how many were closed since the start, in the order of
    /// [`ConnectionEnd`].
    pub fn set_connections(&self, now: usize, closed: [u64; ConnectionEnd::ALL.len()]) {
        self.families.connections.set(gauge_value(now));
        for (counter, closed) in self.families.connections_closed.iter().zip(closed) {
            counter.inc_by(closed.saturating_sub(counter.get()));
        }
    }

    /// What is held for tenants now, and what was refused since the start.
    pub fn set_held(&self, ledger: &Ledger) {
        self.held.set(ledger);
    }

    /// Bytes that hibernation saves now.
    pub fn set_hibernated_bytes(&self, bytes: u64) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.families.hibernated_bytes.set(bytes);
    }

    /// A request left the queue, served or not, after `waited`.
    pub fn queue_waited(&self, waited: Duration) {
        self.families.queue_wait.observe(waited.as_secs_f64());
    }

    /// A request took `inside` of stdiopool's own time.
    pub fn overhead(&self, inside: Duration) {
        self.families.overhead.observe(inside.as_secs_f64());
    }

    /// What was counted since the start, over all servers that are configured. Less than before only where a server was removed.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for server in self.servers.read().values() {
            server.add_to(&mut totals);
        }
        let counts = totals.rejections.iter_mut().zip(&self.families.rejections);
        counts.for_each(|(count, counter)| *count = counter.get());
        let counts = totals.evictions.iter_mut().zip(&self.families.evictions);
        counts.for_each(|(count, counter)| *count = counter.get());
        totals
    }

    /// Runs `hook` before each scrape. Meant for gauges that mirror the state of a component: a
    /// value read where it lives cannot drift as a pair of increments can. Give it a `Weak` of
    /// whatever owns this registry, and keep it short: it runs on the scraper's thread, and
    /// must not add hooks itself.
    pub fn on_scrape(&self, hook: impl Fn(&Self) + Send + Sync + 'static) {
        self.hooks.lock().push(Box::new(hook));
    }

    /// Requests as examples of what histograms count.
    pub fn exemplars(&self) -> Exemplars {
        let mut all = Exemplars::default();
        for server in self.servers.read().values() {
            server.put_exemplars(&mut all);
        }
        all
    }

    /// All families by name, each with its series by labels, after the hooks have run.
    pub fn gather(&self) -> Vec<MetricFamily> {
        for hook in self.hooks.lock().iter() {
            hook(self);
        }
        self.registry.gather()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics")
            .field("servers", &self.servers.read().len())
            .finish_non_exhaustive()
    }
}

/// One counter for each reason, all there from the start so that a first increase is a rate, not a
/// new series.
fn counters(
    registry: &Registry,
    name: &str,
    reasons: &[impl AsRef<str>],
    help: &str,
) -> Vec<IntCounter> {
    let vec = register(registry, IntCounterVec::new(opts(name, help), &["reason"]));
    reasons
        .iter()
        .map(|reason| vec.with_label_values(&[reason.as_ref()]))
        .collect()
}

fn build_info(registry: &Registry) {
    let info = opts("build_info", "Always 1; the label says which build runs.")
        .const_label("version", env!("CARGO_PKG_VERSION"));
    register(registry, Gauge::with_opts(info)).set(1.0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::exposition;
    use crate::telemetry::labels::{ExitReason, Method, Outcome, StartOutcome, WorkerState};

    fn text(metrics: &Metrics) -> String {
        exposition::prometheus_text(&metrics.gather()).expect("encodes")
    }

    #[test]
    fn reasons_line_up_with_their_counters() {
        let metrics = Metrics::new();
        for &reason in Reason::ALL {
            metrics.rejected(reason);
        }
        metrics.rejected(Reason::CircuitOpen);
        let text = text(&metrics);
        assert!(text.contains("stdiopool_rejections_total{reason=\"circuit_open\"} 2\n"));
        assert!(text.contains("stdiopool_rejections_total{reason=\"internal\"} 1\n"));
    }

    #[test]
    fn totals_are_those_of_all_servers_and_a_look_makes_no_series() {
        let metrics = Metrics::new();
        let [a, b] = ["a", "b"].map(|name| metrics.server(&ServerName::new(name)));
        a.request(Method::ToolsCall, Outcome::Ok, Duration::ZERO);
        a.request(Method::ToolsList, Outcome::Failed, Duration::ZERO);
        b.request(Method::PromptsGet, Outcome::Error, Duration::ZERO);
        b.worker_started(StartOutcome::Ok, Duration::ZERO);
        b.worker_started(StartOutcome::Ok, Duration::ZERO);
        b.worker_started(StartOutcome::Exited, Duration::ZERO);
        b.primed_start(true);
        b.primed_start(false);
        a.spare_adopted(Duration::ZERO);
        metrics.rejected(Reason::Busy);
        metrics.evicted(EvictionReason::MaxMemory);
        let totals = metrics.totals();
        assert_eq!((totals.calls, totals.errors), (2, 2));
        assert_eq!((totals.started, totals.failed), (2, 1));
        assert_eq!((totals.primed, totals.adopted), (1, 1));
        assert_eq!(totals.rejections[Reason::Busy as usize], 1);
        assert_eq!(totals.rejections.iter().sum::<u64>(), 1);
        assert_eq!(totals.evictions[EvictionReason::MaxMemory as usize], 1);
        let text = text(&metrics);
        assert!(
            !text.contains("adoption_seconds_count{server=\"b\"}"),
            "{text}"
        );
    }

    #[test]
    fn hooks_run_before_each_scrape() {
        let metrics = Metrics::new();
        let depth = std::sync::atomic::AtomicUsize::new(7);
        metrics.on_scrape(move |m| {
            m.set_queue_depth(depth.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        });
        assert!(text(&metrics).contains("stdiopool_queue_depth 7\n"));
        assert!(text(&metrics).contains("stdiopool_queue_depth 8\n"));
    }

    #[test]
    fn a_removed_server_leaves_no_series() {
        let metrics = Metrics::new();
        let (stays, goes) = (ServerName::new("stays"), ServerName::new("goes"));
        for name in [&stays, &goes] {
            let server = metrics.server(name);
            for &state in WorkerState::ALL {
                server.set_workers(state, 1);
            }
            server.request(Method::ToolsCall, Outcome::Ok, Duration::from_millis(3));
            server.worker_exited(ExitReason::Idle);
            server.set_memory_bytes(1);
            server.worker_woke(Duration::ZERO);
        }
        assert!(text(&metrics).contains("server=\"goes\""));
        metrics.retain_servers(|name| *name == stays);
        let after = text(&metrics);
        assert!(!after.contains("server=\"goes\""), "{after}");
        assert!(after.contains("stdiopool_workers{server=\"stays\",state=\"busy\"} 1\n"));
    }

    #[test]
    fn every_metric_and_label_value_is_documented() {
        use crate::telemetry::labels::{
            Anomaly, DropReason, EgressOutcome, Era, InstallOutcome, Limit, Malformed, Observed,
            RefreshOutcome, StartOutcome,
        };
        let docs = include_str!("../../docs/metrics.md");
        let metrics = Metrics::new();
        let server = metrics.server(&ServerName::new("s"));
        server.set_workers(WorkerState::Idle, 1);
        server.set_sessions(Era::Legacy, 1);
        server.set_memory_bytes(1);
        server.worker_woke(Duration::ZERO);
        server.worker_started(StartOutcome::Ok, Duration::ZERO);
        server.worker_exited(ExitReason::Idle);
        server.request(Method::Ping, Outcome::Ok, Duration::ZERO);
        server.garbage_lines(1);
        server.stderr_lines(1);
        server.anomaly(Anomaly::Oversized);
        server.limit_reached(Limit::Disk);
        server.observed(Observed::Read);
        server.egress(EgressOutcome::Connected, [1, 1]);
        server.malformed(crate::protocol::Flaw::Batch, Malformed::Taken);
        server.package_install(InstallOutcome::Installed, Duration::ZERO);
        server.token_refresh(RefreshOutcome::Refreshed);
        let families = metrics.gather();
        assert_eq!(families.len(), 48, "a new metric is not recorded here");
        let names = families
            .iter()
            .map(|family| family.name().trim_start_matches("stdiopool_"));
        let values = WorkerState::ALL.iter().map(|v| v.as_str());
        let values = values.chain(StartOutcome::ALL.iter().map(|v| v.as_str()));
        let values = values.chain(ExitReason::ALL.iter().map(|v| v.as_str()));
        let values = values.chain(EvictionReason::ALL.iter().map(|v| v.as_str()));
        let values = values.chain(Outcome::ALL.iter().map(|v| v.as_str()));
        let values = values.chain(SpanDrop::ALL.iter().map(|v| v.as_str()));
        let values = values.chain(Anomaly::ALL.iter().map(|v| v.as_str()));
        let values = values.chain(Limit::ALL.iter().map(|v| v.as_str()));
        let values = values.chain(EgressOutcome::ALL.iter().map(|v| v.as_str()));
        let values = values.chain(Malformed::ALL.iter().map(|v| v.as_str()));
        let values = values.chain(crate::protocol::Flaw::ALL.iter().map(|v| v.as_str()));
        let values = values.chain(DropReason::ALL.iter().map(|v| v.as_str()));
        let values = values.chain(Era::ALL.iter().map(|v| v.as_str()));
        let values = values.chain(RefreshOutcome::ALL.iter().map(|v| v.as_str()));
        let values = values.chain(InstallOutcome::ALL.iter().map(|v| v.as_str()));
        let values = values.chain(crate::held::Kind::ALL.iter().map(|v| v.as_str()));
        for word in names.chain(values) {
            assert!(docs.contains(&format!("`{word}`")), "`{word}` is missing");
        }
    }

    /// The row of docs/metrics.md about a metric, without the prefix of its name.
    fn row_of<'d>(docs: &'d str, metric: &str) -> Option<&'d str> {
        let name = metric.trim_start_matches("stdiopool_");
        let of_histogram = ["_bucket", "_sum", "_count"];
        let of_histogram = of_histogram.iter().find_map(|end| name.strip_suffix(end));
        let is_about = |row: &str, name: &str| {
            let names = row.split('|').nth(1).unwrap_or_default();
            names.contains(&format!("`{name}`"))
        };
        let mut rows = docs.lines().filter(|line| line.starts_with("| `"));
        rows.find(|row| is_about(row, name) || of_histogram.is_some_and(|name| is_about(row, name)))
    }

    #[test]
    fn alerts_and_queries_go_by_metrics_and_labels_that_there_are() {
        let docs = include_str!("../../docs/metrics.md");
        let (_, own) = docs
            .split_once("## Alerts and a dashboard")
            .expect("a chapter");
        let alerts = include_str!("../../ops/alerts.yml");
        let dashboard = include_str!("../../ops/grafana.json").replace("\\\"", "\"");
        let queries = [own, alerts, &dashboard].concat();
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let mut seen = 0;
        for (at, _) in queries
            .match_indices("stdiopool_")
            .chain(queries.match_indices("process_"))
        {
            let rest = &queries[at..];
            let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
            let (metric, rest) = rest.split_at(end);
            let row = row_of(docs, metric).unwrap_or_else(|| panic!("no row for {metric}"));
            seen += 1;
            let Some((labels, _)) = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'))
            else {
                continue;
            };
            for label in labels.split(',') {
                let (name, values) = label.split_once(['=', '!']).expect("a matcher");
                let values = values.trim_matches(['=', '~', '!', '"']);
                // The scraper's own, and what whoever looks at a dashboard chooses.
                if name == "job" || values.starts_with('$') {
                    continue;
                }
                assert!(
                    row.contains(&format!("`{name}`")),
                    "{metric} has no label {name}"
                );
                for value in values.split('|') {
                    let is_method =
                        name == "method" && Method::ALL.iter().any(|it| it.as_str() == value);
                    let meant = match value.strip_suffix(".*") {
                        Some(beginning) => format!("`{beginning}"),
                        None => format!("`{value}`"),
                    };
                    assert!(
                        is_method || row.contains(&meant),
                        "{metric} has no {name} {value}"
                    );
                }
            }
        }
        assert!(seen > 50, "{seen}");
        // What more processes help against, and nothing else.
        let exhausted = queries
            .split("- alert: ")
            .find(|it| it.starts_with("StdiopoolExhausted"));
        let exhausted = exhausted.expect("an alert");
        assert!(
            exhausted.contains(r#"reason="pool_exhausted"}"#),
            "{exhausted}"
        );
    }

    #[test]
    fn a_series_appears_with_what_it_counts() {
        let metrics = Metrics::new();
        let server = metrics.server(&ServerName::new("github"));
        assert!(!text(&metrics).contains("server=\"github\",method"));
        server.request(Method::ToolsCall, Outcome::Error, Duration::from_millis(3));
        let text = text(&metrics);
        let series: Vec<_> = text
            .lines()
            .filter(|line| line.starts_with("stdiopool_requests_total{"))
            .collect();
        assert_eq!(
            series,
            [r#"stdiopool_requests_total{method="tools/call",outcome="error",server="github"} 1"#]
        );
    }
}

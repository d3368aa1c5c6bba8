//! Overviews of a made-up pool.

use std::time::{Duration, Instant};

use super::rows::{Rejection, WorkerUse};
use super::*;
use crate::admin::tests::Fake;
use crate::admin::{
    CircuitRow, CircuitState, Event, EventKind, LastError, StartCounts, Supervisor,
};
use crate::escape;
use crate::ids::{ServerName, TenantId, WorkerId};
use crate::protocol::Reason;
use crate::telemetry::labels::WorkerState;
use crate::usage::{Amounts, Tally, Usage, Who};

fn worker(n: u64, tenant: &str, server: &str, state: WorkerState) -> WorkerUse {
    WorkerUse {
        id: WorkerId(n),
        server: ServerName::new(server),
        tenant: TenantId::new(tenant),
        state,
        in_flight: usize::from(state == WorkerState::Busy),
        cpu_cores: 0.1,
        memory_bytes: Some(n << 20),
        requests: n,
        age_seconds: 1.5,
        idle_seconds: None,
        pinned: false,
    }
}

fn facts(name: &str) -> ServerFacts {
    ServerFacts {
        name: ServerName::new(name),
        starts: StartCounts::default(),
        circuit: CircuitState::Closed,
        retry_in: None,
        last_error: None,
    }
}

/// What was charged, as it is tallied.
fn tallied(of: &[(&str, &str, u64)]) -> Tally {
    let usage = Usage::new([]);
    usage.take_tally();
    for (tenant, server, calls) in of {
        let who = Who {
            tenant: &TenantId::new(*tenant),
            user: &None,
            server: &ServerName::new(*server),
        };
        let amounts = Amounts {
            calls: *calls,
            errors: 1,
            cpu_ms: 500,
            ..Amounts::default()
        };
        usage.charge(who, &amounts);
    }
    usage.take_tally()
}

fn frame(tenants: Vec<TenantUse>, servers: Vec<ServerUse>, workers: Vec<WorkerUse>) -> Frame {
    Frame {
        tenants,
        servers,
        workers,
        ..Frame::default_of(Fake::default().status())
    }
}

/// Three workers of two tenants, one of whom is not configured, and a spare.
fn small() -> Frame {
    let workers = vec![
        worker(1, "acme", "search", WorkerState::Busy),
        worker(2, "acme", "git", WorkerState::Hibernated),
        worker(3, "guest", "search", WorkerState::Idle),
        worker(4, "", "search", WorkerState::Spare),
    ];
    let tally = tallied(&[("acme", "search", 30), ("*", "search", 6), ("acme", "*", 1)]);
    let lately = UsedLately {
        tally: &tally,
        over: Duration::from_secs(30),
    };
    let configured = ["acme", "zebra"].map(|name| TenantFacts {
        name: TenantId::new(name),
        max_workers: 4,
    });
    let waiting = [(TenantId::new("guest"), 2)];
    let tenants = tenants(&configured, &workers, &waiting, lately, 8);
    let waiting = [(ServerName::new("search"), 2)];
    let servers = servers(
        vec![facts("git"), facts("search")],
        &workers,
        &waiting,
        lately,
    );
    frame(tenants, servers, workers)
}

#[test]
fn what_workers_do_and_what_was_charged_comes_to_its_tenant_and_server() {
    let frame = small();
    let overview = Overview::of(&frame, &OverviewQuery::default());
    let names: Vec<_> = overview
        .tenants
        .rows
        .iter()
        .map(|it| it.name.as_str())
        .collect();
    assert_eq!(
        names,
        ["acme", "guest", "zebra"],
        "spares and others are no tenant's"
    );
    let acme = &overview.tenants.rows[0];
    assert_eq!((acme.workers, acme.max_workers, acme.in_flight), (2, 4, 1));
    assert_eq!(
        (acme.memory_awake_bytes, acme.memory_asleep_bytes),
        (1 << 20, 2 << 20)
    );
    // 31 calls and 2 errors, and a second of the processor, in half a minute.
    assert_eq!((acme.calls_per_minute, acme.errors_per_minute), (62.0, 4.0));
    assert!((acme.cpu_cores - 0.033).abs() < 1e-9);
    let guest = &overview.tenants.rows[1];
    assert_eq!((guest.queued, guest.max_workers), (2, 8));
    let search = &overview.servers.rows[0];
    assert_eq!(
        (search.name.as_str(), search.workers, search.queued),
        ("search", 3, 2)
    );
    assert_eq!(search.calls_per_minute, 72.0);
}

#[test]
fn a_filter_shows_what_has_to_do_with_a_name() {
    let mut frame = small();
    let circuit = |tenant: Option<&str>, server: &str| CircuitInWords {
        circuit: CircuitRow {
            server: ServerName::new(server),
            tenant: tenant.map(TenantId::new),
            configuration: false,
            failures_in_a_row: None,
            failing_configurations: Some(1),
            retry_in_seconds: 3.0,
        },
        message: "refused".into(),
    };
    frame.circuits = vec![circuit(None, "git"), circuit(Some("guest"), "search")];
    let of = |tenant: Option<&str>, server: Option<&str>, word: Option<&str>| {
        let query = OverviewQuery {
            tenant: tenant.map(str::to_owned),
            server: server.map(str::to_owned),
            words: word.map(str::to_owned).into_iter().collect(),
            ..OverviewQuery::default()
        };
        let told = Overview::of(&frame, &query);
        [
            told.tenants.total,
            told.servers.total,
            told.workers.total,
            told.circuits.total,
        ]
    };
    assert_eq!(of(None, None, None), [3, 2, 4, 2]);
    assert_eq!(of(Some("acme"), None, None), [1, 2, 2, 1]);
    assert_eq!(of(None, Some("git"), None), [1, 1, 1, 1]);
    assert_eq!(of(Some("guest"), Some("git"), None), [0, 0, 0, 1]);
    assert_eq!(of(None, None, Some("acme")), [1, 0, 2, 2]);
    assert_eq!(of(None, None, Some("w3")), [0, 0, 1, 2]);
}

/// As much of everything as there can be, with names and texts that take as much as they can.
fn crowd() -> Frame {
    let text = "\u{1b}".repeat(2_048);
    let name = |kind: char, n: usize| format!("{kind}{n:063}");
    let workers: Vec<_> = (0..2_000)
        .map(|n| {
            let (tenant, server) = (name('t', n), name('s', n % 300));
            worker(n as u64, &tenant, &server, WorkerState::Busy)
        })
        .collect();
    let configured: Vec<_> = (0..10_000)
        .map(|n| TenantFacts {
            name: TenantId::new(name('t', n)),
            max_workers: 8,
        })
        .collect();
    let error = || LastError {
        at_ms: u64::MAX,
        tenant: Some(TenantId::new(name('t', 0))),
        worker: Some(WorkerId(u64::MAX)),
        message: text.clone(),
    };
    let of_server = |n| ServerFacts {
        last_error: Some(error()),
        ..facts(&name('s', n))
    };
    let tally = tallied(&[]);
    let lately = UsedLately {
        tally: &tally,
        over: Duration::from_secs(60),
    };
    let tenants = tenants(&configured, &workers, &[], lately, 8);
    let servers = servers((0..300).map(of_server).collect(), &workers, &[], lately);
    let mut frame = frame(tenants, servers, workers);
    frame.status.config = Some(text.clone());
    frame.binding = Some(Binding {
        shows: "waits".into(),
        limit: "max_workers_per_tenant".into(),
        key: Some("pool.max_workers_per_tenant".into()),
        since_seconds: Some(1.0 / 3.0),
        tenant: Some(TenantId::new(name('t', 1))),
        server: Some(ServerName::new(name('s', 1))),
        message: text.clone(),
    });
    if let Some(wait) = &mut frame.status.longest_wait {
        wait.message = text.clone();
        wait.tenant = TenantId::new(name('t', 1));
    }
    let rejection = |reason: &Reason| Rejection {
        reason: reason.as_str().to_owned(),
        total: u64::MAX / 64,
        lately: 1,
        about: reason.about().to_owned(),
    };
    frame.rejections = Reason::ALL.iter().map(rejection).collect();
    let event = Event {
        at_ms: u64::MAX,
        kind: EventKind::PackageFilesLeft,
        server: Some(ServerName::new(name('s', 1))),
        tenant: Some(TenantId::new(name('t', 1))),
        worker: Some(WorkerId(u64::MAX)),
        reason: Some("start_failed".into()),
        message: text.clone(),
    };
    frame.events = vec![event; 512];
    let circuit = CircuitInWords {
        circuit: CircuitRow {
            server: ServerName::new(name('s', 1)),
            tenant: Some(TenantId::new(name('t', 1))),
            configuration: true,
            failures_in_a_row: Some(u32::MAX),
            failing_configurations: Some(u32::MAX),
            retry_in_seconds: 1.0 / 3.0,
        },
        message: text.clone(),
    };
    frame.circuits = vec![circuit; 10_000];
    let install = InstallRow {
        package: text.clone(),
        server: ServerName::new(name('s', 1)),
        stage: "installing".into(),
        seconds: 1.0 / 3.0,
    };
    frame.installs = vec![install; 4_096];
    let grant = GrantInDanger {
        tenant: TenantId::new(name('t', 1)),
        server: ServerName::new(name('s', 1)),
        ends_at_ms: Some(u64::MAX),
        message: text,
    };
    frame.grants = vec![grant; 10_000];
    frame
}

#[test]
fn an_overview_of_2000_workers_and_10000_tenants_stays_below_64_kib() {
    let frame = crowd();
    let query = OverviewQuery {
        limit: MAX_LIMIT,
        ..OverviewQuery::default()
    };
    let begun = Instant::now();
    let overview = Overview::of(&frame, &query);
    let json = serde_json::to_string(&overview).expect("JSON");
    let told = escape::in_json(&json);
    let took = begun.elapsed();
    assert!(told.len() <= MAX_BYTES, "{}", told.len());
    let read: Overview = serde_json::from_str(&told).expect("reads back");
    assert_eq!(read, overview);
    let totals = [read.tenants.total, read.servers.total, read.workers.total];
    assert_eq!(totals, [10_000, 300, 2_000]);
    assert_eq!((read.circuits.total, read.installs.total), (10_000, 4_096));
    let rows = [read.tenants.rows.len(), read.workers.rows.len()];
    assert!(rows.iter().all(|rows| *rows >= 30), "{rows:?}");
    assert!(!read.events.rows.is_empty() && !read.circuits.rows.is_empty());
    // 1 % of the two seconds between two ticks is 20 ms, as built for a release; as tests are built it is ten times slower.
    assert!(took < Duration::from_millis(500), "{took:?}");
}

//! Thousands of open sessions over a few workers: what an idle one costs, and whether every call of
//! every one is answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use tokio::task::JoinSet;

use super::connection::{Call, Connection, Endpoint};
use super::http_load::all;
use super::latency::Calls;
use super::process::mib;
use super::report::{Cell, Column, Section, Table};
use super::served::{Config, DEMO, Served};
use super::{Result, at_least_one};

/// Connections that the clients share.
const CONNECTIONS: usize = 64;
/// How long all of it may take.
const PATIENCE: Duration = Duration::from_secs(3600);

#[derive(Args, Debug)]
pub(crate) struct SessionsArgs {
    /// Sessions that stay open
    #[arg(long, default_value_t = 10_000, value_parser = at_least_one::<usize>)]
    count: usize,
    /// Tenants they belong to, in equal parts
    #[arg(long, default_value_t = 200, value_parser = at_least_one::<usize>)]
    tenants: usize,
    /// Most workers at once
    #[arg(long, default_value_t = 50, value_parser = at_least_one::<usize>)]
    workers: usize,
    /// Calls of each session, in random order
    #[arg(long, default_value_t = 2, value_parser = at_least_one::<usize>)]
    calls: usize,
}

#[tokio::main]
pub(crate) async fn run(args: &SessionsArgs) -> Result<Section> {
    let mut section = Section::new(
        "sessions",
        format!(
            "{} sessions of {} tenants over at most {} workers",
            args.count, args.tenants, args.workers
        ),
    );
    section.note(format!(
        "then {} calls in random order, each of which must be answered; memory is stdiopool's own resident memory",
        args.count * args.calls
    ));
    let config = Config {
        pool: format!(
            "max_workers = {}\nmax_workers_per_tenant = 1\nmax_starting = 4\nmax_sessions_per_tenant = {}\n",
            args.workers,
            args.count + 1
        ),
        server: DEMO.to_owned(),
        tenants: 0,
    };
    let served = Served::start(&config)?;
    let endpoints: Vec<_> = (0..args.tenants.max(1))
        .map(|tenant| served.open_endpoint(tenant))
        .collect();
    let endpoints: Arc<[Endpoint]> = endpoints.into();

    // One session of each tenant first, so that what a worker costs is not counted as theirs.
    let first = args.tenants.clamp(1, args.count);
    let mut ids = open(&endpoints, 0..first).await?;
    let before = served.process.memory();
    ids.extend(open(&endpoints, first..args.count).await?);
    let opened = served.process.memory();
    let each = opened.saturating_sub(before) as f64 / 1024.0 / (args.count - first) as f64;

    let calls = call_all(&endpoints, ids, args.calls).await?;
    let [p50, p99] = calls.micros([50.0, 99.0]);
    let mut table = Table::new(
        "",
        [
            Column::number("memory per session", "KiB", 1),
            Column::number("memory with all open", "MiB", 1),
            Column::number("right answers", "", 0),
            Column::number("req/s", "", 0),
            Column::number("p50", "ms", 1),
            Column::number("p99", "ms", 1),
            Column::number("memory at the end", "MiB", 1),
        ],
    );
    let row: [Cell; 7] = [
        each.into(),
        mib(opened).into(),
        calls.latencies.len().into(),
        calls.rate().into(),
        (p50 / 1e3).into(),
        (p99 / 1e3).into(),
        mib(served.process.memory()).into(),
    ];
    table.row(row);
    section.tables.push(table);
    Ok(section)
}

/// Calls in every session, `times` each, in random order.
///
/// # Errors
/// At any answer but the right one.
async fn call_all(
    endpoints: &Arc<[Endpoint]>,
    ids: Vec<Option<Arc<str>>>,
    times: usize,
) -> Result<Calls> {
    let mut order: Vec<usize> = (0..ids.len() * times).map(|n| n % ids.len()).collect();
    shuffle(&mut order);
    let (ids, order) = (Arc::new(ids), Arc::new(order));
    let (next, call) = (Arc::new(AtomicUsize::new(0)), Call::echo(32));
    let begun = Instant::now();
    let mut calling = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (endpoints, ids, call) = (Arc::clone(endpoints), Arc::clone(&ids), Arc::clone(&call));
        let (order, next) = (Arc::clone(&order), Arc::clone(&next));
        calling.spawn(async move {
            let mut connection = Connection::open(&endpoints[0]).await?;
            let mut latencies = Vec::new();
            while let Some(&session) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
                connection.endpoint = endpoints[session % endpoints.len()].clone();
                connection.session.clone_from(&ids[session]);
                let sent = Instant::now();
                connection.call(&call, session).await?;
                latencies.push(sent.elapsed());
            }
            Ok(latencies)
        });
    }
    let latencies = all(calling, PATIENCE).await?.concat();
    let took = begun.elapsed();
    Ok(Calls { latencies, took })
}

/// Opens sessions, some at a time; their ids in order.
async fn open(
    endpoints: &Arc<[Endpoint]>,
    which: std::ops::Range<usize>,
) -> Result<Vec<Option<Arc<str>>>> {
    let mut opening = JoinSet::new();
    for opener in 0..CONNECTIONS {
        let (endpoints, which) = (Arc::clone(endpoints), which.clone());
        opening.spawn(async move {
            let mut connection = Connection::open(&endpoints[0]).await?;
            let mut ids = Vec::new();
            for session in which.skip(opener).step_by(CONNECTIONS) {
                connection.endpoint = endpoints[session % endpoints.len()].clone();
                connection.initialize().await?;
                ids.push((session, connection.session.clone()));
            }
            Ok(ids)
        });
    }
    let mut ids = all(opening, PATIENCE).await?.concat();
    ids.sort_unstable_by_key(|(session, _)| *session);
    Ok(ids.into_iter().map(|(_, id)| id).collect())
}

/// Fisher and Yates, with a fixed seed.
fn shuffle(order: &mut [usize]) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for at in (1..order.len()).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let other = usize::try_from(state % (at as u64 + 1)).expect("fits");
        order.swap(at, other);
    }
}

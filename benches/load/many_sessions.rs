//! Thousands of open sessions over a few workers: what an idle one costs, and whether every call of
//! every one is answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use clap::Args;

use super::http_load::{Connection, serve_with};
use super::pipe_load::INITIALIZE;

/// Connections that the clients share.
const CONNECTIONS: usize = 64;

#[derive(Args)]
pub(crate) struct SessionsArgs {
    /// Sessions that stay open
    #[arg(long, default_value_t = 10_000)]
    count: usize,
    /// Tenants they belong to, in equal parts
    #[arg(long, default_value_t = 200)]
    tenants: usize,
    /// Most workers at once
    #[arg(long, default_value_t = 50)]
    workers: usize,
    /// Calls of each session, in random order
    #[arg(long, default_value_t = 2)]
    calls: usize,
}

#[tokio::main]
pub(crate) async fn run(args: &SessionsArgs) {
    let pool = format!(
        "max_workers = {}\nmax_workers_per_tenant = 1\nmax_starting = 4\n",
        args.workers
    );
    let server = "command = \"stdiopool\"\nargs = [\"demo-server\"]\n";
    let (mut process, _dir) = serve_with(&pool, server);
    let url = process.announced("MCP at http://");
    let address: Arc<str> = url.split('/').next().expect("an address").into();

    // One session of each tenant first, so that what a worker costs is not counted as theirs.
    let mut ids = open(&address, 0..args.tenants, args.tenants).await;
    let before = process.memory();
    ids.extend(open(&address, args.tenants..args.count, args.tenants).await);
    let opened = process.memory();
    println!(
        "{} sessions of {} tenants: {:.1} KiB of the supervisor's memory each ({:.1} MiB in all)",
        args.count,
        args.tenants,
        opened.saturating_sub(before) as f64 / 1024.0 / (args.count - args.tenants) as f64,
        opened as f64 / f64::from(1 << 20),
    );

    let mut order: Vec<usize> = (0..args.count * args.calls)
        .map(|n| n % args.count)
        .collect();
    shuffle(&mut order);
    let (ids, order, next) = (
        Arc::new(ids),
        Arc::new(order),
        Arc::new(AtomicUsize::new(0)),
    );
    let begun = Instant::now();
    let callers: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let (address, ids) = (Arc::clone(&address), Arc::clone(&ids));
            let (order, next) = (Arc::clone(&order), Arc::clone(&next));
            let tenants = args.tenants;
            tokio::spawn(async move {
                let mut connection = Connection::open(&address).await;
                let mut latencies = Vec::new();
                while let Some(&session) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
                    connection.path = path(session % tenants);
                    connection.session = ids[session].clone();
                    let sent = Instant::now();
                    // Panics at any answer but the right one.
                    connection.call(session, 32).await;
                    latencies.push(sent.elapsed());
                }
                latencies
            })
        })
        .collect();
    let mut latencies: Vec<Duration> = Vec::new();
    for caller in callers {
        latencies.extend(caller.await.expect("every call is answered"));
    }
    latencies.sort_unstable();
    let at = |percent: usize| latencies[(latencies.len() * percent / 100).min(latencies.len() - 1)];
    println!(
        "{} calls in random order over at most {} workers: no error; {:.0} a second, p50 {:.1} ms, p99 {:.1} ms; supervisor {:.1} MiB",
        latencies.len(),
        args.workers,
        latencies.len() as f64 / begun.elapsed().as_secs_f64(),
        at(50).as_secs_f64() * 1e3,
        at(99).as_secs_f64() * 1e3,
        process.memory() as f64 / f64::from(1 << 20),
    );
}

/// Opens sessions, some at a time; their ids in order.
async fn open(
    address: &Arc<str>,
    which: std::ops::Range<usize>,
    tenants: usize,
) -> Vec<Option<String>> {
    let all: Vec<usize> = which.collect();
    let parts: Vec<_> = all
        .chunks(all.len().div_ceil(CONNECTIONS).max(1))
        .map(|part| {
            let (address, part) = (Arc::clone(address), part.to_vec());
            tokio::spawn(async move {
                let mut connection = Connection::open(&address).await;
                let mut ids = Vec::new();
                for session in part {
                    connection.path = path(session % tenants);
                    connection.session = None;
                    ids.push(connection.post(INITIALIZE).await);
                }
                ids
            })
        })
        .collect();
    let mut ids = Vec::new();
    for part in parts {
        ids.extend(part.await.expect("every session opens"));
    }
    ids
}

fn path(tenant: usize) -> String {
    format!("/t/tenant{tenant}/demo/mcp")
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

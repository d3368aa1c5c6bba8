//! What a call costs that is translated between the eras, and what of any call is the writing of its message.

use std::time::Duration;

use clap::Args;

use super::connection::{Call, Era};
use super::http_load::{Load, WARM_UP};
use super::latency::Calls;
use super::process::{Cpu, is_on_path};
use super::report::{Cell, Column, Section, Table};
use super::served::{Config, DEMO, Served};
use super::{Result, at_least_one, rewriting};

#[derive(Args, Debug)]
pub(crate) struct BridgingArgs {
    /// How many clients at once; may be repeated
    #[arg(long, default_values_t = [1_usize, 16], value_parser = at_least_one::<usize>)]
    pub(crate) sessions: Vec<usize>,
    /// How long each measurement takes
    #[arg(long, default_value_t = 5, value_parser = at_least_one::<u64>)]
    pub(crate) seconds: u64,
}

/// A server, and a client of either era.
struct Pair {
    server: &'static str,
    config: String,
    tool: &'static str,
    /// The server's own first.
    eras: [Era; 2],
}

const STATELESS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/conformance/stateless.mjs"
);

#[tokio::main]
pub(crate) async fn run(args: &BridgingArgs) -> Result<Section> {
    let mut section = Section::new(
        "bridging",
        format!("calls between the eras, {} s each", args.seconds),
    );
    section.note("the last columns relate a call that is translated to one on the same server whose client is of the server's own era");
    let mut pairs = vec![Pair {
        server: "demo (initialize)",
        config: DEMO.to_owned(),
        tool: "echo",
        eras: [Era::Initialize, Era::Stateless],
    }];
    if is_on_path("node") {
        pairs.push(Pair {
            server: "node (2026-07-28)",
            config: format!("command = \"node\"\nargs = [{STATELESS:?}]\n"),
            tool: "test_simple_text",
            eras: [Era::Stateless, Era::Initialize],
        });
    } else {
        section
            .note("a server of 2026-07-28 was not measured: it needs node, which is not on PATH");
    }
    let mut table = Table::new(
        "",
        [
            Column::text("server"),
            Column::text("client"),
            Column::number("sessions", "", 0),
            Column::number("req/s", "", 0),
            Column::number("p50", "µs", 0),
            Column::number("p99", "µs", 0),
            Column::number("CPU per call", "µs", 1),
            Column::number("req/s, of its own era", "", 2),
            Column::number("CPU, of its own era", "", 2),
        ],
    );
    let mut call = None;
    for pair in &pairs {
        for &sessions in &args.sessions {
            match measure(pair, sessions, args.seconds).await {
                Ok(both) => {
                    // The demo server's, under the most sessions.
                    if pair.eras[0] == Era::Initialize {
                        call = Some(cost(&both[0].0, &both[0].1));
                    }
                    add(&mut table, pair, sessions, &both);
                }
                Err(error) => {
                    let failure = format!("{}, {sessions} sessions: {error}", pair.server);
                    section.failures.push(failure);
                }
            }
        }
    }
    section.tables.push(table);
    section.tables.push(rewriting::table(call)?);
    Ok(section)
}

/// µs of processor a call.
fn cost(calls: &Calls, cpu: &Cpu) -> f64 {
    calls.per_call(cpu.own * 1e6)
}

/// Both clients on one stdiopool, by turns of a second.
async fn measure(pair: &Pair, sessions: usize, seconds: u64) -> Result<[(Calls, Cpu); 2]> {
    let config = Config {
        server: format!("{}max_in_flight = {}\n", pair.config, sessions.max(32)),
        tenants: 1,
        ..Config::default()
    };
    let served = Served::start(&config)?;
    let mut loads = Vec::new();
    for era in pair.eras {
        let call = Call::text(era, pair.tool, "message", 32);
        loads.push(Load::open(&served.endpoint(0), &call, sessions, WARM_UP).await?);
    }
    let mut found = [(); 2].map(|()| (Calls::default(), Cpu::default()));
    for _ in 0..seconds.max(1) {
        for (load, (calls, cpu)) in loads.iter_mut().zip(&mut found) {
            let before = Cpu::of(served.process.id())?;
            calls.add(load.round(Duration::from_secs(1)).await?);
            cpu.add(before, Cpu::of(served.process.id())?);
        }
    }
    Ok(found)
}

fn add(table: &mut Table, pair: &Pair, sessions: usize, both: &[(Calls, Cpu); 2]) {
    let (own_rate, own_cost) = (both[0].0.rate(), cost(&both[0].0, &both[0].1));
    for (era, of_era) in pair.eras.iter().zip(both) {
        let [p50, p99] = of_era.0.micros([50.0, 99.0]);
        let (rate, cost) = (of_era.0.rate(), cost(&of_era.0, &of_era.1));
        let client = match era {
            Era::Initialize => "initialize",
            Era::Stateless => "2026-07-28",
        };
        let row: [Cell; 9] = [
            pair.server.into(),
            client.into(),
            sessions.into(),
            rate.into(),
            p50.into(),
            p99.into(),
            cost.into(),
            (rate / own_rate).into(),
            (cost / own_cost).into(),
        ];
        table.row(row);
    }
}

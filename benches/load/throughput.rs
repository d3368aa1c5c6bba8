//! Calls under load, through stdiopool, beside the floors and other bridges.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::bare_http;
use super::bridge::{Bridge, OtherBuild};
use super::connection::{Call, Endpoint, Era};
use super::http_load::{Load, WARM_UP};
use super::latency::Calls;
use super::pipe_load::PipeLoad;
use super::process::{Cpu, Process, mib, tree_memory};
use super::report::{Cell, Column, Section, Table};
use super::served::{Config, DEMO, Served};
use super::{Result, at_least_one};

/// Systems take turns of that length, so that a host which becomes slower does so for all of them.
const TURN: Duration = Duration::from_secs(1);

#[derive(Args, Debug)]
pub(crate) struct LoadArgs {
    /// How many sessions at once; may be repeated
    #[arg(long, default_values_t = [1_usize, 16, 64], value_parser = at_least_one::<usize>)]
    pub(crate) sessions: Vec<usize>,
    /// How long each measurement takes, in turns of a second
    #[arg(long, default_value_t = 5, value_parser = at_least_one::<u64>)]
    pub(crate) seconds: u64,
    /// Bytes of the echoed text
    #[arg(long, default_value_t = 32)]
    pub(crate) bytes: usize,
    /// Another stdiopool to measure in the same run, such as the last release; its row has the name. May be repeated
    #[arg(long, value_name = "NAME=PATH")]
    pub(crate) against: Vec<OtherBuild>,
    #[command(flatten)]
    pub(crate) beside: BridgeArgs,
}

#[derive(Args, Debug, Clone, Default)]
pub(crate) struct BridgeArgs {
    /// Another bridge to measure in the same run: NAME=URL[,pid=N][,tool=echo][,argument=message];
    /// may be repeated. What it costs is read from its process and all descended from it
    #[arg(long, value_name = "NAME=URL")]
    pub(crate) bridge: Vec<Bridge>,
}

/// What sends a system its calls.
enum Driver {
    Pipe(PipeLoad, usize),
    Http(Load),
}

/// A system under load.
struct System {
    name: String,
    driver: Driver,
    call: Arc<Call>,
    pid: Option<u32>,
    calls: Calls,
    cpu: Cpu,
    /// What ends with it.
    _kept: SystemParts,
}

/// The processes that a system needs as long as it is measured.
enum SystemParts {
    Nothing,
    Bare { _process: Process },
    Stdiopool { _served: Box<Served> },
}

/// The figures of one, by which it is compared.
#[derive(Clone, Copy)]
struct Figures {
    rate: f64,
    p50: f64,
    p99: f64,
    own_cpu: Option<f64>,
    tree_cpu: Option<f64>,
    own_mib: Option<f64>,
    tree_mib: Option<f64>,
}

#[tokio::main]
pub(crate) async fn run(args: &LoadArgs) -> Result<Section> {
    let mut section = Section::new(
        "load",
        format!(
            "echo of {} bytes, {} s each, closed loop",
            args.bytes, args.seconds
        ),
    );
    section.note("stdiopool with tokens, session checks and metrics on; CPU and RSS are those of the process itself (of the raw pipe: the demo server's); `tree` adds all descended from it, the server behind it included");
    section.note("RSS is what is resident, tree MiB the proportional share (what is resident, of processes whose share may not be read)");
    let mut figures = Table::new(
        "",
        [
            Column::text("system"),
            Column::number("sessions", "", 0),
            Column::number("req/s", "", 0),
            Column::number("p50", "µs", 0),
            Column::number("p99", "µs", 0),
            Column::number("CPU per call", "µs", 1),
            Column::number("tree CPU per call", "µs", 1),
            Column::number("RSS", "MiB", 1),
            Column::number("tree memory", "MiB", 1),
        ],
    );
    let mut ratios = Table::new(
        "stdiopool as a multiple of",
        [
            Column::text("system"),
            Column::number("sessions", "", 0),
            Column::number("req/s", "", 2),
            Column::number("p50", "", 2),
            Column::number("p99", "", 2),
            Column::number("CPU per call", "", 2),
            Column::number("tree CPU per call", "", 2),
            Column::number("RSS", "", 2),
            Column::number("tree memory", "", 2),
        ],
    );
    for &sessions in &args.sessions {
        let found = measure(args, sessions, &mut section.failures).await;
        for (name, of_it) in &found {
            figures.row(cells(name, sessions, *of_it));
        }
        compare(&found, sessions, &mut ratios);
    }
    section.tables.extend([figures, ratios]);
    Ok(section)
}

/// All systems with so many sessions, those that fail left out.
async fn measure(
    args: &LoadArgs,
    sessions: usize,
    failures: &mut Vec<String>,
) -> Vec<(String, Figures)> {
    let mut systems = Vec::new();
    let mut keep = |name: &str, opened: Result<System>| match opened {
        Ok(system) => systems.push(system),
        Err(error) => failures.push(format!("{name}, {sessions} sessions: {error}")),
    };
    keep("raw pipe", pipe(args, sessions));
    keep("bare http", bare(args, sessions).await);
    keep("stdiopool", pool("stdiopool", None, args, sessions).await);
    for build in &args.against {
        keep(
            &build.name,
            pool(&build.name, Some(&build.binary), args, sessions).await,
        );
    }
    for bridge in &args.beside.bridge {
        keep(&bridge.name, other(bridge, args, sessions).await);
    }
    let mut has_failed = vec![false; systems.len()];
    for turn in 0..args.seconds.max(1) {
        let mut order: Vec<usize> = (0..systems.len()).collect();
        // Each is as often behind another one as before it.
        if turn % 2 == 1 {
            order.reverse();
        }
        for n in order
            .into_iter()
            .filter(|n| !has_failed[*n])
            .collect::<Vec<_>>()
        {
            let system = &mut systems[n];
            if let Err(error) = system.turn().await {
                failures.push(format!("{}, {sessions} sessions: {error}", system.name));
                has_failed[n] = true;
            }
        }
    }
    let mut found = Vec::new();
    let working = systems
        .into_iter()
        .zip(has_failed)
        .filter(|(_, failed)| !failed);
    for (mut system, _) in working {
        found.push((system.name.clone(), system.figures()));
        if let Driver::Http(load) = &mut system.driver {
            load.close().await;
        }
    }
    found
}

fn pipe(args: &LoadArgs, sessions: usize) -> Result<System> {
    let mut load = PipeLoad::start()?;
    let call = Call::echo(args.bytes);
    load.round(&call, sessions, Duration::from_millis(50))?;
    Ok(System {
        name: "raw pipe".to_owned(),
        pid: Some(load.process.id()),
        driver: Driver::Pipe(load, sessions),
        call,
        calls: Calls::default(),
        cpu: Cpu::default(),
        _kept: SystemParts::Nothing,
    })
}

async fn bare(args: &LoadArgs, sessions: usize) -> Result<System> {
    let (process, endpoint) = bare_http::start(args.bytes)?;
    let (pid, call) = (process.id(), Call::echo(args.bytes));
    let kept = SystemParts::Bare { _process: process };
    http("bare http", &endpoint, call, sessions, Some(pid), kept).await
}

/// A stdiopool: that binary, or the one under test.
async fn pool(
    name: &str,
    binary: Option<&Path>,
    args: &LoadArgs,
    sessions: usize,
) -> Result<System> {
    let config = Config {
        server: format!("{DEMO}max_in_flight = {}\n", sessions.max(32)),
        tenants: 1,
        ..Config::default()
    };
    let served = Box::new(Served::start_binary(binary, &config)?);
    let (pid, call) = (served.process.id(), Call::echo(args.bytes));
    let endpoint = served.endpoint(0);
    let kept = SystemParts::Stdiopool { _served: served };
    http(name, &endpoint, call, sessions, Some(pid), kept).await
}

async fn other(bridge: &Bridge, args: &LoadArgs, sessions: usize) -> Result<System> {
    let endpoint = Endpoint {
        address: bridge.address.clone(),
        path: bridge.path.clone(),
        token: None,
    };
    let call = Call::text(Era::Initialize, &bridge.tool, &bridge.argument, args.bytes);
    let kept = SystemParts::Nothing;
    http(&bridge.name, &endpoint, call, sessions, bridge.pid, kept).await
}

async fn http(
    name: &str,
    endpoint: &Endpoint,
    call: Arc<Call>,
    sessions: usize,
    pid: Option<u32>,
    kept: SystemParts,
) -> Result<System> {
    Ok(System {
        name: name.to_owned(),
        driver: Driver::Http(Load::open(endpoint, &call, sessions, WARM_UP).await?),
        call,
        pid,
        calls: Calls::default(),
        cpu: Cpu::default(),
        _kept: kept,
    })
}

impl System {
    async fn turn(&mut self) -> Result<()> {
        let before = self.pid.map(Cpu::of).transpose()?;
        let round = match &mut self.driver {
            Driver::Pipe(load, sessions) => load.round(&self.call, *sessions, TURN)?,
            Driver::Http(load) => load.round(TURN).await?,
        };
        let after = self.pid.map(Cpu::of).transpose()?;
        if let (Some(before), Some(after)) = (before, after) {
            self.cpu.add(before, after);
        }
        self.calls.add(round);
        Ok(())
    }

    fn figures(&self) -> Figures {
        let [p50, p99] = self.calls.micros([50.0, 99.0]);
        let per_call = |seconds: f64| self.pid.map(|_| self.calls.per_call(seconds * 1e6));
        let own = |pid| mib(stdiopool::worker::memory::resident(&[pid]));
        Figures {
            rate: self.calls.rate(),
            p50,
            p99,
            own_cpu: per_call(self.cpu.own),
            tree_cpu: per_call(self.cpu.tree),
            own_mib: self.pid.map(own),
            tree_mib: self.pid.and_then(|pid| tree_memory(pid).ok()),
        }
    }
}

fn cells(name: &str, sessions: usize, of_it: Figures) -> [Cell; 9] {
    [
        name.into(),
        sessions.into(),
        of_it.rate.into(),
        of_it.p50.into(),
        of_it.p99.into(),
        of_it.own_cpu.into(),
        of_it.tree_cpu.into(),
        of_it.own_mib.into(),
        of_it.tree_mib.into(),
    ]
}

/// Relates stdiopool to every other system, and its p50 to that of both floors together.
fn compare(found: &[(String, Figures)], sessions: usize, ratios: &mut Table) {
    let of = |name: &str| found.iter().find(|(found, _)| found == name);
    let Some((_, ours)) = of("stdiopool") else {
        return;
    };
    let divide = |a: Option<f64>, b: Option<f64>| Some(a? / b?);
    for (name, theirs) in found.iter().filter(|(name, _)| name != "stdiopool") {
        let ratio = Figures {
            rate: ours.rate / theirs.rate,
            p50: ours.p50 / theirs.p50,
            p99: ours.p99 / theirs.p99,
            own_cpu: divide(ours.own_cpu, theirs.own_cpu),
            tree_cpu: divide(ours.tree_cpu, theirs.tree_cpu),
            own_mib: divide(ours.own_mib, theirs.own_mib),
            tree_mib: divide(ours.tree_mib, theirs.tree_mib),
        };
        ratios.row(cells(name, sessions, ratio));
    }
    if let (Some((_, pipe)), Some((_, bare))) = (of("raw pipe"), of("bare http")) {
        let both = Figures {
            rate: f64::NAN,
            p50: ours.p50 / (pipe.p50 + bare.p50),
            p99: ours.p99 / (pipe.p99 + bare.p99),
            own_cpu: None,
            tree_cpu: None,
            own_mib: None,
            tree_mib: None,
        };
        ratios.row(cells("raw pipe + bare http", sessions, both));
    }
}

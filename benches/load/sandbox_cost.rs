//! What a sandbox costs: the same line started, called and left idle with each, round by round.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::Result;
use super::cold_start::millis_since;
use super::connection::Connection;
use super::density::workers;
use super::latency::median;
use super::process::{Process, is_on_path, on_cpu, tree_memory};
use super::report::{Cell, Column, Section, Table};
use super::served::{Config, DEMO, Served};

/// How long an install, or the end of a worker, may take.
const PATIENCE: Duration = Duration::from_secs(300);
/// Turns of each round in which the sandboxes are called, one after the other: a host's clock and its other work change
/// within seconds by more than a sandbox costs.
const TURNS: u32 = 30;
/// Calls of each turn.
const CALLS: u32 = 100;
/// Workers that are idle at once while their memory is taken.
const IDLE: u32 = 8;

/// The keys of each sandbox that is compared, the floor first.
const SANDBOXES: [(&str, &str); 5] = [
    ("none", "sandbox = \"none\"\n"),
    ("standard", "sandbox = \"standard\"\n"),
    ("strict", "sandbox = \"strict\"\n"),
    (
        "strict, no network",
        "sandbox = \"strict\"\nnetwork = \"off\"\n",
    ),
    (
        "strict, a list of hosts",
        "sandbox = \"strict\"\nnetwork = { allow = [\"host.example\"] }\n",
    ),
];

/// A line of pool.toml and a call that costs its server little.
struct Subject {
    name: &'static str,
    /// The launcher that it needs, if it needs one.
    launcher: Option<&'static str>,
    server: &'static str,
    call: &'static str,
}

const SUBJECTS: [Subject; 3] = [
    Subject {
        name: "demo server",
        launcher: None,
        server: DEMO,
        call: r#"{"name":"echo","arguments":{"message":"x"}}"#,
    },
    Subject {
        name: "npx server-everything",
        launcher: Some("npx"),
        server: "command = \"npx\"\nargs = [\"-y\", \"@modelcontextprotocol/server-everything@2026.8.31\"]\n",
        call: r#"{"name":"echo","arguments":{"message":"x"}}"#,
    },
    Subject {
        name: "uvx mcp-server-time",
        launcher: Some("uvx"),
        server: "command = \"uvx\"\nargs = [\"mcp-server-time@2026.10.19\"]\n",
        call: r#"{"name":"get_current_time","arguments":{"timezone":"UTC"}}"#,
    },
];

/// What the rounds saw of one sandbox.
#[derive(Default)]
struct Seen {
    /// Milliseconds from nothing until `initialize` is answered.
    starts: Vec<f64>,
    /// Microseconds of processor time of a call in each turn, of stdiopool with its guardian, helpers and the server.
    calls: Vec<f64>,
    /// MiB that one idle worker adds, its helper processes and what stdiopool keeps of it included.
    memory: Vec<f64>,
}

/// Compares the sandboxes `rounds` times for each line with the word `only` in its name.
///
/// # Errors
/// If there is no such line.
pub(crate) fn run(rounds: u32, only: &str) -> Result<Section> {
    let mut section = Section::new(
        "launch",
        format!("what a sandbox costs, {rounds} rounds of each"),
    );
    section.note(format!(
        "start: from nothing until `initialize` is answered; call: processor time of all processes, and the median of its ratios turn by turn, of {CALLS} calls in each of {} turns, all on one processor; memory: what each of {IDLE} idle workers adds to all processes, as proportional share",
        TURNS * rounds
    ));
    let mut table = Table::new(
        "",
        [
            Column::text("line"),
            Column::text("sandbox"),
            Column::number("start p50", "ms", 1),
            Column::number("more than none", "ms", 1),
            Column::number("a call's CPU", "µs", 1),
            Column::number("of none", "", 3),
            Column::number("idle worker", "MiB", 1),
            Column::number("more than none", "MiB", 1),
        ],
    );
    let meant = |subject: &&Subject| subject.name.contains(only);
    stay_on_one_processor()?;
    let subjects: Vec<_> = SUBJECTS.iter().filter(meant).collect();
    if subjects.is_empty() {
        return Err(format!("no line has `{only}` in it").into());
    }
    for subject in subjects {
        if let Some(launcher) = subject.launcher.filter(|it| !is_on_path(it)) {
            section.note(format!("{}: `{launcher}` is not on PATH", subject.name));
            continue;
        }
        match compare(subject, rounds) {
            Ok(seen) => {
                let p50 =
                    |seen: &Seen| [&seen.starts, &seen.calls, &seen.memory].map(|it| median(it));
                let (floor, floor_calls) = (p50(&seen[0]), &seen[0]);
                for ((sandbox, _), seen) in SANDBOXES.iter().zip(&seen) {
                    let [start, call, memory] = p50(seen);
                    let row: [Cell; 8] = [
                        subject.name.into(),
                        (*sandbox).into(),
                        start.into(),
                        (start - floor[0]).into(),
                        call.into(),
                        ratio(seen, floor_calls).into(),
                        memory.into(),
                        (memory - floor[2]).into(),
                    ];
                    table.row(row);
                }
            }
            Err(error) => section.failures.push(format!("{}: {error}", subject.name)),
        }
    }
    section.tables.push(table);
    Ok(section)
}

/// Keeps this process, and all that it starts, on one processor: a call whose processes are on two costs up to twice as much,
/// and which of them are where differs from one start to the next.
fn stay_on_one_processor() -> Result<()> {
    let own = std::process::id().to_string();
    let mut taskset = Command::new("taskset");
    taskset
        .args(["--cpu-list", "--pid", "0", &own])
        .stdout(Stdio::null());
    let status = Process::start(&mut taskset)?.0.wait()?;
    match status.success() {
        true => Ok(()),
        false => Err(format!("taskset: {status}").into()),
    }
}

/// The median of what a call takes in a turn, of what it takes in the floor's turn beside it.
fn ratio(seen: &Seen, floor: &Seen) -> f64 {
    let turns = seen.calls.iter().zip(&floor.calls);
    let ratios: Vec<f64> = turns.map(|(call, floor)| call / floor).collect();
    median(&ratios)
}

#[tokio::main]
async fn compare(subject: &Subject, rounds: u32) -> Result<Vec<Seen>> {
    let mut all = Vec::new();
    for (sandbox, keys) in SANDBOXES {
        let pool = Pool::serve(subject, keys)?;
        let installed = pool.until_installed().await;
        installed.map_err(|error| format!("sandbox {sandbox}: {error}"))?;
        all.push((pool, Seen::default()));
    }
    for _ in 0..rounds {
        let mut sessions = Vec::new();
        for (pool, seen) in &mut all {
            sessions.push(pool.start(seen).await?);
        }
        for session in &mut sessions {
            // Idle since its start: the connection may have been closed.
            session.reopen().await?;
        }
        // The first turns fill caches.
        for turn in 0..TURNS + 2 {
            for ((pool, seen), session) in all.iter_mut().zip(&mut sessions) {
                let micros = pool.call(subject, session).await?;
                if turn >= 2 {
                    seen.calls.push(micros);
                }
            }
        }
        for mut session in sessions {
            session.reopen().await?;
            session.delete().await?;
        }
    }
    Ok(all.into_iter().map(|(_, seen)| seen).collect())
}

/// A stdiopool that starts a process for every session.
struct Pool(Served);

impl Pool {
    fn serve(subject: &Subject, keys: &str) -> Result<Self> {
        let config = Config {
            // What the server said of itself must not be answered from memory.
            pool: "catalog_age = \"never\"\n".to_owned(),
            server: format!("{}share = \"session\"\n{keys}", subject.server),
            tenants: 1,
        };
        Ok(Self(Served::start(&config)?))
    }

    /// A client that waits on an install may be told to come again: it does.
    async fn until_installed(&self) -> Result<()> {
        let begun = Instant::now();
        loop {
            match self.open().await {
                Ok((mut connection, _)) => return connection.delete().await,
                Err(error) if begun.elapsed() > PATIENCE => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(500)).await,
            }
        }
    }

    /// Starts workers, and takes the memory of those that are idle; a session of one that stays.
    async fn start(&self, seen: &mut Seen) -> Result<Connection> {
        self.until_empty().await?;
        let root = self.0.process.id();
        let before = tree_memory(root)?;
        let mut sessions = Vec::new();
        for _ in 0..IDLE {
            let (mut connection, millis) = self.open().await?;
            connection.initialized().await?;
            seen.starts.push(millis);
            sessions.push(connection);
        }
        // Right after its start a server still works.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let added = tree_memory(root)? - before;
        seen.memory.push(added / f64::from(IDLE));
        let one = sessions.pop().ok_or("no session")?;
        for mut session in sessions {
            session.reopen().await?;
            session.delete().await?;
        }
        Ok(one)
    }

    /// Microseconds of processor time that a call takes in one turn.
    async fn call(&self, subject: &Subject, session: &mut Connection) -> Result<f64> {
        let root = self.0.process.id();
        let begun = on_cpu(root)?;
        for id in 0..CALLS {
            let body = format!(
                r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{}}}"#,
                subject.call
            );
            session.request(&body).await?;
        }
        let used = on_cpu(root)?.saturating_sub(begun);
        Ok(used.as_secs_f64() * 1e6 / f64::from(CALLS))
    }

    /// A session whose server has answered, and how many milliseconds that took.
    async fn open(&self) -> Result<(Connection, f64)> {
        let mut connection = Connection::open(&self.0.endpoint(0)).await?;
        let begun = Instant::now();
        connection.initialize().await?;
        Ok((connection, millis_since(begun)))
    }

    /// Until the workers of the round before have ended.
    async fn until_empty(&self) -> Result<()> {
        let gone = async {
            while !workers(&self.0.workers).await?.is_empty() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Result::<()>::Ok(())
        };
        let gone = timeout(PATIENCE, gone).await;
        gone.map_err(|_| "a worker does not end with its session")?
    }
}

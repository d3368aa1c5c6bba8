//! What the direct start of packages brings: the same package run four ways, round by round.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Instant;

use stdiopool::worker::memory::{SwapWeight, footprint};

use super::density::workers;
use super::http_load::{Connection, serve_with};
use super::pipe_load::INITIALIZE;
use super::process::Process;

/// Command lines as people write them; the packages are in the caches of npm and uv, or will be.
const LINES: [&[&str]; 3] = [
    &[
        "npx",
        "-y",
        "@modelcontextprotocol/server-everything@2026.8.31",
    ],
    &[
        "npx",
        "-y",
        "@modelcontextprotocol/server-filesystem@2026.8.31",
        "/tmp",
    ],
    &["uvx", "mcp-server-time@2026.10.19"],
];

/// One way to start it, and what each round saw.
struct Way {
    name: &'static str,
    millis: Vec<f64>,
    processes: usize,
    mib: f64,
}

/// Starts every line `rounds` times in each of four ways, and prints a table.
pub(crate) fn run(rounds: usize) {
    println!("| line | started | first answer, p50 ms | of the entry point | processes | MiB |");
    println!("| --- | --- | ---: | ---: | ---: | ---: |");
    for line in LINES {
        let ways = compare(line, rounds);
        let floor = median(&ways[1].millis);
        for way in &ways {
            let millis = median(&way.millis);
            println!(
                "| `{} …` | {} | {millis:.0} | {:.2} | {} | {:.0} |",
                line[..line.len().min(3)].join(" "),
                way.name,
                millis / floor,
                way.processes,
                way.mib
            );
        }
    }
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[tokio::main]
async fn compare(line: &[&str], rounds: usize) -> [Way; 4] {
    let names = [
        "as written, by hand",
        "its entry point, by hand",
        "stdiopool, `launch = \"as-is\"`",
        "stdiopool, `launch = \"auto\"`",
    ];
    let mut ways = names.map(|name| Way {
        name,
        millis: vec![],
        processes: 0,
        mib: 0.0,
    });
    let as_is = Pool::serve(line, "as-is");
    let auto = Pool::serve(line, "auto");
    // Installs the package, and tells what its entry point is.
    auto.until_installed().await;
    let (session, _) = auto.open().await;
    let entry = entry_point(auto.pids().await[0]);
    session.close().await;
    let written: Vec<String> = line.iter().map(|&word| word.to_owned()).collect();
    for _ in 0..rounds {
        by_hand(&written, &mut ways[0]);
        by_hand(&entry, &mut ways[1]);
        for (pool, way) in [&as_is, &auto].into_iter().zip(&mut ways[2..]) {
            let (session, millis) = pool.open().await;
            way.millis.push(millis);
            note(&pool.pids().await, way);
            session.close().await;
        }
    }
    ways
}

/// A stdiopool that starts a process for every session.
struct Pool {
    _process: Process,
    _dir: tempfile::TempDir,
    address: String,
    admin: String,
}

struct Session(Connection);

impl Session {
    async fn close(mut self) {
        self.0.delete().await;
    }
}

impl Pool {
    fn serve(line: &[&str], launch: &str) -> Self {
        let (program, args) = line.split_first().expect("not empty");
        let server = format!(
            "command = {program:?}\nargs = {args:?}\nshare = \"session\"\nlaunch = {launch:?}\n"
        );
        // What it said of itself must not be answered from memory.
        let (mut process, dir) = serve_with("catalog_age = \"never\"", &server);
        let [front, admin] = process.all_announced(["MCP at http://", "admin at http://"]);
        Self {
            _process: process,
            _dir: dir,
            address: front.split('/').next().expect("an address").to_owned(),
            admin: format!("http://{admin}api/v1/workers"),
        }
    }

    async fn until_installed(&self) {
        loop {
            let mut connection = Connection::open(&self.address).await;
            connection.session = connection.post(INITIALIZE).await;
            if connection.session.is_some() {
                return connection.delete().await;
            }
        }
    }

    /// A session whose server has answered, and how long that took.
    async fn open(&self) -> (Session, f64) {
        // The one before may still be on its way out.
        while !workers(&self.admin).await.is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        let mut connection = Connection::open(&self.address).await;
        let begun = Instant::now();
        connection.session = connection.post(INITIALIZE).await;
        (Session(connection), begun.elapsed().as_secs_f64() * 1e3)
    }

    /// The processes of its workers, the first one first.
    async fn pids(&self) -> Vec<u32> {
        let rows = workers(&self.admin).await;
        let of_row = |row: &serde_json::Value| row["processes"].as_array().cloned();
        let pids = rows.iter().filter_map(of_row).flatten();
        pids.filter_map(|pid| u32::try_from(pid.as_u64()?).ok())
            .collect()
    }
}

/// What runs as that process, without the interpreter that the script's first line names.
fn entry_point(pid: u32) -> Vec<String> {
    let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).expect("it runs");
    let words = line.split_terminator('\0').map(ToOwned::to_owned);
    words.skip(1).collect()
}

#[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
fn note(pids: &[u32], way: &mut Way) {
    way.processes = way.processes.max(pids.len());
    let held = footprint(pids).map_or(0, |found| found.held(SwapWeight::now()));
    way.mib = way.mib.max(held as f64 / f64::from(1 << 20));
}

/// Starts it and asks it; notes how long that took and what it is then.
fn by_hand(argv: &[String], way: &mut Way) {
    let begun = Instant::now();
    let (program, args) = argv.split_first().expect("not empty");
    let mut command = Command::new(program);
    command
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut server = Process::start(&mut command);
    let mut stdin = server.0.stdin.take().expect("piped");
    let mut stdout = BufReader::new(server.0.stdout.take().expect("piped"));
    writeln!(stdin, "{INITIALIZE}").expect("it reads");
    stdout.read_line(&mut String::new()).expect("it answers");
    way.millis.push(begun.elapsed().as_secs_f64() * 1e3);
    note(&tree_of(server.0.id()), way);
    // At the end of its input a server ends, and with it what it started.
    drop(stdin);
    let _status = server.0.wait();
}

/// The process and everything descended from it.
fn tree_of(root: u32) -> Vec<u32> {
    let mut tree = vec![root];
    let mut next = 0;
    while let Some(pid) = tree.get(next).copied() {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task"))
            .into_iter()
            .flatten();
        for task in tasks.flatten() {
            let children = std::fs::read_to_string(task.path().join("children"));
            let children = children.unwrap_or_default();
            tree.extend(
                children
                    .split_whitespace()
                    .filter_map(|pid| pid.parse::<u32>().ok()),
            );
        }
        next += 1;
    }
    tree
}

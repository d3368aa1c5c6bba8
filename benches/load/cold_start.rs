//! How long a worker takes from nothing until its `initialize` is answered.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::density::workers;
use super::http_load::{Connection, serve_with};
use super::pipe_load::INITIALIZE;
use super::process::{Process, stdiopool};

/// Starts the command `starts` times directly, then through stdiopool, and prints both.
pub(crate) fn run(command: &[String], starts: usize) {
    let demo = ["stdiopool".to_owned(), "demo-server".to_owned()];
    let command = if command.is_empty() { &demo } else { command };
    println!(
        "{starts} starts of `{}`, one after the other",
        command.join(" ")
    );
    println!("{:<10} {:>9} {:>9}", "", "p50 ms", "max ms");
    let direct = print("direct", (0..starts).map(|_| directly(command)).collect());
    let pooled = print("stdiopool", through(command, starts, 0));
    let spare = print("a spare", through(command, starts, 2));
    let ratios = (pooled / direct, spare / direct);
    println!(
        "stdiopool: {:.2} of direct; with a spare {:.3}\n",
        ratios.0, ratios.1
    );
}

/// Prints the row and returns the median, in milliseconds.
fn print(what: &str, mut took: Vec<Duration>) -> f64 {
    took.sort_unstable();
    let millis = |at: usize| took.get(at).map_or(0.0, Duration::as_secs_f64) * 1e3;
    let median = millis(took.len() / 2);
    println!(
        "{what:<10} {median:>9.1} {:>9.1}",
        millis(took.len().saturating_sub(1))
    );
    median
}

fn directly(command: &[String]) -> Duration {
    let begun = Instant::now();
    let (program, args) = command.split_first().expect("not empty");
    let mut command = if program == "stdiopool" {
        stdiopool()
    } else {
        Command::new(program)
    };
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
    let took = begun.elapsed();
    // At the end of its input a server ends, and with it what it started.
    drop(stdin);
    let _status = server.0.wait();
    took
}

/// Waits until so many spares are ready.
async fn until_spares(admin: &str, count: usize) {
    loop {
        let rows = workers(admin).await;
        if rows.iter().filter(|row| row["state"] == "spare").count() == count {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A process for every session: each `initialize` starts one.
#[tokio::main]
async fn through(command: &[String], starts: usize, spares: usize) -> Vec<Duration> {
    let (program, args) = command.split_first().expect("not empty");
    let args: Vec<_> = args.iter().map(|arg| format!("{arg:?}")).collect();
    let server = format!(
        "command = {program:?}\nargs = [{}]\nshare = \"session\"\nmin_idle = {spares}\n",
        args.join(", ")
    );
    // What it said of itself must not be answered from memory.
    let (mut process, _dir) = serve_with("catalog_age = \"never\"", &server);
    let [front, admin] = process.all_announced(["MCP at http://", "admin at http://"]);
    let admin = format!("http://{admin}api/v1/workers");
    let address = front.split('/').next().expect("an address").to_owned();
    let mut took = Vec::new();
    for _ in 0..starts {
        until_spares(&admin, spares).await;
        let mut connection = Connection::open(&address).await;
        let begun = Instant::now();
        connection.session = connection.post(INITIALIZE).await;
        took.push(begun.elapsed());
        connection.delete().await;
    }
    took
}

//! `stdiopool top`, in a terminal.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use nix::sys::signal::Signal;
use serde_json::json;

use super::support::terminal::{SIZE, Terminal};
use super::support::{BINARY, Stdiopool, command_line_of, demo, eventually, faulty, until};

const ENTER: &str = "\r";
/// Ends a line for a shell, also while the terminal is in raw mode.
const LINE_END: &str = "\n";
const ESCAPE: &str = "\x1b";
const CTRL_C: &str = "\x03";
const CTRL_Z: &str = "\x1a";

/// What hostile servers write: another title, a clear screen, colours, a line that overwrites itself, text from right to left.
const HOSTILE: &str =
    "\\033]0;owned\\007\\033[2Jbefore\\033[31mred\\033[0m\\rover\\302\\2331mc1\\342\\200\\256rtl";

/// A server that writes that, as printf has it, to stderr, and dies with a last word when its tool `die` is called.
fn writes(name: &str, text: &str) -> String {
    let binary = env!("CARGO_BIN_EXE_faulty-server");
    let script = format!("printf '{text}\\n' >&2; exec \"$0\" --mode die-mid-call");
    format!("[servers.{name}]\ncommand = \"sh\"\nargs = [\"-c\", {script:?}, {binary:?}]\n")
}

fn top_of(admin: &str, args: &[&str], env: &[(&str, &str)]) -> Terminal {
    let mut all = vec!["top"];
    all.extend(args);
    let mut env = env.to_vec();
    env.push(("STDIOPOOL_ADMIN", admin));
    Terminal::run(BINARY, &all, &env)
}

fn top(pool: &Stdiopool) -> Terminal {
    top_of(&pool.admin, &[], &[])
}

/// The lines of the table, its title left out.
fn rows(screen: &str) -> Vec<&str> {
    let lines = screen
        .lines()
        .skip_while(|line| !line.starts_with("WORKER"));
    lines.skip(1).filter(|line| line.starts_with('w')).collect()
}

/// The ids in the table, from above.
fn ids(screen: &str) -> Vec<String> {
    let rows = rows(screen).into_iter();
    let id = |row: &str| row.split_whitespace().next().unwrap_or_default().to_owned();
    rows.map(id).collect()
}

#[tokio::test]
async fn it_shows_the_pool_sorts_and_filters() {
    let pool = Stdiopool::serve(&(demo("demo", "") + &demo("other", "")));
    let _acme = pool.client_of("acme", "demo").connect().await;
    let globex = pool.client_of("globex", "demo").connect().await;
    let _other = pool.client_of("acme", "other").connect().await;
    for _ in 0..3 {
        globex.call("echo", json!({"message": "x"})).await.text();
    }
    let mut top = top(&pool);
    let screen = top.until("all workers are there", |screen| rows(screen).len() == 3);
    assert!(screen.starts_with("stdiopool "), "{screen}");
    let address = format!("at {}/", pool.admin);
    for said in [
        &address,
        "3 idle",
        "no request waits",
        "none binds",
        "MEMORY▼",
    ] {
        top.until_shown(said);
    }
    top.until_shown("starts    3 cold");
    assert!(has_colours(&top));
    // The next column is the first one, the worker's id.
    top.press(">");
    top.until("sorted by id", |screen| ids(screen) == ["w1", "w2", "w3"]);
    top.press("i");
    top.until("the other way round", |screen| {
        ids(screen) == ["w3", "w2", "w1"]
    });
    top.press("\x1b[C");
    top.until_shown("SERVER▲");
    top.press("/globex");
    let screen = top.until("filtered as it is typed", |screen| ids(screen) == ["w2"]);
    let last = screen.trim_end();
    assert!(last.ends_with("filter: globex"), "{screen}");
    top.press(ENTER);
    top.until_shown("1 worker with globex");
    top.press(ESCAPE);
    top.until("all again", |screen| rows(screen).len() == 3);
    // Servers, then tenants.
    top.press("\t\t");
    let screen = top.until_shown("TENANT");
    assert!(
        screen.contains("acme") && screen.contains("globex"),
        "{screen}"
    );
    top.press("?");
    top.until_shown("sort by another column");
    top.press("x");
    top.until_shown("TENANT");
    // A worker that comes is shown without a key.
    top.press("\t");
    top.until("three workers", |screen| rows(screen).len() == 3);
    let _more = pool.client_of("umbrella", "demo").connect().await;
    top.until_shown("umbrella");
    top.press("q");
    assert_eq!(top.wait().code(), Some(0));
    until("the terminal is as before", || {
        top.is_as_before().then_some(())
    });
    assert_eq!(top.screen().trim(), "", "nothing is left on it");
}

#[tokio::test]
async fn one_worker_is_looked_at_and_what_it_writes_acts_on_no_terminal() {
    let pool = Stdiopool::serve(&writes("loud", HOSTILE));
    let client = pool.client_of("acme", "loud").connect().await;
    let top = top(&pool);
    top.until("it is there", |screen| ids(screen) == ["w1"]);
    top.press(ENTER);
    let screen = top.until_shown("before");
    // What acts is taken out where lines are kept, and would be written out here.
    assert!(screen.contains("]0;ownedbeforeredover1mc1rtl"), "{screen}");
    assert!(screen.contains("stderr, live"), "{screen}");
    for said in [
        "of server loud for tenant acme: idle",
        "started   sh -c",
        "HOME",
    ] {
        assert!(screen.contains(said), "{said}: {screen}");
    }
    // What it writes now is shown as it comes, and how it ends.
    client.call("die", json!({})).await;
    top.until_shown("this is the end");
    let screen = top.until_shown("to its end");
    assert!(screen.contains("w1 ended at"), "{screen}");
    assert!(screen.contains("(exit 3)"), "{screen}");
    let written = top.written_since(0);
    let has = |bytes: &[u8]| written.windows(bytes.len()).any(|it| it == bytes);
    assert!(!has(b"\x1b]0;owned") && !has(b"\x07") && !has(b"\x1b[31m"));
    assert!(!has("\u{202e}".as_bytes()) && !has("\u{9b}".as_bytes()));
    top.press(ESCAPE);
    top.until_shown("no workers now");
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_are_stopped_and_restarted_once_that_is_confirmed() {
    let pool = Stdiopool::serve(&demo("demo", ""));
    let client = pool.client_of("acme", "demo").connect().await;
    let top = top(&pool);
    top.until("it is there", |screen| ids(screen) == ["w1"]);
    let slow = tokio::spawn({
        let client = client.clone();
        async move { client.call("sleep", json!({"seconds": 8})).await }
    });
    top.until_shown("1 busy");
    top.press("s");
    top.until_shown("stop w1 of demo for acme: 1 request in flight will fail?");
    top.press("n");
    top.until_shown("nothing was done");
    // What is in flight is finished first.
    top.press("ry");
    top.until_shown("restarting w1");
    top.until_shown("draining");
    let answer = slow.await.expect("no panic");
    assert!(answer.result().is_object(), "{answer:?}");
    top.until_shown("no workers now");
    client.call("echo", json!({"message": "x"})).await.text();
    top.until("another one", |screen| ids(screen) == ["w2"]);
    // In the view of one worker too.
    top.press(ENTER);
    top.until_shown("stderr, live");
    let long = tokio::spawn({
        let client = client.clone();
        async move { client.call("sleep", json!({"seconds": 60})).await }
    });
    top.until_shown("1 in flight");
    top.press("sy");
    top.until_shown("stopping w2");
    let answer = long.await.expect("no panic");
    assert_eq!(answer.reason(), "worker_exited", "{answer:?}");
    top.until_shown("w2 ended at");
    let ended = pool.admin_json("ended").await;
    assert_eq!(ended[0]["reason"], "admin");
    assert_eq!(ended[1]["reason"], "admin");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_request_that_waits_for_longest_is_shown_with_the_limit_that_it_waits_for() {
    let toml = "[pool]\nmax_workers = 1\n".to_owned() + &demo("demo", "");
    let pool = Stdiopool::serve(&toml);
    let busy = pool.client_of("acme", "demo").connect().await;
    let top = top(&pool);
    let slow = tokio::spawn(async move { busy.call("sleep", json!({"seconds": 20})).await });
    top.until_shown("1 busy");
    let waits = pool.client_of("globex", "demo");
    let waiting = tokio::spawn(async move { waits.connect().await });
    let screen = top.until_shown("1 of 1024 wait, the first for");
    assert!(screen.contains("tenant globex at demo"), "{screen}");
    assert!(screen.contains("raise `pool.max_workers`"), "{screen}");
    let status = pool.admin_json("status").await;
    assert_eq!(status["longest_wait"]["tenant"], "globex");
    assert!(status["longest_wait"]["seconds"].as_f64() < Some(20.0));
    slow.abort();
    waiting.abort();
}

#[tokio::test]
async fn the_terminal_is_given_back_however_it_ends() {
    let pool = Stdiopool::serve(&demo("demo", ""));
    type End<'e> = (&'e str, &'e dyn Fn(&Terminal), i32);
    let by = |signal| move |top: &Terminal| top.signal(signal);
    let (term, int, hup) = (by(Signal::SIGTERM), by(Signal::SIGINT), by(Signal::SIGHUP));
    let ends: [End<'_>; 5] = [
        ("q", &|top| top.press("q"), 0),
        ("Ctrl-C", &|top| top.press(CTRL_C), 0),
        ("SIGTERM", &term, 1),
        ("SIGINT", &int, 1),
        ("SIGHUP", &hup, 1),
    ];
    for (how, end, code) in ends {
        let mut top = top(&pool);
        top.until_shown("no workers now");
        assert!(!top.is_as_before(), "{how}");
        end(&top);
        assert_eq!(top.wait().code(), Some(code), "{how}");
        until("the terminal is as before", || {
            top.is_as_before().then_some(())
        });
        let left = if code == 0 { "" } else { "Error: interrupted" };
        top.until(how, |screen| screen.trim() == left);
    }
}

#[tokio::test]
async fn a_shell_stops_it_and_lets_it_go_on() {
    let pool = Stdiopool::serve(&demo("demo", ""));
    let env = [
        ("STDIOPOOL_ADMIN", pool.admin.as_str()),
        ("PS1", "prompt> "),
        ("ENV", ""),
    ];
    let shell = Terminal::run("sh", &["-i"], &env);
    shell.until_shown("prompt>");
    shell.press(&format!("{BINARY} top{LINE_END}"));
    shell.until_shown("no workers now");
    let process = shell.processes().into_iter().find(|process| {
        let line = command_line_of(*process);
        line.starts_with(BINARY) && line.trim_end().ends_with(" top")
    });
    let process = process.expect("it runs in the shell");
    let pid = nix::unistd::Pid::from_raw(i32::try_from(process.pid).expect("fits"));
    let signal = |signal| nix::sys::signal::kill(pid, signal).expect("it is there");
    let stops: [(&str, &dyn Fn()); 2] = [
        ("Ctrl-Z", &|| shell.press(CTRL_Z)),
        ("SIGTSTP", &|| signal(Signal::SIGTSTP)),
    ];
    for (how, stop) in stops {
        stop();
        let screen = shell.until(how, |screen| screen.trim_end().ends_with("prompt>"));
        assert!(screen.contains("Stopped"), "{how}: {screen}");
        assert!(shell.is_as_before(), "{how}");
        shell.press(&format!("fg{LINE_END}"));
        shell.until_shown("no workers now");
    }
    // One that could not help it draws all of it anew, over what the shell has said.
    signal(Signal::SIGSTOP);
    shell.until_shown("prompt>");
    shell.press(&format!("fg{LINE_END}"));
    shell.until("all of it is drawn", |screen| {
        screen.contains("no workers now") && !screen.contains("prompt>")
    });
    shell.press("q");
    shell.until("it ends", |screen| screen.trim_end().ends_with("prompt>"));
    assert!(shell.is_as_before());
    shell.press(&format!("exit{LINE_END}"));
}

#[tokio::test]
async fn another_size_is_drawn_at_once_and_nothing_is_said_in_colours_that_are_not_wanted() {
    let pool = Stdiopool::serve(&demo("demo", ""));
    let _client = pool.client_of("acme", "demo").connect().await;
    let top = top_of(&pool.admin, &["--filter", "acme"], &[("NO_COLOR", "1")]);
    top.until_shown("1 worker with acme");
    assert!(top.screen().contains("REQUESTS"));
    top.resize((20, 50));
    let screen = top.until("columns are left out", |screen| {
        rows(screen).len() == 1 && !screen.contains("REQUESTS")
    });
    assert!(screen.lines().count() <= 20, "{screen}");
    top.resize((5, 50));
    top.until_shown("at least 40x8 are needed");
    top.resize((40, 120));
    top.until_shown("REQUESTS");
    assert!(!has_colours(&top));
}

/// Whether anything on the screen has a colour.
fn has_colours(top: &Terminal) -> bool {
    top.with(|screen| {
        let (rows, columns) = screen.size();
        let mut cells = (0..rows.get()).flat_map(|row| (0..columns.get()).map(move |at| (row, at)));
        cells.any(|(row, at)| {
            let cell = screen.cell(row, at);
            cell.is_some_and(|cell| cell.fgcolor() != vt100::Color::Default)
        })
    })
}

#[tokio::test]
async fn a_server_that_floods_its_stderr_floods_no_terminal() {
    let pool = Stdiopool::serve(&faulty("noise", &["--mode", "stderr-flood"], ""));
    let _client = pool.client_of("acme", "noise").connect().await;
    let top = top(&pool);
    top.until("it is there", |screen| ids(screen) == ["w1"]);
    top.press(ENTER);
    top.until_shown("noise noise");
    let (begun, before) = (Instant::now(), top.written());
    let lines = async || {
        pool.workers().await[0]["stderr_lines"]
            .as_u64()
            .unwrap_or(0)
    };
    let at_first = lines().await;
    eventually("it has written much more", async || {
        lines().await > at_first + 20_000
    })
    .await;
    let (took, written) = (begun.elapsed(), top.written() - before);
    // Four frames a second, of which each changes all of the screen; and those of the key before.
    let frames = took.as_secs_f64() * 4.0 + 8.0;
    let frame = f64::from(SIZE.0) * f64::from(SIZE.1) * 4.0;
    let most = frames * frame;
    assert!((written as f64) < most, "{written} in {took:?}");
    // Keys are still heard.
    top.press(ESCAPE);
    top.until("the table is back", |screen| ids(screen) == ["w1"]);
}

/// Hands connections on to where it is told to, under one address.
struct Relay {
    address: String,
    to: Arc<Mutex<String>>,
}

impl Relay {
    fn to(admin: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = format!("http://{}", listener.local_addr().expect("bound"));
        let to = Arc::new(Mutex::new(String::new()));
        let relay = Self { address, to };
        relay.point_to(admin);
        let to = Arc::clone(&relay.to);
        // Ends with the tests.
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let to = to.lock().expect("not poisoned").clone();
                // Where nobody listens, the client's connection ends.
                if let Ok(server) = TcpStream::connect(to) {
                    let both = (client.try_clone(), server.try_clone());
                    let (Ok(from_client), Ok(from_server)) = both else {
                        continue;
                    };
                    std::thread::spawn(move || copy(from_client, server));
                    std::thread::spawn(move || copy(from_server, client));
                }
            }
        });
        relay
    }

    fn point_to(&self, admin: &str) {
        let to = admin.trim_start_matches("http://").to_owned();
        *self.to.lock().expect("not poisoned") = to;
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = [0; 4096];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    let _gone = to.shutdown(std::net::Shutdown::Both);
}

#[tokio::test]
async fn a_supervisor_that_goes_away_and_comes_back_is_told_of_in_words() {
    let mut pool = Stdiopool::serve(&demo("demo", ""));
    let _client = pool.client_of("acme", "demo").connect().await;
    let relay = Relay::to(&pool.admin);
    let top = top_of(&relay.address, &[], &[]);
    top.until("it is there", |screen| ids(screen) == ["w1"]);
    top.press(ENTER);
    top.until_shown("stderr, live");
    pool.signal(Signal::SIGKILL);
    pool.wait();
    top.until_shown("not answering for");
    let pool = pool.started_again();
    relay.point_to(&pool.admin);
    let screen = top.until_shown("stdiopool was started anew");
    assert!(screen.contains("no workers now"), "{screen}");
    // One that hangs.
    pool.signal(Signal::SIGSTOP);
    top.until_shown("no answer within 5s");
    pool.signal(Signal::SIGCONT);
    top.until_shown("stdiopool answers again");
}

#[tokio::test]
async fn it_needs_a_terminal_and_somebody_who_answers() {
    let pool = Stdiopool::serve(&demo("demo", ""));
    let output = pool.command(&["top"]).output().expect("runs");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("needs a terminal"), "{said}");
    assert!(said.contains("`stdiopool ps`"), "{said}");
    assert!(output.stdout.is_empty());
    let mut dumb = top_of(&pool.admin, &[], &[("TERM", "dumb")]);
    assert_eq!(dumb.wait().code(), Some(1));
    dumb.until_shown("cannot be drawn on");
    // As `ps` has it, and the terminal is not touched.
    let mut nobody = top_of("http://127.0.0.1:1", &[], &[]);
    assert_eq!(nobody.wait().code(), Some(1));
    nobody.until_shown("no stdiopool answers at http://127.0.0.1:1/");
    assert!(nobody.is_as_before());
}

#[tokio::test]
async fn restart_is_a_command_too() {
    let pool = Stdiopool::serve(&demo("demo", ""));
    let client = pool.client_of("acme", "demo").connect().await;
    let slow = tokio::spawn({
        let client = client.clone();
        async move { client.call("sleep", json!({"seconds": 1})).await }
    });
    eventually("it is busy", async || {
        pool.workers().await[0]["state"] == "busy"
    })
    .await;
    let output = pool.command(&["restart", "w1"]).output().expect("runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("restarting w1"),
        "{said}"
    );
    let answer = slow.await.expect("no panic");
    assert!(answer.result().is_object(), "{answer:?}");
    client.call("echo", json!({"message": "x"})).await.text();
    let workers = pool.workers().await;
    assert_eq!(workers.last().expect("one")["id"], "w2");
    let output = pool.command(&["restart", "w9"]).output().expect("runs");
    assert_eq!(output.status.code(), Some(1));
}

#[tokio::test]
async fn what_a_worker_was_started_with_is_told_without_secrets() {
    let server = format!(
        "[servers.demo]\ncommand = {BINARY:?}\nargs = [\"demo-server\"]\nenv = {{ KEY = \"${{secret.key}}\", NOTE = \"x\" }}\n"
    );
    let told = "[servers.told]\ncommand = \"sh\"\nargs = [\"-c\", \"exec \\\"$0\\\" demo-server\", \"BINARY\", \"--key=${secret.key}\"]\n";
    let told = told.replace("BINARY", BINARY);
    let secret = "[tenants.default]\nsecrets.key = { command = [\"echo\", \"hunter22\"] }\n";
    let pool = Stdiopool::serve(&(server + &told + secret));
    let _demo = pool.client("demo").connect().await;
    let _told = pool.client("told").connect().await;
    let worker = pool.admin_json("workers/w1").await;
    let start = &worker["start"];
    assert_eq!(start["program"], BINARY);
    assert_eq!(start["args"], json!(["demo-server"]));
    let names = start["env"].as_array().cloned().unwrap_or_default();
    assert!(names.contains(&json!("KEY")) && names.contains(&json!("HOME")));
    let other = pool.admin_json("workers/w2").await;
    assert_eq!(other["start"]["args"][3], "--key=[redacted]");
    for row in [worker, other] {
        assert!(!row.to_string().contains("hunter22"), "{row}");
    }
    // Of all at once it is not told, and the processes only if they are wanted.
    let workers = pool.admin_json("workers?processes=false").await;
    assert!(workers[0].get("start").is_none());
    assert_eq!(workers[0]["processes"], json!([]));
    assert_ne!(pool.workers().await[0]["processes"], json!([]));
}

//! The tenant whose calls are measured while another one floods.
//!
//! Eight sessions call at a steady pace. A call counts from when it was due, so that one that is late is not hidden by the
//! calls that it keeps from being made. Beside them one request after the other goes on for seconds, as a client of
//! 2026-07-28 makes them, and one session after the other is opened whose server has to be started for it.

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until, timeout};

use super::super::Result;
use super::super::connection::{Call, Connection, Endpoint, Era};
use super::super::latency::Calls;
use super::super::served::{Served, token};
use super::served::BYSTANDER;

/// Sessions that call.
const SESSIONS: usize = 8;
/// Between two calls of a session.
const PACE: Duration = Duration::from_millis(20);
/// Between two starts of a server.
const START_PACE: Duration = Duration::from_millis(500);
/// A call that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long a request takes that goes on while others are refused.
const LONG_CALL_SECONDS: f64 = 1.5;
/// Between a failure and the next try.
const AFTER_FAILURE: Duration = Duration::from_millis(200);

/// What the bystander saw in one period.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) calls: Calls,
    /// From opening a session until its server, started for it, has answered a call.
    starts: Calls,
    /// What went wrong, one for each call or start.
    pub(crate) failures: Vec<String>,
}

impl Seen {
    /// In milliseconds; NaN if there was none.
    pub(crate) fn slowest_start(&self) -> f64 {
        self.starts.micros([100.0])[0] / 1e3
    }
}

/// Lets this process's first thread, which makes the bystander's calls, run before everything else: its clients would not
/// be on the host, where they wait for a processor beside the servers that flood. sched(7), `SCHED_RR`; the processes
/// that it starts have none of it. Whether the system allows that.
///
/// # Errors
/// If there is no `chrt`.
pub(super) fn go_first() -> Result<bool> {
    let pid = std::process::id().to_string();
    let set = Command::new("chrt")
        .args(["--reset-on-fork", "--rr", "--pid", "1", &pid])
        .output()?;
    Ok(set.status.success())
}

/// Sessions that stay open from one period to the next.
#[derive(Debug)]
pub(crate) struct Bystander {
    address: String,
    sessions: Vec<Connection>,
}

impl Bystander {
    /// Opens the sessions, and calls in each until their server is warm.
    ///
    /// # Errors
    /// If that does not go as it should before anybody floods.
    pub(crate) async fn open(served: &Served) -> Result<Self> {
        let address = served.front.clone();
        let mut sessions = Vec::new();
        for number in 0..SESSIONS {
            let mut session = open(&at(&address, "demo")).await?;
            for turn in 0..10 {
                echo(&mut session, &format!("warm {number} {turn}")).await?;
            }
            sessions.push(session);
        }
        // What these two need is started before the clock is.
        long_call(at(&address, "demo")).await?;
        start(at(&address, "fragile")).await?;
        Ok(Self { address, sessions })
    }

    /// Calls for that long. What fails is in what was seen.
    pub(crate) async fn measure(&mut self, period: Duration) -> Seen {
        let since = Instant::now();
        let end = since + period;
        let mut tasks: JoinSet<(Option<Connection>, Seen)> = JoinSet::new();
        for (number, session) in self.sessions.drain(..).enumerate() {
            // Not all at the same instant.
            let first = since + PACE.mul_f64(number as f64 / SESSIONS as f64);
            tasks.spawn(call_steadily(number, session, first, end));
        }
        let demo = at(&self.address, "demo");
        tasks.spawn(async move {
            let (_, failures) = repeat(end, Duration::ZERO, || long_call(demo.clone())).await;
            let seen = Seen {
                failures,
                ..Seen::default()
            };
            (None, seen)
        });
        let fragile = at(&self.address, "fragile");
        tasks.spawn(async move {
            let (latencies, failures) = repeat(end, START_PACE, || start(fragile.clone())).await;
            let starts = Calls {
                latencies,
                took: period,
            };
            let seen = Seen {
                starts,
                failures,
                ..Seen::default()
            };
            (None, seen)
        });
        let mut all = Seen::default();
        while let Some(done) = tasks.join_next().await {
            match done {
                Ok((session, seen)) => {
                    self.sessions.extend(session);
                    all.calls.latencies.extend(seen.calls.latencies);
                    all.starts.add(seen.starts);
                    all.failures.extend(seen.failures);
                }
                Err(panic) => all.failures.push(panic.to_string()),
            }
        }
        all.calls.took = since.elapsed();
        all
    }
}

/// Where the bystander finds a server.
fn at(address: &str, server: &str) -> Endpoint {
    Endpoint {
        address: address.to_owned(),
        path: format!("/{server}/mcp"),
        token: Some(token(BYSTANDER)),
    }
}

async fn open(endpoint: &Endpoint) -> Result<Connection> {
    let opened = async {
        let mut connection = Connection::open(endpoint).await?;
        connection.initialize().await?;
        connection.initialized().await?;
        Result::<_>::Ok(connection)
    };
    timeout(PATIENCE, opened)
        .await
        .map_err(|_| "no session in time")?
}

/// Calls in one session until the end; opens another one if it breaks.
async fn call_steadily(
    number: usize,
    mut session: Connection,
    first: Instant,
    end: Instant,
) -> (Option<Connection>, Seen) {
    let mut seen = Seen::default();
    let mut due = first;
    let mut turn = 0_u64;
    while due < end {
        sleep_until(due.into()).await;
        turn += 1;
        match echo(&mut session, &format!("bystander {number} {turn}")).await {
            Ok(()) => seen.calls.latencies.push(due.elapsed()),
            Err(error) => {
                seen.failures.push(format!("echo: {error}"));
                sleep(AFTER_FAILURE).await;
                let endpoint = session.endpoint.clone();
                match open(&endpoint).await {
                    Ok(another) => session = another,
                    Err(error) => seen.failures.push(format!("a new session: {error}")),
                }
            }
        }
        due += PACE;
        // It was counted as late already: what is due is not made up for, call by call.
        if due + PATIENCE < Instant::now() {
            due = Instant::now();
        }
    }
    (Some(session), seen)
}

/// One call, whose answer must be what was said.
async fn echo(session: &mut Connection, said: &str) -> Result<()> {
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"echo","arguments":{{"message":"{said}"}}}}}}"#
    );
    timeout(PATIENCE, session.request(&body))
        .await
        .map_err(|_| format!("no answer in {} s", PATIENCE.as_secs()))??;
    let answered = String::from_utf8_lossy(session.body());
    if answered.contains(said) {
        return Ok(());
    }
    Err(format!("`{said}` was answered with {answered}").into())
}

/// A request that takes its time, without a session.
async fn long_call(demo: Endpoint) -> Result<()> {
    let arguments = serde_json::json!({ "seconds": LONG_CALL_SECONDS });
    let call: Arc<Call> = Call::new(Era::Stateless, "sleep", &arguments);
    let called = async {
        let mut connection = Connection::open(&demo).await?;
        connection.call(&call, 1).await
    };
    let done = timeout(PATIENCE, called).await;
    done.map_err(|_| "a long call is not answered in time")?
        .map_err(|error| format!("a long call: {error}").into())
}

/// A session whose server is started for it, and ends with it.
async fn start(fragile: Endpoint) -> Result<()> {
    let started = async {
        let mut session = open(&fragile).await?;
        echo(&mut session, "started").await?;
        session.delete().await
    };
    let done = timeout(PATIENCE, started).await;
    done.map_err(|_| "a server is not started in time")?
        .map_err(|error| format!("a start: {error}").into())
}

/// Does it again and again until the end; how long each took, and what failed.
async fn repeat<F: Future<Output = Result<()>>>(
    end: Instant,
    pause: Duration,
    one: impl Fn() -> F,
) -> (Vec<Duration>, Vec<String>) {
    let (mut latencies, mut failures) = (Vec::new(), Vec::new());
    while Instant::now() < end {
        let begun = Instant::now();
        match one().await {
            Ok(()) => latencies.push(begun.elapsed()),
            Err(error) => {
                failures.push(error.to_string());
                sleep(AFTER_FAILURE).await;
            }
        }
        sleep(pause).await;
    }
    (latencies, failures)
}

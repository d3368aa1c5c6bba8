//! One client: it calls without end, and compares each answer with what only its own tenant's process could say.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::json;
use tokio::time::sleep;

use super::super::Result;
use super::super::connection::{Connection, Endpoint, Era};
use super::super::reply;
use super::tally::Tally;

/// How long a client tries to get one answer.
const PATIENCE: Duration = Duration::from_secs(90);
/// After a call that failed, or a connection that could not be made.
const PAUSE: Duration = Duration::from_millis(20);
/// Calls between two waits of a client that now and then lets its worker fall asleep.
const BETWEEN_WAITS: u64 = 200;
/// Such a wait: longer than until a worker hibernates.
const WAIT: Duration = Duration::from_millis(2500);
/// Answers that a client counts by itself before it adds them to those of all.
const ADDED_AT: u64 = 64;
/// Reasons that are explained by processes which are ended, limits that are lowered, and a neighbour that takes what it gets.
const EXPLAINED: [&str; 8] = [
    "worker_exited",
    "start_failed",
    "circuit_open",
    "starting",
    "busy",
    "pool_exhausted",
    "tenant_limit",
    "draining",
];

/// What clients share with whoever disturbs.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) tally: Mutex<Tally>,
    /// Odd while a supervisor is ended and the next one is not there yet.
    pub(crate) epoch: AtomicU64,
    /// Clients end what they have begun.
    pub(crate) is_over: AtomicBool,
}

impl Shared {
    /// Something was promised and is lost.
    pub(crate) fn lost(&self, text: String) {
        let mut tally = self.tally.lock();
        tally.lost += 1;
        tally.fault(text);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }
}

/// Who calls.
#[derive(Debug, Clone)]
pub(crate) struct Who {
    /// Its number among all clients.
    pub(crate) number: usize,
    pub(crate) endpoint: Endpoint,
    /// How its tenant's processes begin each answer.
    pub(crate) identity: String,
    pub(crate) era: Era,
}

#[derive(Deserialize)]
struct Message {
    id: Option<u64>,
    result: Option<CallResult>,
    error: Option<Failure>,
}

#[derive(Deserialize)]
struct CallResult {
    #[serde(default)]
    content: Vec<Content>,
}

#[derive(Deserialize)]
struct Content {
    #[serde(default)]
    text: String,
}

#[derive(Deserialize)]
struct Failure {
    message: String,
    #[serde(default)]
    data: FailureData,
}

#[derive(Deserialize, Default)]
struct FailureData {
    #[serde(default)]
    reason: String,
}

/// What came of one try of a call.
enum Outcome {
    Right,
    Wrong(String),
    /// Failed with a reason that is explained.
    Told(String),
    /// The session that was promised to last has gone.
    SessionGone(String),
    /// Failed with a reason that nothing explains.
    Unexplained(String),
    /// The connection broke or could not be made.
    Cut(String),
}

/// Calls until it is over; then its session is ended. What went wrong is counted, and begun anew.
pub(crate) async fn run(who: Who, shared: Arc<Shared>) {
    let mut turn = 0;
    while !shared.is_over() {
        let Some(mut connection) = connected(&who, &shared).await else {
            continue;
        };
        if who.era == Era::Initialize && !begin(&who, &mut connection, &shared).await {
            continue;
        }
        call_on(&who, &mut connection, &mut turn, &shared).await;
        // What keeps a session after that is seen at the end.
        let _told_by_what_is_left = connection.delete().await;
    }
}

/// Calls until it is over, or an answer is wrong or lost.
async fn call_on(who: &Who, connection: &mut Connection, turn: &mut u64, shared: &Shared) {
    let mut right = 0;
    while !shared.is_over() {
        *turn += 1;
        if !call(who, connection, *turn, shared).await {
            break;
        }
        right += 1;
        if right == ADDED_AT {
            shared.tally.lock().right += right;
            right = 0;
        }
        if who.number.is_multiple_of(5) && turn.is_multiple_of(BETWEEN_WAITS) {
            sleep(WAIT).await;
        }
    }
    shared.tally.lock().right += right;
}

async fn connected(who: &Who, shared: &Shared) -> Option<Connection> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Ok(connection) = Connection::open(&who.endpoint).await {
            return Some(connection);
        }
        sleep(PAUSE).await;
    }
    shared.lost(format!("client {}: nobody listens", who.number));
    None
}

/// Begins the session, which must then last; false if there is none in time.
async fn begin(who: &Who, connection: &mut Connection, shared: &Shared) -> bool {
    let deadline = Instant::now() + PATIENCE;
    let mut last = String::new();
    while Instant::now() < deadline {
        let begun = async {
            connection.initialize().await?;
            connection.initialized().await
        };
        match begun.await {
            Ok(()) => return true,
            Err(error) => last = error.to_string(),
        }
        sleep(PAUSE).await;
        // What broke is told by the next try.
        let _told = connection.reopen().await;
    }
    shared.lost(format!("client {}: no session: {last}", who.number));
    false
}

/// Calls until there is an answer; false if there is none in time, or a wrong one.
async fn call(who: &Who, connection: &mut Connection, turn: u64, shared: &Shared) -> bool {
    let said = format!("client {} turn {turn}", who.number);
    let meta = match who.era {
        Era::Initialize => json!({}),
        Era::Stateless => json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
            "io.modelcontextprotocol/clientInfo": {"name": "soak", "version": "1"},
        }),
    };
    let body = json!({"jsonrpc": "2.0", "id": turn, "method": "tools/call",
        "params": {"name": "tell", "arguments": {"message": said}, "_meta": meta}})
    .to_string();
    let wanted = format!("{} {said}", who.identity);
    let tool = (who.era == Era::Stateless).then_some("tell");
    let deadline = Instant::now() + PATIENCE;
    let mut last = String::new();
    while Instant::now() < deadline {
        let epoch = shared.epoch.load(Ordering::SeqCst);
        let sent = connection.post(&body, tool).await;
        match outcome(connection, sent, turn, &wanted) {
            Outcome::Right => return true,
            Outcome::Wrong(what) => {
                let mut tally = shared.tally.lock();
                tally.wrong += 1;
                tally.fault(format!("{said} of {}: {what}", who.identity));
                return false;
            }
            Outcome::SessionGone(what) => {
                shared.lost(format!("{said}: its session has gone: {what}"));
                return false;
            }
            Outcome::Unexplained(what) => {
                shared.lost(format!("{said}: {what}"));
                last = what;
            }
            Outcome::Told(reason) => {
                shared.tally.lock().told(&reason);
                last = reason;
            }
            Outcome::Cut(why) => {
                let is_ended = epoch % 2 == 1 || shared.epoch.load(Ordering::SeqCst) != epoch;
                if is_ended {
                    shared.tally.lock().cut_off += 1;
                } else {
                    shared.lost(format!(
                        "{said}: no answer of a supervisor that lives: {why}"
                    ));
                }
                last = why;
                // What is not there yet is told by the next try.
                let _told = connection.reopen().await;
            }
        }
        sleep(PAUSE).await;
    }
    shared.lost(format!("{said}: no answer in {PATIENCE:?}, last {last}"));
    false
}

/// What the last answer of a connection is.
fn outcome(connection: &Connection, sent: Result<()>, id: u64, wanted: &str) -> Outcome {
    let status = connection.status();
    if let Err(error) = sent {
        return match status {
            Some(404) => Outcome::SessionGone(error.to_string()),
            Some(503) if error.to_string().contains("draining") => {
                Outcome::Told("draining".to_owned())
            }
            Some(300..) => Outcome::Unexplained(error.to_string()),
            _ => Outcome::Cut(error.to_string()),
        };
    }
    let body = connection.body();
    let message = match connection.is_events() {
        true => reply::events(body).filter(|data| !data.is_empty()).last(),
        false => Some(body.into()),
    };
    let message = message.and_then(|text| serde_json::from_slice::<Message>(&text).ok());
    let shown = || String::from_utf8_lossy(&body[..body.len().min(400)]).into_owned();
    match message {
        None => Outcome::Wrong(format!("no message: {}", shown())),
        Some(message) if message.id != Some(id) => Outcome::Wrong(format!("its id: {}", shown())),
        Some(Message {
            error: Some(failure),
            ..
        }) => match &*failure.data.reason {
            "session_ended" => Outcome::SessionGone(failure.message),
            reason if EXPLAINED.contains(&reason) => Outcome::Told(reason.to_owned()),
            reason => Outcome::Unexplained(format!("{reason}: {}", failure.message)),
        },
        Some(Message {
            result: Some(result),
            ..
        }) if matches!(&result.content[..], [content] if content.text == wanted) => Outcome::Right,
        Some(_) => Outcome::Wrong(format!("not `{wanted}`: {}", shown())),
    }
}

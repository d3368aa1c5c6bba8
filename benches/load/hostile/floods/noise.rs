//! Servers of the hostile tenant that take of the host what they can get, and clients that leave open what they began.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::sleep;

use super::super::super::Result;
use super::super::wire::connect;
use super::{Hostile, beside};

/// Servers at once that take what they can.
const GREEDY: usize = 4;
/// How long they do for one call, in seconds.
const PERIOD: u64 = 3;
/// Bytes of each message that nobody reads, and callers of that server.
const UNREAD: (usize, usize) = (1 << 20, 8);
/// Sessions that are opened and left, and the connections over which they are.
const ABANDONED: (usize, usize) = (10_000, 16);
/// Readers of a long answer, its bytes, how much of it they take at a time and how often.
const SLOW: (usize, usize, usize) = (16, 8 << 20, 4096);
const SLOW_PACE: Duration = Duration::from_millis(100);
/// Connections whose head does not end, and how often they say another byte of it.
const HEADS: usize = 500;
const HEAD_PACE: Duration = Duration::from_secs(1);
/// After a session that was refused.
const PAUSE: Duration = Duration::from_millis(50);

pub(super) async fn busy_loops(hostile: Arc<Hostile>) -> Result<()> {
    consume(hostile, "processors").await
}

pub(super) async fn memory_leak(hostile: Arc<Hostile>) -> Result<()> {
    consume(hostile, "memory").await
}

pub(super) async fn processes(hostile: Arc<Hostile>) -> Result<()> {
    consume(hostile, "processes").await
}

pub(super) async fn disk_filler(hostile: Arc<Hostile>) -> Result<()> {
    consume(hostile, "disk").await
}

pub(super) async fn connections(hostile: Arc<Hostile>) -> Result<()> {
    consume(hostile, "connections").await
}

/// Servers that each take of that kind what they can, again and again.
async fn consume(hostile: Arc<Hostile>, kind: &'static str) -> Result<()> {
    hostile.is_ready().await;
    beside(GREEDY, |_| {
        let mut wire = hostile.wire(Some("greedy"));
        let call = call("consume", &format!(r#""kind":"{kind}","seconds":{PERIOD}"#));
        async move {
            loop {
                if wire.session.is_none() && !wire.open("").await {
                    sleep(PAUSE).await;
                    continue;
                }
                // Its worker may have been ended for what it does, and its session with it.
                match wire.post("", &[call.as_bytes()]).await {
                    Some(200) => sleep(Duration::from_secs(PERIOD)).await,
                    _ => wire.session = None,
                }
            }
        }
    })
    .await
}

fn call(tool: &str, arguments: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{{"name":"{tool}","arguments":{{{arguments}}}}}}}"#
    )
}

/// Calls of a server that has stopped reading.
pub(super) async fn deaf(hostile: Arc<Hostile>) -> Result<()> {
    hostile.is_ready().await;
    let (bytes, callers) = UNREAD;
    let message: Arc<str> = "x".repeat(bytes).into();
    beside(callers, |_| {
        let mut wire = hostile.wire(Some("deaf"));
        let call = call("echo", &format!(r#""message":"{message}""#));
        async move {
            loop {
                if wire.session.is_none() && !wire.open("").await {
                    sleep(PAUSE).await;
                    continue;
                }
                wire.post("", &[call.as_bytes()]).await;
            }
        }
    })
    .await
}

/// Servers that end soon after they have started.
pub(super) async fn crash_loop(hostile: Arc<Hostile>) -> Result<()> {
    hostile.is_ready().await;
    beside(GREEDY, |_| {
        let mut wire = hostile.wire(Some("fragile"));
        let mode = r#","_meta":{"dev.stdiopool/config":{"mode":"crash-loop"}}"#;
        async move {
            loop {
                wire.open(mode).await;
                sleep(PAUSE).await;
            }
        }
    })
    .await
}

/// Ever new sessions that nobody uses or ends.
pub(super) async fn abandoned(hostile: Arc<Hostile>) -> Result<()> {
    hostile.is_ready().await;
    let (sessions, openers) = ABANDONED;
    beside(openers, |_| {
        let mut wire = hostile.wire(Some("floods"));
        async move {
            for _ in 0..sessions / openers {
                if !wire.open("").await {
                    sleep(PAUSE).await;
                }
            }
            std::future::pending().await
        }
    })
    .await
}

/// Long answers that are taken a little at a time.
pub(super) async fn slow_reader(hostile: Arc<Hostile>) -> Result<()> {
    hostile.is_ready().await;
    let (readers, bytes, piece) = SLOW;
    beside(readers, |_| {
        let mut wire = hostile.wire(Some("floods"));
        let body = call("huge", &format!(r#""bytes":{bytes}"#));
        async move {
            loop {
                if !wire.open("").await {
                    sleep(PAUSE).await;
                    continue;
                }
                let head = wire.head("", body.len());
                let Some(mut stream) = wire.send(&[&head, body.as_bytes()]).await else {
                    continue;
                };
                let mut buffer = vec![0; piece];
                while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {
                    sleep(SLOW_PACE).await;
                }
            }
        }
    })
    .await
}

/// Heads of requests that come a byte at a time.
pub(super) async fn slow_heads(hostile: Arc<Hostile>) -> Result<()> {
    hostile.is_ready().await;
    beside(HEADS, |_| {
        let hostile = Arc::clone(&hostile);
        async move {
            loop {
                if let Ok(mut stream) = connect(&hostile.address).await {
                    hostile.answers.count("opened");
                    let mut head = b"POST /demo/mcp HTTP/1.1\r\nX-Slow: "
                        .as_slice()
                        .iter()
                        .chain(std::iter::repeat(&b'x'));
                    while let Some(byte) = head.next()
                        && stream.write_all(&[*byte]).await.is_ok()
                    {
                        sleep(HEAD_PACE).await;
                    }
                }
                sleep(PAUSE).await;
            }
        }
    })
    .await
}

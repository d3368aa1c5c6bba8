//! Connections of somebody without credentials who asks little and reads nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::super::super::Result;
use super::super::wire;
use super::{Hostile, beside};

/// Connections of each kind.
const COUNT: usize = 1000;
/// Those that ask without end: each costs the attacker work too.
const PIPELINES: usize = 200;
/// After one that was closed or not made.
const PAUSE: Duration = Duration::from_millis(200);
/// How long a write may be stuck before it counts as such.
const STUCK: Duration = Duration::from_secs(1);

/// Preface and an empty SETTINGS frame (RFC 9113, 3.4 and 6.5).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
/// INITIAL_WINDOW_SIZE (4) is 0.
const SETTINGS_OF_WINDOW_ZERO: &[u8] = &[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0];

/// HTTP/2 connections on which no request comes.
pub(super) async fn idle(hostile: Arc<Hostile>) -> Result<()> {
    hold(hostile, &[PREFACE, SETTINGS].concat()).await
}

/// HTTP/2 connections that ask once and let no byte of the answer come.
pub(super) async fn window_of_zero(hostile: Arc<Hostile>) -> Result<()> {
    let mut asked = [PREFACE, SETTINGS_OF_WINDOW_ZERO].concat();
    asked.extend_from_slice(&get_frame(&hostile.address));
    hold(hostile, &asked).await
}

/// HEADERS of `GET /` on stream 1 that ends with them (RFC 9113, 6.2; RFC 7541, 6).
fn get_frame(authority: &str) -> Vec<u8> {
    // :method GET, :scheme http, :path /, and :authority as a literal without Huffman coding.
    let mut block = vec![0x82, 0x86, 0x84, 0x41];
    let authority = authority.as_bytes();
    // An address and port is far below the 127 bytes that one octet can say.
    block.push(u8::try_from(authority.len()).unwrap_or(0) & 0x7f);
    block.extend_from_slice(authority);
    let length = u8::try_from(block.len()).unwrap_or(u8::MAX);
    let mut frame = vec![0, 0, length, 1, 0b101, 0, 0, 0, 1];
    frame.extend_from_slice(&block);
    frame
}

/// Sends it on many connections and waits on each until it is closed.
async fn hold(hostile: Arc<Hostile>, sent: &[u8]) -> Result<()> {
    hostile.is_ready().await;
    let sent: Arc<[u8]> = sent.into();
    beside(COUNT, |_| {
        let (hostile, sent) = (Arc::clone(&hostile), Arc::clone(&sent));
        async move {
            loop {
                if let Some(mut stream) = connect(&hostile).await {
                    hostile.answers.count("opened");
                    let mut buffer = [0; 256];
                    let written = stream.write_all(&sent).await;
                    while written.is_ok() && stream.read(&mut buffer).await.is_ok_and(|n| n > 0) {}
                    hostile.answers.count("closed");
                }
                sleep(PAUSE).await;
            }
        }
    })
    .await
}

/// HTTP/1.1 connections that ask without end and never read.
pub(super) async fn pipelining(hostile: Arc<Hostile>) -> Result<()> {
    hostile.is_ready().await;
    let one = format!("GET /healthz HTTP/1.1\r\nHost: {}\r\n\r\n", hostile.address);
    let many: Arc<[u8]> = one.repeat(100).into_bytes().into();
    beside(PIPELINES, |_| {
        let (hostile, many) = (Arc::clone(&hostile), Arc::clone(&many));
        async move {
            loop {
                if let Some(mut stream) = connect(&hostile).await {
                    hostile.answers.count("opened");
                    ask_without_end(&mut stream, &many).await;
                    hostile.answers.count("closed");
                }
                sleep(PAUSE).await;
            }
        }
    })
    .await
}

/// Until the connection is closed. While both sides' buffers are full, it waits.
async fn ask_without_end(stream: &mut TcpStream, many: &[u8]) {
    loop {
        let mut at = 0;
        while at < many.len() {
            match timeout(STUCK, stream.write(&many[at..])).await {
                Ok(Ok(written)) if written > 0 => at += written,
                Ok(_) => return,
                Err(_) => {}
            }
        }
    }
}

async fn connect(hostile: &Hostile) -> Option<TcpStream> {
    let connected = wire::connect(&hostile.address).await;
    if connected.is_err() {
        hostile.answers.count("not connected");
    }
    connected.ok()
}

//! Bodies that are neither sent nor read to their end.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::time::sleep;

use super::super::super::Result;
use super::{Hostile, beside};

/// Connections with a body that is not finished, and its bytes.
const UNFINISHED: (usize, usize) = (150, 7 << 20);
/// Connections with an answer that is not read, and its bytes.
const UNREAD: (usize, usize) = (60, 30 << 20);
/// After a connection that the server gave up.
const PAUSE: Duration = Duration::from_millis(100);

/// Requests whose last byte never comes.
pub(super) async fn unfinished(hostile: Arc<Hostile>) -> Result<()> {
    hostile.is_ready().await;
    let (connections, bytes) = UNFINISHED;
    let body: Arc<[u8]> = vec![b' '; bytes - 1].into();
    beside(connections, |_| {
        let (hostile, body) = (Arc::clone(&hostile), Arc::clone(&body));
        async move {
            loop {
                let mut wire = hostile.wire(Some("demo"));
                let head = wire.head("", bytes);
                if let Some(mut stream) = wire.send(&[&head, &body]).await {
                    let kind = first_line(&mut stream).await;
                    hostile.answers.count(&kind);
                }
                sleep(PAUSE).await;
            }
        }
    })
    .await
}

/// Large results of which only the first line is read.
pub(super) async fn unread_answers(hostile: Arc<Hostile>) -> Result<()> {
    let session = hostile.flooding_server().await?.session;
    hostile.is_ready().await;
    let (connections, bytes) = UNREAD;
    beside(connections, |id| {
        let (hostile, session) = (Arc::clone(&hostile), session.clone());
        async move {
            let body = format!(
                r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"huge","arguments":{{"bytes":{bytes}}}}}}}"#
            );
            let mut wire = hostile.wire(Some("floods"));
            wire.session = session;
            let head = wire.head("", body.len());
            let mut kept = Vec::new();
            loop {
                if let Some(mut stream) = wire.send(&[&head, body.as_bytes()]).await {
                    let kind = first_line(&mut stream).await;
                    hostile.answers.count(&kind);
                    if kind.starts_with("200") {
                        // Open for as long as the flood is, and one more of it each second.
                        kept.push(stream);
                        sleep(Duration::from_secs(1)).await;
                    }
                }
                sleep(PAUSE).await;
            }
        }
    })
    .await
}

/// The status that comes, and nothing of what follows it.
async fn first_line(stream: &mut tokio::net::TcpStream) -> String {
    let mut begin = [0; 12];
    match stream.read_exact(&mut begin).await {
        Ok(_) => String::from_utf8_lossy(&begin[9..]).into_owned(),
        Err(_) => "closed without an answer".to_owned(),
    }
}

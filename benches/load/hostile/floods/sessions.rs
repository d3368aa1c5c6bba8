//! What is kept of sessions, and what reaches many of them at once.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::super::super::Result;
use super::{Hostile, beside, flood_call};

/// Sessions that subscribe, and the bytes of a URI.
const SUBSCRIBERS: (usize, usize) = (8, 32 << 10);
/// Bytes of `clientInfo`.
const CLIENT_INFO: usize = 7 << 20;
/// Sessions with all servers as one, and the bytes of what all of them are told.
const ALL_AS_ONE: (usize, usize) = (100, 20 << 20);
/// Sessions that are told of every change.
const LISTENERS: usize = 2000;
/// Connections over which they are opened.
const OPENERS: usize = 16;
/// After a session that was refused.
const PAUSE: Duration = Duration::from_millis(50);

const URI: &str = "flood://one";

/// The resource, as all servers as one name it.
const URI_OF_ALL: &str = "stdiopool://floods/flood://one";

fn subscribe(uri: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"resources/subscribe","params":{{"uri":"{uri}"}}}}"#
    )
}

/// Ever new subscriptions with long URIs.
pub(super) async fn subscriptions(hostile: Arc<Hostile>) -> Result<()> {
    hostile.is_ready().await;
    let (sessions, bytes) = SUBSCRIBERS;
    let padding: Arc<str> = "x".repeat(bytes).into();
    beside(sessions, |_| {
        let (mut wire, padding) = (hostile.wire(Some("floods")), Arc::clone(&padding));
        async move {
            while !wire.open("").await {
                sleep(PAUSE).await;
            }
            for turn in 0_u64.. {
                let uri = format!("flood://{turn}/{padding}");
                wire.post("", &[subscribe(&uri).as_bytes()]).await;
            }
            Ok(())
        }
    })
    .await
}

/// Sessions that introduce themselves with 7 MiB.
pub(super) async fn large_client_info(hostile: Arc<Hostile>) -> Result<()> {
    hostile.is_ready().await;
    let padding: Arc<[u8]> = vec![b'x'; CLIENT_INFO].into();
    beside(4, |number| {
        let (mut wire, padding) = (hostile.wire(Some("demo")), Arc::clone(&padding));
        async move {
            for turn in 0_u64.. {
                let begin = format!(
                    r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{{"protocolVersion":"2025-11-25","capabilities":{{}},"clientInfo":{{"version":"{number} {turn}","name":""#
                );
                wire.post("", &[begin.as_bytes(), &padding, b"\"}}}"]).await;
            }
            Ok(())
        }
    })
    .await
}

/// Opens so many sessions that subscribe to one resource.
async fn open(
    hostile: &Arc<Hostile>,
    server: Option<&'static str>,
    count: usize,
    uri: &'static str,
) -> Result<()> {
    beside(OPENERS, |opener| {
        let hostile = Arc::clone(hostile);
        async move {
            let mut wire = hostile.wire(server);
            for _ in (opener..count).step_by(OPENERS) {
                // One that is refused is not needed: that is a bound at work.
                if wire.open("").await {
                    wire.post("", &[subscribe(uri).as_bytes()]).await;
                }
            }
            Ok(())
        }
    })
    .await
}

/// One large notification to every session with all servers as one, again and again.
pub(super) async fn large_updates(hostile: Arc<Hostile>) -> Result<()> {
    let (sessions, bytes) = ALL_AS_ONE;
    open(&hostile, None, sessions, URI_OF_ALL).await?;
    let mut wire = hostile.flooding_server().await?;
    hostile.is_ready().await;
    loop {
        let call = flood_call("updated", 0, bytes, URI);
        wire.post("", &[call.as_bytes()]).await;
        sleep(Duration::from_secs(1)).await;
    }
}

/// Changes of lists and of a resource, as fast as a server can say them, to 2,000 sessions.
pub(super) async fn notifications(hostile: Arc<Hostile>) -> Result<()> {
    open(&hostile, Some("floods"), LISTENERS, URI).await?;
    let mut wire = hostile.flooding_server().await?;
    hostile.is_ready().await;
    loop {
        for kind in ["tools", "resources", "updated"] {
            let call = flood_call(kind, 3, 0, URI);
            wire.post("", &[call.as_bytes()]).await;
        }
        sleep(Duration::from_secs(3)).await;
    }
}

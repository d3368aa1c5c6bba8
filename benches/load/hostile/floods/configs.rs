//! Configs that callers set for their servers.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::super::super::Result;
use super::super::wire::{STATELESS_META, Wire, stateless_headers};
use super::{Hostile, beside};

/// Connections that send large ones, and their bytes.
const LARGE: (usize, usize) = (4, 7 << 20);
/// Connections that send small ones.
const SMALL: usize = 8;
/// After a session that was refused.
const PAUSE: Duration = Duration::from_millis(50);

/// The begin and the end of a tool call without a session; the config belongs between them.
fn stateless_call(tool: &str) -> (String, &'static str) {
    let begin = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{tool}","arguments":{{"message":"x"}},"_meta":{{{STATELESS_META},"dev.stdiopool/config":"#
    );
    (begin, "}}}")
}

async fn call(wire: &mut Wire, config: &str) {
    let (begin, end) = stateless_call("echo");
    let parts = [begin.as_bytes(), config.as_bytes(), end.as_bytes()];
    wire.post(&stateless_headers("echo"), &parts).await;
}

/// Ever new configs of 7 MiB that hold for one request each.
pub(super) async fn large_inline(hostile: Arc<Hostile>) -> Result<()> {
    hostile.is_ready().await;
    let (connections, bytes) = LARGE;
    let padding: Arc<[u8]> = vec![b'x'; bytes].into();
    beside(connections, |number| {
        let (mut wire, padding) = (hostile.wire(Some("inline")), Arc::clone(&padding));
        async move {
            let (begin, end) = stateless_call("echo");
            for turn in 0_u64.. {
                let config = format!(r#"{{"items":["{number} {turn}",""#);
                let end = format!(r#""]}}{end}"#);
                let parts = [
                    begin.as_bytes(),
                    config.as_bytes(),
                    &padding,
                    end.as_bytes(),
                ];
                wire.post(&stateless_headers("echo"), &parts).await;
            }
            Ok(())
        }
    })
    .await
}

/// Ever new configs that are refused.
pub(super) async fn refused(hostile: Arc<Hostile>) -> Result<()> {
    hostile.is_ready().await;
    beside(SMALL, |number| {
        let mut wire = hostile.wire(Some("fragile"));
        async move {
            for turn in 0_u64.. {
                call(&mut wire, &format!(r#"{{"mode":{number}{turn}}}"#)).await;
            }
            Ok(())
        }
    })
    .await
}

/// Configs with which their server ends as soon as it is started.
pub(super) async fn bad(hostile: Arc<Hostile>) -> Result<()> {
    hostile.is_ready().await;
    beside(SMALL, |number| {
        let mut wire = hostile.wire(Some("fragile"));
        async move {
            for turn in 0_usize.. {
                let status = 1 + (number + turn * SMALL) % 250;
                let config = format!(r#"{{"mode":"exit-at-once","status":{status}}}"#);
                call(&mut wire, &config).await;
            }
            Ok(())
        }
    })
    .await
}

/// Ever new launches of a server whose list of tools has 7 MB.
pub(super) async fn identities(hostile: Arc<Hostile>) -> Result<()> {
    hostile.is_ready().await;
    beside(4, |number| {
        let mut wire = hostile.wire(Some("listing"));
        async move {
            for turn in 0_u64.. {
                let config = format!(
                    r#","_meta":{{"dev.stdiopool/config":{{"identity":"{number}-{turn}"}}}}"#
                );
                if wire.open(&config).await {
                    let list = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
                    wire.post("", &[list.as_bytes()]).await;
                } else {
                    sleep(PAUSE).await;
                }
            }
            Ok(())
        }
    })
    .await
}

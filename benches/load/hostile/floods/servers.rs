//! Servers of the hostile tenant that do not behave.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::super::super::Result;
use super::{Hostile, beside, flood_call};

/// Sessions at once whose server never answers.
const MUTE: usize = 16;
/// How long a server floods for one call.
const PERIOD: u64 = 3;
/// After a session that was refused.
const PAUSE: Duration = Duration::from_millis(50);

/// Servers that are started and never answer.
pub(super) async fn mute(hostile: Arc<Hostile>) -> Result<()> {
    hostile.is_ready().await;
    beside(MUTE, |_| {
        let mut wire = hostile.wire(Some("mute"));
        async move {
            loop {
                wire.open("").await;
                sleep(PAUSE).await;
            }
        }
    })
    .await
}

/// A server that writes to stderr as fast as it can.
pub(super) async fn stderr(hostile: Arc<Hostile>) -> Result<()> {
    over_and_over(&hostile, &["stderr"]).await
}

/// A server that writes log messages, and what is no message at all, as fast as it can.
pub(super) async fn stdout(hostile: Arc<Hostile>) -> Result<()> {
    over_and_over(&hostile, &["log", "garbage"]).await
}

async fn over_and_over(hostile: &Hostile, kinds: &[&str]) -> Result<()> {
    let mut wire = hostile.flooding_server().await?;
    hostile.is_ready().await;
    loop {
        for kind in kinds {
            let call = flood_call(kind, PERIOD, 0, "");
            if wire.post("", &[call.as_bytes()]).await != Some(200) {
                // Its worker may have been ended for what it does; the session may have, too.
                wire.open("").await;
            }
        }
        sleep(Duration::from_secs(PERIOD)).await;
    }
}

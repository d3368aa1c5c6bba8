//! The floods, each of one kind; what is bounded against them is in docs/architecture.md.

mod bodies;
mod configs;
mod connections;
mod noise;
mod servers;
mod sessions;

use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::super::Result;
use super::super::connection::Endpoint;
use super::answers::Answers;
use super::wire::Wire;

/// A flood under way; it goes on until it is dropped.
type Running = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

/// One kind of flood.
#[derive(Debug)]
pub(crate) struct Flood {
    pub(crate) name: &'static str,
    pub(crate) run: fn(Arc<Hostile>) -> Running,
}

macro_rules! flood {
    ($name:literal, $run:path) => {
        Flood {
            name: $name,
            run: |hostile| Box::pin($run(hostile)),
        }
    };
}

/// All of them.
pub(crate) const FLOODS: &[Flood] = &[
    flood!("subscriptions", sessions::subscriptions),
    flood!("large clientInfo", sessions::large_client_info),
    flood!("large inline config", configs::large_inline),
    flood!("refused configs", configs::refused),
    flood!("bad configs", configs::bad),
    flood!("start identities", configs::identities),
    flood!("large updates", sessions::large_updates),
    flood!("notifications", sessions::notifications),
    flood!("unread answers", bodies::unread_answers),
    flood!("unfinished bodies", bodies::unfinished),
    flood!("mute servers", servers::mute),
    flood!("stderr", servers::stderr),
    flood!("stdout", servers::stdout),
    flood!("idle HTTP/2", connections::idle),
    flood!("HTTP/2 window 0", connections::window_of_zero),
    flood!("pipelining", connections::pipelining),
];

/// What servers do to their host, and clients that are merely careless: another tenant is to notice less of these.
pub(crate) const NOISE: &[Flood] = &[
    flood!("busy loops", noise::busy_loops),
    flood!("memory leak", noise::memory_leak),
    flood!("processes without end", noise::processes),
    flood!("disk filler", noise::disk_filler),
    flood!("connections outward", noise::connections),
    flood!("stdin never read", noise::deaf),
    flood!("crash loop", noise::crash_loop),
    flood!("abandoned sessions", noise::abandoned),
    flood!("slow reader", noise::slow_reader),
    flood!("slow heads", noise::slow_heads),
];

/// Who floods, and whom.
#[derive(Debug)]
pub(crate) struct Hostile {
    /// Host and port of the front door.
    pub(crate) address: String,
    pub(crate) token: String,
    pub(crate) answers: Answers,
    /// Each flood says once that it is set up.
    pub(crate) ready: mpsc::Sender<()>,
    /// True once all of them are.
    pub(crate) begin: watch::Receiver<bool>,
}

impl Hostile {
    /// Says that the flood is set up, and waits until all of them are: one that floods already would keep others from it.
    async fn is_ready(&self) {
        // Nobody waits any more where setting up took too long.
        let _late = self.ready.try_send(());
        let mut begin = self.begin.clone();
        // An error: nobody is to begin any more, as the process ends.
        let _ended = begin.wait_for(|begin| *begin).await;
    }

    /// A connection to that server, or with `None` to all of them as one.
    fn wire(&self, server: Option<&str>) -> Wire {
        let path = server.map_or("/mcp".to_owned(), |server| format!("/{server}/mcp"));
        let endpoint = Endpoint {
            address: self.address.clone(),
            path,
            token: Some(self.token.clone()),
        };
        Wire::new(endpoint, self.answers.clone())
    }

    /// A session of the server that floods on demand.
    ///
    /// # Errors
    /// If none is opened.
    async fn flooding_server(&self) -> Result<Wire> {
        let mut wire = self.wire(Some("floods"));
        if wire.open("").await {
            return Ok(wire);
        }
        Err("no session with the server that floods".into())
    }
}

/// Runs so many of them beside each other, each until it ends.
async fn beside<F>(count: usize, one: impl Fn(usize) -> F) -> Result<()>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    for number in 0..count {
        tasks.spawn(one(number));
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

/// The call that makes the server `floods` do so.
fn flood_call(kind: &str, seconds: u64, bytes: usize, uri: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{{"name":"flood","arguments":{{"kind":"{kind}","seconds":{seconds},"bytes":{bytes},"uri":"{uri}"}}}}}}"#
    )
}

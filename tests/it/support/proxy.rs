//! A proxy in front of a stdiopool that breaks connections, and knows what was asked over them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Forwards connections to one address until it is dropped.
pub(crate) struct Proxy {
    pub(crate) url: String,
    gets: Arc<AtomicUsize>,
    broken: Arc<parking_lot::Mutex<CancellationToken>>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// In front of `http://HOST:PORT`.
    pub(crate) async fn before(url: &str) -> Self {
        let to = url.trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let gets = Arc::<AtomicUsize>::default();
        let broken = Arc::new(parking_lot::Mutex::new(CancellationToken::new()));
        let mut tasks = JoinSet::new();
        let (counted, token) = (Arc::clone(&gets), Arc::clone(&broken));
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&to).await.expect("connects");
                let (counted, token) = (Arc::clone(&counted), token.lock().clone());
                connections.spawn(async move {
                    tokio::select! {
                        () = token.cancelled() => {}
                        () = forward(client, server, &counted) => {}
                    }
                });
            }
        });
        Self {
            url,
            gets,
            broken,
            _tasks: tasks,
        }
    }

    /// Breaks every connection that is open.
    pub(crate) fn cut(&self) {
        let old = std::mem::replace(&mut *self.broken.lock(), CancellationToken::new());
        old.cancel();
    }

    /// How many GETs have come.
    pub(crate) fn gets(&self) -> usize {
        self.gets.load(Ordering::Relaxed)
    }
}

async fn forward(client: TcpStream, server: TcpStream, gets: &AtomicUsize) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let there = async {
        let mut piece = vec![0; 64 << 10];
        while let Ok(n @ 1..) = from_client.read(&mut piece).await {
            // Clients write the head of a request at once.
            if piece.starts_with(b"GET ") {
                gets.fetch_add(1, Ordering::Relaxed);
            }
            if to_server.write_all(&piece[..n]).await.is_err() {
                return;
            }
        }
    };
    let back = async {
        let _copied = tokio::io::copy(&mut from_server, &mut to_client).await;
    };
    tokio::select! {
        () = there => {}
        () = back => {}
    }
}

//! A proxy in front of a stdiopool that breaks connections, and knows what was asked over them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What has passed.
#[derive(Default)]
struct Seen {
    gets: AtomicUsize,
    /// The heads of the requests that ask what a page of another origin may do, in lower case.
    preflights: Mutex<Vec<String>>,
    /// How many requests have named the last event that they had got.
    resumptions: AtomicUsize,
    /// Requests whose answer has begun as a stream that can be resumed.
    begun: Mutex<Vec<Vec<u8>>>,
}

/// Forwards connections to one address until it is dropped.
pub(crate) struct Proxy {
    pub(crate) url: String,
    seen: Arc<Seen>,
    broken: Arc<Mutex<CancellationToken>>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// In front of `http://HOST:PORT`.
    pub(crate) async fn before(url: &str) -> Self {
        let to = url.trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let seen = Arc::<Seen>::default();
        let broken = Arc::new(Mutex::new(CancellationToken::new()));
        let mut tasks = JoinSet::new();
        let (seeing, token) = (Arc::clone(&seen), Arc::clone(&broken));
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&to).await.expect("connects");
                let (seeing, token) = (Arc::clone(&seeing), token.lock().clone());
                connections.spawn(async move {
                    tokio::select! {
                        () = token.cancelled() => {}
                        () = forward(client, server, &seeing) => {}
                    }
                });
            }
        });
        Self {
            url,
            seen,
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
        self.seen.gets.load(Ordering::Relaxed)
    }

    /// The heads of the requests so far that asked what a page of another origin may do, in lower case.
    pub(crate) fn preflights(&self) -> Vec<String> {
        self.seen.preflights.lock().clone()
    }

    /// How many requests have come that named the last event that they had got.
    pub(crate) fn resumptions(&self) -> usize {
        self.seen.resumptions.load(Ordering::Relaxed)
    }

    /// Whether a request with this text is answered by a stream whose first event, which has an id, has passed.
    pub(crate) fn has_begun(&self, text: &str) -> bool {
        let begun = self.seen.begun.lock();
        begun.iter().any(|asked| holds(asked, text.as_bytes()))
    }
}

async fn forward(client: TcpStream, server: TcpStream, seen: &Seen) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    // What was asked last on this connection, until its answer begins.
    let asked = Mutex::new(Vec::new());
    let there = async {
        let mut piece = vec![0; 64 << 10];
        while let Ok(n @ 1..) = from_client.read(&mut piece).await {
            let piece = &piece[..n];
            // Clients write the head of a request at once.
            if piece.starts_with(b"GET ") {
                seen.gets.fetch_add(1, Ordering::Relaxed);
            }
            if piece.starts_with(b"OPTIONS ") {
                let head = String::from_utf8_lossy(piece).to_ascii_lowercase();
                seen.preflights.lock().push(head);
            } else if holds(&piece.to_ascii_lowercase(), b"\r\nlast-event-id:") {
                seen.resumptions.fetch_add(1, Ordering::Relaxed);
            }
            let is_head = [&b"GET "[..], b"POST ", b"OPTIONS "]
                .iter()
                .any(|it| piece.starts_with(it));
            note(&mut asked.lock(), piece, is_head);
            if to_server.write_all(piece).await.is_err() {
                return;
            }
        }
    };
    let back = async {
        let mut piece = vec![0; 64 << 10];
        while let Ok(n @ 1..) = from_server.read(&mut piece).await {
            let piece = &piece[..n];
            if to_client.write_all(piece).await.is_err() {
                return;
            }
            if holds(piece, b"id: ") {
                seen.begun.lock().push(std::mem::take(&mut *asked.lock()));
            }
        }
    };
    tokio::select! {
        () = there => {}
        () = back => {}
    }
}

fn note(asked: &mut Vec<u8>, piece: &[u8], is_new: bool) {
    if is_new {
        asked.clear();
    }
    asked.extend_from_slice(piece);
}

fn holds(piece: &[u8], part: &[u8]) -> bool {
    piece.windows(part.len()).any(|it| it == part)
}

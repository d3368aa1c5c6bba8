//! Accepts connections and serves a router on them, until told to stop.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Waker};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::body::Body;
use super::dispatch::Dispatch;
use super::heads::{HEAD_TIMEOUT, Heads, Watch};
use super::tls::Tls;

/// Most connections at a time; further ones wait in the kernel's backlog.
pub const MAX_CONNECTIONS: usize = 16_384;
/// How long to wait after the system refused a connection for lack of descriptors or memory.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// Where a request comes from, as an extension of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) IpAddr);

/// Tells connections that it is time to end.
///
/// A connection asks each time it is polled, which is several times a request: so that costs one load.
#[derive(Debug, Default)]
struct Closing {
    has_begun: AtomicBool,
    /// Of the tasks of connections: each is polled by one task from its first poll to its last.
    tasks: Mutex<FxHashMap<u64, Waker>>,
}

impl Closing {
    fn begin(&self) {
        self.has_begun.store(true, Ordering::Release);
        // One that is polled for the first time after this look sees the flag.
        let tasks = std::mem::take(&mut *self.tasks.lock());
        tasks.into_values().for_each(Waker::wake);
    }
}

/// One connection, before anything is read from it.
struct Connection<S> {
    number: u64,
    builder: Builder<TokioExecutor>,
    service: S,
    closing: Arc<Closing>,
    heads: Heads,
}

impl<S, F> Connection<S>
where
    S: hyper::service::Service<
            Request<Incoming>,
            Response = Response<Body>,
            Error = Infallible,
            Future = F,
        > + Send
        + 'static,
    F: Future<Output = Result<Response<Body>, Infallible>> + Send + 'static,
{
    async fn serve(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let stream = TokioIo::new(stream);
        let connection = self.builder.serve_connection(stream, self.service);
        let mut connection = pin!(connection);
        let mut watch = pin!(Watch::over(self.heads));
        let closing = &*self.closing;
        let (mut is_known, mut was_told) = (false, false);
        let ended = poll_fn(|cx| {
            if !is_known {
                is_known = true;
                let task = cx.waker().clone();
                closing.tasks.lock().insert(self.number, task);
            }
            if !was_told && closing.has_begun.load(Ordering::Acquire) {
                was_told = true;
                connection.as_mut().graceful_shutdown();
            }
            let ended = connection.as_mut().poll(cx);
            if ended.is_pending() && watch.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err("no request came in time".into()));
            }
            ended
        });
        let ended = ended.await;
        closing.tasks.lock().remove(&self.number);
        if let Err(error) = ended {
            tracing::debug!(%error, "connection ended with an error");
        }
    }
}

/// A bound address.
#[derive(Debug)]
pub struct Listener {
    tcp: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Binds the address.
    ///
    /// # Errors
    /// Whatever bind(2) says, most often that the address is in use.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let tcp = TcpListener::bind(address).await?;
        let address = tcp.local_addr()?;
        Ok(Self { tcp, address })
    }

    /// The address, with the port that the system chose for port 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop`; then accepts no more, lets every connection finish its request, and
    /// cuts those that take longer than `patience`. With `tls`, HTTPS only.
    pub async fn serve(
        self,
        dispatch: Dispatch,
        tls: Option<Tls>,
        stop: CancellationToken,
        patience: Duration,
    ) {
        let builder = Builder::new(TokioExecutor::new());
        let closing = Arc::new(Closing::default());
        let mut connections = JoinSet::new();
        let mut number = 0;
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = self.accept(&places) => accepted,
                // A panic was logged where it happened.
                Some(_ended) = connections.join_next() => continue,
            };
            let (stream, peer, place) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "no connection could be accepted");
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                    continue;
                }
            };
            let heads = Heads::new();
            let service = dispatch.clone().service(Peer(peer.ip()), heads.clone());
            let mut builder = builder.clone();
            let timer = heads.clone();
            builder
                .http1()
                .timer(timer)
                .header_read_timeout(HEAD_TIMEOUT);
            number += 1;
            let connection = Connection {
                number,
                builder,
                service,
                closing: Arc::clone(&closing),
                heads,
            };
            let (tls, stop) = (tls.clone(), stop.clone());
            connections.spawn(async move {
                let _place = place;
                let Some(tls) = tls else {
                    return connection.serve(stream).await;
                };
                let hands = tokio::time::timeout(HEAD_TIMEOUT, tls.accept(stream));
                let shaken = tokio::select! {
                    () = stop.cancelled() => return,
                    shaken = hands => shaken,
                };
                match shaken.map_err(io::Error::from).flatten() {
                    Ok(stream) => connection.serve(stream).await,
                    Err(error) => tracing::debug!(%peer, %error, "no TLS connection"),
                }
            });
        }
        drop(self.tcp);
        closing.begin();
        let all_ended = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(patience, all_ended).await.is_err() {
            tracing::warn!("connections were cut because they did not finish in time");
        }
        connections.shutdown().await;
    }

    async fn accept(
        &self,
        places: &Arc<Semaphore>,
    ) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
        let place = Arc::clone(places)
            .acquire_owned()
            .await
            .map_err(io::Error::other)?;
        let (stream, peer) = self.tcp.accept().await?;
        // Replies are written whole; waiting to fill a segment only delays them. It fails only on
        // a connection that is gone already, which reading it will tell.
        let _nodelay = stream.set_nodelay(true);
        Ok((stream, peer, place))
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn connections_on_which_no_request_comes_are_closed() {
        let local = "127.0.0.1:0".parse().expect("an address");
        let listener = Listener::bind(local).await.expect("bound");
        let address = listener.address();
        let router = Router::new().route("/", get(|| async { "answer" }));
        let stop = CancellationToken::new();
        let patience = Duration::from_secs(1);
        let serving = tokio::spawn(listener.serve(router.into(), None, stop.clone(), patience));
        for (sent, answer) in [
            ("", ""),
            ("GET / HT", ""),
            ("PRI * HTTP/2", ""),
            ("GET / HTTP/1.1\r\nhost: a\r\n\r\n", "answer"),
        ] {
            let began = Instant::now();
            let mut stream = TcpStream::connect(address).await.expect("connected");
            stream.write_all(sent.as_bytes()).await.expect("sent");
            let mut told = String::new();
            stream.read_to_string(&mut told).await.expect("closed");
            assert!(told.ends_with(answer), "{sent}: {told}");
            assert_eq!(told.is_empty(), answer.is_empty(), "{sent}: {told}");
            let took = began.elapsed();
            assert!(
                took >= HEAD_TIMEOUT && took < 2 * HEAD_TIMEOUT,
                "{sent}: {took:?}"
            );
        }
        stop.cancel();
        serving.await.expect("no panic");
    }
}

//! Accepts connections and serves a router on them, until told to stop.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
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
use super::tls::Tls;

/// Most connections at a time; further ones wait in the kernel's backlog.
pub const MAX_CONNECTIONS: usize = 16_384;
/// How long a client may take to send its request head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
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
            connection.as_mut().poll(cx)
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
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT);
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
            let service = dispatch.clone().service(Peer(peer.ip()));
            number += 1;
            let connection = Connection {
                number,
                builder: builder.clone(),
                service,
                closing: Arc::clone(&closing),
            };
            let (tls, stop) = (tls.clone(), stop.clone());
            connections.spawn(async move {
                let _place = place;
                let Some(tls) = tls else {
                    return connection.serve(stream).await;
                };
                let hands = tokio::time::timeout(HEADER_TIMEOUT, tls.accept(stream));
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

//! Accepts connections and serves a router on them, until told to stop.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tower::util::ServiceExt;

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

/// The router, for one connection.
fn service_of(
    router: Router,
    peer: Peer,
) -> impl hyper::service::Service<
    Request<Incoming>,
    Response = Response<Body>,
    Error = Infallible,
    Future: Send + 'static,
> + Send
+ 'static {
    TowerToHyperService::new(router.map_request(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        request
    }))
}

/// One connection, before anything is read from it.
struct Connection<S> {
    builder: Builder<TokioExecutor>,
    service: S,
    watcher: Watcher,
    cut: CancellationToken,
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
        let connection = self
            .builder
            .serve_connection(TokioIo::new(stream), self.service);
        tokio::select! {
            () = self.cut.cancelled() => {}
            ended = self.watcher.watch(connection.into_owned()) => if let Err(error) = ended {
                tracing::debug!(%error, "connection ended with an error");
            },
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
        router: Router,
        tls: Option<Tls>,
        stop: CancellationToken,
        patience: Duration,
    ) {
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT);
        let graceful = GracefulShutdown::new();
        let cut = CancellationToken::new();
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = self.accept(&places) => accepted,
            };
            let (stream, peer, place) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "no connection could be accepted");
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                    continue;
                }
            };
            let service = service_of(router.clone(), Peer(peer.ip()));
            let connection = Connection {
                builder: builder.clone(),
                service,
                watcher: graceful.watcher(),
                cut: cut.clone(),
            };
            let (tls, stop) = (tls.clone(), stop.clone());
            tokio::spawn(async move {
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
        if tokio::time::timeout(patience, graceful.shutdown())
            .await
            .is_err()
        {
            tracing::warn!("connections were cut because they did not finish in time");
        }
        cut.cancel();
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

//! Accepts connections and serves a router on them, until told to stop.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::connection::Connection;
use super::connection_slots::{ConnectionSlot, ConnectionSlots};
use super::handshake::Handshake;
use super::peer::Peer;
use super::request::Served;
use super::tls::Tls;
use crate::fair::{Flow, Gate};

/// How long to wait after the system refused a connection for lack of descriptors or memory.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);
/// How long a client may take to shake hands for TLS.
const TLS_TIMEOUT: Duration = Duration::from_secs(30);
/// Most bytes that wait in a connection's socket until they are sent.
const MOST_UNSENT: u32 = 128 << 10;
/// How long a connection is silent before the system asks whether its peer is still there, how often it
/// asks then, and how often in vain at the most.
const TCP_KEEP_ALIVE: (Duration, Duration, u32) =
    (Duration::from_secs(60), Duration::from_secs(15), 4);
/// The answer to a peer with too many connections, if it can be said at once.
const TOO_MANY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\nContent-Type: text/plain\r\nContent-Length: 84\r\n\r\ntoo many connections from this address (`http.connections_per_peer`, `http.proxies`)";

/// The service on the connections of a listener.
pub(in crate::front) trait Serve: Clone + Send + 'static {
    /// For one connection of that peer, which is closed when it has been idle for so long.
    fn service(
        self,
        peer: Peer,
        idle_timeout: Duration,
    ) -> impl hyper::service::Service<
        Request<Incoming>,
        Response = Response<Served>,
        Error = Infallible,
        Future: Send + 'static,
    > + Send
    + 'static;
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

    /// A socket that listens already.
    ///
    /// # Errors
    /// Whatever the system says when it is set not to block.
    pub fn from_std(socket: std::net::TcpListener) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let tcp = TcpListener::from_std(socket)?;
        let address = tcp.local_addr()?;
        Ok(Self { tcp, address })
    }

    /// The address, with the port that the system chose for port 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop`; then accepts no more, lets every connection finish its request, and
    /// cuts those that take longer than `grace`. With `tls`, HTTPS only.
    ///
    /// # Cancel-Safety
    /// A dropped call cuts every connection.
    pub(in crate::front) async fn serve<D: Serve>(
        self,
        dispatch: D,
        tls: Option<Tls>,
        slots: Arc<ConnectionSlots>,
        stop: CancellationToken,
        grace: Duration,
    ) {
        let mut connections = JoinSet::new();
        let service = Service {
            entries: slots.strangers().another(),
            dispatch,
            tls,
            slots: Arc::clone(&slots),
            stop,
        };
        self.accept_until_stop(&service, &mut connections).await;
        drop(self.tcp);
        slots.close();
        let all_ended = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(grace, all_ended).await.is_err() {
            tracing::warn!("connections were cut because they did not finish in time");
        }
        connections.shutdown().await;
    }

    async fn accept_until_stop<D: Serve>(
        &self,
        service: &Service<D>,
        connections: &mut JoinSet<()>,
    ) {
        let slots = &service.slots;
        // Peers who come again and again are not let in before those who are there.
        let flow = service.entries.clone();
        let mut accepting = pin!(self.accept(slots, &flow));
        loop {
            let accepted = tokio::select! {
                () = service.stop.cancelled() => return,
                // Kept over the other branches: it may hold a connection that waits for its slot.
                accepted = &mut accepting => accepted,
                // A panic was logged where it happened.
                Some(_ended) = connections.join_next() => continue,
            };
            accepting.set(self.accept(slots, &flow));
            match accepted {
                Ok(Some(accepted)) => {
                    connections.spawn(service.clone().serve(accepted));
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, "no connection could be accepted");
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                }
            }
        }
    }

    /// The next connection, with a slot. `None`: its peer has too many.
    ///
    /// # Cancel-Safety
    /// A dropped call may lose a connection that has no slot yet.
    async fn accept(
        &self,
        slots: &Arc<ConnectionSlots>,
        flow: &Flow,
    ) -> io::Result<Option<Accepted>> {
        let mut gate = Gate::default();
        let (stream, peer) =
            poll_fn(|cx| gate.poll(flow, cx, |cx| self.tcp.poll_accept(cx))).await?;
        let Some(slot) = slots.take(peer.ip()).await else {
            // What cannot be said at once is not said: whoever floods must not be waited for.
            let _said = stream.try_write(TOO_MANY);
            return Ok(None);
        };
        prepare(&stream);
        Ok(Some(Accepted {
            stream,
            peer,
            slot: Arc::new(slot),
        }))
    }
}

/// A connection that has been let in.
struct Accepted {
    stream: TcpStream,
    peer: SocketAddr,
    slot: Arc<ConnectionSlot>,
}

/// The parts that each connection is served with. Cheap to clone.
#[derive(Clone)]
struct Service<D> {
    /// The work of letting connections in.
    entries: Flow,
    dispatch: D,
    tls: Option<Tls>,
    slots: Arc<ConnectionSlots>,
    stop: CancellationToken,
}

impl<D: Serve> Service<D> {
    async fn serve(self, accepted: Accepted) {
        let Accepted { stream, peer, slot } = accepted;
        let timeouts = self.slots.timeouts();
        let of = Peer {
            // One of IPv4 that a listener on IPv6 shows in a form of its own is that one.
            ip: peer.ip().to_canonical(),
            slot: Arc::clone(&slot),
            held: None,
        };
        let connection = Connection {
            slot: Arc::clone(&slot),
            service: self.dispatch.service(of, timeouts.idle),
            timeouts,
        };
        let Some(tls) = self.tls else {
            return connection.serve(stream).await;
        };
        let limit = TLS_TIMEOUT.min(timeouts.idle);
        let flow = self.slots.strangers().clone();
        let hands = tokio::time::timeout(
            limit,
            flow.run(tls.accept(Handshake::new(stream, Arc::clone(&slot)))),
        );
        let shaken = tokio::select! {
            () = self.stop.cancelled() => return,
            () = slot.activity().leaves() => return,
            shaken = hands => shaken,
        };
        match shaken.map_err(io::Error::from).flatten() {
            Ok(mut stream) => {
                stream.get_mut().0.is_done();
                connection.serve(stream).await;
            }
            Err(error) => tracing::debug!(%peer, %error, "no TLS connection"),
        }
    }
}

/// Sets what a connection needs. All of it fails only on one that is gone already, which reading it will tell.
fn prepare(stream: &TcpStream) {
    // Replies are written whole; waiting to fill a segment only delays them.
    let _nodelay = stream.set_nodelay(true);
    let (time, interval, retries) = TCP_KEEP_ALIVE;
    let keep_alive = TcpKeepalive::new()
        .with_time(time)
        .with_interval(interval)
        .with_retries(retries);
    let socket = SockRef::from(stream);
    let _keep_alive = socket.set_tcp_keepalive(&keep_alive);
    // A socket says that it takes more when a third of it is free, which is a megabyte of a long answer: who reads slowly seemed
    // to take nothing. With this it says so when half of these bytes have gone (tcp(7), `net/core/stream.c`).
    let _unsent = socket.set_tcp_notsent_lowat(MOST_UNSENT);
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::Instant;

    use super::*;
    use crate::front::dispatch::Dispatch;
    use crate::front::net::ConnectionLimits;
    use crate::held::Ledger;
    use crate::protocol::HttpRefusal;

    #[test]
    fn a_peer_with_too_many_connections_is_told_by_the_status_of_the_table() {
        let status = HttpRefusal::Connections.http_status();
        assert!(TOO_MANY.starts_with(format!("HTTP/1.1 {status} ").as_bytes()));
    }

    #[tokio::test(start_paused = true)]
    async fn connections_on_which_no_request_comes_are_closed() {
        let local = "127.0.0.1:0".parse().expect("an address");
        let listener = Listener::bind(local).await.expect("bound");
        let address = listener.address();
        let router = Router::new().route("/", get(|| async { "answer" }));
        let stop = CancellationToken::new();
        let grace = Duration::from_secs(1);
        let slots = ConnectionSlots::new(ConnectionLimits::of_few(10), &Ledger::unlimited());
        let serving = listener.serve(Dispatch::from(router), None, slots, stop.clone(), grace);
        let serving = tokio::spawn(serving);
        for (sent, answer, limit) in [
            ("", "", 30),
            ("GET / HT", "", 30),
            ("PRI * HTTP/2", "", 30),
            ("GET / HTTP/1.1\r\nhost: a\r\n\r\n", "answer", 80),
            ("GET / HTTP/1.1\r\nhost: a\r\n\r\nGET", "answer", 30),
        ] {
            let began = Instant::now();
            let mut stream = TcpStream::connect(address).await.expect("connected");
            stream.write_all(sent.as_bytes()).await.expect("sent");
            let mut told = String::new();
            stream.read_to_string(&mut told).await.expect("closed");
            assert!(told.ends_with(answer), "{sent}: {told}");
            assert_eq!(told.is_empty(), answer.is_empty(), "{sent}: {told}");
            let took = began.elapsed();
            let limit = Duration::from_secs(limit);
            assert!(
                took >= limit && took < limit + Duration::from_secs(15),
                "{sent}: {took:?}"
            );
        }
        stop.cancel();
        serving.await.expect("no panic");
    }
}

//! Connections as no client library makes them, to a pool of two tenants.

use std::fmt::Write as _;
use std::net::SocketAddr;

use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpSocket, TcpStream};

use crate::beside::Beside;
use crate::support::{Client, PATIENCE, Stdiopool, demo};

/// Serves demo servers to `acme` and `bystander`, each with a token of its name, with those keys of `[http]`.
pub(crate) fn serve(http: &str, more: &str) -> Stdiopool {
    let mut tenants = String::new();
    for name in ["acme", "bystander"] {
        let hash = sha256(name);
        writeln!(tenants, "[tenants.{name}]\ntokens = [\"sha256:{hash}\"]").expect("in memory");
    }
    serve_as("mode = \"token\"", http, &format!("{tenants}{more}"))
}

pub(crate) fn serve_as(auth: &str, http: &str, more: &str) -> Stdiopool {
    let dir = crate::support::open_folder().expect("a temporary folder");
    let servers = demo("good", "");
    let text = format!(
        "[http]\nlisten = \"127.0.0.1:0\"\n{http}\n[admin]\nlisten = \"127.0.0.1:0\"\n[auth]\n{auth}\n[state]\ndir = \"state\"\n{servers}\n{more}"
    );
    let path = dir.path().join("pool.toml");
    std::fs::write(&path, text).expect("pool.toml is written");
    let args = ["--config".to_owned(), path.display().to_string()];
    Stdiopool::run(dir, &args, &[])
}

pub(crate) fn sha256(text: &str) -> String {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(text);
    digest.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("in memory");
        hex
    })
}

pub(crate) fn address(pool: &Stdiopool) -> SocketAddr {
    let url = pool.url.strip_prefix("http://").expect("plain");
    url.parse().expect("an address")
}

/// A connection from 127.0.0.`from`; `None` if it is refused at once.
pub(crate) async fn connect(pool: &Stdiopool, from: u8) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    let own = SocketAddr::from(([127, 0, 0, from], 0));
    socket.bind(own).expect("an address of loopback");
    socket.connect(address(pool)).await.expect("connected")
}

/// What comes until the connection is closed, by a reset too.
pub(crate) async fn until_closed(stream: &mut TcpStream) -> String {
    let mut told = vec![];
    let read = stream.read_to_end(&mut told);
    let _reset = tokio::time::timeout(PATIENCE, read).await.expect("closed");
    String::from_utf8_lossy(&told).into_owned()
}

/// What comes up to the end of that text.
pub(crate) async fn until_told(stream: &mut TcpStream, text: &str) -> String {
    let read = async {
        let mut told = Vec::new();
        let mut piece = [0; 4096];
        while !String::from_utf8_lossy(&told).contains(text) {
            let len = stream.read(&mut piece).await.expect("readable");
            assert!(len > 0, "closed after {}", String::from_utf8_lossy(&told));
            told.extend_from_slice(&piece[..len]);
        }
        String::from_utf8_lossy(&told).into_owned()
    };
    tokio::time::timeout(PATIENCE, read).await.expect("told")
}

pub(crate) fn initialize(token: &str, more: &str) -> String {
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}});
    let body = body.to_string();
    format!(
        "POST /good/mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\n{more}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

pub(crate) async fn known(pool: &Stdiopool, token: &str) -> Client {
    pool.client("good").with_token(token).connect().await
}

pub(crate) async fn beside(pool: &Stdiopool) -> Beside {
    Beside::of(known(pool, "bystander").await)
}

pub(crate) type Sender = h2::client::SendRequest<bytes::Bytes>;

/// A connection of HTTP/2, and a task that ends with it.
pub(crate) async fn http2(
    pool: &Stdiopool,
    from: u8,
    window: u32,
) -> (Sender, tokio::task::JoinHandle<Result<(), h2::Error>>) {
    let stream = connect(pool, from).await;
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(window);
    let (sender, connection) = builder.handshake(stream).await.expect("HTTP/2");
    (sender, tokio::spawn(connection))
}

/// Sends all of a body, or says of its stream why not.
pub(crate) async fn send_all(
    body: &mut h2::SendStream<bytes::Bytes>,
    bytes: usize,
) -> Result<(), h2::Error> {
    let mut left = bytes;
    while left > 0 {
        body.reserve_capacity(left);
        let room = std::future::poll_fn(|cx| body.poll_capacity(cx)).await;
        let room = room.unwrap_or(Ok(0))?;
        if room == 0 {
            return Err(h2::Reason::STREAM_CLOSED.into());
        }
        left -= room;
        body.send_data(vec![b'x'; room].into(), left == 0)?;
    }
    Ok(())
}

pub(crate) fn asked(pool: &Stdiopool, path: &str, authority: Option<&str>) -> http::Request<()> {
    let own = address(pool).to_string();
    let authority = authority.unwrap_or(&own);
    let request = http::Request::get(format!("http://{authority}{path}"));
    request.body(()).expect("a request")
}

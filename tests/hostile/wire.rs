//! Requests as they stand on the wire, for what no client library sends.

use std::fmt::Write as _;
use std::net::SocketAddr;

use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{PATIENCE, Stdiopool};

/// The body of an `initialize` of 2025-11-25.
pub(crate) const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}"#;

/// Where the front door listens.
pub(crate) fn address(pool: &Stdiopool) -> SocketAddr {
    let url = pool.url.strip_prefix("http://").expect("plain");
    url.parse().expect("an address")
}

/// `[tenants.NAME]` tables, each with its name as its token.
pub(crate) fn tenants(names: &[&str]) -> String {
    let mut toml = String::new();
    for name in names {
        let hash = data_encoding::HEXLOWER.encode(&Sha256::digest(name));
        writeln!(toml, "[tenants.{name}]\ntokens = [\"sha256:{hash}\"]").expect("in memory");
    }
    toml
}

/// Sends those bytes over a connection of their own, and gives what comes until its end.
pub(crate) async fn exchange(pool: &Stdiopool, request: &[u8]) -> String {
    exchange_with(address(pool), request).await
}

/// As [`exchange`], with whoever listens there.
pub(crate) async fn exchange_with(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connected");
    // Who refuses early may close while the rest is on its way.
    let _cut_off = stream.write_all(request).await;
    let mut told = vec![];
    let read = stream.read_to_end(&mut told);
    let _reset = tokio::time::timeout(PATIENCE, read).await.expect("closed");
    String::from_utf8_lossy(&told).into_owned()
}

/// The status of an answer that stands in HTTP/1.1; `None` when there was none.
pub(crate) fn status(answer: &str) -> Option<u16> {
    let line = answer.strip_prefix("HTTP/1.1 ")?;
    line.get(..3)?.parse().ok()
}

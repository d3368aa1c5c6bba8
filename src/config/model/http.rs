//! `[http]`, `[admin]` and `[aggregate]`: where stdiopool listens, and what it offers there.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use secrecy::SecretString;

use crate::config::origins::Origins;
use crate::protocol::FailureStatus;

/// `[http]`: the front door.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Http {
    /// Address on which the front door listens.
    pub listen: SocketAddr,
    /// The address by which clients know this stdiopool.
    pub public_url: Option<String>,
    /// The status of the answer to a request that failed.
    pub failure_status: FailureStatus,
    /// Origins of pages in browsers that may speak to it.
    pub allowed_origins: Origins,
    /// Largest request body, in bytes.
    pub max_body: u64,
    /// How many connections there may be, and for how long.
    pub connections: Connections,
    /// Bytes that all tenants together may make stdiopool hold.
    pub memory: u64,
    /// `[http.tls]`; `None`: plain HTTP.
    pub tls: Option<Tls>,
}

/// Connections of the front door.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Connections {
    /// Most connections at once.
    pub all: usize,
    /// Most connections of one peer.
    pub per_peer: usize,
    /// Most connections of one tenant.
    pub per_tenant: usize,
    /// Peers for which the two above do not hold.
    pub proxies: Vec<IpNet>,
    /// How long one may be without a request.
    pub idle_timeout: Duration,
    /// How long a peer may take nothing of what is written to it.
    pub write_timeout: Duration,
}

/// `[http.tls]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tls {
    /// The certificate and those that lead to its root, PEM.
    pub cert: PathBuf,
    /// The certificate's private key, PEM.
    pub key: PathBuf,
    /// Roots of clients' certificates, PEM; with it, a client needs one.
    pub client_ca: Option<PathBuf>,
}

/// `[admin]`: metrics and the admin API.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Address on which metrics and the admin API listen.
    pub listen: SocketAddr,
    /// Bearer token that callers need; required off loopback.
    pub token: Option<SecretString>,
}

/// `[aggregate]`: all servers of a tenant offered as one, at `/mcp`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Aggregate {
    /// What stands between a server's name and the name of a tool or prompt of it.
    pub separator: String,
    /// How long a list waits for one server.
    pub list_timeout: Duration,
}

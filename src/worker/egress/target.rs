//! Where a connection leads: looked up once, checked, connected.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::egress::{AllowList, is_internal, plain};
use crate::telemetry::labels::EgressOutcome;

/// How long the host's resolver may take.
const LOOKUP_TIME: Duration = Duration::from_secs(10);
/// How long a host may take to accept a connection, of each of its addresses.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// Addresses of a host that are tried.
const MAX_ADDRESSES: usize = 4;
/// Lookups of all workers at once: each takes a thread.
static LOOKUPS: Semaphore = Semaphore::const_new(32);

/// The host that a connection is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Host {
    Name(String),
    /// Whichever of these is listed and there.
    Addresses(Vec<IpAddr>),
}

/// Looks up names.
pub(super) trait Lookup: Send + Sync {
    /// The addresses of a name.
    fn addresses<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>>;
}

/// The host's resolver.
#[derive(Debug)]
pub(super) struct SystemLookup;

impl Lookup for SystemLookup {
    fn addresses<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name, 0)).await?;
            Ok(found.map(|it| it.ip()).collect())
        })
    }
}

/// Connects to a host that is listed with that port.
///
/// # Errors
/// What became of it instead.
pub(super) async fn connect(
    host: &Host,
    port: u16,
    list: &AllowList,
    closed: &[SocketAddr],
    lookup: &dyn Lookup,
) -> Result<TcpStream, EgressOutcome> {
    let found = match host {
        Host::Addresses(addresses) => addresses.clone(),
        Host::Name(name) => look_up(name, lookup).await?,
    };
    let open = permitted(&found, port, list, closed, is_own);
    if open.is_empty() {
        return Err(EgressOutcome::RefusedInternal);
    }
    for address in open.into_iter().take(MAX_ADDRESSES) {
        let connecting = TcpStream::connect((address, port));
        if let Ok(Ok(stream)) = timeout(CONNECT_TIME, connecting).await {
            return Ok(stream);
        }
    }
    Err(EgressOutcome::Unreachable)
}

async fn look_up(name: &str, lookup: &dyn Lookup) -> Result<Vec<IpAddr>, EgressOutcome> {
    let _permit = LOOKUPS.acquire().await;
    match timeout(LOOKUP_TIME, lookup.addresses(name)).await {
        Ok(Ok(found)) if !found.is_empty() => Ok(found),
        Ok(Ok(_) | Err(_)) | Err(_) => Err(EgressOutcome::Unresolved),
    }
}

/// The addresses of a listed host that may be connected to: those of the internet that are not this host's own, and those that are listed
/// themselves. Where this process listens, none.
fn permitted(
    found: &[IpAddr],
    port: u16,
    list: &AllowList,
    closed: &[SocketAddr],
    is_own: impl Fn(IpAddr) -> bool,
) -> Vec<IpAddr> {
    let mut open = Vec::new();
    for address in found.iter().map(|it| plain(*it)) {
        let is_here = address.is_loopback() || address.is_unspecified() || is_own(address);
        let is_inside = is_here || is_internal(address);
        let is_closed = is_here && closed.iter().any(|it| it.port() == port);
        let is_allowed = !is_inside || list.lists_address(address, port);
        if is_allowed && !is_closed && !open.contains(&address) {
            open.push(address);
        }
    }
    open
}

/// Whether an address is one of this host: only then is a socket bound to it.
fn is_own(address: IpAddr) -> bool {
    std::net::UdpSocket::bind((address, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::net::TcpListener;

    use super::*;

    fn list(texts: &[&str]) -> AllowList {
        let texts: Vec<_> = texts.iter().map(|it| (*it).to_owned()).collect();
        AllowList::parse(&texts).expect("rules")
    }

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts
            .iter()
            .map(|it| it.parse().expect("an address"))
            .collect()
    }

    #[test]
    fn what_a_name_leads_to_inside_is_not_connected_to() {
        let found = addresses(&[
            "10.0.0.1",
            "::ffff:127.0.0.1",
            "64:ff9b::a00:1",
            "169.254.169.254",
            "93.184.216.34",
            "93.184.216.34",
            "93.184.216.35",
        ]);
        let own = "93.184.216.35".parse::<IpAddr>().expect("an address");
        let open = permitted(&found, 443, &list(&["a.example"]), &[], |it| it == own);
        assert_eq!(open, addresses(&["93.184.216.34"]));
        let listed = list(&["a.example", "10.0.0.0/24:443", "93.184.216.35:443"]);
        let open = permitted(&found, 443, &listed, &[], |it| it == own);
        assert_eq!(
            open,
            addresses(&["10.0.0.1", "93.184.216.34", "93.184.216.35"])
        );
        assert!(permitted(&found[..1], 80, &listed, &[], |_| false).is_empty());
    }

    #[test]
    fn where_stdiopool_listens_nothing_leads() {
        let closed = ["0.0.0.0:7000".parse().expect("an address")];
        let list = list(&["127.0.0.1:7000", "127.0.0.1:7001", "93.184.216.35:7000"]);
        let is_own = |it: IpAddr| it == addresses(&["93.184.216.35"])[0];
        for (address, port, count) in [
            ("127.0.0.1", 7000, 0),
            ("127.0.0.1", 7001, 1),
            ("93.184.216.35", 7000, 0),
            ("93.184.216.36", 7000, 1),
        ] {
            let open = permitted(&addresses(&[address]), port, &list, &closed, is_own);
            assert_eq!(open.len(), count, "{address}:{port}");
        }
    }

    #[test]
    fn an_address_of_this_host_is_known() {
        assert!(is_own([127, 0, 0, 1].into()));
        assert!(!is_own([93, 184, 216, 34].into()));
    }

    /// Another answer each time: first an address that is listed, then one that is not.
    struct Rebinding(AtomicUsize);

    impl Lookup for Rebinding {
        fn addresses<'a>(&'a self, _name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
            let last = match self.0.fetch_add(1, Ordering::Relaxed) {
                0 => 1,
                _ => 2,
            };
            Box::pin(async move { Ok(vec![[127, 0, 0, last].into()]) })
        }
    }

    #[tokio::test]
    async fn a_name_is_looked_up_once_for_a_connection_and_checked_each_time() {
        let server = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = server.local_addr().expect("bound").port();
        let list = list(&[&format!("a.example:{port}"), &format!("127.0.0.1:{port}")]);
        let lookup = Rebinding(AtomicUsize::new(0));
        let host = Host::Name("a.example".to_owned());
        let stream = connect(&host, port, &list, &[], &lookup)
            .await
            .expect("connected");
        assert_eq!(
            stream.peer_addr().expect("there").ip().to_string(),
            "127.0.0.1"
        );
        assert_eq!(lookup.0.load(Ordering::Relaxed), 1);
        let again = connect(&host, port, &list, &[], &lookup).await;
        assert_eq!(again.err(), Some(EgressOutcome::RefusedInternal));
    }
}

//! One connection out of a worker's network, from when it is taken until it is told what became of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::Instant;

use super::pass::{Passed, pass};
use super::state::Egress;
use super::target::{Host, connect};
use crate::egress::{AllowList, Synthetic, plain};
use crate::telemetry::labels::EgressOutcome;
use crate::worker::egress_attempt::EgressAttempt;

/// The account of a connection, told when it is dropped, for whatever reason.
struct Account {
    egress: Arc<Egress>,
    host: String,
    port: u16,
    /// The address that stands for the host's name; `None` where the worker connected to an address.
    name: Option<Synthetic>,
    outcome: EgressOutcome,
    passed: Passed,
    since: Instant,
}

impl Drop for Account {
    fn drop(&mut self) {
        if let Some(name) = self.name {
            self.egress.names.lock().closed(Instant::now(), name);
        }
        self.egress.tell(&EgressAttempt {
            host: std::mem::take(&mut self.host),
            port: self.port,
            outcome: self.outcome,
            sent: self.passed.sent.load(Ordering::Relaxed),
            received: self.passed.received.load(Ordering::Relaxed),
            took: self.since.elapsed(),
            is_one_of_many: false,
        });
    }
}

/// Serves a connection: to the host that its address stands for, if that is listed with its port; else it is reset.
pub(super) async fn serve(egress: Arc<Egress>, stream: TcpStream) {
    let Ok(local) = stream.local_addr() else {
        return;
    };
    let (address, port) = (plain(local.ip()), local.port());
    let mut account = Account {
        host: address.to_string(),
        port,
        name: None,
        outcome: EgressOutcome::RefusedAddress,
        passed: Passed::default(),
        since: Instant::now(),
        egress: Arc::clone(&egress),
    };
    let name = Synthetic::of(address);
    let known = name.and_then(|it| Some((it, egress.names.lock().opened(account.since, it)?)));
    let decided = match known {
        Some((synthetic, name)) => {
            account.name = Some(synthetic);
            account.host = name.to_string();
            match egress.list.allows_name(&name, port) {
                true => Ok(Host::Name(name.to_string())),
                false => Err(EgressOutcome::RefusedPort),
            }
        }
        None => literal(&egress.list, address, port).ok_or(EgressOutcome::RefusedAddress),
    };
    let slot = egress.slots.take();
    let connected = match (decided, &slot) {
        (Err(why), _) => Err(why),
        (Ok(_), None) => Err(EgressOutcome::Limited),
        (Ok(host), Some(_)) => {
            // The outcome if the worker ends meanwhile.
            account.outcome = EgressOutcome::Unreachable;
            let (list, closed) = (&egress.list, &egress.closed);
            connect(&host, port, list, closed, &*egress.lookup).await
        }
    };
    match connected {
        Ok(host) => {
            account.outcome = EgressOutcome::Connected;
            let _as_the_kernel_does = host.set_nodelay(true);
            let _as_the_kernel_does = stream.set_nodelay(true);
            pass(stream, host, &account.passed).await;
        }
        Err(why) => {
            account.outcome = why;
            reset(stream);
        }
    }
}

/// The host of an address that stands for no name, if it is listed. A loopback address stands for that of the other IP version too: since the
/// connection is taken, its program does not try the other.
fn literal(list: &AllowList, address: IpAddr, port: u16) -> Option<Host> {
    let loopbacks = [
        IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::LOCALHOST),
    ];
    let meant = match loopbacks.contains(&address) {
        true => loopbacks.to_vec(),
        false => vec![address],
    };
    let is_listed = meant.iter().any(|it| list.lists_address(*it, port));
    is_listed.then_some(Host::Addresses(meant))
}

/// Ends a connection so that its other side hears of it as an error.
fn reset(stream: TcpStream) {
    let socket = socket2::SockRef::from(&stream);
    // Without, it is an end without an answer.
    let _ends_all_the_same = socket.set_linger(Some(Duration::ZERO));
    drop(stream);
}

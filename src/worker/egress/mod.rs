//! What a worker with a list of hosts reaches: takes the connections that come out of its network, and passes on those that it may have.
//!
//! ```text
//!  DNS socket ---- dns::answer ----> "no such name", or an address for it
//!  listeners ----> connection.rs: which host? listed? --> target.rs: looked up once, checked, connected --> pass.rs: bytes
//!  heads --------> what nothing listens for, and the kernel has refused: told
//! ```
//!
//! Invariants
//! - A host is looked up once for each connection; what is checked is what is connected to.
//! - Whatever becomes of an attempt, it is told once ([`EgressAttempt`]), also when the worker ends meanwhile.
//! - Connections, names, lookups and what is told of a worker are bounded; beyond, it alone waits or is refused.
//!
//! Not done here: proxying. The bytes of a connection are not looked at: what its name is was asked by DNS.

mod connection;
mod pace;
mod pass;
mod slots;
mod state;
mod target;

use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::pace::Pace;
pub use self::slots::descriptors_for_hosts;
pub(super) use self::state::Egress;
use super::egress_attempt::EgressAttempt;
use super::guardian::Sockets;
use crate::egress::{MAX_HEAD, QueryOutcome, answer, attempt_of, plain};
use crate::telemetry::labels::EgressOutcome;

/// Connections of one worker that are taken each second, and at once; further ones wait in the kernel.
const CONNECTIONS: Pace = Pace::new(100, 256);
/// Questions of one worker that are answered each second, and at once; further ones wait in the kernel, as far as they do.
const QUESTIONS: Pace = Pace::new(500, 500);
/// Attempts that nothing listens for of which each is told, each second; of further ones the number is.
const ATTEMPTS: Pace = Pace::new(20, 50);
/// A resolver asks for a name's addresses of both kinds, and again where there are none: that is one attempt.
const SAME_LOOKUP: Duration = Duration::from_secs(2);
/// Before a socket that fails is tried again.
const RETRY: Duration = Duration::from_millis(100);

impl Egress {
    /// Serves a worker's sockets, for ever.
    ///
    /// # Cancel-Safety
    /// When it is dropped, all connections end, and are told.
    pub(super) async fn serve(self, sockets: Sockets) {
        let flow = self.flow.clone();
        let egress = Arc::new(self);
        let mut tasks = JoinSet::new();
        let pace = Arc::new(tokio::sync::Mutex::new(CONNECTIONS));
        for listener in sockets.listeners {
            match TcpListener::from_std(listener) {
                Ok(listener) => {
                    let (egress, pace) = (Arc::clone(&egress), Arc::clone(&pace));
                    let accepting = async move { egress.accept(&listener, &pace).await };
                    tasks.spawn(flow.clone().run(accepting));
                }
                Err(error) => tracing::error!(%error, "a port of a worker's network is not served"),
            }
        }
        match UdpSocket::from_std(sockets.dns) {
            Ok(dns) => {
                let egress = Arc::clone(&egress);
                let answering = async move { egress.answer(&dns).await };
                tasks.spawn(flow.clone().run(answering));
            }
            Err(error) => tracing::error!(%error, "names are not answered in a worker's network"),
        }
        match UdpSocket::from_std(sockets.heads) {
            Ok(heads) => {
                tasks.spawn(flow.run(async move { egress.watch(&heads).await }));
            }
            Err(error) => tracing::error!(%error, "refused attempts of a worker are not seen"),
        }
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a task of a worker's network failed");
            }
        }
    }

    /// Takes connections.
    async fn accept(self: Arc<Self>, listener: &TcpListener, pace: &tokio::sync::Mutex<Pace>) {
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                // The connection's end was told by its task.
                Some(_) = connections.join_next() => continue,
            };
            match accepted {
                Ok((stream, _)) => {
                    let serving = connection::serve(Arc::clone(&self), stream);
                    connections.spawn(self.flow.clone().run(serving));
                    pace.lock().await.wait().await;
                }
                Err(error) => {
                    tracing::debug!(%error, "a connection of a worker was not taken");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// Answers questions for names.
    async fn answer(&self, dns: &UdpSocket) {
        let mut pace = QUESTIONS;
        let mut refused: Option<(String, Instant)> = None;
        let mut question = vec![0; 1200];
        loop {
            let Ok((len, from)) = dns.recv_from(&mut question).await else {
                tokio::time::sleep(RETRY).await;
                continue;
            };
            let now = Instant::now();
            let answered = {
                let mut names = self.names.lock();
                answer(&question[..len], &self.list, &mut names, now)
            };
            if let Some((reply, query)) = answered {
                // Full, or gone: it asks again.
                let _asks_again = dns.try_send_to(&reply, from);
                let (name, outcome) = match query {
                    QueryOutcome::Ordinary => (None, EgressOutcome::RefusedName),
                    QueryOutcome::Unlisted(name) => (Some(name), EgressOutcome::RefusedName),
                    QueryOutcome::Full(name) => (Some(name), EgressOutcome::Limited),
                };
                let is_same = |(last, at): &(String, Instant)| {
                    Some(last) == name.as_ref() && now.duration_since(*at) < SAME_LOOKUP
                };
                if let Some(name) = name
                    .clone()
                    .filter(|_| !refused.as_ref().is_some_and(is_same))
                {
                    self.tell(&EgressAttempt::refused(name.clone(), 0, outcome));
                    refused = Some((name, now));
                }
            }
            pace.wait().await;
        }
    }

    /// Tells of attempts that nothing listens for.
    async fn watch(&self, heads: &UdpSocket) {
        let mut pace = ATTEMPTS;
        let ports = self.list.ports();
        let mut head = [0; MAX_HEAD];
        loop {
            let Ok(len) = heads.recv(&mut head).await else {
                tokio::time::sleep(RETRY).await;
                continue;
            };
            let Some(attempt) = attempt_of(&head[..len]) else {
                continue;
            };
            let (host, known) = self.host(plain(attempt.address));
            let outcome = match (attempt.is_udp, known) {
                // The attempt is accepted, and decided on then.
                (false, _) if ports.contains(&attempt.port) => continue,
                (false, true) => EgressOutcome::RefusedPort,
                (false, false) => EgressOutcome::RefusedAddress,
                (true, _) => EgressOutcome::RefusedUdp,
            };
            let mut reached = EgressAttempt::refused(host, attempt.port, outcome);
            reached.is_one_of_many = !pace.has_room();
            if reached.is_one_of_many {
                // Other tasks run in between.
                tokio::task::yield_now().await;
            }
            self.tell(&reached);
        }
    }
}

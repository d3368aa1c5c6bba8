//! What a service manager is told and gives, as systemd does: that the service is ready, reads its config again, or stops
//! (sd_notify(3)); that it lives (sd_watchdog_enabled(3)); sockets that it listens on (sd_listen_fds(3)).
//!
//! Where the environment names no service manager, nothing is told and nothing given.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use listenfd::ListenFd;
use sd_notify::NotifyState;
use socket2::SockRef;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

/// The names of the sockets that are given, `:` between them.
const NAMES: &str = "LISTEN_FDNAMES";
/// Names that sockets may have, `FileDescriptorName=` in a socket's unit.
const HTTP: &str = "http";
const ADMIN: &str = "admin";

/// Why the sockets that a service manager gave cannot be listened on.
#[derive(Debug, Error)]
pub enum InheritError {
    /// Nobody knows what it is for.
    #[error(
        "the service manager gave a socket named `{0}`: name it `http` or `admin` (`FileDescriptorName=` in its unit)"
    )]
    Unknown(String),
    /// There are two for one purpose.
    #[error("the service manager gave two sockets for `{0}`: one address is listened on for each")]
    Twice(&'static str),
    /// A socket that cannot be listened on.
    #[error(
        "the socket `{name}` that the service manager gave cannot be used: {why} (`ListenStream=` with an address and a port in its unit)"
    )]
    Unusable {
        /// The name of the socket.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// An address was asked for as well.
    #[error(
        "the service manager gave the socket `{0}`, and an address was given on the command line: leave one of them out"
    )]
    AndAddress(&'static str),
}

/// Sockets that a service manager listens on for stdiopool.
#[derive(Debug, Default)]
pub(super) struct Inherited {
    pub(super) http: Option<TcpListener>,
    pub(super) admin: Option<TcpListener>,
}

impl Inherited {
    /// Takes the sockets out of the environment. A single one that has no name of its own is the front door's.
    ///
    /// # Errors
    /// [`InheritError`]: a socket that nobody would listen on is a mistake.
    pub(super) fn take() -> Result<Self, InheritError> {
        let mut given = ListenFd::from_env();
        let count = given.len();
        let names = std::env::var(NAMES).unwrap_or_default();
        let mut names = names.split(':');
        let mut inherited = Self::default();
        for index in 0..count {
            let name = names.next().unwrap_or_default();
            let unusable = |why: String| InheritError::Unusable {
                name: name.to_owned(),
                why,
            };
            let (name_in_use, place) = match name {
                HTTP => (HTTP, &mut inherited.http),
                ADMIN => (ADMIN, &mut inherited.admin),
                _ if count == 1 => (HTTP, &mut inherited.http),
                other => return Err(InheritError::Unknown(other.to_owned())),
            };
            let socket = given.take_tcp_listener(index);
            let socket = socket.map_err(|error| unusable(error.to_string()))?;
            let socket = socket.ok_or_else(|| unusable("it is taken".to_owned()))?;
            let listens = SockRef::from(&socket).is_listener();
            if !listens.map_err(|error| unusable(error.to_string()))? {
                return Err(unusable("it does not listen (`Accept=no`)".to_owned()));
            }
            if place.replace(socket).is_some() {
                return Err(InheritError::Twice(name_in_use));
            }
        }
        Ok(inherited)
    }

    /// Puts the sockets' addresses in place of those of the command line, by which the config is judged.
    ///
    /// # Errors
    /// An address was given there as well, or the system does not tell the socket's.
    pub(super) fn put_into(
        &self,
        http: &mut Option<SocketAddr>,
        admin: &mut Option<SocketAddr>,
    ) -> Result<(), InheritError> {
        for (name, socket, address) in [(HTTP, &self.http, http), (ADMIN, &self.admin, admin)] {
            let Some(socket) = socket else {
                continue;
            };
            let own = socket
                .local_addr()
                .map_err(|error| InheritError::Unusable {
                    name: name.to_owned(),
                    why: error.to_string(),
                })?;
            if address.replace(own).is_some() {
                return Err(InheritError::AndAddress(name));
            }
        }
        Ok(())
    }
}

/// Clients and commands are answered from now on.
pub(super) fn ready(at: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(at)]);
}

/// The config is read again, until the value is dropped.
pub(super) fn reloading() -> Reloading {
    // What systemd compares is a time of that clock (sd_notify(3), `RELOADING=1`).
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => {
            tracing::warn!(%error, "the service manager is not told of the reload: there is no clock")
        }
    }
    Reloading(())
}

/// A reload that is under way.
#[must_use = "the reload is over when it is dropped"]
pub(super) struct Reloading(());

impl Drop for Reloading {
    fn drop(&mut self) {
        tell(&[NotifyState::Ready]);
    }
}

/// The service ends, which may take that long.
pub(super) fn stopping(longest: Duration) {
    let micros = u32::try_from(longest.as_micros()).unwrap_or(u32::MAX);
    tell(&[
        NotifyState::Stopping,
        NotifyState::ExtendTimeoutUsec(micros),
        NotifyState::Status("stopping: what is in flight finishes"),
    ]);
}

/// Says twice in the watchdog's time that the runtime gets on, until `stop`. Ends at once where there is no watchdog.
pub(super) async fn keep_watchdog_quiet(stop: CancellationToken) {
    let Some(time) = sd_notify::watchdog_enabled() else {
        return;
    };
    let mut due = tokio::time::interval((time / 2).max(Duration::from_millis(1)));
    due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = due.tick() => tell(&[NotifyState::Watchdog]),
        }
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager (NOTIFY_SOCKET) cannot be told");
    }
}

//! The two listeners: the front door, and the operator's.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::assemble::ServeError;
use super::limits;
use super::service_manager::Inherited;
use crate::config::Config;
use crate::front::{ConnectionLimits, ConnectionSlots, Dispatch, Front, Listener, Tls};
use crate::held::Ledger;
use crate::store::{Door, StateDir};

/// How long connections may take to close once every request on them is answered.
const CLOSING_PATIENCE: Duration = Duration::from_secs(2);

/// Both listeners, of which nobody hears yet.
pub(super) struct Bound {
    pub(super) http: Listener,
    pub(super) admin: Listener,
}

impl Bound {
    /// Listens where the config says, or on the socket that is given for it, and notes in the state folder where commands find
    /// both.
    ///
    /// # Errors
    /// One of the addresses cannot be listened on.
    pub(super) async fn open(
        config: &Config,
        state: &StateDir,
        inherited: Inherited,
    ) -> Result<Self, ServeError> {
        let http = bind(inherited.http, config.http.listen, "http.listen").await?;
        let admin = bind(inherited.admin, config.admin.listen, "admin.listen").await?;
        if let Err(error) = state.note_door(Door::Admin, Some(admin.address())) {
            tracing::warn!(%error, "the address of the admin listener cannot be noted in the state folder: after a change of `admin.listen`, commands need --admin until the next restart");
        }
        // `stdiopool call` speaks no TLS.
        let is_plain = config.http.tls.is_none();
        let front = is_plain.then_some(http.address());
        if let Err(error) = state.note_door(Door::Front, front) {
            tracing::warn!(%error, "the address of the front door cannot be noted in the state folder: after a change of `http.listen`, `stdiopool call` needs --url until the next restart");
        }
        Ok(Self { http, admin })
    }
}

async fn bind(
    inherited: Option<TcpListener>,
    address: SocketAddr,
    key: &'static str,
) -> Result<Listener, ServeError> {
    let listener = match inherited {
        Some(socket) => Listener::from_std(socket),
        None => Listener::bind(address).await,
    };
    listener.map_err(|source| ServeError::Listen {
        address,
        key,
        source,
    })
}

/// Both listeners, at work.
pub(super) struct Doors {
    tasks: JoinSet<()>,
    front_stop: CancellationToken,
}

impl Doors {
    /// Serves what comes in. The operator's listener ends with `shutdown`, the front door with [`Doors::close_front`].
    pub(super) fn serve(
        bound: Bound,
        front: &Arc<Front>,
        tls: Option<Tls>,
        slots: &Arc<ConnectionSlots>,
        admin: Router,
        shutdown: &CancellationToken,
    ) -> Self {
        let Bound {
            http,
            admin: listener,
        } = bound;
        let mut tasks = JoinSet::new();
        let front_stop = CancellationToken::new();
        let (stop, patience) = (front_stop.clone(), CLOSING_PATIENCE);
        let front = Dispatch::from(Arc::clone(front));
        tasks.spawn(front.serve(http, tls, Arc::clone(slots), stop, patience));
        let slots = ConnectionSlots::new(
            ConnectionLimits::of_few(limits::ADMIN_CONNECTIONS),
            // The operator waits for no tenant.
            &Ledger::unlimited(),
        );
        let (admin, stop) = (Dispatch::from(admin), shutdown.clone());
        tasks.spawn(admin.serve(listener, None, slots, stop, patience));
        Self { tasks, front_stop }
    }

    /// Has the front door take no more connections on, and close those that are there.
    pub(super) fn close_front(&self) {
        self.front_stop.cancel();
    }

    /// Waits until both have ended.
    pub(super) async fn join(mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a listener's task failed");
            }
        }
    }
}

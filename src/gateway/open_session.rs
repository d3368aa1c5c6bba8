//! Opens clients' sessions: what their server says of itself is the answer.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;

use super::gateway_event::GatewayEvent;
use super::pending_session::PendingSession;
use super::state::Gateway;
use crate::bridge::{ClientInfo, ServerInfo, advertised};
use crate::held;
use crate::ids::ServerName;
use crate::protocol::{Failure, Reason, Revision};
use crate::routing::RuntimeConfig;
use crate::session::{Session, SessionId, SessionIdentity, SessionKind};
use crate::telemetry::{RequestSpan, in_request};
use crate::tenancy::{ClientConfig, Principal};

/// A new session and what to tell its client.
#[derive(Debug)]
pub struct Initialized {
    /// The session.
    pub session: Arc<Session>,
    /// The raw `initialize` result.
    pub result: Bytes,
}

impl Gateway {
    /// Opens a session: finds or starts a worker, whose own `initialize` result is the answer. If the server cannot be
    /// started without more of what its client may set, the session is opened without it: requests can
    /// bring that.
    ///
    /// # Errors
    /// Whatever keeps a worker from being had, as a [`Failure`] for the caller.
    ///
    /// # Cancel-Safety
    /// A dropped call leaves no session behind; a worker whose start was begun stays for the next.
    pub async fn initialize_with(
        &self,
        principal: Principal,
        server: ServerName,
        client: ClientInfo,
        config: Option<Arc<ClientConfig>>,
    ) -> Result<Initialized, Failure> {
        let id = SessionId::random().map_err(|error| {
            Failure::new(
                Reason::Internal,
                format!("no randomness for a session id: {error}"),
            )
        })?;
        self.initialize_as(id, principal, server, client, config)
            .await
    }

    /// Opens a session under a name that was made for it before.
    ///
    /// # Errors
    /// As [`Gateway::initialize_with`].
    ///
    /// # Cancel-Safety
    /// As [`Gateway::initialize_with`].
    pub async fn initialize_as(
        &self,
        id: SessionId,
        principal: Principal,
        server: ServerName,
        client: ClientInfo,
        config: Option<Arc<ClientConfig>>,
    ) -> Result<Initialized, Failure> {
        let runtime = self.runtime_config();
        if server != ServerName::all() {
            runtime.server_for(&principal, server.as_str())?;
        } else if let Some(config) = &config {
            let checked = runtime.resolver.check_parts(&principal.tenant, config);
            checked.await?;
        }
        let table = &self.state.sessions;
        table.has_room(&principal.tenant)?;
        let no = table.directory.next_no();
        let asked = client.protocol_version.clone();
        let account = self.state.ledger.account(&principal.tenant);
        let charge = account.charge(held::Kind::Session, Session::weight(&principal, &client))?;
        let kind = SessionKind::of_client(&server);
        let identity = SessionIdentity {
            no,
            id,
            principal,
            server,
            client,
        };
        let session = Session::new(kind, identity, charge);
        let session = Arc::new(session.with_charged_config(config)?);
        let pending = PendingSession::enter(table, &session)?;
        let info = if session.is_with_all() {
            self.aggregate_view().server_info(&session.principal)?
        } else {
            self.server_info_if_possible(&session).await?
        };
        let revision = Revision::negotiate(&asked, info.revision);
        session.agree(revision);
        table.take_in(&session)?;
        drop(pending);
        // One that ended before the table had it is in it for ever.
        if let Some(why) = session.ended() {
            table.directory.remove(&session);
            return Err(session.failure(why));
        }
        if let Some(route) = session.routes.own() {
            table.directory.set_keys(no, vec![route.key]);
        }
        if self.may_be_kept(&session) {
            table.write_down(&session).await;
        }
        self.state
            .sink
            .gateway_event(GatewayEvent::SessionOpened(&session));
        let result = info.result_for(revision);
        let result = self.advertised(&session, result);
        Ok(Initialized { session, result })
    }

    /// Whether a session can be taken up again after a restart: its state is in no process, and
    /// nothing of it is a secret, which is not written down.
    fn may_be_kept(&self, session: &Session) -> bool {
        let runtime = self.runtime_config();
        let server = runtime.config.servers.get(&session.server);
        let config = session.config.as_ref();
        let may_be_kept = |config| runtime.resolver.may_be_kept(&session.server, config);
        (session.is_with_all() || server.is_some_and(|server| !server.stateful))
            && config.is_none_or(|config| may_be_kept(config))
    }

    /// What a server says of itself, and what its clients may set for it.
    fn advertised(&self, session: &Session, result: Bytes) -> Bytes {
        match self.advert(session) {
            Some(schema) => advertised(&result, &schema.to_string()).unwrap_or(result),
            None => result,
        }
    }

    /// What a worker for this session says of itself, or would, as far as can be known: a server
    /// that waits for values of its client has none yet.
    pub(crate) async fn server_info_if_possible(
        &self,
        session: &Arc<Session>,
    ) -> Result<ServerInfo, Failure> {
        // Values that a worker could be started with, and ended because of, are not waited for.
        let failure = match self.route(session, None).await {
            Err(failure) if failure.reason == Reason::ConfigInvalid => failure,
            Err(failure) => return Err(failure),
            Ok(_) => return self.server_info(session).await,
        };
        if !self.awaits_client(&self.runtime_config(), session).await {
            return Err(failure);
        }
        ServerInfo::unknown(session.server.as_str()).map_err(|_| failure)
    }

    /// Whether nothing keeps the session's server from being started but what its client may still set.
    pub(crate) async fn awaits_client(&self, runtime: &RuntimeConfig, session: &Session) -> bool {
        let (tenant, config) = (session.tenant(), session.config.as_deref());
        let resolver = &runtime.resolver;
        resolver
            .awaits_client(tenant, &session.server, config)
            .await
    }

    /// What a worker for this session says of itself: as remembered, or from one that is there or
    /// started for it.
    pub(crate) async fn server_info(&self, session: &Arc<Session>) -> Result<ServerInfo, Failure> {
        session.unless_ended(self.find_server_info(session)).await
    }

    async fn find_server_info(&self, session: &Arc<Session>) -> Result<ServerInfo, Failure> {
        let plan = Arc::clone(&self.route(session, None).await?.plan);
        let known = plan
            .remembered()
            .and_then(|(key, age)| self.state.knowledge.catalog.server_info(key, age));
        if let Some(known) = known {
            self.state.metrics.catalog_hit();
            if plan.starts_on_connect {
                let (gateway, session) = (self.clone(), Arc::clone(session));
                let started = async move {
                    // If it does not start, the first call will say why.
                    let mut waited = Duration::ZERO;
                    let _started = gateway.lease(&session, None, &mut waited).await;
                };
                let started = in_request(RequestSpan::current(), started);
                self.state.tasks.spawn(started);
            }
            return Ok(known);
        }
        let mut waited = Duration::ZERO;
        let (_, lease) = self.lease(session, None, &mut waited).await?;
        lease.worker().server_info().ok_or_else(|| {
            let why = "a worker was ready without having said who it is";
            Failure::new(Reason::Internal, why)
        })
    }

    /// What clients of that caller's server may set for it: a JSON Schema.
    pub fn advert(&self, session: &Session) -> Option<Value> {
        if session.is_with_all() {
            return self.aggregate_view().advert(&session.principal);
        }
        let runtime = self.runtime_config();
        runtime.resolver.advert(session.tenant(), &session.server)
    }
}

//! Callers who listen for changes without a session (2026-07-28, `subscriptions/listen`).

use std::sync::Arc;

use serde_json::json;

use super::pending_session::PendingSession;
use super::response_stream::{Last, ResponseStream};
use super::session_table::SessionTable;
use super::state::Gateway;
use super::stateless_sessions::Declaration;
use crate::bridge::stateless::Filter;
use crate::ids::ServerName;
use crate::protocol::{Envelope, Failure, Reason, request};
use crate::session::{Scope, Session, SessionKind};
use crate::tenancy::{ClientConfig, Principal};

impl Gateway {
    /// Subscribes a listener of its own to what a server tells of changes. The subscription ends when the guard
    /// is dropped.
    ///
    /// # Errors
    /// Whatever keeps a worker from being had; [`Reason::TenantLimit`] when there are too many
    /// sessions and listeners.
    pub async fn listen_with(
        &self,
        principal: &Principal,
        server: &ServerName,
        asked: Filter,
        config: Option<ClientConfig>,
    ) -> Result<ChangeListener, Failure> {
        if *server == ServerName::all() {
            return self.listen_to_all(principal, asked, config).await;
        }
        self.runtime_config()
            .server_for(principal, server.as_str())?;
        let session = self.listening(principal, server, Scope::Server)?;
        let session = Arc::new(session.with_charged_config(config.map(Arc::new))?);
        let pending = PendingSession::enter(&self.state.sessions, &session)?;
        let info = self.server_info(&session).await?;
        let mut filter = asked.agreed(info.text());
        self.state.sessions.take_in(&session)?;
        drop(pending);
        // From here on it is taken out again.
        let mut listener = ChangeListener {
            sessions: Arc::clone(&self.state.sessions),
            session,
            members: vec![],
            filter: Filter::default(),
        };
        if let Some(why) = listener.session.ended() {
            self.state.sessions.directory.remove(&listener.session);
            return Err(listener.session.failure(why));
        }
        let mut agreed = Vec::with_capacity(filter.resource_subscriptions.len());
        for uri in std::mem::take(&mut filter.resource_subscriptions) {
            if self.subscribe(&listener.session, &uri).await? {
                agreed.push(uri);
            }
        }
        filter.resource_subscriptions = agreed;
        listener.filter = filter;
        self.listen_everywhere(&listener.session);
        Ok(listener)
    }

    fn listening(
        &self,
        principal: &Principal,
        server: &ServerName,
        scope: Scope,
    ) -> Result<Session, Failure> {
        let kind = SessionKind::ChangeListener(scope);
        self.stateless_callers()
            .without_client(principal, server, Declaration::Nothing, kind)
    }

    /// A listener at every server. None is started for it, but those whose resources are asked for.
    async fn listen_to_all(
        &self,
        principal: &Principal,
        mut filter: Filter,
        config: Option<ClientConfig>,
    ) -> Result<ChangeListener, Failure> {
        let whole = self.listening(principal, &ServerName::all(), Scope::All)?;
        let whole = Arc::new(whole.with_charged_config(config.map(Arc::new))?);
        self.state.sessions.take_in(&whole)?;
        let mut listener = ChangeListener {
            sessions: Arc::clone(&self.state.sessions),
            session: Arc::clone(&whole),
            members: vec![],
            filter: Filter::default(),
        };
        let uris = std::mem::take(&mut filter.resource_subscriptions);
        let view = self.aggregate_view();
        for server in view.offered_to(principal) {
            let alias = view.names().of(&server);
            let member = self.listening(principal, &server, Scope::Server)?;
            let member = member.with_charged_config(whole.part_for(&server))?;
            let member = Arc::new(member.member_of(&whole, alias.clone()));
            self.state
                .sessions
                .directory
                .insert_member(Arc::clone(&member));
            listener.members.push(Arc::clone(&member));
            for uri in &uris {
                let Some(own) = alias.own_uri(uri) else {
                    continue;
                };
                match self.subscribe(&member, &own).await {
                    Ok(true) => filter.resource_subscriptions.push(uri.clone()),
                    Ok(false) => {}
                    // One that is broken must not keep the others from being listened to.
                    Err(failure) => {
                        tracing::info!(%server, "not listened to: {failure}");
                    }
                }
            }
            self.listen_everywhere(&member);
        }
        listener.filter = filter;
        Ok(listener)
    }

    /// Workers that are started later see to it themselves.
    fn listen_everywhere(&self, listener: &Session) {
        for connection in self.state.connections() {
            let plan = connection.plan();
            if plan.tenant.as_ref() == Some(listener.tenant()) && plan.server == listener.server {
                connection.listen_for(listener);
            }
        }
    }

    async fn subscribe(&self, session: &Arc<Session>, uri: &str) -> Result<bool, Failure> {
        let params = json!({ "uri": uri });
        let request = request(0, "resources/subscribe", params);
        let envelope = Envelope::parse(request.as_bytes())
            .map_err(|error| Failure::new(Reason::Internal, error.to_string()))?;
        let mut response_stream =
            ResponseStream::on(None, self.stateless_callers().worker_route(session).await?);
        self.request(session, request.as_bytes(), &envelope, &mut response_stream)
            .await?;
        match response_stream.last(|_| {}).await {
            Last::Answer { is_error, .. } => Ok(!is_error),
            Last::Failed(failure) => Err(failure),
            Last::Nothing | Last::TimedOut(_) => Ok(false),
        }
    }
}

/// Someone who listens for changes.
#[derive(Debug)]
pub struct ChangeListener {
    sessions: Arc<SessionTable>,
    session: Arc<Session>,
    /// The listener's parts at single servers, if it listens to all of them.
    members: Vec<Arc<Session>>,
    filter: Filter,
}

impl ChangeListener {
    /// The changes that the listener is told of.
    pub fn filter(&self) -> &Filter {
        &self.filter
    }

    /// The session that stands for the listener, which has its outbox.
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }
}

impl Drop for ChangeListener {
    fn drop(&mut self) {
        self.sessions.end(&self.session);
        for member in &self.members {
            self.sessions.end(member);
        }
    }
}

//! All servers of a tenant as one.
//!
//! A client's session with all of them is one session, and beside it one more with each server that
//! it has come to use: a *member*. Requests that name a thing of a server go through its member, in
//! the server's own words; lists are asked of all at once.
//!
//! ```text
//!  session with all ──┬── member: github ── workers of github
//!                     └── member: search ── workers of search
//! ```
//!
//! A member has its client's capabilities, log level, subscriptions and its part of the config, and tells what belongs to no
//! request on the stream of the whole, with which it ends. One that is slow or broken is missing in a
//! list, which says so; when it has answered after all, the client is told that the list has changed.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::aggregate_view::AggregateView;
use super::gateway_event::GatewayEvent;
use super::lister::Lister;
use super::response_stream::ResponseStream;
use super::session_table::SessionTable;
use super::state::Gateway;
use crate::bridge::{Listing, asked_level};
use crate::held;
use crate::ids::ServerName;
use crate::launch::packages::Slot;
use crate::protocol::{Envelope, Failure, Reason, bare_notification, code, result_response};
use crate::session::session_not_found;
use crate::session::{Session, SessionId, SessionIdentity, SessionKind};
use crate::tenancy::{ClientConfig, Principal};
use crate::upstream::error_response;

/// Serves the requests of sessions with all servers at once, and lists of all servers for whoever asks.
#[derive(Clone, Copy, Debug)]
pub struct Aggregate<'a> {
    pub(super) gateway: &'a Gateway,
}

impl Gateway {
    /// All servers as one, as far as that takes workers and sessions.
    pub const fn aggregate(&self) -> Aggregate<'_> {
        Aggregate { gateway: self }
    }

    /// All servers as one, as far as that follows from the pool.toml in force.
    pub fn aggregate_view(&self) -> AggregateView {
        AggregateView::new(self.runtime_config())
    }
}

impl<'g> Aggregate<'g> {
    fn table(self) -> &'g SessionTable {
        &self.gateway.state.sessions
    }

    /// The whole's session with that server, made when it is first needed.
    ///
    /// # Errors
    /// [`Reason::WorkerExited`], once, when the process that kept the session's state is gone.
    pub(super) fn member(
        self,
        whole: &Arc<Session>,
        server: &ServerName,
    ) -> Result<Arc<Session>, Failure> {
        let Some(members) = whole.members() else {
            let why = "a session with one server has no members";
            return Err(Failure::new(Reason::Internal, why));
        };
        let mut members = members.lock();
        if let Some(member) = members.get(server) {
            if !member.has_ended() {
                return Ok(Arc::clone(member));
            }
            members.remove(server);
            let why = format!(
                "server `{server}` kept state for this session in a process that is gone; the next request begins anew"
            );
            return Err(Failure::new(Reason::WorkerExited, why));
        }
        let id = SessionId::random().map_err(|error| {
            let why = format!("no randomness for a session id: {error}");
            Failure::new(Reason::Internal, why)
        })?;
        let no = self.table().directory.next_no();
        let identity = SessionIdentity {
            no,
            id,
            principal: whole.principal.clone(),
            server: server.clone(),
            client: whole.client.clone(),
        };
        let weight = Session::weight(&identity.principal, &identity.client);
        let charge = whole.account().charge_anyway(held::Kind::Session, weight);
        let member = Session::new(SessionKind::Client, identity, charge);
        let alias = self.gateway.aggregate_view().names().of(server);
        member.agree(whole.revision());
        let (level, subscriptions) = whole.settings();
        if let Some(level) = level {
            member.set_level(level);
        }
        for own in subscriptions.iter().filter_map(|uri| alias.own_uri(uri)) {
            member.add_subscription(own.into_owned());
        }
        let member = member.with_charged_config(whole.part_for(server))?;
        let member = Arc::new(member.member_of(whole, alias));
        self.table().directory.insert_member(Arc::clone(&member));
        members.insert(server.clone(), Arc::clone(&member));
        drop(members);
        // Whoever ends the whole marks it first and looks for its members then: one of the two
        // sees the other.
        if whole.has_ended() {
            self.table().end(&member);
            return Err(session_not_found());
        }
        self.table()
            .sink
            .gateway_event(GatewayEvent::SessionOpened(&member));
        Ok(member)
    }

    /// A request of a session with all servers.
    ///
    /// # Errors
    /// Whatever keeps a worker from being had.
    pub(super) fn request<'a>(
        self,
        whole: &'a Arc<Session>,
        message: &'a [u8],
        envelope: &'a Envelope<'_>,
        response_stream: &'a mut ResponseStream,
    ) -> BoxFuture<'a, Result<(), Failure>>
    where
        'g: 'a,
    {
        // Boxed: the requests of its members are requests of sessions in turn.
        Box::pin(self.serve(whole, message, envelope, response_stream))
    }

    async fn serve(
        self,
        whole: &Arc<Session>,
        message: &[u8],
        envelope: &Envelope<'_>,
        response_stream: &mut ResponseStream,
    ) -> Result<(), Failure> {
        let method = envelope.method.as_deref().unwrap_or_default();
        let id = envelope.id.map_or("null", |id| id.get());
        // The settings of its session were checked when it began.
        if let Some(config) = &response_stream.config {
            self.gateway
                .aggregate_view()
                .check_parts(&whole.principal, config)
                .await?;
        }
        if let Some(listing) = Listing::of(method) {
            let asker = response_stream
                .principal
                .as_ref()
                .unwrap_or(&whole.principal);
            let config = response_stream.config.clone();
            let lister = Lister::of_session(Arc::clone(whole), asker.clone(), config);
            let list = self.list(lister, listing).await;
            answer(response_stream, result_response(id, list.as_bytes()), false);
            return Ok(());
        }
        if method == "logging/setLevel" {
            return self
                .set_level(whole, message, envelope, response_stream)
                .await;
        }
        let asker = response_stream
            .principal
            .as_ref()
            .unwrap_or(&whole.principal);
        match self
            .gateway
            .aggregate_view()
            .addressed(asker, message, envelope)
        {
            Some((server, own)) => {
                let member = self.member(whole, &server)?;
                let _in_use = member.in_use();
                let envelope = Envelope::parse(&own.message)
                    .map_err(|error| Failure::new(Reason::Internal, error.to_string()))?;
                // Put back afterwards: sent once more, the request comes this way again.
                let of_whole = response_stream.config.take();
                response_stream.set_config(part_of(of_whole.as_ref(), &member));
                let sent = self
                    .gateway
                    .request(&member, &own.message, &envelope, response_stream);
                let sent = sent.await;
                response_stream.set_config(of_whole);
                sent
            }
            None => {
                let (code, why) = unaddressed(method);
                answer(response_stream, error_response(id, code, &why), true);
                Ok(())
            }
        }
    }

    /// The package that has to be installed before the request of a session with all servers can be
    /// answered. Other obstacles are told when it is sent.
    pub(super) async fn missing(
        self,
        whole: &Arc<Session>,
        asker: &Principal,
        message: &[u8],
        envelope: &Envelope<'_>,
        config: Option<Arc<ClientConfig>>,
    ) -> Option<Arc<Slot>> {
        let (server, _) = self
            .gateway
            .aggregate_view()
            .addressed(asker, message, envelope)?;
        let member = self.member(whole, &server).ok()?;
        let config = part_of(config.as_ref(), &member);
        let route = self.gateway.route(&member, config.as_ref()).await.ok()?;
        self.gateway.missing(&route)
    }

    /// The level is set at every member that has a worker; the others set it when they get one.
    async fn set_level(
        self,
        whole: &Arc<Session>,
        message: &[u8],
        envelope: &Envelope<'_>,
        response_stream: &mut ResponseStream,
    ) -> Result<(), Failure> {
        let id = envelope.id.map_or("null", |id| id.get());
        let Some(level) = asked_level(envelope.params) else {
            let why = "`level` is no log level";
            answer(
                response_stream,
                error_response(id, code::INVALID_PARAMS, why),
                true,
            );
            return Ok(());
        };
        whole.set_level(level);
        self.table().keep_settings(whole);
        let members = whole.all_members();
        for member in members {
            member.set_level(level);
            let connections = member
                .attached_to()
                .into_iter()
                .filter_map(|id| self.gateway.state.connection(id));
            if connections
                .into_iter()
                .any(|connection| connection.plan().keeps_attachments)
            {
                let mut own = ResponseStream::new().without_client();
                // Of no concern to the client: a server may have no levels, or be gone.
                if Box::pin(self.gateway.request(&member, message, envelope, &mut own))
                    .await
                    .is_ok()
                {
                    let _answered = own.next().await;
                }
            }
        }
        answer(response_stream, result_response(id, b"{}"), false);
        Ok(())
    }

    /// The servers on offer are others than before: who has a session with all of them hears of it.
    pub(super) fn offer_has_changed(self) {
        for whole in self
            .table()
            .all()
            .iter()
            .filter(|session| session.is_with_all())
        {
            for listing in [Listing::Tools, Listing::Prompts, Listing::Resources] {
                whole
                    .outbox
                    .push(bare_notification(listing.changed()).into());
            }
        }
    }
}

/// What holds for a request of a member if its whole's sets that; `None`: what holds for the member.
pub(super) fn part_of(
    config: Option<&Arc<ClientConfig>>,
    member: &Session,
) -> Option<Arc<ClientConfig>> {
    let part = config?.part(&member.server)?;
    member.refined(Some(part.clone()))
}

fn answer(response_stream: &ResponseStream, message: Bytes, is_error: bool) {
    response_stream.outbox.expect_answer();
    response_stream.outbox.answer(message, is_error);
}

/// The code and the text of the error for a request that names nothing of any server.
fn unaddressed(method: &str) -> (i32, String) {
    match method {
        "tools/call" => (
            code::INVALID_PARAMS,
            "unknown tool: its name begins with none of the servers on offer".to_owned(),
        ),
        "prompts/get" => (
            code::INVALID_PARAMS,
            "unknown prompt: its name begins with none of the servers on offer".to_owned(),
        ),
        "resources/read" | "resources/subscribe" | "resources/unsubscribe" => (
            code::RESOURCE_NOT_FOUND,
            "resource not found: its URI names none of the servers on offer".to_owned(),
        ),
        "completion/complete" => (
            code::INVALID_PARAMS,
            "`ref` names nothing of the servers on offer".to_owned(),
        ),
        _ => (
            code::METHOD_NOT_FOUND,
            format!(
                "`{method}` is of no single server; ask the one it is meant for at `/SERVER/mcp`"
            ),
        ),
    }
}

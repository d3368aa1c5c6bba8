//! Callers without sessions: clients of the stateless revision in front of workers that know only
//! sessions.
//!
//! All requests of a user to a server go through one session that stdiopool keeps for them and that
//! no client ever sees. What such a client can do, it says with each request; a worker is told at
//! its start. So there are two kinds of workers for them: one is told that its clients can do
//! nothing, and serves many calls at once; the other that they can do everything, and serves one
//! call at a time, because only then is it known whom it asks. A request goes to the second kind if
//! its client can be asked anything, if it wants log lines, if workers of that server have been
//! seen to ask, or if it is the first for that tool, prompt or resource; the operator can say so too
//! (`interactive`).
//!
//! Workers that speak the stateless revision themselves get such requests as they are. They ask in
//! their answers, so that any number of calls can be under way; only whoever wants log lines, which
//! name no request, has one for itself meanwhile.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::callers::{Caller, Told};
use super::exchange::{Exchange, Way};
use super::offer::Offer;
use super::record::{Session, SessionId};
use super::route::Setup;
use super::service::Sessions;
use super::shared::Newcomer;
use crate::bridge::stateless::Filter;
use crate::bridge::{AskRef, ClientHello, Era, Hello, Listing};
use crate::config::Interactive;
use crate::held;
use crate::ids::{ServerName, TenantId};
use crate::protocol::{Envelope, Failure, Reason, Revision};
use crate::tenancy::{ClientConfig, Principal};

/// What a client can take beside the answer to its request.
#[derive(Clone, Copy, Default, Debug)]
pub struct Wants {
    /// Questions.
    pub questions: bool,
    /// Log lines.
    pub logs: bool,
}

fn everything() -> Value {
    json!({
        "elicitation": { "form": {}, "url": {} },
        "sampling": { "tools": {}, "context": {} },
        "roots": {},
    })
}

impl Sessions {
    /// The session through which a request of that caller goes that sets something for its server, or
    /// nothing: all requests that set the same have one session. Nothing is kept for a request that
    /// cannot be served.
    ///
    /// # Errors
    /// Whatever is wrong with its config; [`Reason::TenantLimit`] and [`Reason::PoolExhausted`] when
    /// there are too many callers at once; [`Reason::Internal`] when the system has no randomness.
    ///
    /// # Cancel-Safety
    /// A dropped call keeps nothing.
    pub async fn caller_with(
        &self,
        principal: &Principal,
        server: &ServerName,
        wants: Wants,
        config: Option<ClientConfig>,
    ) -> Result<Arc<Session>, Failure> {
        self.find_caller(principal, server, wants, (false, config))
            .await
    }

    /// The session of a request that has come through all servers at once, and sets something for each
    /// of them: what its server answers is told in the names that its things have there.
    ///
    /// # Errors
    /// As [`Sessions::caller_with`].
    ///
    /// # Cancel-Safety
    /// A dropped call keeps nothing.
    pub async fn caller_through_all(
        &self,
        principal: &Principal,
        server: &ServerName,
        wants: Wants,
        config: Option<&ClientConfig>,
    ) -> Result<Arc<Session>, Failure> {
        let own = config.and_then(|config| config.part(server)).cloned();
        self.find_caller(principal, server, wants, (true, own))
            .await
    }

    async fn find_caller(
        &self,
        principal: &Principal,
        server: &ServerName,
        wants: Wants,
        (through_all, config): (bool, Option<ClientConfig>),
    ) -> Result<Arc<Session>, Failure> {
        let config = config.filter(|config| !config.is_empty());
        let setup = self.setup();
        setup.server_for(principal, server.as_str())?;
        let told = self.told(&setup, server, wants);
        let caller = Caller {
            subject: principal.subject.clone(),
            server: server.clone(),
            told,
            through_all,
            config: config.as_ref().map(ClientConfig::fingerprint),
            claims: setup
                .starts_with_claims(server)
                .then(|| principal.fingerprint()),
        };
        let callers = &self.shared.callers;
        if let Some(known) = callers.known(&principal.tenant, &caller) {
            return Ok(known);
        }
        let mut session = self.without_client(principal, server, told)?;
        if through_all {
            session = session.through_all(self.names().of(server));
        }
        let session = Arc::new(session.with_config(config.map(Arc::new)));
        // Whether it can be served is found out before anything of it is kept.
        if let Err(failure) = self.route(&session, None).await {
            let awaits_more = failure.reason == Reason::ConfigInvalid
                && self.awaits_client(&setup, &session).await;
            return if awaits_more {
                Ok(session)
            } else {
                Err(failure)
            };
        }
        self.shared.keep_caller(caller, session)
    }

    /// Whether a request of that method, for what has that name, is to be served where the server can ask its client,
    /// though the client declares nothing: only so it is known what it must declare (2026-07-28, basic, "Capabilities").
    /// That is so until it was called once.
    /// A server that has one process at a time, or state in it, has no other process for that.
    pub fn may_yet_ask(
        &self,
        tenant: &TenantId,
        server: &ServerName,
        method: &str,
        name: Option<&str>,
    ) -> bool {
        let can_ask = ["tools/call", "prompts/get", "resources/read"].contains(&method);
        let setup = self.setup();
        let settings = setup.config.servers.get(server);
        // One that speaks the stateless revision asks in its answers, whatever it is told of its clients.
        let begins_with_initialize = setup.program(server).is_some_and(|program| {
            self.shared.eras.for_client(program, true) == (Era::Initialize, true)
        });
        let is_open = begins_with_initialize
            && settings.is_some_and(|settings| {
                settings.interactive == Interactive::Exclusive
                    && !settings.stateful
                    && !self.shared.alone.holds(settings, tenant, server)
            });
        can_ask && is_open && {
            let what = format!("{method} {}", name.unwrap_or_default());
            self.shared.callers.is_first_call(server, &what)
        }
    }

    /// What a worker that serves such a request is told of its clients.
    fn told(&self, setup: &Setup, server: &ServerName, wants: Wants) -> Told {
        let settings = setup.config.servers.get(server);
        let speaks_stateless = setup
            .program(server)
            .is_some_and(|program| self.shared.eras.speaks_stateless(program));
        match settings.map(|server| server.interactive) {
            // It asks in its answers: only who wants log lines must have it alone.
            _ if speaks_stateless && wants.logs => Told::Everything,
            _ if speaks_stateless => Told::Nothing,
            Some(Interactive::Never) => Told::Nothing,
            Some(Interactive::Always) => Told::Everything,
            _ if wants.questions || wants.logs || self.shared.callers.is_asking(server) => {
                Told::Everything
            }
            _ => Told::Nothing,
        }
    }

    fn without_client(
        &self,
        principal: &Principal,
        server: &ServerName,
        told: Told,
    ) -> Result<Session, Failure> {
        let id = SessionId::random().map_err(|error| {
            let why = format!("no randomness for a session id: {error}");
            Failure::new(Reason::Internal, why)
        })?;
        let capabilities = match told {
            Told::Nothing => json!({}),
            Told::Everything => everything(),
        };
        let hello = ClientHello {
            protocol_version: Revision::LATEST.as_str().to_owned(),
            capabilities: capabilities.as_object().cloned().unwrap_or_default(),
            client_info: Value::Null,
        };
        let no = self.shared.directory.next_no();
        let (principal, server) = (principal.clone(), server.clone());
        let account = self.shared.ledger.account(&principal.tenant);
        let charge = account.charge_anyway(held::Kind::Session, Session::weight(&hello));
        let session = Session::new(no, id, principal, server, hello, charge);
        Ok(session.without_state())
    }

    /// In the words of which era a request of that caller has to be. A worker is started if that
    /// is the only way to know; the request is for that one, which may serve no other.
    ///
    /// # Errors
    /// Whatever keeps a worker from being had.
    ///
    /// # Cancel-Safety
    /// A worker whose start was begun stays for the next request.
    pub async fn way(&self, caller: &Arc<Session>) -> Result<Way, Failure> {
        caller.unless_ended(self.find_way(caller)).await
    }

    async fn find_way(&self, caller: &Arc<Session>) -> Result<Way, Failure> {
        let route = self.route(caller, None).await?;
        let mut waited = Duration::ZERO;
        if route.order.era_is_certain {
            let era = route.era();
            return Ok(Way {
                era,
                leased: None,
                waited,
            });
        }
        let (route, lease) = self.lease(caller, None, &mut waited).await?;
        Ok(Way {
            era: route.era(),
            leased: Some(lease),
            waited,
        })
    }

    /// A worker has answered a request of that principal with a state that the client is to bring back.
    pub fn note_state(&self, principal: &Principal, state: &str, exchange: &Exchange) {
        if let Some(worker) = exchange.worker() {
            let callers = &self.shared.callers;
            callers.note_state(&principal.tenant, state, worker);
        }
    }

    /// A request of that principal brings that state back: the worker that gave it out is asked, if it
    /// can be.
    pub fn follow_state(&self, principal: &Principal, state: &str, exchange: &mut Exchange) {
        exchange.prefers = self.shared.callers.worker_of(&principal.tenant, state);
    }

    /// What a worker for that caller says of itself.
    ///
    /// # Errors
    /// Whatever keeps a worker from being had.
    pub async fn introduction(&self, session: &Arc<Session>) -> Result<Hello, Failure> {
        self.hello_if_possible(session).await
    }

    /// What clients of that caller's server may set for it: a JSON Schema.
    pub fn advert(&self, session: &Session) -> Option<Value> {
        if session.is_with_all() {
            return self.advert_of_all(&session.principal);
        }
        let setup = self.setup();
        setup.resolver.advert(session.tenant(), &session.server)
    }

    /// The same, if it is known without a worker.
    pub async fn known_introduction(&self, session: &Arc<Session>) -> Option<Hello> {
        let order = Arc::clone(&self.route(session, None).await.ok()?.order);
        let known = order
            .remembered()
            .and_then(|(place, age)| self.shared.catalog.hello(place, age));
        known.or_else(|| {
            let link = session.seats().into_iter().find_map(|id| self.link(id))?;
            link.hello()
        })
    }

    /// The input schema of a tool, as far as the list of tools is known.
    /// A tool that is not for the caller has none.
    pub async fn tool_schema(
        &self,
        session: &Arc<Session>,
        principal: &Principal,
        tool: &str,
    ) -> Option<Value> {
        let offer = Offer::of(&self.setup(), &session.server, principal);
        if offer.is_some_and(|offer| !offer.has(tool)) {
            return None;
        }
        let route = self.route(session, None).await.ok()?;
        let (place, age) = route.order.remembered()?;
        let catalog = &self.shared.catalog;
        let (order, tools) = (&route.order, Listing::Tools);
        let list = catalog.list(place, session.words(order), tools, age)?;
        // Few servers ask for headers; for the others the list is not read.
        memchr::memmem::find(&list, b"\"x-mcp-header\"")?;
        let mut list: Value = serde_json::from_slice(&list).ok()?;
        let tools = list.get_mut("tools")?.as_array_mut()?;
        let found = tools.iter_mut().find(|found| found["name"] == tool)?;
        Some(found["inputSchema"].take())
    }

    /// What the worker itself calls the request that `ask` stands for, as text.
    pub fn name_of_question(&self, ask: &str) -> Option<String> {
        let ask = AskRef::parse(ask)?;
        let raw = self.link(ask.worker)?.name_of_question(ask)?;
        let text: Option<String> = serde_json::from_str(&raw).ok();
        Some(text.unwrap_or_else(|| raw.into()))
    }

    /// Subscribes a listener of its own to what a server tells of changes. It ends when the guard
    /// is dropped.
    ///
    /// # Errors
    /// Whatever keeps a worker from being had; [`Reason::TenantLimit`] when there are too many
    /// sessions and listeners.
    pub async fn listen(
        &self,
        principal: &Principal,
        server: &ServerName,
        asked: Filter,
    ) -> Result<Listener, Failure> {
        self.listen_with(principal, server, asked, None).await
    }

    /// The same for a request that sets something for its server.
    ///
    /// # Errors
    /// As [`Sessions::listen`].
    pub async fn listen_with(
        &self,
        principal: &Principal,
        server: &ServerName,
        asked: Filter,
        config: Option<ClientConfig>,
    ) -> Result<Listener, Failure> {
        if *server == ServerName::all() {
            return self.listen_to_all(principal, asked, config).await;
        }
        self.setup().server_for(principal, server.as_str())?;
        let session = self.without_client(principal, server, Told::Nothing)?;
        let session = Arc::new(session.with_config(config.map(Arc::new)));
        let newcomer = Newcomer::enter(&self.shared, &session)?;
        let hello = self.hello(&session).await?;
        let mut filter = asked.agreed(hello.text());
        self.take_in_listener(&session)?;
        drop(newcomer);
        // From here on it is taken out again.
        let mut listener = Listener {
            sessions: self.clone(),
            session,
            members: vec![],
            filter: Filter::default(),
        };
        if let Some(why) = listener.session.ended() {
            self.shared.directory.remove(&listener.session);
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

    /// A listener at every server. None is started for it, but those whose resources are asked for.
    async fn listen_to_all(
        &self,
        principal: &Principal,
        mut filter: Filter,
        config: Option<ClientConfig>,
    ) -> Result<Listener, Failure> {
        let whole = self.without_client(principal, &ServerName::all(), Told::Nothing)?;
        let whole = Arc::new(whole.with_config(config.map(Arc::new)));
        self.take_in_listener(&whole)?;
        let mut listener = Listener {
            sessions: self.clone(),
            session: Arc::clone(&whole),
            members: vec![],
            filter: Filter::default(),
        };
        let uris = std::mem::take(&mut filter.resource_subscriptions);
        for server in self.offered_to(principal) {
            let alias = self.names().of(&server);
            let member = self.without_client(principal, &server, Told::Nothing)?;
            let member = member.with_config(whole.part_for(&server));
            let member = Arc::new(member.member_of(&whole, alias.clone()));
            self.shared.directory.insert_member(Arc::clone(&member));
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
        for link in self.links() {
            let order = link.order();
            if order.tenant.as_ref() == Some(listener.tenant()) && order.server == listener.server {
                link.listen_for(listener);
            }
        }
    }

    async fn subscribe(&self, session: &Arc<Session>, uri: &str) -> Result<bool, Failure> {
        let params = json!({ "uri": uri });
        let request = format!(
            r#"{{"jsonrpc":"2.0","id":0,"method":"resources/subscribe","params":{params}}}"#
        );
        let envelope = Envelope::parse(request.as_bytes())
            .map_err(|error| Failure::new(Reason::Internal, error.to_string()))?;
        let mut exchange = Exchange::on(None, self.way(session).await?);
        self.request(session, request.as_bytes(), &envelope, &mut exchange)
            .await?;
        loop {
            match exchange.next().await {
                super::Next::Parcel(super::Parcel::Answer { is_error, .. }) => {
                    return Ok(!is_error);
                }
                super::Next::Parcel(super::Parcel::Message(_)) => {}
                super::Next::Parcel(super::Parcel::Failed { failure, .. }) => return Err(failure),
                super::Next::Done | super::Next::TimedOut { .. } => return Ok(false),
            }
        }
    }
}

/// Someone who listens for changes.
#[derive(Debug)]
pub struct Listener {
    sessions: Sessions,
    session: Arc<Session>,
    /// Its parts at single servers, if it listens to all of them.
    members: Vec<Arc<Session>>,
    filter: Filter,
}

impl Listener {
    /// What it is told of.
    pub fn filter(&self) -> &Filter {
        &self.filter
    }

    /// Its mailbox.
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.sessions.end(&self.session);
        for member in &self.members {
            self.sessions.end(member);
        }
    }
}

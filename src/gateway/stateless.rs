//! Callers without sessions: clients of the stateless revision in front of workers that know only
//! sessions.
//!
//! All requests of a user to a server go through one session that stdiopool keeps for them and that
//! no client ever sees. Such a client says with each request what it can do; a worker is told at
//! its start. So there are two kinds of workers for them: one is told that its clients can do
//! nothing, and serves many calls at once; the other that they can do everything, and serves one
//! call at a time, because only then is it known whom it asks. A request goes to the second kind if
//! its client can be asked anything, if it wants log lines, if workers of that server have been
//! seen to ask, or if it is the first for that tool, prompt or resource; the operator can say so too
//! (`interactive`).
//!
//! Workers that speak the stateless revision themselves get such requests as they are. Such workers ask in
//! their answers, so that any number of calls can be under way; only whoever wants log lines, which
//! name no request, has one for itself meanwhile.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::response_stream::{ResponseStream, WorkerRoute};
use super::session_table::SessionTable;
use super::state::Gateway;
use super::stateless_sessions::{Caller, Declaration};
use super::tool_view::ToolView;
use crate::bridge::{AskRef, ClientInfo, Listing, ServerInfo};
use crate::config::Interactive;
use crate::held;
use crate::ids::{ServerName, TenantId};
use crate::protocol::{Failure, Reason, Revision};
use crate::routing::RuntimeConfig;
use crate::session::{Session, SessionId, SessionIdentity, SessionKind};
use crate::tenancy::{ClientConfig, Principal};

/// The messages that a client takes beside the answer to its request.
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

/// Serves callers without sessions: each of their requests goes through a session that stands for its caller.
#[derive(Clone, Copy, Debug)]
pub struct StatelessCallers<'a> {
    gateway: &'a Gateway,
}

impl Gateway {
    /// Serves callers without sessions.
    pub const fn stateless_callers(&self) -> StatelessCallers<'_> {
        StatelessCallers { gateway: self }
    }
}

impl<'g> StatelessCallers<'g> {
    fn table(self) -> &'g SessionTable {
        &self.gateway.state.sessions
    }

    /// The session through which a request of that caller goes that sets something for its server, or
    /// nothing: all requests with equal settings have one session. Nothing is kept for a request that
    /// cannot be served.
    ///
    /// # Errors
    /// Whatever is wrong with its config; [`Reason::TenantLimit`] and [`Reason::PoolExhausted`] when
    /// there are too many callers at once; [`Reason::Internal`] when the system has no randomness.
    ///
    /// # Cancel-Safety
    /// A dropped call keeps nothing.
    pub async fn caller_with(
        self,
        principal: &Principal,
        server: &ServerName,
        wants: Wants,
        config: Option<ClientConfig>,
    ) -> Result<Arc<Session>, Failure> {
        self.find_caller(principal, server, wants, false, config)
            .await
    }

    /// The session of a request that has come through all servers at once, and sets something for each
    /// of them: what its server answers is told in the names that its things have there.
    ///
    /// # Errors
    /// As [`StatelessCallers::caller_with`].
    ///
    /// # Cancel-Safety
    /// A dropped call keeps nothing.
    pub async fn caller_through_all(
        self,
        principal: &Principal,
        server: &ServerName,
        wants: Wants,
        config: Option<&ClientConfig>,
    ) -> Result<Arc<Session>, Failure> {
        let own = config.and_then(|config| config.part(server)).cloned();
        self.find_caller(principal, server, wants, true, own).await
    }

    async fn find_caller(
        self,
        principal: &Principal,
        server: &ServerName,
        wants: Wants,
        through_all: bool,
        config: Option<ClientConfig>,
    ) -> Result<Arc<Session>, Failure> {
        let config = config.filter(|config| !config.is_empty());
        let runtime = self.gateway.runtime_config();
        runtime.server_for(principal, server.as_str())?;
        let told = self.told(&runtime, server, wants);
        let caller = Caller {
            subject: principal.subject.clone(),
            server: server.clone(),
            told,
            through_all,
            config: config.as_ref().map(ClientConfig::fingerprint),
            claims: runtime
                .starts_with_claims(server)
                .then(|| principal.fingerprint()),
        };
        let stateless_sessions = &self.table().stateless_sessions;
        if let Some(known) = stateless_sessions.known(&principal.tenant, &caller) {
            return Ok(known);
        }
        let alias = through_all.then(|| self.gateway.aggregate_view().names().of(server));
        let kind = SessionKind::StatelessCaller { alias };
        let session = self.without_client(principal, server, told, kind)?;
        let session = Arc::new(session.with_config(config.map(Arc::new)));
        // Whether it can be served is found out before anything of it is kept.
        if let Err(failure) = self.gateway.route(&session, None).await {
            let awaits_more = failure.reason == Reason::ConfigInvalid
                && self.gateway.awaits_client(&runtime, &session).await;
            return if awaits_more {
                Ok(session)
            } else {
                Err(failure)
            };
        }
        self.table().keep_caller(caller, session)
    }

    /// Whether a request of that method, for what has that name, is to be served where the server can ask its client,
    /// though the client declares nothing: only so it is known what it must declare (2026-07-28, basic, "Capabilities").
    /// A name that was called once has shown whether its server asks. A server that has one process at a time, or state in it, has no other process for that.
    pub fn may_yet_ask(
        self,
        tenant: &TenantId,
        server: &ServerName,
        method: &str,
        name: Option<&str>,
    ) -> bool {
        let can_ask = ["tools/call", "prompts/get", "resources/read"].contains(&method);
        let runtime = self.gateway.runtime_config();
        let settings = runtime.config.servers.get(server);
        // One that asks in its answers does so whatever it is told of its clients.
        let asks_in_requests = runtime.program(server).is_some_and(|program| {
            self.gateway
                .state
                .knowledge
                .dialects
                .asks_in_requests(program)
        });
        let is_open = asks_in_requests
            && settings.is_some_and(|settings| {
                settings.interactive == Interactive::Exclusive
                    && !settings.stateful
                    && !self
                        .gateway
                        .state
                        .knowledge
                        .one_at_a_time
                        .holds(settings, tenant, server)
            });
        can_ask && is_open && {
            let what = format!("{method} {}", name.unwrap_or_default());
            self.table().stateless_sessions.is_first_call(server, &what)
        }
    }

    /// What a worker that serves such a request is told of its clients.
    fn told(self, runtime: &RuntimeConfig, server: &ServerName, wants: Wants) -> Declaration {
        let settings = runtime.config.servers.get(server);
        let asks_in_answers = runtime.program(server).is_some_and(|program| {
            self.gateway
                .state
                .knowledge
                .dialects
                .asks_in_answers(program)
        });
        match settings.map(|server| server.interactive) {
            // A program that asks in its answers: only who wants log lines must have its worker alone.
            _ if asks_in_answers && wants.logs => Declaration::Everything,
            _ if asks_in_answers => Declaration::Nothing,
            Some(Interactive::Never) => Declaration::Nothing,
            Some(Interactive::Always) => Declaration::Everything,
            _ if wants.questions
                || wants.logs
                || self.table().stateless_sessions.is_asking(server) =>
            {
                Declaration::Everything
            }
            _ => Declaration::Nothing,
        }
    }

    pub(super) fn without_client(
        self,
        principal: &Principal,
        server: &ServerName,
        told: Declaration,
        kind: SessionKind,
    ) -> Result<Session, Failure> {
        let id = SessionId::random().map_err(|error| {
            let why = format!("no randomness for a session id: {error}");
            Failure::new(Reason::Internal, why)
        })?;
        let capabilities = match told {
            Declaration::Nothing => json!({}),
            Declaration::Everything => everything(),
        };
        let client = ClientInfo {
            protocol_version: Revision::LATEST.as_str().to_owned(),
            capabilities: capabilities.as_object().cloned().unwrap_or_default(),
            client_info: Value::Null,
        };
        let no = self.table().directory.next_no();
        let (principal, server) = (principal.clone(), server.clone());
        let account = self.gateway.state.ledger.account(&principal.tenant);
        let weight = Session::weight(&principal, &client);
        let charge = account.charge_anyway(held::Kind::Session, weight);
        let identity = SessionIdentity {
            no,
            id,
            principal,
            server,
            client,
        };
        Ok(Session::new(kind, identity, charge))
    }

    /// In the words of which era a request of that caller has to be. A worker is started if that
    /// is the only way to know; the request is for that one, which may serve no other.
    ///
    /// # Errors
    /// Whatever keeps a worker from being had.
    ///
    /// # Cancel-Safety
    /// A worker whose start was begun stays for the next request.
    pub async fn worker_route(self, caller: &Arc<Session>) -> Result<WorkerRoute, Failure> {
        caller.unless_ended(self.find_worker_route(caller)).await
    }

    async fn find_worker_route(self, caller: &Arc<Session>) -> Result<WorkerRoute, Failure> {
        let route = self.gateway.route(caller, None).await?;
        let mut waited = Duration::ZERO;
        if route.plan.era_is_certain {
            let era = route.era();
            return Ok(WorkerRoute {
                era,
                leased: None,
                waited,
            });
        }
        let (route, lease) = self.gateway.lease(caller, None, &mut waited).await?;
        Ok(WorkerRoute {
            era: route.era(),
            leased: Some(lease),
            waited,
        })
    }

    /// A worker has answered a request of that principal with a state that the client is to bring back.
    pub fn note_state(self, principal: &Principal, state: &str, response_stream: &ResponseStream) {
        if let Some(worker) = response_stream.worker() {
            let stateless_sessions = &self.table().stateless_sessions;
            stateless_sessions.note_state(&principal.tenant, state, worker);
        }
    }

    /// A request of that principal brings that state back: the worker that gave it out is asked, if it
    /// can be.
    pub fn follow_state(
        self,
        principal: &Principal,
        state: &str,
        response_stream: &mut ResponseStream,
    ) {
        response_stream.prefers = self
            .table()
            .stateless_sessions
            .worker_of(&principal.tenant, state);
    }

    /// What a worker for that caller says of itself.
    ///
    /// # Errors
    /// Whatever keeps a worker from being had.
    pub async fn introduction(self, session: &Arc<Session>) -> Result<ServerInfo, Failure> {
        self.gateway.server_info_if_possible(session).await
    }

    /// What a worker for that caller says of itself, if it is known without a worker.
    pub async fn known_introduction(self, session: &Arc<Session>) -> Option<ServerInfo> {
        let plan = Arc::clone(&self.gateway.route(session, None).await.ok()?.plan);
        let known = plan
            .remembered()
            .and_then(|(key, age)| self.gateway.state.knowledge.catalog.server_info(key, age));
        known.or_else(|| {
            let connection = session
                .attached_to()
                .into_iter()
                .find_map(|id| self.gateway.state.connection(id))?;
            connection.server_info()
        })
    }

    /// The input schema of a tool, as far as the list of tools is known.
    /// A tool that is not for the caller has none.
    pub async fn tool_schema(
        self,
        session: &Arc<Session>,
        principal: &Principal,
        tool: &str,
    ) -> Option<Value> {
        let view = ToolView::of(&self.gateway.runtime_config(), &session.server, principal);
        if view.is_some_and(|view| !view.has(tool)) {
            return None;
        }
        let route = self.gateway.route(session, None).await.ok()?;
        let (key, age) = route.plan.remembered()?;
        let catalog = &self.gateway.state.knowledge.catalog;
        let (plan, tools) = (&route.plan, Listing::Tools);
        let list = catalog.list(key, plan.list_for(session.is_stateless(), tools), age)?;
        // Few servers ask for headers; for the others the list is not read.
        memchr::memmem::find(&list, b"\"x-mcp-header\"")?;
        let mut list: Value = serde_json::from_slice(&list).ok()?;
        let tools = list.get_mut("tools")?.as_array_mut()?;
        let found = tools.iter_mut().find(|found| found["name"] == tool)?;
        Some(found["inputSchema"].take())
    }

    /// What the worker itself calls the request that `ask` stands for, as text.
    pub fn name_of_question(self, ask: &str) -> Option<String> {
        let ask = AskRef::parse(ask)?;
        let raw = self
            .gateway
            .state
            .connection(ask.worker)?
            .name_of_question(ask)?;
        let text: Option<String> = serde_json::from_str(&raw).ok();
        Some(text.unwrap_or_else(|| raw.into()))
    }
}

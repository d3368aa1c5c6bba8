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
//! request on the stream of the whole. It ends with it. One that is slow or broken is missing in a
//! list, which says so; when it has answered after all, the client is told that the list has changed.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};
use serde_json::Value;

use super::exchange::{Exchange, Next};
use super::late_lists::LateList;
use super::mailbox::Parcel;
use super::packages;
use super::record::{Session, SessionId};
use super::response::{error_response, response};
use super::service::Sessions;
use super::shared::Happening;
use crate::bridge::aggregate::{self, Addressed, Alias, Missing, Names};
use crate::bridge::stateless::identity;
use crate::bridge::{Era, Hello, Listing, asked_level};
use crate::held;
use crate::ids::ServerName;
use crate::launch::packages::Slot;
use crate::protocol::{Envelope, Failure, Reason, code};
use crate::tenancy::{ClientConfig, Principal, advert_of_parts};

/// Most pages of one server's list that are fetched; what comes after them is left out.
const MAX_PAGES: usize = 64;

/// How long a list waits for a server whose package is not there: what is remembered of it comes in less.
const AT_ONCE: Duration = Duration::from_millis(200);

/// What a session is part of.
#[derive(Debug)]
pub(super) struct Membership {
    /// What things of its server are called there.
    pub(super) alias: Alias,
    /// The session with all servers; `None` where its client has no session.
    pub(super) whole: Option<Weak<Session>>,
}

/// The sessions with single servers that belong to one with all.
pub(super) type Members = BTreeMap<ServerName, Arc<Session>>;

impl Sessions {
    /// The names by which all servers are offered as one.
    pub fn names(&self) -> Names {
        Names::new(&self.setup().config.aggregate.separator)
    }

    /// The servers that are offered as one to that caller.
    pub fn offered_to(&self, principal: &Principal) -> Vec<ServerName> {
        let setup = self.setup();
        let servers = setup.config.servers.iter();
        let offered = servers.filter(|(_, server)| server.is_aggregated);
        let offered =
            offered.filter_map(|(name, _)| setup.server_for(principal, name.as_str()).ok());
        offered.collect()
    }

    /// What all servers together say of themselves.
    pub fn hello_of_all(&self, principal: &Principal) -> Result<Hello, Failure> {
        let names = self.names();
        let servers: Vec<_> = self
            .offered_to(principal)
            .iter()
            .map(|s| names.of(s))
            .collect();
        let text = aggregate::introduction(&servers).to_string();
        Hello::parse(&text).map_err(|error| Failure::new(Reason::Internal, error.to_string()))
    }

    /// What callers may set where all servers are offered to them as one: a JSON Schema, by server.
    /// `None` if they may set nothing of any.
    pub fn advert_of_all(&self, principal: &Principal) -> Option<Value> {
        let (setup, offered) = (self.setup(), self.offered_to(principal));
        let adverts = offered.iter().filter_map(|server| {
            let advert = setup.resolver.advert(&principal.tenant, server)?;
            Some((server, advert))
        });
        let mut adverts = adverts.peekable();
        adverts.peek()?;
        Some(advert_of_parts(adverts))
    }

    /// Checks what a request sets for each of all servers, for those as well that it is not for.
    ///
    /// # Errors
    /// [`Reason::ConfigInvalid`] for the first part that does not fit.
    ///
    /// # Cancel-Safety
    /// Cancel-safe.
    pub async fn check_parts(
        &self,
        principal: &Principal,
        config: &ClientConfig,
    ) -> Result<(), Failure> {
        let setup = self.setup();
        setup.resolver.check_parts(&principal.tenant, config).await
    }

    /// Whom a request is for that names something of one server, if that server is offered.
    pub fn addressed(
        &self,
        principal: &Principal,
        message: &[u8],
        envelope: &Envelope<'_>,
    ) -> Option<(ServerName, Addressed)> {
        let found = self.names().addressed(message, envelope)?;
        let mut offered = self.offered_to(principal).into_iter();
        let server = offered.find(|server| server.as_str() == found.server)?;
        Some((server, found))
    }

    /// The whole's session with that server, made when it is first needed.
    ///
    /// # Errors
    /// [`Reason::WorkerExited`], once, when the process that kept the session's state is gone.
    pub(super) fn member(
        &self,
        whole: &Arc<Session>,
        server: &ServerName,
    ) -> Result<Arc<Session>, Failure> {
        let mut members = whole.members.lock();
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
        let no = self.shared.directory.next_no();
        let (principal, client) = (whole.principal.clone(), whole.client.clone());
        let weight = Session::weight(&client);
        let charge = whole.account().charge_anyway(held::Kind::Session, weight);
        let member = Session::new(no, id, principal, server.clone(), client, charge);
        let alias = self.names().of(server);
        member.agree(whole.revision());
        let (level, subscriptions) = whole.standing();
        if let Some(level) = level {
            member.set_level(level);
        }
        for own in subscriptions.iter().filter_map(|uri| alias.own_uri(uri)) {
            member.add_subscription(own.into_owned());
        }
        let member = member.with_config(whole.part_for(server));
        let member = Arc::new(member.member_of(whole, alias));
        self.shared.directory.insert_member(Arc::clone(&member));
        members.insert(server.clone(), Arc::clone(&member));
        drop(members);
        // Whoever ends the whole marks it first and looks for its members then: one of the two
        // sees the other.
        if whole.has_ended() {
            self.shared.end_session(&member);
            return Err(super::session_not_found());
        }
        self.shared
            .watcher
            .happened(Happening::SessionOpened(&member));
        Ok(member)
    }

    /// A request of a session with all servers.
    ///
    /// # Errors
    /// Whatever keeps a worker from being had.
    pub(super) fn request_of_all<'a>(
        &'a self,
        whole: &'a Arc<Session>,
        message: &'a [u8],
        envelope: &'a Envelope<'_>,
        exchange: &'a mut Exchange,
    ) -> BoxFuture<'a, Result<(), Failure>> {
        // Boxed: the requests of its members are requests of sessions in turn.
        Box::pin(self.serve_of_all(whole, message, envelope, exchange))
    }

    async fn serve_of_all(
        &self,
        whole: &Arc<Session>,
        message: &[u8],
        envelope: &Envelope<'_>,
        exchange: &mut Exchange,
    ) -> Result<(), Failure> {
        let method = envelope.method.as_deref().unwrap_or_default();
        let id = envelope.id.map_or("null", |id| id.get());
        // What its session has set was checked when it began.
        if let Some(config) = &exchange.config {
            self.check_parts(&whole.principal, config).await?;
        }
        if let Some(listing) = Listing::of(method) {
            let asker = exchange.principal.as_ref().unwrap_or(&whole.principal);
            let config = exchange.config.clone();
            let lister = Lister::of_session(Arc::clone(whole), asker.clone(), config);
            let list = self.list_of_all(lister, listing).await;
            answer(exchange, response(id, "result", list.as_bytes()), false);
            return Ok(());
        }
        if method == "logging/setLevel" {
            return self.level_of_all(whole, message, envelope, exchange).await;
        }
        let asker = exchange.principal.as_ref().unwrap_or(&whole.principal);
        match self.addressed(asker, message, envelope) {
            Some((server, own)) => {
                let member = self.member(whole, &server)?;
                let _in_use = member.in_use();
                let envelope = Envelope::parse(&own.message)
                    .map_err(|error| Failure::new(Reason::Internal, error.to_string()))?;
                // Put back afterwards: sent once more, the request comes this way again.
                let of_whole = exchange.config.take();
                exchange.set_config(part_of(of_whole.as_ref(), &member));
                let sent = self.request(&member, &own.message, &envelope, exchange);
                let sent = sent.await;
                exchange.set_config(of_whole);
                sent
            }
            None => {
                let (code, why) = unaddressed(method);
                answer(exchange, error_response(id, code, &why), true);
                Ok(())
            }
        }
    }

    /// The package that has to be installed before the request of a session with all servers can be
    /// answered. What else stands in its way is told when it is sent.
    pub(super) async fn missing_of_all(
        &self,
        whole: &Arc<Session>,
        asker: &Principal,
        message: &[u8],
        envelope: &Envelope<'_>,
        config: Option<Arc<ClientConfig>>,
    ) -> Option<Arc<Slot>> {
        let (server, _) = self.addressed(asker, message, envelope)?;
        let member = self.member(whole, &server).ok()?;
        let config = part_of(config.as_ref(), &member);
        let route = self.route(&member, config.as_ref()).await.ok()?;
        self.missing(&route)
    }

    /// The level is set at every member that has a worker; the others set it when they get one.
    async fn level_of_all(
        &self,
        whole: &Arc<Session>,
        message: &[u8],
        envelope: &Envelope<'_>,
        exchange: &mut Exchange,
    ) -> Result<(), Failure> {
        let id = envelope.id.map_or("null", |id| id.get());
        let Some(level) = asked_level(envelope.params) else {
            let why = "`level` is no log level";
            answer(
                exchange,
                error_response(id, code::INVALID_PARAMS, why),
                true,
            );
            return Ok(());
        };
        whole.set_level(level);
        self.shared.keep_standing(whole);
        let members: Vec<_> = whole.members.lock().values().cloned().collect();
        for member in members {
            member.set_level(level);
            let links = member.seats().into_iter().filter_map(|id| self.link(id));
            if links.into_iter().any(|link| link.order().keeps_seats) {
                let mut own = Exchange::new().without_client();
                // Of no concern to the client: a server may have no levels, or be gone.
                if Box::pin(self.request(&member, message, envelope, &mut own))
                    .await
                    .is_ok()
                {
                    let _answered = own.next().await;
                }
            }
        }
        answer(exchange, response(id, "result", b"{}"), false);
        Ok(())
    }

    /// The result of a list request: what every server lists that answers in time.
    pub async fn list_of_all(&self, lister: Lister, listing: Listing) -> String {
        let servers = self.offered_to(&lister.principal);
        let limit = self.setup().config.aggregate.list_timeout;
        let asked = servers.into_iter().map(|server| {
            let (sessions, lister) = (self.clone(), lister.clone());
            let (tell, mut told) = tokio::sync::oneshot::channel();
            let (tell_package, package) = tokio::sync::oneshot::channel();
            let name = server.clone();
            let late = late_list(&lister, &server, listing);
            // In a task of its own, so that a server that is late is waited for all the same.
            self.shared.tasks.spawn(async move {
                let slot = sessions.package_of(&lister, &name).await;
                if let Some(slot) = &slot {
                    // Nobody may want to know any more.
                    let _gone = tell_package.send(slot.name());
                }
                let mut list = sessions.list_of_one(&lister, &name, listing).await;
                if let (Some(slot), Err(failure)) = (&slot, &list)
                    && failure.reason == Reason::Installing
                    && let Some(_only) = sessions.shared.late_lists.enter(late_list(&lister, &name, listing))
                {
                    packages::until_settled(slot).await;
                    list = sessions.list_of_one(&lister, &name, listing).await;
                }
                let was_listed = list.as_ref().is_ok_and(|list| !list.items.is_empty());
                if tell.send(list).is_err() {
                    let late = late_list(&lister, &name, listing);
                    if sessions.shared.late_lists.ended(&late, was_listed) {
                        sessions.listed_late(&lister, &name, listing);
                    }
                }
            });
            async move {
                let list = async {
                    tokio::select! {
                        biased;
                        list = &mut told => Ok(list),
                        Ok(package) = package => {
                            // What is remembered comes all the same.
                            let at_once = tokio::time::timeout(AT_ONCE, &mut told).await;
                            at_once.map_err(|_elapsed| package)
                        }
                        else => Ok((&mut told).await),
                    }
                };
                let mut list = tokio::time::timeout(limit, list).await;
                if matches!(list, Ok(Err(_)) | Err(_)) {
                    let lists = &self.shared.late_lists;
                    // Before the task can find that nobody waits.
                    lists.owe(late.clone());
                    told.close();
                    if let Ok(just_now) = told.try_recv() {
                        lists.ended(&late, false);
                        list = Ok(Ok(Ok(just_now)));
                    }
                }
                let list = match list {
                    Ok(Err(package)) => Err(format!(
                        "its package `{package}` is being installed; the list changes when it is there"
                    )),
                    Ok(Ok(Ok(list))) => list.map_err(|failure| failure.message),
                    Ok(Ok(Err(_))) => Err("stdiopool is shutting down".to_owned()),
                    Err(_elapsed) => Err(format!(
                        "no answer within {} (raise `aggregate.list_timeout`); the list changes when it has answered",
                        humantime::format_duration(limit)
                    )),
                };
                (server, list)
            }
        });
        let mut items = Vec::new();
        let mut missing = Vec::new();
        for (server, list) in join_all(asked).await {
            match list {
                Ok(list) => {
                    items.extend(list.items);
                    missing.extend(list.lacks.map(|why| not_listed(&server, why)));
                }
                Err(why) => missing.push(not_listed(&server, why)),
            }
        }
        aggregate::merged(listing, &items, &missing)
    }

    /// The session in which that server is asked for its list.
    async fn session_of(
        &self,
        lister: &Lister,
        server: &ServerName,
    ) -> Result<Arc<Session>, Failure> {
        match &lister.whole {
            Some(whole) => self.member(whole, server),
            None => {
                let (user, config) = (&lister.principal, lister.config.as_deref());
                let session = self.caller_through_all(user, server, Default::default(), config);
                session.await
            }
        }
    }

    /// The package of that server that is not there yet, whose install has begun then.
    async fn package_of(&self, lister: &Lister, server: &ServerName) -> Option<Arc<Slot>> {
        let session = self.session_of(lister, server).await.ok()?;
        let config = match lister.whole {
            Some(_) => part_of(lister.config.as_ref(), &session),
            None => None,
        };
        let route = self.route(&session, config.as_ref()).await.ok()?;
        self.missing(&route)
    }

    /// All pages of one server's list.
    async fn list_of_one(
        &self,
        lister: &Lister,
        server: &ServerName,
        listing: Listing,
    ) -> Result<Listed, Failure> {
        let session = self.session_of(lister, server).await?;
        let mut way = match &lister.whole {
            Some(_) => None,
            None => Some(self.way(&session).await?),
        };
        let era = way.as_ref().map_or(Era::Initialize, |way| way.era);
        let _in_use = session.in_use();
        let alias = self.names().of(server);
        let mut all = Listed::default();
        let mut known = HashSet::new();
        let mut cursors = HashSet::new();
        let mut cursor: Option<String> = None;
        for page in 1.. {
            let line = list_request(listing, era, lister, cursor.as_deref());
            let envelope = Envelope::parse(&line)
                .map_err(|error| Failure::new(Reason::Internal, error.to_string()))?;
            let mut exchange = match lister.whole {
                Some(_) => Exchange::new().with_config(part_of(lister.config.as_ref(), &session)),
                None => match way.take() {
                    Some(way) => Exchange::on(None, way),
                    None => Exchange::stateless(None, era),
                },
            }
            .without_client()
            .asked_by(&lister.principal, &session);
            let sent = self.request_once(&session, &line, &envelope, &mut exchange);
            Box::pin(sent).await?;
            let Some(text) = page_of(&mut exchange).await? else {
                return Ok(all);
            };
            let read = match aggregate::items(listing, &text, &alias) {
                Ok(read) => read,
                Err(why) => {
                    all.lacks(format!("page {page}: {why}"));
                    break;
                }
            };
            // Each thing once: a page may come twice.
            let new = read.items.into_iter();
            let new = new.filter(|(name, _)| known.insert(name.clone()));
            all.items.extend(new.map(|(_, item)| item));
            if read.unnamed > 0 {
                let (unnamed, method) = (read.unnamed, listing.method());
                all.lacks(format!(
                    "{unnamed} of what it lists for `{method}` has no name"
                ));
            }
            if let Some(odd) = read.odd_cursor {
                all.lacks(format!(
                    "its list goes on, but its `nextCursor` is no text: {odd}"
                ));
            }
            let Some(next) = read.next else { break };
            if !cursors.insert(next.clone()) {
                all.lacks(format!(
                    "its list does not end: the `nextCursor` of page {page} was there before"
                ));
                break;
            }
            if page >= MAX_PAGES {
                all.lacks(format!("its list has more than {MAX_PAGES} pages"));
                break;
            }
            cursor = Some(next);
        }
        Ok(all)
    }

    /// A server has listed something after whoever asked was told that it is missing.
    fn listed_late(&self, lister: &Lister, server: &ServerName, listing: Listing) {
        let changed: Bytes =
            format!(r#"{{"jsonrpc":"2.0","method":"{}"}}"#, listing.changed()).into();
        match &lister.whole {
            Some(whole) => {
                whole.outbox.push(changed);
            }
            None => {
                let tenant = &lister.principal.tenant;
                let listening = self.shared.directory.listening(tenant, server);
                for listener in listening
                    .iter()
                    .filter(|listener| listener.membership.is_some())
                {
                    listener.tell(changed.clone());
                }
            }
        }
    }

    /// The servers on offer are others than before: who has a session with all of them hears of it.
    pub(super) fn offer_has_changed(&self) {
        for whole in self.all().iter().filter(|session| session.is_with_all()) {
            for listing in [Listing::Tools, Listing::Prompts, Listing::Resources] {
                let changed = format!(r#"{{"jsonrpc":"2.0","method":"{}"}}"#, listing.changed());
                whole.outbox.push(changed.into());
            }
        }
    }
}

fn late_list(lister: &Lister, server: &ServerName, listing: Listing) -> LateList {
    LateList {
        session: lister.whole.as_ref().map(|whole| whole.no),
        tenant: lister.principal.tenant.clone(),
        server: server.clone(),
        listing,
    }
}

/// What one server lists.
#[derive(Debug, Default)]
struct Listed {
    /// Each as raw JSON.
    items: Vec<String>,
    /// What is missing in it, and why.
    lacks: Option<String>,
}

impl Listed {
    fn lacks(&mut self, why: String) {
        self.lacks = Some(match self.lacks.take() {
            Some(before) if before.contains(&why) => before,
            Some(before) => format!("{before}; {why}"),
            None => why,
        });
    }
}

fn not_listed(server: &ServerName, why: String) -> Missing {
    tracing::info!(%server, "missing in a list of all servers: {why}");
    let server = server.to_string();
    Missing { server, why }
}

/// Who wants a list of all servers.
#[derive(Clone, Debug)]
pub struct Lister {
    /// The session with all of them; `None` for a caller without sessions.
    whole: Option<Arc<Session>>,
    principal: Principal,
    /// What holds for the request, by server; `None` for what holds for its session.
    config: Option<Arc<ClientConfig>>,
}

impl Lister {
    /// Who asks in that session, and what the request sets.
    fn of_session(
        whole: Arc<Session>,
        principal: Principal,
        config: Option<Arc<ClientConfig>>,
    ) -> Self {
        Self {
            whole: Some(whole),
            principal,
            config,
        }
    }

    /// A caller without sessions, and what the request sets.
    pub fn of_caller(principal: Principal, config: Option<ClientConfig>) -> Self {
        Self {
            whole: None,
            principal,
            config: config.map(Arc::new),
        }
    }
}

/// What holds for a request of a member if its whole's sets that; `None`: what holds for the member.
fn part_of(config: Option<&Arc<ClientConfig>>, member: &Session) -> Option<Arc<ClientConfig>> {
    let part = config?.part(&member.server)?;
    member.refined(Some(part.clone()))
}

fn list_request(listing: Listing, era: Era, lister: &Lister, cursor: Option<&str>) -> Bytes {
    let mut params = match cursor {
        Some(cursor) => serde_json::json!({ "cursor": cursor }),
        None => serde_json::json!({}),
    };
    // A worker of that era wants to know who asks; a session's requests are introduced anyway.
    if era == Era::Stateless && lister.whole.is_none() {
        let own = format!("{{{}}}", identity(&Value::Null, &serde_json::Map::new()));
        params["_meta"] = serde_json::from_str(&own).unwrap_or_default();
    }
    format!(
        r#"{{"jsonrpc":"2.0","id":0,"method":"{}","params":{params}}}"#,
        listing.method()
    )
    .into()
}

/// The result that comes; `None` for a server that has no such list.
async fn page_of(exchange: &mut Exchange) -> Result<Option<String>, Failure> {
    loop {
        match exchange.next().await {
            Next::Parcel(Parcel::Answer {
                message, is_error, ..
            }) => {
                let envelope = Envelope::parse(&message)
                    .map_err(|error| Failure::new(Reason::Internal, error.to_string()))?;
                if !is_error && let Some(result) = envelope.result {
                    return Ok(Some(result.get().to_owned()));
                }
                let error = envelope.error.map_or("null", |error| error.get());
                let told: Value = serde_json::from_str(error).unwrap_or_default();
                if told["code"] == code::METHOD_NOT_FOUND {
                    return Ok(None);
                }
                let why = format!("it answered with an error: {error}");
                return Err(Failure::new(Reason::Internal, why));
            }
            Next::Parcel(Parcel::Message(_)) => {}
            Next::Parcel(Parcel::Failed { failure, .. }) => return Err(failure),
            Next::TimedOut { limit, .. } => return Err(limit.failure()),
            Next::Done => {
                return Err(Failure::new(
                    Reason::Internal,
                    "the call ended without an answer",
                ));
            }
        }
    }
}

fn answer(exchange: &Exchange, message: Bytes, is_error: bool) {
    exchange.mailbox.expect_answer();
    exchange.mailbox.answer(message, is_error);
}

/// The code and the text of the error for a request that names nothing of any server.
pub(super) fn unaddressed(method: &str) -> (i32, String) {
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

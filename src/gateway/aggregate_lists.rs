//! Lists of all servers as one: each is asked, and who does not answer in time is missing in the list, which says so.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use serde_json::Value;

use super::aggregate::{Aggregate, part_of};
use super::late_lists::LateList;
use super::lister::Lister;
use super::packages;
use super::response_stream::{Last, ResponseStream};
use crate::bridge::aggregate::{self, Missing};
use crate::bridge::{Era, Listing};
use crate::ids::ServerName;
use crate::launch::packages::Slot;
use crate::protocol::{Envelope, Failure, Reason, bare_notification, code};
use crate::session::Session;

/// Most pages of one server's list that are fetched; what comes after them is left out.
const MAX_PAGES: usize = 64;

/// How long a list waits for a server whose package is not there: what is remembered of it comes in less.
const AT_ONCE: Duration = Duration::from_millis(200);

impl Aggregate<'_> {
    /// The result of a list request: what every server lists that answers in time.
    pub async fn list(self, lister: Lister, listing: Listing) -> String {
        let view = self.gateway.aggregate_view();
        let servers = view.offered_to(&lister.principal);
        let limit = self.gateway.runtime_config().config.aggregate.list_timeout;
        let asked = servers.into_iter().map(|server| {
            let (gateway, lister) = (self.gateway.clone(), lister.clone());
            let (tell, mut told) = tokio::sync::oneshot::channel();
            let (tell_package, package) = tokio::sync::oneshot::channel();
            let name = server.clone();
            let late = late_list(&lister, &server, listing);
            // In a task of its own, so that a late server's list still comes into the catalog.
            self.gateway.state.tasks.spawn(async move {
                let all = gateway.aggregate();
                let slot = all.package_of(&lister, &name).await;
                if let Some(slot) = &slot {
                    // Nobody may want to know any more.
                    let _gone = tell_package.send(slot.name());
                }
                let mut list = all.list_of_one(&lister, &name, listing).await;
                if let (Some(slot), Err(failure)) = (&slot, &list)
                    && failure.reason == Reason::Installing
                    && let Some(_only) = gateway.state.late_lists.enter(late_list(&lister, &name, listing))
                {
                    packages::until_settled(slot).await;
                    list = all.list_of_one(&lister, &name, listing).await;
                }
                let was_listed = list.as_ref().is_ok_and(|list| !list.items.is_empty());
                if tell.send(list).is_err() {
                    let late = late_list(&lister, &name, listing);
                    if gateway.state.late_lists.ended(&late, was_listed) {
                        all.listed_late(&lister, &name, listing);
                    }
                }
            });
            async move {
                let list = async {
                    tokio::select! {
                        biased;
                        list = &mut told => Ok(list),
                        Ok(package) = package => {
                            // A remembered list comes at once even so.
                            let at_once = tokio::time::timeout(AT_ONCE, &mut told).await;
                            at_once.map_err(|_elapsed| package)
                        }
                        else => Ok((&mut told).await),
                    }
                };
                let mut list = tokio::time::timeout(limit, list).await;
                if matches!(list, Ok(Err(_)) | Err(_)) {
                    let lists = &self.gateway.state.late_lists;
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
        self,
        lister: &Lister,
        server: &ServerName,
    ) -> Result<Arc<Session>, Failure> {
        match &lister.whole {
            Some(whole) => self.member(whole, server),
            None => {
                let (user, config) = (&lister.principal, lister.config.as_deref());
                let session = self.gateway.stateless_callers().caller_through_all(
                    user,
                    server,
                    Default::default(),
                    config,
                );
                session.await
            }
        }
    }

    /// The package of that server that is not there yet, whose install has begun then.
    async fn package_of(self, lister: &Lister, server: &ServerName) -> Option<Arc<Slot>> {
        let session = self.session_of(lister, server).await.ok()?;
        let config = match lister.whole {
            Some(_) => part_of(lister.config.as_ref(), &session),
            None => None,
        };
        let route = self.gateway.route(&session, config.as_ref()).await.ok()?;
        self.gateway.missing(&route)
    }

    /// All pages of one server's list.
    async fn list_of_one(
        self,
        lister: &Lister,
        server: &ServerName,
        listing: Listing,
    ) -> Result<Listed, Failure> {
        let session = self.session_of(lister, server).await?;
        let mut route = match &lister.whole {
            Some(_) => None,
            None => Some(
                self.gateway
                    .stateless_callers()
                    .worker_route(&session)
                    .await?,
            ),
        };
        let era = route.as_ref().map_or_else(Era::default, |route| route.era);
        let _in_use = session.in_use();
        let alias = self.gateway.aggregate_view().names().of(server);
        let mut all = Listed::default();
        let mut known = HashSet::new();
        let mut cursors = HashSet::new();
        let mut cursor: Option<String> = None;
        for page in 1.. {
            let line = listing.request("0", era, cursor.as_deref());
            let envelope = Envelope::parse(&line)
                .map_err(|error| Failure::new(Reason::Internal, error.to_string()))?;
            let mut response_stream = match lister.whole {
                Some(_) => {
                    ResponseStream::new().with_config(part_of(lister.config.as_ref(), &session))
                }
                None => match route.take() {
                    Some(route) => ResponseStream::on(None, route),
                    None => ResponseStream::stateless(None, era),
                },
            }
            .without_client()
            .asked_by(&lister.principal, &session);
            let sent = self
                .gateway
                .request_once(&session, &line, &envelope, &mut response_stream);
            Box::pin(sent).await?;
            let Some(text) = page_of(&mut response_stream).await? else {
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
    fn listed_late(self, lister: &Lister, server: &ServerName, listing: Listing) {
        let changed: Bytes = bare_notification(listing.changed()).into();
        match &lister.whole {
            Some(whole) => {
                whole.outbox.push(changed);
            }
            None => {
                let tenant = &lister.principal.tenant;
                let listening = self
                    .gateway
                    .state
                    .sessions
                    .directory
                    .listening(tenant, server);
                for listener in listening.iter().filter(|listener| listener.is_member()) {
                    listener.tell(changed.clone());
                }
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

/// The list of one server.
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

/// The result that comes; `None` for a server that has no such list.
async fn page_of(response_stream: &mut ResponseStream) -> Result<Option<String>, Failure> {
    let (message, is_error) = match response_stream.last(|_| {}).await {
        Last::Answer { message, is_error } => (message, is_error),
        Last::Failed(failure) => return Err(failure),
        Last::TimedOut(limit) => return Err(limit.failure()),
        Last::Nothing => {
            let why = "the call ended without an answer";
            return Err(Failure::new(Reason::Internal, why));
        }
    };
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
    Err(Failure::new(Reason::Internal, why))
}

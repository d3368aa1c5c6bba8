//! Lists of all servers as one: each is asked, and who does not answer in time is missing in the list, which says so.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use serde_json::Value;
use tokio::sync::oneshot;

use super::aggregate::{Aggregate, part_of};
use super::late_lists::{LateList, LateLists};
use super::lister::Lister;
use super::packages;
use super::response_stream::{Last, ResponseStream};
use crate::bridge::aggregate::{self, Items, Missing, NotAPage};
use crate::bridge::{Era, Listing};
use crate::ids::ServerName;
use crate::launch::packages::Slot;
use crate::protocol::{Envelope, Failure, Reason, bare_notification, code};
use crate::session::Session;
use crate::telemetry::{RequestSpan, in_request};

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
        let lists = &self.gateway.state.late_lists;
        let asked = servers.into_iter().map(|server| {
            let fetch = self.fetch(&lister, &server, listing);
            async move { (server, fetch.in_time(lists, limit).await) }
        });
        let mut items = Vec::new();
        let mut missing = Vec::new();
        for (server, list) in join_all(asked).await {
            match list {
                Ok(list) => {
                    items.extend(list.items);
                    missing.extend(list.lacks.map(|why| not_listed(&server, why)));
                }
                Err(why) => missing.push(not_listed(&server, why.to_string())),
            }
        }
        aggregate::merged(listing, &items, &missing)
    }

    /// Begins to ask a server for its list: in a task of its own, so that a server that is late is waited for all the same.
    fn fetch(self, lister: &Lister, server: &ServerName, listing: Listing) -> Fetch {
        let (tell, list) = oneshot::channel();
        let (tell_package, package) = oneshot::channel();
        let (gateway, lister, server) = (self.gateway.clone(), lister.clone(), server.clone());
        let late = late_list(&lister, &server, listing);
        let fetched = async move {
            let all = gateway.aggregate();
            let list = all.whole_list(&lister, &server, listing, tell_package);
            let list = list.await;
            let was_listed = list.as_ref().is_ok_and(|list| !list.items.is_empty());
            if tell.send(list).is_err() {
                let late = late_list(&lister, &server, listing);
                if gateway.state.late_lists.ended(&late, was_listed) {
                    all.listed_late(&lister, &server, listing);
                }
            }
        };
        let fetched = in_request(RequestSpan::current(), fetched);
        self.gateway.state.tasks.spawn(fetched);
        Fetch {
            list,
            package,
            late,
        }
    }

    /// The list of one server, once its package is there. The package's name is told first, if it is not there yet; whoever
    /// comes second for the list does not wait for the package.
    async fn whole_list(
        self,
        lister: &Lister,
        server: &ServerName,
        listing: Listing,
        tell_package: oneshot::Sender<String>,
    ) -> Result<Listed, Failure> {
        let slot = self.package_of(lister, server).await;
        if let Some(slot) = &slot {
            // Nobody may want to know any more.
            let _gone = tell_package.send(slot.name());
        }
        let list = self.list_of_one(lister, server, listing).await;
        if let (Some(slot), Err(failure)) = (&slot, &list)
            && failure.reason == Reason::Installing
            && let late = late_list(lister, server, listing)
            && let Some(_only) = self.gateway.state.late_lists.enter(late)
        {
            packages::until_settled(slot).await;
            return self.list_of_one(lister, server, listing).await;
        }
        list
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
        let mut read = PagesRead::default();
        let mut cursor: Option<String> = None;
        for page in 1.. {
            let line = listing.request("0", era, cursor.as_deref());
            let stream = match (&lister.whole, route.take()) {
                (Some(_), _) => {
                    let config = part_of(lister.config.as_ref(), &session);
                    ResponseStream::new().with_config(config)
                }
                (None, Some(route)) => ResponseStream::on(None, route),
                (None, None) => ResponseStream::stateless(None, era),
            };
            let stream = stream
                .without_client()
                .asked_by(&lister.principal, &session);
            let Some(text) = self.page(&session, &line, stream).await? else {
                break;
            };
            cursor = read.take(page, aggregate::items(listing, &text, &alias), listing);
            if cursor.is_none() {
                break;
            }
        }
        Ok(read.all)
    }

    /// The result of one request of a list; `None` for a server that has no such list.
    async fn page(
        self,
        session: &Arc<Session>,
        line: &Bytes,
        mut response_stream: ResponseStream,
    ) -> Result<Option<String>, Failure> {
        let envelope = Envelope::parse(line)
            .map_err(|error| Failure::new(Reason::Internal, error.to_string()))?;
        let sent = self
            .gateway
            .request_once(session, line, &envelope, &mut response_stream);
        Box::pin(sent).await?;
        page_of(&mut response_stream).await
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

/// A server's list that is asked for.
struct Fetch {
    list: oneshot::Receiver<Result<Listed, Failure>>,
    /// The name of the server's package, if that is being installed first.
    package: oneshot::Receiver<String>,
    late: LateList,
}

/// Why the list of a server is missing among those of all.
#[derive(Debug, thiserror::Error)]
enum NotListed {
    #[error(transparent)]
    Failed(#[from] Failure),
    #[error("its package `{0}` is being installed; the list changes when it is there")]
    Installing(String),
    /// Nothing came in that time.
    #[error(
        "no answer within {} (raise `aggregate.list_timeout`); the list changes when it has answered",
        humantime::format_duration(*.0)
    )]
    Unanswered(Duration),
    #[error("stdiopool is shutting down")]
    ShuttingDown,
}

/// What is heard of a list within the time that there is for it.
enum Heard {
    List(Result<Listed, Failure>),
    /// The package of that name is being installed.
    Installing(String),
    Nothing,
    /// The task has ended without a word.
    ShuttingDown,
}

impl Fetch {
    /// The list. What is not there within `limit`, in `lists` is noted as owed.
    ///
    /// # Errors
    /// [`NotListed`] when it is not there.
    async fn in_time(mut self, lists: &LateLists, limit: Duration) -> Result<Listed, NotListed> {
        let mut heard = self.heard(limit).await;
        if matches!(heard, Heard::Installing(_) | Heard::Nothing) {
            // Before the task can find that nobody waits.
            lists.owe(self.late.clone());
            self.list.close();
            if let Ok(just_now) = self.list.try_recv() {
                lists.ended(&self.late, false);
                heard = Heard::List(just_now);
            }
        }
        match heard {
            Heard::List(list) => Ok(list?),
            Heard::Installing(package) => Err(NotListed::Installing(package)),
            Heard::Nothing => Err(NotListed::Unanswered(limit)),
            Heard::ShuttingDown => Err(NotListed::ShuttingDown),
        }
    }

    async fn heard(&mut self, limit: Duration) -> Heard {
        let Self { list, package, .. } = self;
        let told = |list: Result<_, _>| list.map_or(Heard::ShuttingDown, Heard::List);
        let heard = async {
            tokio::select! {
                biased;
                heard = &mut *list => told(heard),
                Ok(package) = package => {
                    // What is remembered comes all the same.
                    let at_once = tokio::time::timeout(AT_ONCE, &mut *list).await;
                    at_once.map_or(Heard::Installing(package), told)
                }
                else => told((&mut *list).await),
            }
        };
        tokio::time::timeout(limit, heard)
            .await
            .unwrap_or(Heard::Nothing)
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
    /// What is missing in the list, and why.
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

/// The pages of a server's list that were read.
#[derive(Default)]
struct PagesRead {
    all: Listed,
    /// What is in `all`, by name.
    known: HashSet<String>,
    /// Where pages began.
    cursors: HashSet<String>,
}

impl PagesRead {
    /// Takes a page in, whose number is `page`, from 1. Returns where the next one begins; `None` when there is none to be read.
    fn take(
        &mut self,
        page: usize,
        read: Result<Items, NotAPage>,
        listing: Listing,
    ) -> Option<String> {
        let all = &mut self.all;
        let read = match read {
            Ok(read) => read,
            Err(why) => {
                all.lacks(format!("page {page}: {why}"));
                return None;
            }
        };
        // Each thing once: a page may come twice.
        let new = read.items.into_iter();
        let new = new.filter(|(name, _)| self.known.insert(name.clone()));
        all.items.extend(new.map(|(_, item)| item));
        if read.unnamed > 0 {
            let (unnamed, method) = (read.unnamed, listing.method());
            all.lacks(format!(
                "{unnamed} of what it lists for `{method}` {} no name",
                if unnamed == 1 { "has" } else { "have" }
            ));
        }
        if let Some(odd) = read.odd_cursor {
            all.lacks(format!(
                "its list goes on, but its `nextCursor` is no text: {odd}"
            ));
        }
        let next = read.next?;
        if !self.cursors.insert(next.clone()) {
            all.lacks(format!(
                "its list does not end: the `nextCursor` of page {page} was there before"
            ));
            return None;
        }
        if page >= MAX_PAGES {
            all.lacks(format!("its list has more than {MAX_PAGES} pages"));
            return None;
        }
        Some(next)
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

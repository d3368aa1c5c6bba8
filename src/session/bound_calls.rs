//! Calls of tools of a server with `bind`: passed on only once it is known, of the very worker that gets the call, that what
//! is set for its callers can be set.
//!
//! The worker's whole list of tools is what tells that. Where it is not known (as the catalog knows lists, or from this
//! worker itself), stdiopool asks the worker for it before the call, under the lease of the call: nobody else waits for
//! that, and the client sees nothing of it. A list that changed is read again before the next call.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tokio::time::Instant;

use super::bindings::{BoundCall, NotBound};
use super::exchange::{Exchange, Next};
use super::link::own_tools::NotKept;
use super::link::{Asked, Called, Link};
use super::mailbox::Parcel;
use super::offer::Offer;
use super::record::Session;
use super::request::not_asked;
use super::service::Sessions;
use super::tool_list::{Pages, ToolList};
use crate::bridge::stateless::identity;
use crate::bridge::{AskRef, Era, Listing, called_tool, with_additions};
use crate::ids::ServerName;
use crate::protocol::{Envelope, Failure, Kind, Reason, code};

/// How often a list is read that changes while it is read.
const MAX_CHANGES: usize = 3;
/// How old a list must be to be read again for a tool that it does not have.
const FRESH: Duration = Duration::from_secs(1);

impl Sessions {
    /// The call as that worker gets it; `None`: as it is. The caller holds a lease of the worker, and `exchange` notes how
    /// long it took to learn the worker's tools.
    ///
    /// # Errors
    /// [`NotBound`].
    ///
    /// # Cancel-Safety
    /// A dropped call has sent nothing of the client's; a request for the list is cancelled.
    pub(super) async fn bound(
        &self,
        (session, link): (&Arc<Session>, &Arc<Link>),
        offer: &Offer,
        (call, message): (&BoundCall, &[u8]),
        exchange: &mut Exchange,
    ) -> Result<Option<Bytes>, NotBound> {
        let known = link.known_tools(session.words(link.order()));
        let is_enough = |list: &Arc<ToolList>| {
            list.tools().contains_key(&call.tool) || list.read_at().elapsed() < FRESH
        };
        let list = match known.filter(is_enough) {
            Some(list) => list,
            None => {
                let since = Instant::now();
                // Boxed, because it is rare, and what every request has room for is to be small.
                let read = Box::pin(self.tools_in_time(session, link, since)).await;
                exchange.waited += since.elapsed();
                read?
            }
        };
        let verdict = offer.verdict(&list);
        let standing = verdict.as_ref().and_then(|verdict| verdict.of(&call.tool));
        // What its server does not list may be something by another name: nothing is known to be set for it.
        let standing =
            standing.ok_or_else(|| NotBound::Refused(format!("unknown tool: {}", call.tool)))?;
        if let Some(why) = standing.refusal() {
            return Err(Failure::new(Reason::ConfigInvalid, why).into());
        }
        let mut additions = call.additions.clone();
        additions
            .arguments
            .retain(|(name, _)| standing.sets.contains(name));
        additions.withheld = standing.withheld.iter().cloned().collect();
        if additions.is_empty() {
            return Ok(None);
        }
        let added = with_additions(message, &additions);
        added
            .map(Some)
            .map_err(|why| NotBound::Refused(why.to_string()))
    }

    /// Whether a request has to wait until the tools of a worker are listed, as far as that can be told before there is one.
    pub(super) fn awaits_tools(&self, session: &Session, envelope: &Envelope<'_>) -> bool {
        let is_call = called_tool(
            envelope.method.as_deref().unwrap_or_default(),
            envelope.params,
        );
        if is_call.is_none() || !self.shared.binds(&session.server) {
            return false;
        }
        let route = session.route();
        let known = route.and_then(|route| {
            let (place, age) = route.order.remembered()?;
            self.shared.catalog.tools(place, age)
        });
        known.is_none()
    }

    /// The worker's tools, read now by whoever comes first: once for all that wait.
    async fn tools_in_time(
        &self,
        session: &Arc<Session>,
        link: &Arc<Link>,
        since: Instant,
    ) -> Result<Arc<ToolList>, NotBound> {
        let order = link.order();
        let (limit, key) = match order.request_timeout < order.start_timeout {
            true => (order.request_timeout, "request_timeout"),
            false => (order.start_timeout, "start_timeout"),
        };
        let read = async {
            let _turn = link.tools_turn().await;
            let known = link.known_tools(session.words(order));
            match known.filter(|list| list.read_at() >= since) {
                Some(known) => Ok(known),
                None => self.read_tools(session, link).await,
            }
        };
        match tokio::time::timeout(limit, read).await {
            Ok(read) => read,
            Err(_elapsed) => {
                let limit = humantime::format_duration(limit);
                let server = &order.server;
                let why = format!(
                    "it did not answer `tools/list` within {limit} (raise `servers.{server}.{key}` if it needs longer)"
                );
                Err(unlisted(server, Reason::RequestTimeout, &why).into())
            }
        }
    }

    async fn read_tools(
        &self,
        session: &Arc<Session>,
        link: &Arc<Link>,
    ) -> Result<Arc<ToolList>, NotBound> {
        let server = &link.order().server;
        for _ in 0..MAX_CHANGES {
            let edition = link.tool_edition();
            let pages = self.read_pages(session, link).await?;
            match link.taken_in(pages, edition) {
                Ok(list) => return Ok(list),
                Err(NotKept::Changed) => {}
                Err(NotKept::NoRoom(full)) => return Err(Failure::from(full).into()),
            }
        }
        let why = format!("they changed {MAX_CHANGES} times while they were listed");
        let failure = unlisted(server, Reason::AnswerInvalid, &why);
        Err(failure.retry_after(Duration::from_secs(1)).into())
    }

    /// All pages of the worker's list.
    async fn read_pages(
        &self,
        session: &Arc<Session>,
        link: &Arc<Link>,
    ) -> Result<Pages, NotBound> {
        let server = &link.order().server;
        let mut pages = Pages::default();
        let mut cursor: Option<String> = None;
        loop {
            let line = list_request(session, link, cursor.as_deref());
            let envelope = Envelope::parse(&line)
                .map_err(|error| Failure::new(Reason::Internal, error.to_string()))?;
            let mut exchange = Exchange::new().without_client();
            exchange.mailbox.charge_to(session.account());
            let asked = Asked {
                session,
                envelope: &envelope,
                arrived: None,
                level: None,
                offer: None,
            };
            match link.call(asked, None, &exchange.mailbox) {
                Ok(Called::Sent(call, at)) => exchange.opened(Arc::clone(link), call, at),
                Ok(Called::Answered) => {}
                Err(refused) => return Err(not_asked(session, refused)),
            }
            let result = listed(session, link, &mut exchange).await?;
            let next = pages
                .take(&result)
                .map_err(|why| unlisted(server, Reason::AnswerInvalid, &format!("{why}")))?;
            match next {
                Some(next) => cursor = Some(next),
                None => return Ok(pages),
            }
        }
    }
}

/// What a caller is told whose call waited for a list that could not be had.
fn unlisted(server: &ServerName, reason: Reason, why: &str) -> Failure {
    let what = format!(
        "the tools of server `{server}` have to be listed before one is called, because arguments are set for its callers (`servers.{server}.bind`), and could not be: {why}"
    );
    Failure::new(reason, what)
}

/// A request of stdiopool itself: no client can name it.
fn list_request(session: &Session, link: &Link, cursor: Option<&str>) -> Bytes {
    let mut params = serde_json::Map::new();
    if let Some(cursor) = cursor {
        params.insert("cursor".to_owned(), cursor.into());
    }
    // A worker of that era wants to know who asks; a session's requests are introduced anyway.
    if session.is_stateless && link.order().greeting.era == Era::Stateless {
        let own = identity(&serde_json::Value::Null, &serde_json::Map::new());
        let own = serde_json::from_str(&format!("{{{own}}}")).unwrap_or_default();
        params.insert("_meta".to_owned(), own);
    }
    let method = Listing::Tools.method();
    let request = json!({ "jsonrpc": "2.0", "id": "dev.stdiopool/tools", "method": method, "params": params });
    request.to_string().into()
}

/// The result of a list request. What its server asks meanwhile nobody answers: there is no client.
async fn listed(
    session: &Session,
    link: &Link,
    exchange: &mut Exchange,
) -> Result<String, NotBound> {
    let server = &link.order().server;
    loop {
        match exchange.next().await {
            Next::Parcel(Parcel::Answer { message, .. }) => {
                let envelope = Envelope::parse(&message)
                    .map_err(|error| Failure::new(Reason::Internal, error.to_string()))?;
                if let Some(result) = envelope.result {
                    return Ok(result.get().to_owned());
                }
                let error = envelope.error.map_or("null", |error| error.get());
                let error: String = error.chars().take(500).collect();
                let why = format!("it answered `tools/list` with an error: {error}");
                return Err(unlisted(server, Reason::AnswerInvalid, &why).into());
            }
            Next::Parcel(Parcel::Message(message)) => refuse_question(session, link, &message),
            Next::Parcel(Parcel::Failed { failure, .. }) => {
                let mut told = unlisted(server, failure.reason, &failure.message);
                told.retry_after = failure.retry_after;
                return Err(told.into());
            }
            Next::TimedOut { limit, .. } => {
                let failure = limit.failure();
                return Err(unlisted(server, failure.reason, &failure.message).into());
            }
            Next::Done => {
                let why = "the request for them was cancelled";
                return Err(unlisted(server, Reason::RequestTimeout, why).into());
            }
        }
    }
}

fn refuse_question(session: &Session, link: &Link, message: &[u8]) {
    let Ok(envelope) = Envelope::parse(message) else {
        return;
    };
    let ask = envelope.id.filter(|_| envelope.kind() == Kind::Request);
    let Some(ask) = ask.and_then(|id| AskRef::parse(id.get())) else {
        return;
    };
    let error = json!({ "code": code::METHOD_NOT_FOUND, "message": "nobody can be asked while tools are listed" });
    let answer = format!(r#"{{"jsonrpc":"2.0","id":{ask},"error":{error}}}"#);
    if let Ok(answer) = Envelope::parse(answer.as_bytes()) {
        // It may have been withdrawn.
        let _was_asked = link.answer(session.no, ask, &answer);
    }
}

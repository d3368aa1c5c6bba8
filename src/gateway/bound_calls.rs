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

use super::response_stream::{Last, ResponseStream};
use super::state::Gateway;
use super::tool_view::ToolView;

use crate::bridge::{Additions, AskRef, Listing, called_tool, with_additions};
use crate::ids::ServerName;
use crate::protocol::{Envelope, Failure, Kind, Reason, code, error_response};
use crate::routing::{Pages, ToolList};
use crate::session::{Session, session_not_found};
use crate::upstream::{CallRefused, Called, NotKept, SessionRequest, WorkerConnection};

/// The id of stdiopool's own request for a list of tools, as raw JSON: no client can name it.
const OWN_ID: &str = "\"dev.stdiopool/tools\"";
/// How often a list is read that changes while it is read.
const MAX_CHANGES: usize = 3;
/// How old a list must be to be read again for a tool that it does not have.
const FRESH: Duration = Duration::from_secs(1);

/// A call whose arguments may have to be set.
#[derive(Debug)]
pub(crate) struct BoundCall<'a> {
    /// The tools of the server that the caller gets to see.
    pub(crate) view: &'a ToolView,
    /// The request as its client has sent it.
    pub(crate) message: &'a [u8],
    /// The tool.
    pub(crate) tool: String,
    /// What is added if the tool takes all of it.
    pub(crate) additions: Additions,
}

/// Why a call is not passed on.
#[derive(Debug)]
pub(crate) enum NotBound {
    /// The call's parameters cannot be accepted.
    Refused(String),
    /// The worker has ended; nothing of the call had reached it.
    Gone,
    /// Anything else.
    Failed(Failure),
}

impl From<Failure> for NotBound {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Gateway {
    /// The call as that worker gets it; `None`: as it is. The caller holds a lease of the worker, and `response_stream` notes how
    /// long it took to learn the worker's tools.
    ///
    /// # Errors
    /// [`NotBound`].
    ///
    /// # Cancel-Safety
    /// A dropped call has sent nothing of the client's; a request for the list is cancelled.
    pub(crate) async fn bound(
        &self,
        session: &Arc<Session>,
        connection: &Arc<WorkerConnection>,
        call: &BoundCall<'_>,
        response_stream: &mut ResponseStream,
    ) -> Result<Option<Bytes>, NotBound> {
        let known = connection.known_tools(connection.plan().words_for(session.is_stateless()));
        let is_enough = |list: &Arc<ToolList>| {
            list.tools().contains_key(&call.tool) || list.read_at().elapsed() < FRESH
        };
        let list = match known.filter(is_enough) {
            Some(list) => list,
            None => {
                let since = Instant::now();
                // Boxed, because it is rare, and what every request has room for is to be small.
                let read = Box::pin(self.tools_in_time(session, connection, since)).await;
                response_stream.waited += since.elapsed();
                read?
            }
        };
        let verdict = call.view.verdict(&list);
        let binding = verdict.as_ref().and_then(|verdict| verdict.of(&call.tool));
        // A tool that its server does not list may be one by another name: nothing is known to be set for it.
        let binding =
            binding.ok_or_else(|| NotBound::Refused(format!("unknown tool: {}", call.tool)))?;
        if let Some(why) = binding.refusal() {
            return Err(Failure::new(Reason::ConfigInvalid, why).into());
        }
        let mut additions = call.additions.clone();
        additions
            .arguments
            .retain(|(name, _)| binding.sets.contains(name));
        additions.withheld = binding.withheld.iter().cloned().collect();
        if additions.is_empty() {
            return Ok(None);
        }
        let added = with_additions(call.message, &additions);
        added
            .map(Some)
            .map_err(|why| NotBound::Refused(why.to_string()))
    }

    /// Whether a request has to wait until the tools of a worker are listed, as far as that can be told before there is one.
    pub(crate) fn awaits_tools(&self, session: &Session, envelope: &Envelope<'_>) -> bool {
        let is_call = called_tool(
            envelope.method.as_deref().unwrap_or_default(),
            envelope.params,
        );
        if is_call.is_none() || !self.state.binds(&session.server) {
            return false;
        }
        let route = session.routes.own();
        let known = route.and_then(|route| {
            let (key, age) = route.plan.remembered()?;
            self.state.knowledge.catalog.tools(key, age)
        });
        known.is_none()
    }

    /// The worker's tools, read now by whoever comes first: once for all that wait.
    async fn tools_in_time(
        &self,
        session: &Arc<Session>,
        connection: &Arc<WorkerConnection>,
        since: Instant,
    ) -> Result<Arc<ToolList>, NotBound> {
        let plan = connection.plan();
        let (limit, key) = match plan.request_timeout < plan.start_timeout {
            true => (plan.request_timeout, "request_timeout"),
            false => (plan.start_timeout, "start_timeout"),
        };
        let read = async {
            let _guard = connection.tools_lock().await;
            let known = connection.known_tools(plan.words_for(session.is_stateless()));
            match known.filter(|list| list.read_at() >= since) {
                Some(known) => Ok(known),
                None => self.read_tools(session, connection).await,
            }
        };
        match tokio::time::timeout(limit, read).await {
            Ok(read) => read,
            Err(_elapsed) => {
                let limit = humantime::format_duration(limit);
                let server = &plan.server;
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
        connection: &Arc<WorkerConnection>,
    ) -> Result<Arc<ToolList>, NotBound> {
        let server = &connection.plan().server;
        for _ in 0..MAX_CHANGES {
            let edition = connection.tool_edition();
            let pages = self.read_pages(session, connection).await?;
            match connection.taken_in(pages, edition) {
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
        connection: &Arc<WorkerConnection>,
    ) -> Result<Pages, NotBound> {
        let server = &connection.plan().server;
        let words = connection.plan().words_for(session.is_stateless());
        let mut pages = Pages::default();
        let mut cursor: Option<String> = None;
        loop {
            let line = Listing::Tools.request(OWN_ID, words, cursor.as_deref());
            let envelope = Envelope::parse(&line)
                .map_err(|error| Failure::new(Reason::Internal, error.to_string()))?;
            let mut response_stream = ResponseStream::new().without_client();
            response_stream.outbox.charge_to(session.account());
            let request = SessionRequest {
                session: &**session,
                is_new_here: self.attach(session, connection),
                envelope: &envelope,
                arrived: None,
                level: None,
                tool_filter: None,
            };
            match connection.call(request, None, &response_stream.outbox) {
                Ok(Called::Sent(call, at)) => {
                    response_stream.opened(Arc::clone(connection), call, at)
                }
                Ok(Called::Answered) => {}
                Err(refused) => return Err(not_asked(session, refused)),
            }
            let result = listed(session, connection, &mut response_stream).await?;
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

/// Why a call could not be handed to a worker.
pub(crate) fn not_asked(session: &Session, refused: CallRefused) -> NotBound {
    match refused {
        CallRefused::Gone => NotBound::Gone,
        CallRefused::NoRoom(full) => Failure::from(full).into(),
        CallRefused::SessionEnded => match session.ended() {
            Some(why) => session.failure(why).into(),
            None => session_not_found().into(),
        },
        CallRefused::Stalled { unsent } => {
            let why = format!(
                "server `{}` does not read its input ({unsent} bytes wait for it)",
                session.server
            );
            let failure = Failure::new(Reason::Busy, why);
            failure.retry_after(Duration::from_secs(5)).into()
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

/// The result of a list request. What its server asks meanwhile nobody answers: there is no client.
async fn listed(
    session: &Session,
    connection: &WorkerConnection,
    response_stream: &mut ResponseStream,
) -> Result<String, NotBound> {
    let server = &connection.plan().server;
    let heard = |message: &Bytes| refuse_question(session, connection, message);
    let failure = match response_stream.last(heard).await {
        Last::Answer { message, .. } => {
            let envelope = Envelope::parse(&message)
                .map_err(|error| Failure::new(Reason::Internal, error.to_string()))?;
            if let Some(result) = envelope.result {
                return Ok(result.get().to_owned());
            }
            let error = envelope.error.map_or("null", |error| error.get());
            let error: String = error.chars().take(500).collect();
            let why = format!("it answered `tools/list` with an error: {error}");
            unlisted(server, Reason::AnswerInvalid, &why)
        }
        Last::Failed(failure) => {
            let mut told = unlisted(server, failure.reason, &failure.message);
            told.retry_after = failure.retry_after;
            told
        }
        Last::TimedOut(limit) => {
            let failure = limit.failure();
            unlisted(server, failure.reason, &failure.message)
        }
        Last::Nothing => {
            let why = "the request for them was cancelled";
            unlisted(server, Reason::RequestTimeout, why)
        }
    };
    Err(failure.into())
}

fn refuse_question(session: &Session, connection: &WorkerConnection, message: &[u8]) {
    let Ok(envelope) = Envelope::parse(message) else {
        return;
    };
    let ask = envelope.id.filter(|_| envelope.kind() == Kind::Request);
    let Some(ask) = ask.and_then(|id| AskRef::parse(id.get())) else {
        return;
    };
    let error = json!({ "code": code::METHOD_NOT_FOUND, "message": "nobody can be asked while tools are listed" });
    let answer = error_response(&ask.to_string(), &error);
    if let Ok(answer) = Envelope::parse(answer.as_bytes()) {
        // The question may have been withdrawn; of an error nothing is kept, so that there is room for it.
        let _was_asked = connection.answer(session.no, ask, &answer);
    }
}

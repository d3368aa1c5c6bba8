//! A request of a session, on its way to a worker: answered without one where that can be, refused
//! where its caller may not make it, and with what is added to it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::time::Instant;

use super::bound_calls::{BoundCall, NotBound, not_asked};
use super::known_tools::KnownTools;
use super::response_stream::ResponseStream;
use super::state::Gateway;
use super::tool_view::ToolView;

use crate::bridge::{
    Listing, NotAdded, asked_level, called_tool, progress_token_of, subscribed_uri,
    trace_context_of, with_additions, with_trace_context,
};
use crate::pool::{Lease, Warmth};
use crate::protocol::{Envelope, Failure, Method, Reason, TraceContext, code, result_response};
use crate::session::{Reserved, Session};
use crate::telemetry::RequestSpan;
use crate::tenancy::ClientConfig;
use crate::upstream::{Called, SessionRequest, WorkerConnection, WorkerLauncher, error_response};

/// How often a call is offered to another worker because the one it got had just ended. Nothing
/// of it had reached that one, so that offering it again is safe.
const MAX_OFFERS: usize = 3;

impl Gateway {
    /// The answer to a request for which no worker has to be started or woken: a list that is
    /// remembered, or a log level that the next worker will be told.
    async fn answer_without_worker(
        &self,
        session: &Arc<Session>,
        envelope: &Envelope<'_>,
        config: Option<&Arc<ClientConfig>>,
        view: Option<&Arc<ToolView>>,
    ) -> Option<Bytes> {
        let method = envelope.method.as_deref()?;
        let asked = Listing::asked(method, envelope.params);
        if asked.is_none() && method != "logging/setLevel" {
            return None;
        }
        // What goes wrong here goes wrong again, and is told, on the way to a worker.
        let route = self.route(session, config).await.ok()?;
        let plan = &route.plan;
        let (catalog, (place, age)) = (&self.state.knowledge.catalog, plan.remembered()?);
        let warmth = self.state.pool().warmth(route.key);
        let result: Bytes = match asked {
            Some(listing) if warmth < Warmth::Awake => {
                let list =
                    catalog.list(place, plan.list_for(session.is_stateless(), listing), age)?;
                Bytes::copy_from_slice(&list)
            }
            None if warmth == Warmth::Cold => {
                let info = catalog.server_info(place, age)?;
                let level = asked_level(envelope.params).filter(|_| info.logs)?;
                session.set_level(level);
                self.state.sessions.keep_settings(session);
                Bytes::from_static(b"{}")
            }
            _ => return None,
        };
        self.state.metrics.catalog_hit();
        let answer = result_response(envelope.id?.get(), &result);
        Some(match asked {
            Some(Listing::Tools) => match view {
                Some(view) => view.trimmed(answer),
                None => answer,
            },
            _ => answer,
        })
    }

    /// Sends a session's request to a worker; what comes back arrives in `response_stream`.
    ///
    /// # Errors
    /// Whatever keeps a worker from being had, as a [`Failure`] for the caller.
    ///
    /// # Cancel-Safety
    /// A dropped call has sent nothing; once it has returned, dropping `response_stream` cancels.
    pub async fn request(
        &self,
        session: &Arc<Session>,
        message: &[u8],
        envelope: &Envelope<'_>,
        response_stream: &mut ResponseStream,
    ) -> Result<(), Failure> {
        response_stream.outbox.charge_to(session.account());
        if session.is_with_all() {
            let sent = self
                .aggregate()
                .request(session, message, envelope, response_stream);
            return session.unless_ended(sent).await;
        }
        let sent = self.request_of_one(session, message, envelope, response_stream);
        session.unless_ended(sent).await
    }

    async fn request_of_one(
        &self,
        session: &Arc<Session>,
        message: &[u8],
        envelope: &Envelope<'_>,
        response_stream: &mut ResponseStream,
    ) -> Result<(), Failure> {
        if let Some(uri) = subscribed_uri(envelope) {
            response_stream
                .reserved
                .extend(Reserved::take(session, &uri)?);
        }
        let config = response_stream.config.clone();
        let config = config.as_ref();
        let principal = response_stream
            .principal
            .as_ref()
            .unwrap_or(&session.principal);
        let view = ToolView::of(&self.runtime_config(), &session.server, principal);
        let view = view.as_ref();
        let known = self.answer_without_worker(session, envelope, config, view);
        let known = known.await;
        if let Some(answer) = known {
            drop(response_stream.take_lease());
            response_stream.outbox.expect_answer();
            response_stream.outbox.answer(answer, false);
            return Ok(());
        }
        let mut prepared = Prepared {
            session,
            config,
            envelope,
            view,
            added: Added::Nothing,
            arrived: None,
        };
        if let Some(view) = view {
            let config = config.or(session.config.as_ref());
            let own = config.map(|config| &**config);
            match added_to(view, message, envelope, own, &self.state.tools)? {
                Ok(added) => prepared.added = added,
                Err(why) => {
                    refuse(response_stream, envelope, &why.to_string());
                    return Ok(());
                }
            }
        }
        prepared.arrived = self.state.workers.trace().map(|_| Instant::now());
        for _ in 0..MAX_OFFERS {
            match self.offer(&prepared, response_stream).await? {
                Offered::Settled => return Ok(()),
                Offered::NotTaken => {}
            }
        }
        let why = format!(
            "server `{}` ended {MAX_OFFERS} times before it took the request",
            session.server
        );
        Err(Failure::new(Reason::WorkerExited, why).retry_after(Duration::from_secs(1)))
    }

    /// Gets a worker for the request and hands it over, once the roots that the worker would ask for are known, and what is set
    /// for callers of its tools is.
    ///
    /// # Errors
    /// Whatever keeps a worker from being had, as a [`Failure`] for the caller.
    ///
    /// # Cancel-Safety
    /// As [`Gateway::request`].
    async fn offer(
        &self,
        prepared: &Prepared<'_>,
        response_stream: &mut ResponseStream,
    ) -> Result<Offered, Failure> {
        let Prepared {
            session,
            config,
            envelope,
            ..
        } = *prepared;
        if response_stream.has_client
            && self.lacks_roots(session, config).await?
            && self.roots_for(session, envelope, response_stream).await
        {
            return Ok(Offered::Settled);
        }
        let near = response_stream.prefers;
        let lease = match response_stream.take_lease() {
            Some(lease) => lease,
            None => {
                let leased = self.lease_near(session, config, near, &mut response_stream.waited);
                leased.await?.1
            }
        };
        let connection = Arc::clone(lease.worker());
        if response_stream.has_client && !self.settle_roots(session, &connection).await {
            // The server has just turned out to ask for roots.
            drop(lease);
            let waits = self.roots_for(session, envelope, response_stream).await;
            return Ok(match waits {
                true => Offered::Settled,
                false => Offered::NotTaken,
            });
        }
        if session.is_stateless() && !response_stream.fits(connection.plan().handshake.era) {
            return Err(spoken_to_otherwise(session));
        }
        let of_worker;
        let changed = match &prepared.added {
            Added::Nothing => None,
            Added::Message(message) => Some(message),
            Added::Bound(call) => {
                let bound = self.bound(session, &connection, call, response_stream);
                match bound.await {
                    Ok(message) => {
                        of_worker = message;
                        of_worker.as_ref()
                    }
                    Err(NotBound::Gone) => return Ok(Offered::NotTaken),
                    Err(NotBound::Failed(failure)) => return Err(failure),
                    Err(NotBound::Refused(why)) => {
                        refuse(response_stream, envelope, &why);
                        return Ok(Offered::Settled);
                    }
                }
            }
        };
        self.hand_over(prepared, changed, connection, lease, response_stream)
    }

    /// Hands the request, or what was made of it, to the worker of that lease.
    ///
    /// # Errors
    /// The worker does not read its input, or the session has ended.
    #[inline]
    fn hand_over(
        &self,
        prepared: &Prepared<'_>,
        changed: Option<&Bytes>,
        connection: Arc<WorkerConnection>,
        lease: Lease<WorkerLauncher>,
        response_stream: &mut ResponseStream,
    ) -> Result<Offered, Failure> {
        let session = prepared.session;
        let read_again = match changed {
            Some(changed) => Some(
                Envelope::parse(changed)
                    .map_err(|error| Failure::new(Reason::Internal, error.to_string()))?,
            ),
            None => None,
        };
        let envelope = read_again.as_ref().unwrap_or(prepared.envelope);
        let traced = RequestSpan::trace_for_worker().and_then(|own| traced(envelope, &own));
        // What was read once, and what a context was put into, is a message still.
        let read_again = traced
            .as_deref()
            .and_then(|traced| Envelope::parse(traced).ok());
        let envelope = read_again.as_ref().unwrap_or(envelope);
        let view = prepared.view;
        let asked = SessionRequest {
            session: &**session,
            is_new_here: self.attach(session, &connection),
            envelope,
            arrived: prepared.arrived,
            level: response_stream.level,
            tool_filter: view.and_then(|view| view.filter_for(envelope)),
        };
        match connection.call(asked, Some(lease), &response_stream.outbox) {
            Ok(Called::Sent(call, at)) => {
                response_stream.opened(connection, call, at);
                Ok(Offered::Settled)
            }
            Ok(Called::Answered) => Ok(Offered::Settled),
            Err(refused) => match not_asked(session, refused) {
                NotBound::Failed(failure) => Err(failure),
                NotBound::Gone | NotBound::Refused(_) => Ok(Offered::NotTaken),
            },
        }
    }

    /// Notes that the session is attached to that worker; false if it is already. The end of the session, and what its
    /// client cancels, come to where it is attached.
    pub(super) fn attach(&self, session: &Session, connection: &WorkerConnection) -> bool {
        let is_new_here = session.attach(connection.id());
        if is_new_here && session.is_stateless() {
            // Nobody tells it when a worker ends.
            session.keep_attached(|id| self.state.connection(id).is_some());
        }
        is_new_here
    }

    /// Sends the only request of a POST: if its worker dies before it said anything, another
    /// gets it, provided that it may be [sent twice](Method::may_repeat), or calls a tool
    /// that the server calls read-only or idempotent.
    ///
    /// # Errors
    /// As [`Gateway::request`].
    ///
    /// # Cancel-Safety
    /// As [`Gateway::request`].
    pub async fn request_once(
        &self,
        session: &Arc<Session>,
        message: &Bytes,
        envelope: &Envelope<'_>,
        response_stream: &mut ResponseStream,
    ) -> Result<(), Failure> {
        // Whether it may be is decided when it has to be.
        response_stream.keep(self.clone(), Arc::clone(session), message.clone());
        if !session.is_stateless()
            && let Some(token) = progress_token_of(envelope)
        {
            let slot = if session.is_with_all() {
                let asker = response_stream.principal.clone();
                let asker = asker.as_ref().unwrap_or(&session.principal);
                let config = response_stream.config.clone();
                self.aggregate()
                    .missing(session, asker, message, envelope, config)
                    .await
            } else {
                let route = self.route(session, response_stream.config.as_ref()).await?;
                self.missing(&route)
            };
            if let Some(slot) = slot {
                response_stream.wait_for(slot, token, envelope);
                return Ok(());
            }
        }
        self.request(session, message, envelope, response_stream)
            .await
    }

    /// Sends the only request of a POST as [`Gateway::request_once`] does: at once if a worker is free for it, else
    /// in its own time, and then what keeps a worker from being had comes out of `response_stream`.
    ///
    /// # Errors
    /// As [`Gateway::request_once`], of a request that was not to wait.
    pub fn begin_request(
        &self,
        session: &Arc<Session>,
        message: &Bytes,
        envelope: &Envelope<'_>,
        response_stream: &mut ResponseStream,
    ) -> Result<(), Failure> {
        // Nearly always. SessionRequest once only, and given up if it has to wait: it is in nobody's queue then.
        if self.is_awake_for(session, response_stream)
            && !self.awaits_tools(session, envelope)
            && let Some(sent) = self
                .request_once(session, message, envelope, response_stream)
                .now_or_never()
        {
            return sent;
        }
        let id = envelope.id.map_or("null", |id| id.get()).into();
        response_stream.send_later(self, session, message, id);
        Ok(())
    }

    /// Whether a worker of the session runs, as far as that is known without looking for its way.
    fn is_awake_for(&self, session: &Session, response_stream: &ResponseStream) -> bool {
        let route = match &response_stream.config {
            None => session.routes.own(),
            Some(config) => session.routes.other(&config.fingerprint()),
        };
        // One with all servers has no way of its own, and what it begins for its members is not to be begun twice.
        route.is_some_and(|route| self.state.pool().warmth(route.key) == Warmth::Awake)
    }

    /// Whether that request of the session may be sent a second time.
    pub(crate) fn may_repeat(
        &self,
        session: &Session,
        message: &[u8],
        envelope: &Envelope<'_>,
    ) -> bool {
        if session.is_with_all() {
            let found = self
                .aggregate_view()
                .addressed(&session.principal, message, envelope);
            return found.is_some_and(|(server, own)| {
                let member = session.member_with(&server);
                member.is_some_and(|member| {
                    Envelope::parse(&own.message)
                        .is_ok_and(|envelope| self.may_repeat(&member, &own.message, &envelope))
                })
            });
        }
        let method = envelope.method.as_deref().unwrap_or_default();
        Method::of(method).is_some_and(|method| method.may_repeat)
            || called_tool(method, envelope.params).is_some_and(|tool| {
                session.routes.own().is_some_and(|route| {
                    let place = route.plan.catalog_key();
                    place.is_some_and(|place| {
                        self.state.knowledge.catalog.is_repeatable(place, &tool)
                    })
                })
            })
    }
}

/// A request that no worker has yet.
struct Prepared<'a> {
    session: &'a Arc<Session>,
    config: Option<&'a Arc<ClientConfig>>,
    /// As its client has sent it.
    envelope: &'a Envelope<'a>,
    /// What the caller gets to see of the server's tools, if that is not all of them.
    view: Option<&'a Arc<ToolView>>,
    added: Added<'a>,
    /// When the request came, if that is recorded.
    arrived: Option<Instant>,
}

/// What became of a request that was offered to a worker.
enum Offered {
    /// The worker has it; or it is answered, or waits for something that its client is asked.
    Settled,
    /// Nothing of it has reached a worker: another may have it.
    NotTaken,
}

/// What is added to a request before a worker gets it.
enum Added<'a> {
    /// As it is.
    Nothing,
    /// With what is added.
    Message(Bytes),
    /// A call for which the worker's tools say what is added.
    Bound(BoundCall<'a>),
}

/// Why a call is answered as one whose parameters cannot be accepted.
#[derive(Debug, thiserror::Error)]
enum NotCalled {
    /// There is no such tool, or not for this caller.
    #[error("unknown tool: {0}")]
    Unknown(String),
    /// The call names no tool, or more than one.
    #[error("`params.name` is missing, or there twice")]
    Unnamed,
    /// The arguments to be set have no place in the request.
    #[error(transparent)]
    NotAdded(NotAdded),
}

/// What is added to a request; or why it cannot be made. A tool that
/// is not for the caller is the same as one that never was; one whose name cannot be read is not
/// passed on.
fn added_to<'a>(
    view: &'a ToolView,
    message: &'a [u8],
    envelope: &Envelope<'_>,
    config: Option<&ClientConfig>,
    tools: &KnownTools,
) -> Result<Result<Added<'a>, NotCalled>, Failure> {
    let method = envelope.method.as_deref().unwrap_or_default();
    let tool = called_tool(method, envelope.params);
    match &tool {
        Some(tool) if !view.has(tool) || view.is_lookalike(tool, tools) => {
            return Ok(Err(NotCalled::Unknown(tool.clone().into_owned())));
        }
        None if method == "tools/call" => {
            return Ok(Err(NotCalled::Unnamed));
        }
        Some(_) | None => {}
    }
    let additions = view.additions(tool.as_deref(), config)?;
    if let Some(tool) = tool.filter(|_| view.binds()) {
        let call = BoundCall {
            view,
            message,
            tool: tool.into_owned(),
            additions,
        };
        return Ok(Ok(Added::Bound(call)));
    }
    if additions.is_empty() {
        return Ok(Ok(Added::Nothing));
    }
    let added = with_additions(message, &additions);
    Ok(added.map(Added::Message).map_err(NotCalled::NotAdded))
}

/// The request with that context, unless it says itself that it is part of another trace, as messages of one batch may.
fn traced(envelope: &Envelope<'_>, own: &TraceContext) -> Option<Bytes> {
    let given = trace_context_of(envelope);
    given
        .is_none_or(|given| given.trace == own.trace)
        .then(|| with_trace_context(envelope, own))
        .flatten()
}

/// Why a call is not made that was begun in the words of another era than its worker's.
fn spoken_to_otherwise(session: &Session) -> Failure {
    let why = format!(
        "server `{}` has just turned out to be spoken to otherwise",
        session.server
    );
    Failure::new(Reason::PoolExhausted, why).retry_after(Duration::from_millis(100))
}

/// Answers a request whose parameters cannot be accepted.
fn refuse(response_stream: &ResponseStream, envelope: &Envelope<'_>, why: &str) {
    response_stream.outbox.expect_answer();
    let answer = invalid_params(envelope, why);
    response_stream.outbox.answer(answer, true);
}

/// The answer to a request whose parameters cannot be accepted.
fn invalid_params(envelope: &Envelope<'_>, why: &str) -> Bytes {
    let id = envelope.id.map_or("null", |id| id.get());
    error_response(id, code::INVALID_PARAMS, why)
}

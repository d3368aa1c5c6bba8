//! A request of a session, on its way to a worker: answered without one where that can be, refused
//! where its caller may not make it, and with what is added to it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::time::Instant;

use super::bindings::{BoundCall, NotBound};
use super::exchange::Exchange;
use super::known_tools::KnownTools;
use super::link::{Asked, CallRefused, Called};
use super::offer::Offer;
use super::record::Session;
use super::response::{error_response, response};
use super::service::{Sessions, session_not_found};
use super::subscriptions::Reserved;
use crate::bridge::{
    Listing, NotAdded, asked_level, called_tool, progress_token_of, subscribed_uri, with_additions,
};
use crate::pool::Warmth;
use crate::protocol::{Envelope, Failure, Method, Reason, code};
use crate::tenancy::ClientConfig;

/// How often a call is offered to another worker because the one it got had just ended. Nothing
/// of it had reached that one, so that offering it again is safe.
const MAX_OFFERS: usize = 3;

impl Sessions {
    /// The answer to a request for which no worker has to be started or woken: a list that is
    /// remembered, or a log level that the next worker will be told.
    async fn answer_without_worker(
        &self,
        session: &Arc<Session>,
        envelope: &Envelope<'_>,
        config: Option<&Arc<ClientConfig>>,
        offer: Option<&Arc<Offer>>,
    ) -> Option<Bytes> {
        let method = envelope.method.as_deref()?;
        let asked = Listing::asked(method, envelope.params);
        if asked.is_none() && method != "logging/setLevel" {
            return None;
        }
        // What goes wrong here goes wrong again, and is told, on the way to a worker.
        let route = self.route(session, config).await.ok()?;
        let order = &route.order;
        let (catalog, (place, age)) = (&self.shared.catalog, order.remembered()?);
        let warmth = self.shared.pool().warmth(route.key);
        let result: Bytes = match asked {
            Some(listing) if warmth < Warmth::Awake => {
                let list = catalog.list(place, session.words(order), listing, age)?;
                Bytes::copy_from_slice(&list)
            }
            None if warmth == Warmth::Cold => {
                let hello = catalog.hello(place, age)?;
                let level = asked_level(envelope.params).filter(|_| hello.logs)?;
                session.set_level(level);
                self.shared.keep_standing(session);
                Bytes::from_static(b"{}")
            }
            _ => return None,
        };
        self.shared.metrics.catalog_hit();
        let answer = response(envelope.id?.get(), "result", &result);
        Some(match asked {
            Some(Listing::Tools) => match offer {
                Some(offer) => offer.trimmed(answer),
                None => answer,
            },
            _ => answer,
        })
    }

    /// Sends a session's request to a worker; what comes back arrives in `exchange`.
    ///
    /// # Errors
    /// Whatever keeps a worker from being had, as a [`Failure`] for the caller.
    ///
    /// # Cancel-Safety
    /// A dropped call has sent nothing; once it has returned, dropping `exchange` cancels.
    pub async fn request(
        &self,
        session: &Arc<Session>,
        message: &[u8],
        envelope: &Envelope<'_>,
        exchange: &mut Exchange,
    ) -> Result<(), Failure> {
        exchange.mailbox.charge_to(session.account());
        if session.is_with_all() {
            let sent = self.request_of_all(session, message, envelope, exchange);
            return session.unless_ended(sent).await;
        }
        let sent = self.request_of_one(session, message, envelope, exchange);
        session.unless_ended(sent).await
    }

    async fn request_of_one(
        &self,
        session: &Arc<Session>,
        message: &[u8],
        envelope: &Envelope<'_>,
        exchange: &mut Exchange,
    ) -> Result<(), Failure> {
        if let Some(uri) = subscribed_uri(envelope) {
            exchange.reserved.extend(Reserved::take(session, &uri)?);
        }
        let config = exchange.config.clone();
        let config = config.as_ref();
        let principal = exchange.principal.as_ref().unwrap_or(&session.principal);
        let offer = Offer::of(&self.setup(), &session.server, principal);
        let offer = offer.as_ref();
        let known = self.answer_without_worker(session, envelope, config, offer);
        let known = known.await;
        if let Some(answer) = known {
            drop(exchange.take_lease());
            exchange.mailbox.expect_answer();
            exchange.mailbox.answer(answer, false);
            return Ok(());
        }
        let mut added = None;
        let mut bound = None;
        if let Some(offer) = offer {
            let config = config.or(session.config.as_ref());
            let own = config.map(|config| &**config);
            match added_to(offer, message, envelope, own, &self.shared.tools)? {
                Ok(Added::Nothing) => {}
                Ok(Added::Message(message)) => added = Some(message),
                Ok(Added::Bound(call)) => bound = Some((offer, call)),
                Err(why) => {
                    refuse(exchange, envelope, &why.to_string());
                    return Ok(());
                }
            }
        }
        let arrived = self.shared.trace.as_ref().map(|_| Instant::now());
        for _ in 0..MAX_OFFERS {
            if exchange.has_client
                && self.lacks_roots(session, config).await?
                && self.roots_for(session, envelope, exchange).await
            {
                return Ok(());
            }
            let near = exchange.prefers;
            let lease = match exchange.take_lease() {
                Some(lease) => lease,
                None => {
                    let leased = self.lease_near(session, config, near, &mut exchange.waited);
                    leased.await?.1
                }
            };
            let link = Arc::clone(lease.worker());
            if exchange.has_client && !self.settle_roots(session, &link).await {
                // It has just turned out that the server asks for them.
                drop(lease);
                if self.roots_for(session, envelope, exchange).await {
                    return Ok(());
                }
                continue;
            }
            if session.is_stateless && !exchange.fits(link.order().greeting.era) {
                let why = format!(
                    "server `{}` has just turned out to be spoken to otherwise",
                    session.server
                );
                let failure = Failure::new(Reason::PoolExhausted, why);
                return Err(failure.retry_after(Duration::from_millis(100)));
            }
            if let Some((offer, call)) = &bound {
                let of = (session, &link);
                match self.bound(of, offer, (call, message), exchange).await {
                    Ok(message) => added = message,
                    Err(NotBound::Gone) => continue,
                    Err(NotBound::Failed(failure)) => return Err(failure),
                    Err(NotBound::Refused(why)) => {
                        refuse(exchange, envelope, &why);
                        return Ok(());
                    }
                }
            }
            let read_again = match &added {
                Some(added) => Some(
                    Envelope::parse(added)
                        .map_err(|error| Failure::new(Reason::Internal, error.to_string()))?,
                ),
                None => None,
            };
            let asked = Asked {
                session,
                envelope: read_again.as_ref().unwrap_or(envelope),
                arrived,
                level: exchange.level,
                offer,
            };
            match link.call(asked, Some(lease), &exchange.mailbox) {
                Ok(Called::Sent(call, at)) => {
                    exchange.opened(link, call, at);
                    return Ok(());
                }
                Ok(Called::Answered) => return Ok(()),
                Err(refused) => match not_asked(session, refused) {
                    NotBound::Failed(failure) => return Err(failure),
                    NotBound::Gone | NotBound::Refused(_) => {}
                },
            }
        }
        let why = format!(
            "server `{}` ended {MAX_OFFERS} times before it took the request",
            session.server
        );
        Err(Failure::new(Reason::WorkerExited, why).retry_after(Duration::from_secs(1)))
    }

    /// The same for the only request of a POST: if its worker dies before it said anything, another
    /// gets it, provided that it may be [sent twice](Method::may_repeat), or calls a tool
    /// that the server calls read-only or idempotent.
    ///
    /// # Errors
    /// As [`Sessions::request`].
    ///
    /// # Cancel-Safety
    /// As [`Sessions::request`].
    pub async fn request_once(
        &self,
        session: &Arc<Session>,
        message: &Bytes,
        envelope: &Envelope<'_>,
        exchange: &mut Exchange,
    ) -> Result<(), Failure> {
        // Whether it may be is decided when it has to be.
        exchange.keep(self.clone(), Arc::clone(session), message.clone());
        if !session.is_stateless
            && let Some(token) = progress_token_of(envelope)
        {
            let slot = if session.is_with_all() {
                let asker = exchange.principal.clone();
                let asker = asker.as_ref().unwrap_or(&session.principal);
                let config = exchange.config.clone();
                self.missing_of_all(session, asker, message, envelope, config)
                    .await
            } else {
                let route = self.route(session, exchange.config.as_ref()).await?;
                self.missing(&route)
            };
            if let Some(slot) = slot {
                exchange.wait_for(slot, token, envelope);
                return Ok(());
            }
        }
        self.request(session, message, envelope, exchange).await
    }

    /// Sends the only request of a POST as [`Sessions::request_once`] does: at once if a worker is free for it, else
    /// in its own time, and then what keeps a worker from being had comes out of the exchange.
    ///
    /// # Errors
    /// As [`Sessions::request_once`], of a request that was not to wait.
    pub fn begin_request(
        &self,
        session: &Arc<Session>,
        message: &Bytes,
        envelope: &Envelope<'_>,
        exchange: &mut Exchange,
    ) -> Result<(), Failure> {
        // Nearly always. Asked once only, and given up if it has to wait: it is in nobody's queue then.
        if self.is_awake_for(session, exchange)
            && !self.awaits_tools(session, envelope)
            && let Some(sent) = self
                .request_once(session, message, envelope, exchange)
                .now_or_never()
        {
            return sent;
        }
        let id = envelope.id.map_or("null", |id| id.get()).into();
        exchange.send_later(self, session, message, id);
        Ok(())
    }

    /// Whether a worker of the session runs, as far as that is known without looking for its way.
    fn is_awake_for(&self, session: &Session, exchange: &Exchange) -> bool {
        let route = match &exchange.config {
            None => session.route(),
            Some(config) => session.other_route(&config.fingerprint()),
        };
        // One with all servers has no way of its own, and what it begins for its members is not to be begun twice.
        route.is_some_and(|route| self.pool().warmth(route.key) == Warmth::Awake)
    }

    /// Whether that request of the session may be sent a second time.
    pub(super) fn may_repeat(
        &self,
        session: &Session,
        message: &[u8],
        envelope: &Envelope<'_>,
    ) -> bool {
        if session.is_with_all() {
            let found = self.addressed(&session.principal, message, envelope);
            return found.is_some_and(|(server, own)| {
                let member = session.members.lock().get(&server).cloned();
                member.is_some_and(|member| {
                    Envelope::parse(&own.message)
                        .is_ok_and(|envelope| self.may_repeat(&member, &own.message, &envelope))
                })
            });
        }
        let method = envelope.method.as_deref().unwrap_or_default();
        Method::of(method).is_some_and(|method| method.may_repeat)
            || called_tool(method, envelope.params).is_some_and(|tool| {
                session.route().is_some_and(|route| {
                    let place = route.order.catalog_place();
                    place.is_some_and(|place| self.shared.catalog.is_repeatable(place, &tool))
                })
            })
    }
}

/// Why a call could not be handed to a worker.
pub(super) fn not_asked(session: &Session, refused: CallRefused) -> NotBound {
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

/// A request on its way to a worker.
enum Added {
    /// As it is.
    Nothing,
    /// With what is added.
    Message(Bytes),
    /// A call for which the worker's tools say what is added.
    Bound(BoundCall),
}

/// Why a call is answered as one whose parameters cannot be accepted.
#[derive(Debug, thiserror::Error)]
enum NotCalled {
    /// There is no such tool, or not for this caller.
    #[error("unknown tool: {0}")]
    Unknown(String),
    /// It names none, or more than one.
    #[error("`params.name` is missing, or there twice")]
    Unnamed,
    /// What is to be put into it has no place there.
    #[error(transparent)]
    NotAdded(NotAdded),
}

/// What is added to a request; or why it cannot be made. A tool that
/// is not for the caller is the same as one that never was; one whose name cannot be read is not
/// passed on.
fn added_to(
    offer: &Offer,
    message: &[u8],
    envelope: &Envelope<'_>,
    config: Option<&ClientConfig>,
    tools: &KnownTools,
) -> Result<Result<Added, NotCalled>, Failure> {
    let method = envelope.method.as_deref().unwrap_or_default();
    let tool = called_tool(method, envelope.params);
    match &tool {
        Some(tool) if !offer.has(tool) || offer.is_lookalike(tool, tools) => {
            return Ok(Err(NotCalled::Unknown(tool.clone().into_owned())));
        }
        None if method == "tools/call" => {
            return Ok(Err(NotCalled::Unnamed));
        }
        Some(_) | None => {}
    }
    let additions = offer.additions(tool.as_deref(), config)?;
    if let Some(tool) = tool.filter(|_| offer.binds()) {
        let tool = tool.into_owned();
        return Ok(Ok(Added::Bound(BoundCall { tool, additions })));
    }
    if additions.is_empty() {
        return Ok(Ok(Added::Nothing));
    }
    let added = with_additions(message, &additions);
    Ok(added.map(Added::Message).map_err(NotCalled::NotAdded))
}

/// Answers a request whose parameters cannot be accepted.
fn refuse(exchange: &Exchange, envelope: &Envelope<'_>, why: &str) {
    exchange.mailbox.expect_answer();
    let answer = invalid_params(envelope, why);
    exchange.mailbox.answer(answer, true);
}

/// The answer to a request whose parameters cannot be accepted.
fn invalid_params(envelope: &Envelope<'_>, why: &str) -> Bytes {
    let id = envelope.id.map_or("null", |id| id.get());
    error_response(id, code::INVALID_PARAMS, why)
}

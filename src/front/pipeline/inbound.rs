//! The one value that goes through the phases: a request whose caller and server are known, with what the phases have
//! found out about it so far.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Response};

use super::authenticate::Caller;
use super::client_config::{Configs, together};
use super::context::RequestContext;
use super::head::Head;
use super::limits::{Counted, Permit};
use super::{negotiate, parse, quotas, session};
use crate::front::response::body::Body;
use crate::front::response::reply;
use crate::front::state::Front;
use crate::held::{self, Account};
use crate::ids::ServerName;
use crate::protocol::{Envelope, Failure, FailureStatus, Kind};
use crate::session::Session;
use crate::tenancy::{ClientConfig, Principal};

/// A request to an MCP endpoint, whose caller and server are known.
#[derive(Debug)]
pub(in crate::front) struct Inbound<'a> {
    pub(in crate::front) front: &'a Front,
    pub(in crate::front) head: &'a Head<'a>,
    pub(in crate::front) caller: &'a Caller,
    pub(in crate::front) server: ServerName,
    /// The account that the caller's tenant holds memory by.
    pub(in crate::front) account: Account,
    /// What the request sets for its server: by its address and headers first, by its message too once that is read. Or what is
    /// wrong with the former: what is no request sets nothing, so that only a request is refused for it.
    pub(in crate::front) config: Result<Option<ClientConfig>, Failure>,
    /// Empty until it is read.
    pub(in crate::front) body: Bytes,
}

impl<'a> Inbound<'a> {
    /// The request as its head names it, before its body is read.
    ///
    /// # Errors
    /// [`Reason::NotFound`](crate::protocol::Reason::NotFound) where there is no such server for the caller.
    pub(in crate::front) fn of(
        front: &'a Front,
        head: &'a Head<'a>,
        caller: &'a Caller,
    ) -> Result<Self, Failure> {
        let principal = &caller.principal;
        let server = head.target.server(&caller.runtime, principal)?;
        let configs = Configs {
            front,
            principal,
            server: &server,
        };
        let config = configs.of_request(&head.parts.uri, head.headers());
        Ok(Self {
            front,
            head,
            caller,
            server,
            account: front.gateway.ledger().account(&principal.tenant),
            config,
            body: Bytes::new(),
        })
    }

    /// The request to one of all servers that is in this one: with that body, in the words of that server.
    pub(in crate::front) fn of_one(&self, server: ServerName, body: Bytes) -> Self {
        Self {
            server,
            body,
            account: self.account.clone(),
            config: Ok(None),
            ..*self
        }
    }

    pub(in crate::front) fn principal(&self) -> &'a Principal {
        &self.caller.principal
    }

    /// The config that the request sets for its server; none where that is wrong.
    pub(in crate::front) fn config(&self) -> Option<&ClientConfig> {
        self.config.as_ref().ok().and_then(Option::as_ref)
    }

    /// Counts it against the limits of its caller until the permit is dropped; a request begins only where its tenant has not used
    /// all that it may in this month.
    ///
    /// # Errors
    /// As [`RateLimits::admit`](super::limits::RateLimits::admit) and [`quotas::check`].
    pub(in crate::front) fn admit(&self, counted: Counted) -> Result<Permit, Failure> {
        let limits = &self.front.limits;
        if counted == Counted::Request {
            let usage = self.front.gateway.usage();
            quotas::check(usage, &self.caller.runtime.config, &self.principal().tenant)?;
        }
        limits.admit(&self.caller.runtime.config, self.principal(), counted)
    }

    /// What a message of it sets, over what its address and headers do; and the message without that, if it had any.
    ///
    /// # Errors
    /// As [`Configs::of_message`]; of a request, what is wrong with its address or headers.
    pub(in crate::front) fn configured(
        &self,
        envelope: &Envelope<'_>,
    ) -> Result<(Option<ClientConfig>, Option<Bytes>), Failure> {
        let under = match &self.config {
            Ok(under) => under.as_ref(),
            Err(failure) if envelope.kind() == Kind::Request => return Err(failure.clone()),
            Err(_) => None,
        };
        let configs = Configs {
            front: self.front,
            principal: self.principal(),
            server: &self.server,
        };
        let (own, rest) = configs.of_message(envelope)?;
        Ok((together(under.cloned(), own)?, rest))
    }

    /// The session that it names.
    ///
    /// # Errors
    /// As [`session::find`].
    pub(in crate::front) fn session(&self) -> Result<Arc<Session>, Failure> {
        session::find(self.front, self.head, self.principal(), &self.server)
    }

    /// Refuses a revision that is not spoken here.
    ///
    /// # Errors
    /// As [`negotiate::check_version`].
    pub(in crate::front) fn check_version(&self) -> Result<(), Failure> {
        negotiate::check_version(self.head, || Some(self.session().ok()?.revision()))
    }

    /// The context of the requests in it.
    pub(in crate::front) fn context(&self) -> RequestContext {
        let arrived = self.head.arrived;
        let bytes = self.body.len();
        let mut context = self.front.context(self.principal(), &self.server, arrived);
        context.came_in(bytes);
        context
    }

    /// The HTTP statuses that failures have.
    pub(in crate::front) fn statuses(&self) -> FailureStatus {
        self.front.statuses()
    }

    /// Waits for what may take long: its client hears of it soon, unless it is to be told by a status how it ends.
    /// `session` names the session that the answer opens.
    ///
    /// # Cancel-Safety
    /// As that of what is waited for.
    pub(in crate::front) async fn in_time<F: Future>(
        &self,
        session: Option<HeaderValue>,
        future: F,
    ) -> F::Output {
        match self.statuses() {
            FailureStatus::Auto => self.head.late.unless_soon(session, future).await,
            FailureStatus::Http => future.await,
        }
    }

    /// Charges an answer that no outbox has held until it is sent.
    ///
    /// # Errors
    /// When its tenant has no room for it.
    pub(in crate::front) fn hold(&self, answer: Bytes) -> Result<Bytes, Failure> {
        Ok(self.account.hold(held::Kind::Answer, answer)?)
    }

    /// Answers what never became a request of a session.
    pub(in crate::front) fn refuse(&self, failure: &Failure, id: Option<&str>) -> Response<Body> {
        self.front.gateway.metrics().rejected(failure.reason);
        self.front.refused(self.principal(), &self.server, failure);
        reply::answer(failure, id, self.statuses())
    }

    /// Answers a message that is not served: one that is no request has no answer.
    pub(in crate::front) fn refuse_message(
        &self,
        failure: &Failure,
        envelope: &Envelope<'_>,
    ) -> Response<Body> {
        parse::note_method(envelope);
        let id = envelope.id.filter(|_| envelope.kind() == Kind::Request);
        self.refuse(failure, id.map(|id| id.get()))
    }
}

//! POST of the stateless revision, 2026-07-28: each request by itself.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream as streams;
use http::{HeaderMap, Response, StatusCode};
use serde_json::Value;

use super::body::Body;
use super::conversation::{Final, Said};
use super::frames::Frames;
use super::post::{Post, Tally};
use super::reply;
use super::stateless_call::{Begun, Call};
use super::stream::{KEEP_ALIVE, QUIET_PERIOD};
use super::telling::Telling;
use crate::bridge::advertised;
use crate::bridge::stateless::{Fault, Filter, StatelessRequest, discovered, rediscovered};
use crate::held;
use crate::ids::{ServerName, TenantId};
use crate::protocol::{Envelope, Failure, FaultKind, Kind, span_of, splice};
use crate::session::{InUse, Listener, Parcel, Reader, Session, Sessions, Wants};

/// How long a client may keep lists and what a server says of itself, where nothing says that
/// they have changed.
pub(super) const LISTS_LAST: Duration = Duration::from_secs(60);

pub(super) fn header<'h>(headers: &'h HeaderMap) -> impl Fn(&str) -> Option<&'h str> {
    |name| headers.get(name)?.to_str().ok()
}

pub(super) fn wants(
    request: &StatelessRequest<'_>,
    sessions: &Sessions,
    (tenant, server): (&TenantId, &ServerName),
) -> Wants {
    let name = request.param("name").or_else(|| request.param("uri"));
    Wants {
        questions: request.can_be_asked()
            || sessions.may_yet_ask(tenant, server, &request.method, name),
        logs: request.level.is_some(),
    }
}

impl Post<'_> {
    /// Serves a request of this revision.
    pub(super) async fn serve_stateless(&self, envelope: &Envelope<'_>) -> Response<Body> {
        match envelope.kind() {
            Kind::Request => {}
            // This revision has none that a client could send.
            Kind::Notification => return reply::empty(StatusCode::ACCEPTED),
            Kind::Response => {
                let why = "clients of this revision send no responses: what a result asked for comes with the next request";
                let fault = Fault::new(FaultKind::InvalidRequest, why);
                return Final::from((&fault, "null")).into();
            }
        }
        let id = envelope.id.map_or("null", |id| id.get());
        let mut tally = self.tally();
        tally.asks(envelope);
        let request = match StatelessRequest::read(envelope, header(self.headers)) {
            Ok(request) => request,
            Err(fault) => {
                tally.answered(true);
                return Final::from((&fault, id)).into();
            }
        };
        if self.server == ServerName::all() {
            return Box::pin(self.serve_of_all(envelope, &request, tally)).await;
        }
        let served = match &*request.method {
            "server/discover" => self.discover(&request, &mut tally).await,
            "subscriptions/listen" => self.listen(&request, &mut tally).await,
            _ => match self.caller(&request).await {
                Ok(caller) => return self.call(&request, caller, tally).await,
                Err(failure) => Err(failure),
            },
        };
        served.unwrap_or_else(|failure| tally.refuse(&failure, id))
    }

    /// The session through which the request goes.
    async fn caller(&self, request: &StatelessRequest<'_>) -> Result<Arc<Session>, Failure> {
        let config = self.config.clone();
        let sessions = &self.front.sessions;
        let wants = wants(request, sessions, (&self.principal.tenant, &self.server));
        let found = sessions.caller_with(self.principal, &self.server, wants, config);
        found.await
    }

    async fn discover(
        &self,
        request: &StatelessRequest<'_>,
        tally: &mut Tally,
    ) -> Result<Response<Body>, Failure> {
        let sessions = &self.front.sessions;
        let caller = self.caller(request).await?;
        let known = sessions.introduction(&caller);
        let hello = self.in_time(None, known).await?;
        tally.answered(false);
        let body = match hello.discovery() {
            Some(own) => rediscovered(request.id, own),
            None => discovered(request.id, hello.text(), LISTS_LAST),
        };
        let body = with_advert(body, sessions.advert(&caller));
        Ok(reply::json(StatusCode::OK, self.hold(body)?))
    }

    pub(super) async fn listen(
        &self,
        request: &StatelessRequest<'_>,
        tally: &mut Tally,
    ) -> Result<Response<Body>, Failure> {
        let Some(asked) = Filter::asked(request.param("notifications")) else {
            tally.answered(true);
            let why = "`params.notifications` must say what to listen for";
            let fault = Fault::new(FaultKind::InvalidParams, why);
            return Ok(Final::from((&fault, request.id)).into());
        };
        let sessions = &self.front.sessions;
        let config = self.config.clone();
        let listening_to = sessions.listen_with(self.principal, &self.server, asked, config);
        let listener = self.in_time(None, listening_to).await?;
        tally.answered(false);
        Ok(reply::event_stream(listening(
            listener,
            request.id.to_owned(),
        )))
    }

    /// A request that a worker answers, for the session that stands for its caller.
    pub(super) async fn call(
        &self,
        request: &StatelessRequest<'_>,
        caller: Arc<Session>,
        tally: Tally,
    ) -> Response<Body> {
        let sessions = &self.front.sessions;
        let call = Call {
            sessions,
            principal: self.principal,
            server: &self.server,
            headers: self.headers,
            body: self.body,
        };
        if let Some(token) = request.token
            && let Some(install) = sessions.install_before(&caller).await
        {
            let later = call.later(caller, tally);
            let told = Telling::of_install(install, token, request.id, later);
            return reply::event_stream(told.into_body(self.account));
        }
        let begun = call.begin(request, caller, tally);
        match self.in_time(None, begun).await {
            Begun::Under(mut conversation) => match conversation.first().await {
                Said::Final(last) => last.into(),
                first => {
                    let told = Telling::of_call(conversation, first);
                    reply::event_stream(told.into_body(self.account))
                }
            },
            Begun::Over(last) => last.into(),
            Begun::Refused(failure) => reply::answer(&failure, Some(request.id), self.statuses()),
        }
    }
}

/// A response to `server/discover` that tells clients what they may set, by that schema.
pub(super) fn with_advert(response: Bytes, schema: Option<Value>) -> Bytes {
    let told = schema.and_then(|schema| told_of_config(&response, &schema.to_string()));
    told.unwrap_or(response)
}

fn told_of_config(response: &Bytes, schema: &str) -> Option<Bytes> {
    let result = Envelope::parse(response).ok()?.result?.get();
    let told = advertised(result.as_bytes(), schema)?;
    Some(splice(response, span_of(response, result), &told))
}

/// The stream of a listener, as far as it has not been told.
struct ListenerStream {
    /// Until the end was told.
    listener: Option<(Listener, InUse)>,
    reader: Reader,
    id: String,
    frames: Frames,
}

/// The stream of a listener.
fn listening(listener: Listener, id: String) -> Body {
    let session = listener.session();
    let mut frames = Frames::new(session.account());
    frames.put_event(&listener.filter().acknowledgement(&id));
    let stream = ListenerStream {
        reader: session.outbox.read(None),
        listener: None,
        id,
        frames,
    };
    let in_use = session.in_use();
    let stream = ListenerStream {
        listener: Some((listener, in_use)),
        ..stream
    };
    Body::from_stream(streams::unfold(stream, |mut stream| async move {
        let piece = stream.next_piece().await?;
        Some((Ok::<_, std::convert::Infallible>(piece), stream))
    }))
}

impl ListenerStream {
    async fn next_piece(&mut self) -> Option<Bytes> {
        if let Some(piece) = self.frames.next_piece() {
            return Some(piece);
        }
        loop {
            let (listener, _) = self.listener.as_ref()?;
            let next = tokio::time::timeout(QUIET_PERIOD, self.reader.next());
            match next.await {
                Err(_quiet) => return Some(Bytes::from_static(KEEP_ALIVE)),
                Ok(None) => {
                    self.frames.put_event(&Filter::farewell(&self.id));
                    self.listener = None;
                    return self.frames.next_piece();
                }
                Ok(Some(Parcel::Message(message))) => {
                    let told = listener.filter().passes(&message, &self.id);
                    if let Some(told) = told {
                        let account = listener.session().account();
                        // Another text of what was let in already, which goes here.
                        let told = account.hold_anyway(held::Kind::Message, told);
                        self.frames.put_event(&told);
                        return self.frames.next_piece();
                    }
                }
                Ok(Some(Parcel::Answer { .. } | Parcel::Failed { .. })) => {}
            }
        }
    }
}

//! POST of the stateless revision, 2026-07-28: each request by itself.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures_util::stream as streams;
use http::{HeaderMap, Response, StatusCode};
use serde_json::Value;

use super::conversation::{Conversation, Final, Said};
use super::post::{Post, Tally};
use super::reply;
use super::stream::{KEEP_ALIVE, QUIET_PERIOD, put_event};
use crate::bridge::stateless::{
    Fault, Filter, StatelessRequest, check_param_headers, discovered, rediscovered,
};
use crate::bridge::{Era, advertised};
use crate::ids::ServerName;
use crate::protocol::{Envelope, Failure, Kind, code, span_of, splice};
use crate::session::{Exchange, Listener, Parcel, Session, Wants};

/// How long a client may keep lists and what a server says of itself, where nothing says that
/// they have changed.
pub(super) const LISTS_LAST: Duration = Duration::from_secs(60);

fn header<'h>(headers: &'h HeaderMap) -> impl Fn(&str) -> Option<&'h str> {
    |name| headers.get(name)?.to_str().ok()
}

pub(super) fn wants(request: &StatelessRequest<'_>) -> Wants {
    Wants {
        questions: request.can_be_asked(),
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
                let fault = Fault::new(400, code::INVALID_REQUEST, why);
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
            return self.serve_of_all(envelope, &request, tally).await;
        }
        let served = match &*request.method {
            "server/discover" => self.discover(&request, tally).await,
            "subscriptions/listen" => self.listen(&request, tally).await,
            _ => match self.caller(&request) {
                Ok(caller) => self.call(&request, caller, tally).await,
                Err(failure) => Err(failure),
            },
        };
        self.or_refuse(served, id)
    }

    pub(super) fn or_refuse(
        &self,
        served: Result<Response<Body>, Failure>,
        id: &str,
    ) -> Response<Body> {
        served.unwrap_or_else(|failure| {
            self.front.sessions.metrics().rejected(failure.reason);
            self.front.refused(self.principal, &self.server, &failure);
            reply::failure(&failure, Some(id))
        })
    }

    /// The session through which the request goes.
    fn caller(&self, request: &StatelessRequest<'_>) -> Result<Arc<Session>, Failure> {
        let config = self.config.clone();
        let sessions = &self.front.sessions;
        sessions.caller_with(self.principal, &self.server, wants(request), config)
    }

    async fn discover(
        &self,
        request: &StatelessRequest<'_>,
        mut tally: Tally,
    ) -> Result<Response<Body>, Failure> {
        let sessions = &self.front.sessions;
        let caller = self.caller(request)?;
        let hello = sessions.introduction(&caller).await?;
        tally.answered(false);
        let body = match hello.discovery() {
            Some(own) => rediscovered(request.id, own),
            None => discovered(request.id, hello.text(), LISTS_LAST),
        };
        let body = with_advert(body, sessions.advert(&caller));
        Ok(reply::json(StatusCode::OK, body))
    }

    pub(super) async fn listen(
        &self,
        request: &StatelessRequest<'_>,
        mut tally: Tally,
    ) -> Result<Response<Body>, Failure> {
        let Some(asked) = Filter::asked(request.param("notifications")) else {
            tally.answered(true);
            let why = "`params.notifications` must say what to listen for";
            let fault = Fault::new(400, code::INVALID_PARAMS, why);
            return Ok(Final::from((&fault, request.id)).into());
        };
        let sessions = &self.front.sessions;
        let listener = sessions
            .listen_with(self.principal, &self.server, asked, self.config.clone())
            .await?;
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
        mut tally: Tally,
    ) -> Result<Response<Body>, Failure> {
        let sessions = &self.front.sessions;
        let era = sessions.era(&caller).await?;
        if &*request.method == "tools/call"
            && let Some(tool) = request.param("name")
            && let Ok(tool) = serde_json::from_str::<String>(tool)
            && let Some(schema) = sessions.tool_schema(&caller, self.principal, &tool).await
        {
            let arguments = request.param("arguments");
            if let Err(fault) = check_param_headers(&schema, arguments, &header(self.headers)) {
                tally.answered(true);
                return Ok(Final::from((&fault, request.id)).into());
            }
        }
        let mut conversation = Conversation {
            sessions: sessions.clone(),
            principal: self.principal.clone(),
            server: self.server.clone(),
            caller: Arc::clone(&caller),
            exchange: Exchange::stateless(request.level, era).asked_by(self.principal, &caller),
            questions: Vec::new(),
            lacking: None,
            gathered_at: None,
            id: request.id.to_owned(),
            method: request.method.clone().into_owned(),
            uri: request
                .param("uri")
                .and_then(|uri| serde_json::from_str(uri).ok()),
            token: request.token.map(ToOwned::to_owned),
            level: request.level,
            capabilities: request.capabilities.clone(),
            responses: request.responses.clone(),
            substance: request.substance(),
            server_info: None,
            era,
            tally,
        };
        let hello = sessions.known_introduction(&caller).await;
        conversation.server_info = hello.and_then(|hello| hello.server_info());
        match &request.state {
            Some(state) if era == Era::Initialize => {
                if let Err(last) = conversation.resume(state) {
                    return Ok(last.into());
                }
            }
            state => {
                if let Some(state) = state {
                    sessions.follow_state(state, &mut conversation.exchange);
                }
                let line = match era {
                    Era::Initialize => Bytes::from(request.for_worker()),
                    Era::Stateless => self.body.clone(),
                };
                let envelope = Envelope::parse(&line).map_err(|error| {
                    Failure::new(crate::protocol::Reason::Internal, error.to_string())
                })?;
                let exchange = &mut conversation.exchange;
                let sent = sessions.request_once(&caller, &line, &envelope, exchange);
                if let Err(failure) = sent.await {
                    conversation.tally.failed(failure.reason);
                    return Ok(reply::failure(&failure, Some(request.id)));
                }
            }
        }
        Ok(match conversation.next().await {
            Said::Final(last) => last.into(),
            first => reply::event_stream(telling(conversation, first)),
        })
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

/// The reply as a stream. Dropping it cancels the call (basic/transports/streamable-http,
/// "Cancellation").
fn telling(conversation: Conversation, first: Said) -> Body {
    let state = Some((conversation, Some(first)));
    Body::from_stream(streams::unfold(state, |state| async move {
        let (mut conversation, first) = state?;
        let said = match first {
            Some(first) => first,
            None => conversation.next().await,
        };
        let mut frame = BytesMut::new();
        let rest = match said {
            Said::Nothing => {
                frame.extend_from_slice(KEEP_ALIVE);
                Some((conversation, None))
            }
            Said::Notification(message) => {
                put_event(&mut frame, &message);
                Some((conversation, None))
            }
            Said::Final(last) => {
                put_event(&mut frame, &last.message);
                None
            }
        };
        Some((Ok::<_, std::convert::Infallible>(frame.freeze()), rest))
    }))
}

/// The stream of a listener.
fn listening(listener: Listener, id: String) -> Body {
    let reader = listener.session().outbox.take_over();
    let in_use = listener.session().in_use();
    let state = Some((listener, in_use, true));
    Body::from_stream(streams::unfold(
        (state, id),
        move |(state, id)| async move {
            let (listener, in_use, is_first) = state?;
            let mut frame = BytesMut::new();
            if is_first {
                put_event(&mut frame, &listener.filter().acknowledgement(&id));
                let state = Some((listener, in_use, false));
                return Some((
                    Ok::<_, std::convert::Infallible>(frame.freeze()),
                    (state, id),
                ));
            }
            loop {
                let outbox = &listener.session().outbox;
                let next = tokio::time::timeout(QUIET_PERIOD, outbox.next_of_stream(reader)).await;
                match next {
                    Err(_quiet) => frame.extend_from_slice(KEEP_ALIVE),
                    Ok(None) => {
                        put_event(&mut frame, &Filter::farewell(&id));
                        return Some((Ok(frame.freeze()), (None, id)));
                    }
                    Ok(Some(Parcel::Message(message))) => {
                        match listener.filter().passes(&message, &id) {
                            Some(message) => put_event(&mut frame, &message),
                            None => continue,
                        }
                    }
                    Ok(Some(Parcel::Answer { .. } | Parcel::Failed { .. })) => continue,
                }
                let state = Some((listener, in_use, false));
                return Some((Ok(frame.freeze()), (state, id)));
            }
        },
    ))
}

//! A request of the stateless revision on its way to a worker. It has its client's words, and what is
//! needed to send them in those of the worker.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;

use super::conversation::{Conversation, Final};
use super::post::Tally;
use super::stateless::header;
use crate::bridge::Era;
use crate::bridge::stateless::{StatelessRequest, check_param_headers};
use crate::ids::ServerName;
use crate::protocol::{Envelope, Failure, Reason};
use crate::session::{Exchange, Session, Sessions};
use crate::tenancy::Principal;

/// A call that begins once it is polled.
pub(super) type Later = Pin<Box<dyn Future<Output = Begun> + Send>>;

/// A request for a worker, on its way there.
pub(super) struct Call<'a> {
    pub(super) sessions: &'a Sessions,
    pub(super) principal: &'a Principal,
    pub(super) server: &'a ServerName,
    pub(super) headers: &'a HeaderMap,
    pub(super) body: &'a Bytes,
}

/// What became of it.
pub(super) enum Begun {
    /// Its worker has it.
    Under(Box<Conversation>),
    /// It was answered at once.
    Over(Final),
    /// No worker was to be had. Counted already.
    Refused(Failure),
}

impl Call<'_> {
    /// Hands it to a worker.
    pub(super) async fn begin(
        &self,
        request: &StatelessRequest<'_>,
        caller: Arc<Session>,
        mut tally: Tally,
    ) -> Begun {
        let sessions = self.sessions;
        let way = match sessions.way(&caller).await {
            Ok(way) => way,
            Err(failure) => {
                tally.failed(failure.reason);
                return Begun::Refused(failure);
            }
        };
        let era = way.era;
        if &*request.method == "tools/call"
            && let Some(tool) = request.param("name")
            && let Ok(tool) = serde_json::from_str::<String>(tool)
            && let Some(schema) = sessions.tool_schema(&caller, self.principal, &tool).await
        {
            let arguments = request.param("arguments");
            if let Err(fault) = check_param_headers(&schema, arguments, &header(self.headers)) {
                tally.answered(true);
                return Begun::Over((&fault, request.id).into());
            }
        }
        let mut conversation = Conversation {
            sessions: sessions.clone(),
            principal: self.principal.clone(),
            server: self.server.clone(),
            caller: Arc::clone(&caller),
            exchange: Exchange::on(request.level, way).asked_by(self.principal, &caller),
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
                    return Begun::Over(last);
                }
            }
            state => {
                if let Some(state) = state {
                    let exchange = &mut conversation.exchange;
                    sessions.follow_state(self.principal, state, exchange);
                }
                let line = match era {
                    Era::Initialize => Bytes::from(request.for_worker()),
                    Era::Stateless => self.body.clone(),
                };
                let exchange = &mut conversation.exchange;
                let sent = async {
                    let envelope = Envelope::parse(&line)
                        .map_err(|error| Failure::new(Reason::Internal, error.to_string()))?;
                    let sent = sessions.request_once(&caller, &line, &envelope, exchange);
                    sent.await
                };
                if let Err(failure) = sent.await {
                    conversation.tally.failed(failure.reason);
                    return Begun::Refused(failure);
                }
            }
        }
        Begun::Under(Box::new(conversation))
    }

    /// The same once it is polled.
    pub(super) fn later(&self, caller: Arc<Session>, mut tally: Tally) -> Later {
        let (sessions, principal) = (self.sessions.clone(), self.principal.clone());
        let (server, headers) = (self.server.clone(), self.headers.clone());
        let body = self.body.clone();
        Box::pin(async move {
            let call = Call {
                sessions: &sessions,
                principal: &principal,
                server: &server,
                headers: &headers,
                body: &body,
            };
            let read = Envelope::parse(&body).map_err(|error| error.to_string());
            let read = read.as_ref().map_err(Clone::clone).and_then(|envelope| {
                StatelessRequest::read_again(envelope).map_err(|fault| fault.message)
            });
            match read {
                Ok(request) => call.begin(&request, caller, tally).await,
                // It was read before.
                Err(why) => {
                    tally.failed(Reason::Internal);
                    Begun::Refused(Failure::new(Reason::Internal, why))
                }
            }
        })
    }
}

//! A request of the stateless revision on its way to a worker. The request is in its client's words, with what is
//! needed to send it in those of the worker.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;

use super::stateless_call::{Final, StatelessCall};
use crate::bridge::stateless::{Begin, StatelessRequest, check_param_headers};
use crate::front::pipeline::context::RequestContext;
use crate::gateway::{Gateway, ResponseStream};
use crate::ids::ServerName;
use crate::protocol::{Envelope, Failure, Reason};
use crate::session::Session;
use crate::tenancy::Principal;

/// Looks headers up by name; one that is no text counts as none.
pub(in crate::front) fn header<'h>(headers: &'h HeaderMap) -> impl Fn(&str) -> Option<&'h str> {
    |name| headers.get(name)?.to_str().ok()
}

/// A call that begins once it is polled.
pub(in crate::front) type Later = Pin<Box<dyn Future<Output = CallStart> + Send>>;

/// A request for a worker, on its way there.
pub(in crate::front) struct CallRequest<'a> {
    pub(in crate::front) gateway: &'a Gateway,
    pub(in crate::front) principal: &'a Principal,
    pub(in crate::front) server: &'a ServerName,
    pub(in crate::front) headers: &'a HeaderMap,
    pub(in crate::front) body: &'a Bytes,
}

/// The outcome of beginning a call.
pub(in crate::front) enum CallStart {
    /// A worker has the request.
    Under(Box<StatelessCall>),
    /// The request was answered at once.
    Over(Final),
    /// No worker was to be had. Counted already.
    Refused(Failure),
}

impl CallRequest<'_> {
    /// Hands it to a worker.
    pub(in crate::front) async fn begin(
        &self,
        request: &StatelessRequest<'_>,
        caller: Arc<Session>,
        mut context: RequestContext,
    ) -> CallStart {
        let gateway = self.gateway;
        let callers = gateway.stateless_callers();
        let route = match callers.worker_route(&caller).await {
            Ok(route) => route,
            Err(failure) => {
                context.failed(failure.reason);
                return CallStart::Refused(failure);
            }
        };
        let words = route.era;
        if &*request.method == "tools/call"
            && let Some(tool) = request.param("name")
            && let Ok(tool) = serde_json::from_str::<String>(tool)
            && let Some(schema) = callers.tool_schema(&caller, self.principal, &tool).await
        {
            let arguments = request.param("arguments");
            if let Err(fault) = check_param_headers(&schema, arguments, &header(self.headers)) {
                context.answered(true);
                return CallStart::Over(Final::fault(&fault, request.id));
            }
        }
        let mut call = StatelessCall {
            gateway: gateway.clone(),
            sessions: Arc::clone(gateway.sessions()),
            principal: self.principal.clone(),
            server: self.server.clone(),
            caller: Arc::clone(&caller),
            response_stream: ResponseStream::on(request.level, route)
                .asked_by(self.principal, &caller),
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
            words,
            context,
        };
        let info = callers.known_introduction(&caller).await;
        call.server_info = info.and_then(|info| info.server_info());
        match request.begin(words, self.body) {
            Begin::Resume(state) => {
                if let Err(last) = call.resume(state) {
                    return CallStart::Over(last);
                }
            }
            Begin::Send { line, state } => {
                if let Some(state) = state {
                    let response_stream = &mut call.response_stream;
                    callers.follow_state(self.principal, state, response_stream);
                }
                let response_stream = &mut call.response_stream;
                let sent = async {
                    let envelope = Envelope::parse(&line)
                        .map_err(|error| Failure::new(Reason::Internal, error.to_string()))?;
                    let sent = gateway.request_once(&caller, &line, &envelope, response_stream);
                    sent.await
                };
                if let Err(failure) = sent.await {
                    call.context.failed(failure.reason);
                    return CallStart::Refused(failure);
                }
            }
        }
        CallStart::Under(Box::new(call))
    }

    /// Hands it to a worker once that is polled.
    pub(in crate::front) fn later(
        &self,
        caller: Arc<Session>,
        mut context: RequestContext,
    ) -> Later {
        let (gateway, principal) = (self.gateway.clone(), self.principal.clone());
        let (server, headers) = (self.server.clone(), self.headers.clone());
        let body = self.body.clone();
        Box::pin(async move {
            let own = CallRequest {
                gateway: &gateway,
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
                Ok(request) => own.begin(&request, caller, context).await,
                // The body was read before.
                Err(why) => {
                    context.failed(Reason::Internal);
                    CallStart::Refused(Failure::new(Reason::Internal, why))
                }
            }
        })
    }
}

//! Requests of the stateless revision that one server answers.

use std::sync::Arc;

use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::Value;

use super::stateless_begin::{CallRequest, CallStart};
use super::stateless_call::{LISTS_LAST, StreamItem};
use super::stateless_stream::StatelessStream;
use super::wait_progress::WaitProgress;
use crate::bridge::advertised;
use crate::bridge::stateless::{StatelessRequest, discovered, rediscovered};
use crate::front::pipeline::context::RequestContext;
use crate::front::pipeline::inbound::Inbound;
use crate::front::response::body::Body;
use crate::front::response::reply;
use crate::gateway::{StatelessCallers, Wants};
use crate::ids::{ServerName, TenantId};
use crate::protocol::{Envelope, Failure, span_of, splice};
use crate::session::Session;

/// What the session of such a request has to be ready for.
pub(in crate::front) fn wants(
    request: &StatelessRequest<'_>,
    callers: StatelessCallers<'_>,
    tenant: &TenantId,
    server: &ServerName,
) -> Wants {
    let name = request.param("name").or_else(|| request.param("uri"));
    Wants {
        questions: request.can_be_asked()
            || callers.may_yet_ask(tenant, server, &request.method, name),
        logs: request.level.is_some(),
    }
}

/// The session through which the request goes.
pub(in crate::front) async fn caller(
    inbound: &Inbound<'_>,
    request: &StatelessRequest<'_>,
) -> Result<Arc<Session>, Failure> {
    let config = inbound.config().cloned();
    let callers = inbound.front.gateway.stateless_callers();
    let wants = wants(
        request,
        callers,
        &inbound.principal().tenant,
        &inbound.server,
    );
    let found = callers.caller_with(inbound.principal(), &inbound.server, wants, config);
    found.await
}

/// Answers `server/discover`.
pub(in crate::front) async fn discover(
    inbound: &Inbound<'_>,
    request: &StatelessRequest<'_>,
    context: &mut RequestContext,
) -> Result<Response<Body>, Failure> {
    let gateway = &inbound.front.gateway;
    let caller = caller(inbound, request).await?;
    let news = WaitProgress::of_stateless(gateway, &caller, request);
    inbound.head.late.tells(move || news.next());
    let callers = gateway.stateless_callers();
    let known = callers.introduction(&caller);
    let info = inbound.in_time(None, known).await?;
    context.answered(false);
    let body = match info.discovery() {
        Some(own) => rediscovered(request.id, own),
        None => discovered(request.id, info.text(), LISTS_LAST),
    };
    let body = with_advert(body, gateway.advert(&caller));
    Ok(reply::json(StatusCode::OK, inbound.hold(body)?))
}

/// A request that a worker answers, for the session that stands for its caller.
pub(in crate::front) async fn call(
    inbound: &Inbound<'_>,
    request: &StatelessRequest<'_>,
    caller: Arc<Session>,
    context: RequestContext,
) -> Response<Body> {
    let gateway = &inbound.front.gateway;
    let own = CallRequest {
        gateway,
        principal: inbound.principal(),
        server: &inbound.server,
        headers: inbound.head.headers(),
        body: &inbound.body,
    };
    if let Some(token) = request.token
        && let Some(install) = gateway.install_before(&caller).await
    {
        let news = WaitProgress::of_stateless(gateway, &caller, request);
        let later = own.later(caller, context);
        let told = StatelessStream::of_install(install, token, request.id, later, news);
        return reply::event_stream(told.into_body(&inbound.account));
    }
    let news = WaitProgress::of_stateless(gateway, &caller, request);
    inbound.head.late.tells(move || news.next());
    let begun = own.begin(request, caller, context);
    match inbound.in_time(None, begun).await {
        CallStart::Under(mut call) => match call.first().await {
            StreamItem::Final(last) => last.into(),
            first => {
                let told = StatelessStream::of_call(call, first);
                reply::event_stream(told.into_body(&inbound.account))
            }
        },
        CallStart::Over(last) => last.into(),
        CallStart::Refused(failure) => {
            reply::answer(&failure, Some(request.id), inbound.statuses())
        }
    }
}

/// A response to `server/discover` that tells clients what they may set, by that schema.
pub(in crate::front) fn with_advert(response: Bytes, schema: Option<Value>) -> Bytes {
    let told = schema.and_then(|schema| told_of_config(&response, &schema.to_string()));
    told.unwrap_or(response)
}

fn told_of_config(response: &Bytes, schema: &str) -> Option<Bytes> {
    let result = Envelope::parse(response).ok()?.result?.get();
    let told = advertised(result.as_bytes(), schema)?;
    Some(splice(response, span_of(response, result), &told))
}

//! POST of the stateless revision to all servers at once.

use std::borrow::Cow;

use http::{Response, StatusCode};

use super::stateless_call::{Final, LISTS_LAST};
use super::stateless_listen::listen;
use super::stateless_one::{call, wants, with_advert};
use crate::bridge::Listing;
use crate::bridge::stateless::{Fault, ResponseAdapter, StatelessRequest, discovered};
use crate::front::pipeline::context::RequestContext;
use crate::front::pipeline::inbound::Inbound;
use crate::front::response::body::Body;
use crate::front::response::reply;
use crate::gateway::Lister;
use crate::protocol::{Envelope, Failure, FaultKind, Reason};

/// Serves a request of that revision: by all servers, or by the one of which it names something.
pub(in crate::front) async fn serve(
    inbound: &Inbound<'_>,
    envelope: &Envelope<'_>,
    request: &StatelessRequest<'_>,
    mut context: RequestContext,
) -> Response<Body> {
    let gateway = &inbound.front.gateway;
    let view = gateway.aggregate_view();
    if let Some(config) = inbound.config()
        && let Err(failure) = view.check_parts(inbound.principal(), config).await
    {
        return context.refuse(&failure, request.id);
    }
    let served = match &*request.method {
        "server/discover" => view.server_info(inbound.principal()).and_then(|info| {
            context.answered(false);
            let body = discovered(request.id, info.text(), LISTS_LAST);
            let schema = view.advert(inbound.principal());
            let body = inbound.hold(with_advert(body, schema))?;
            Ok(reply::json(StatusCode::OK, body))
        }),
        "subscriptions/listen" => listen(inbound, request, &mut context).await,
        method => match Listing::of(method) {
            Some(listing) => {
                let lister =
                    Lister::of_caller(inbound.principal().clone(), inbound.config().cloned());
                let listed = gateway.aggregate().list(lister, listing);
                let list = inbound.in_time(None, listed).await;
                context.answered(false);
                let adapter = ResponseAdapter {
                    id: request.id,
                    method,
                    uri: None,
                    server_info: None,
                    lists_last: LISTS_LAST,
                };
                inbound
                    .hold(adapter.result(&list))
                    .map(|list| reply::json(StatusCode::OK, list))
            }
            None => return Box::pin(call_of_one(inbound, envelope, request, context)).await,
        },
    };
    served.unwrap_or_else(|failure| context.refuse(&failure, request.id))
}

/// The request goes to the server of which it names something, in that server's own words.
async fn call_of_one(
    inbound: &Inbound<'_>,
    envelope: &Envelope<'_>,
    request: &StatelessRequest<'_>,
    mut context: RequestContext,
) -> Response<Body> {
    let gateway = &inbound.front.gateway;
    let found = gateway
        .aggregate_view()
        .addressed(inbound.principal(), &inbound.body, envelope);
    let Some((server, own)) = found else {
        context.answered(true);
        return Final::fault(&unaddressed(&request.method), request.id).into();
    };
    context.is_of(&server);
    let one = inbound.of_one(server, own.message);
    let internal = |why: String| Failure::new(Reason::Internal, why);
    let envelope = match Envelope::parse(&one.body) {
        Ok(envelope) => envelope,
        Err(error) => return context.refuse(&internal(error.to_string()), request.id),
    };
    let own = match StatelessRequest::read_again(&envelope) {
        Ok(own) => own,
        Err(fault) => return context.refuse(&internal(fault.message), request.id),
    };
    let (user, config) = (one.principal(), inbound.config());
    let caller = {
        let callers = gateway.stateless_callers();
        let wants = wants(&own, callers, &user.tenant, &one.server);
        callers.caller_through_all(user, &one.server, wants, config)
    };
    match caller.await {
        Ok(caller) => call(&one, &own, caller, context).await,
        Err(failure) => context.refuse(&failure, request.id),
    }
}

/// What is wrong with a request that names nothing of any server.
fn unaddressed(method: &str) -> Fault {
    let named = |what: &str| {
        let why: Cow<'_, str> =
            format!("no such {what}: it names none of the servers on offer").into();
        Fault::new(FaultKind::Unaddressed, why)
    };
    match method {
        "tools/call" => named("tool"),
        "prompts/get" => named("prompt"),
        "resources/read" => named("resource"),
        "completion/complete" => named("prompt or template"),
        method => Fault::no_method(method),
    }
}

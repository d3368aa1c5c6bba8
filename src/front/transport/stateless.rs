//! POST of the stateless revision, 2026-07-28: each request by itself.

use http::{Response, StatusCode};

use super::stateless_all;
use super::stateless_begin::header;
use super::stateless_call::Final;
use super::stateless_listen::listen;
use super::stateless_one::{call, caller, discover};
use crate::bridge::stateless::{Fault, StatelessRequest};
use crate::front::pipeline::inbound::Inbound;
use crate::front::response::body::Body;
use crate::front::response::reply;
use crate::ids::ServerName;
use crate::protocol::{Envelope, FaultKind, Kind};

/// Serves a request of this revision.
pub(in crate::front) async fn serve(
    inbound: &Inbound<'_>,
    envelope: &Envelope<'_>,
) -> Response<Body> {
    match envelope.kind() {
        Kind::Request => {}
        // Clients of 2026-07-28 have no notification that they could send.
        Kind::Notification => return reply::empty(StatusCode::ACCEPTED),
        Kind::Response => {
            let why = "clients of this revision send no responses: what a result asked for comes with the next request";
            let fault = Fault::new(FaultKind::InvalidRequest, why);
            return Final::fault(&fault, "null").into();
        }
    }
    let id = envelope.id.map_or("null", |id| id.get());
    let mut context = inbound.context();
    context.asks(envelope);
    let request = match StatelessRequest::read(envelope, header(inbound.head.headers())) {
        Ok(request) => request,
        Err(fault) => {
            context.answered(true);
            return Final::fault(&fault, id).into();
        }
    };
    if inbound.server == ServerName::all() {
        return Box::pin(stateless_all::serve(inbound, envelope, &request, context)).await;
    }
    let served = match &*request.method {
        "server/discover" => discover(inbound, &request, &mut context).await,
        "subscriptions/listen" => listen(inbound, &request, &mut context).await,
        _ => match caller(inbound, &request).await {
            Ok(caller) => return call(inbound, &request, caller, context).await,
            Err(failure) => Err(failure),
        },
    };
    served.unwrap_or_else(|failure| context.refuse(&failure, id))
}

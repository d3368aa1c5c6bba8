//! The routes of the front door. The paths that nearly all requests go to are told apart before, in
//! [`dispatch`](super::dispatch).

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::routing::{any, get};
use http::header::HOST;
use http::{Response, StatusCode};

use super::api::{config_handles, oauth, well_known};
use super::endpoint::endpoint;
use super::net::peer::Peer;
use super::pipeline::challenge;
use super::pipeline::discard::take_unread;
use super::pipeline::head::Head;
use super::pipeline::target::{PathNames, Target};
use super::response::body::Body;
use super::response::late::Late;
use super::response::reply;
use super::state::Front;
use crate::ids::ServerName;
use crate::protocol::{Failure, Reason};

/// The endpoints of the front door.
pub(super) fn router(front: Arc<Front>) -> Router {
    let mut router = Router::new()
        .route("/{server}/mcp", any(of_server))
        .route("/t/{tenant}/{server}/mcp", any(of_tenant))
        .route("/{server}/sse", any(of_server))
        .route("/{server}/messages", any(of_server))
        .route("/t/{tenant}/{server}/sse", any(of_tenant))
        .route("/t/{tenant}/{server}/messages", any(of_tenant))
        .route(challenge::METADATA_PATH, get(metadata))
        .route(
            &format!("{}/{{*path}}", challenge::METADATA_PATH),
            get(metadata),
        )
        .route("/v1/config", any(config_handles::all))
        .route("/v1/config/{handle}", any(config_handles::one))
        .route("/t/{tenant}/v1/config", any(config_handles::all_of_tenant))
        .route(
            "/t/{tenant}/v1/config/{handle}",
            any(config_handles::one_of_tenant),
        )
        .route("/v1/oauth/{server}", any(oauth::of_server))
        .route("/t/{tenant}/v1/oauth/{server}", any(oauth::of_tenant))
        .route("/oauth/authorize/{state}", get(oauth::authorize))
        .route("/oauth/callback", get(oauth::callback))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method);
    for name in ["mcp", "sse", "messages"] {
        router = if front.only_server.is_some() {
            router.route(&format!("/{name}"), any(of_only_server))
        } else {
            router
                .route(&format!("/{name}"), any(of_all))
                .route(&format!("/t/{{tenant}}/{name}"), any(of_all_for_tenant))
        };
    }
    router.with_state(front)
}

async fn no_such_path(request: Request) -> Response<Body> {
    take_unread(request.version(), request.into_body()).await;
    let why = "no such path (MCP endpoints are `/{server}/mcp`, `/mcp` for all servers as one, and the same below `/t/{tenant}`; `…/sse` for clients of 2024-11-05)";
    reply::failure(&Failure::new(Reason::NotFound, why))
}

/// The methods that there are stand in `Allow`, which the router adds.
async fn no_such_method(request: Request) -> StatusCode {
    take_unread(request.version(), request.into_body()).await;
    StatusCode::METHOD_NOT_ALLOWED
}

async fn readyz(State(front): State<Arc<Front>>) -> (StatusCode, &'static str) {
    if front.draining.is_cancelled() {
        (StatusCode::SERVICE_UNAVAILABLE, "draining\n")
    } else {
        (StatusCode::OK, "ready\n")
    }
}

async fn metadata(State(front): State<Arc<Front>>, request: Request) -> Response<Body> {
    let path = request.uri().path();
    let of = path
        .strip_prefix(challenge::METADATA_PATH)
        .unwrap_or_default();
    well_known::metadata(&front, request.headers().get(HOST), of)
}

async fn of_server(
    State(front): State<Arc<Front>>,
    Path(server): Path<String>,
    request: Request,
) -> Response<Body> {
    routed(
        &front,
        PathNames::of_caller(Target::Server(&server)),
        request,
    )
    .await
}

async fn of_tenant(
    State(front): State<Arc<Front>>,
    Path((tenant, server)): Path<(String, String)>,
    request: Request,
) -> Response<Body> {
    routed(
        &front,
        PathNames::of_tenant(&tenant, Target::Server(&server)),
        request,
    )
    .await
}

async fn of_all(State(front): State<Arc<Front>>, request: Request) -> Response<Body> {
    routed(&front, PathNames::of_caller(Target::All), request).await
}

async fn of_all_for_tenant(
    State(front): State<Arc<Front>>,
    Path(tenant): Path<String>,
    request: Request,
) -> Response<Body> {
    routed(&front, PathNames::of_tenant(&tenant, Target::All), request).await
}

async fn of_only_server(State(front): State<Arc<Front>>, request: Request) -> Response<Body> {
    let server = front.only_server.clone();
    let server = server.as_ref().map_or("", ServerName::as_str);
    routed(
        &front,
        PathNames::of_caller(Target::Server(server)),
        request,
    )
    .await
}

async fn routed(front: &Front, named: PathNames<'_>, request: Request) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let peer = parts.extensions.get::<Peer>();
    let late = parts.extensions.get::<Late>().cloned().unwrap_or_default();
    let head = Head::read(&parts, named, peer, &late);
    endpoint(front, &head, body).await
}

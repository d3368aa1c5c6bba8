//! `/v1/config`: a caller stores a config, secrets included, once, and sends its handle from then on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::body::Body;
use axum::extract::{Path, Request, State};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, LOCATION};
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::listener::Peer;
use super::reply;
use super::router::{Front, check_content_type, read_body};
use crate::protocol::{Failure, Reason};
use crate::tenancy::{ClientConfig, Credentials, DEFAULT_TTL, HandleInfo, MAX_TTL, Principal};

/// Largest config with its secrets that is stored, in bytes of the request.
const MAX_STORED: usize = 64 << 10;

/// What is to be stored.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    server: String,
    #[serde(default)]
    config: Map<String, Value>,
    #[serde(default)]
    secrets: BTreeMap<String, String>,
    ttl: Option<String>,
}

pub(super) async fn all(State(front): State<Arc<Front>>, request: Request) -> Response<Body> {
    answered(&front, serve_all(&front, None, request).await)
}

pub(super) async fn all_of_tenant(
    State(front): State<Arc<Front>>,
    Path(tenant): Path<String>,
    request: Request,
) -> Response<Body> {
    answered(&front, serve_all(&front, Some(&tenant), request).await)
}

pub(super) async fn one(
    State(front): State<Arc<Front>>,
    Path(handle): Path<String>,
    request: Request,
) -> Response<Body> {
    answered(
        &front,
        serve_one(&front, None, &handle, &request.into_parts().0).await,
    )
}

pub(super) async fn one_of_tenant(
    State(front): State<Arc<Front>>,
    Path((tenant, handle)): Path<(String, String)>,
    request: Request,
) -> Response<Body> {
    answered(
        &front,
        serve_one(&front, Some(&tenant), &handle, &request.into_parts().0).await,
    )
}

fn answered(front: &Front, outcome: Result<Response<Body>, Failure>) -> Response<Body> {
    let mut response = outcome.unwrap_or_else(|failure| {
        front.sessions.metrics().rejected(failure.reason);
        reply::failure(&failure, None)
    });
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn caller(
    front: &Front,
    tenant: Option<&str>,
    request: &Parts,
) -> Result<Principal, Failure> {
    front.guard.check(&request.headers)?;
    let setup = front.sessions.setup();
    let credentials = Credentials {
        headers: &request.headers,
        peer: request.extensions.get::<Peer>().map(|peer| peer.0),
        path_tenant: tenant,
    };
    setup.authenticator.authenticate(credentials).await
}

async fn serve_all(
    front: &Front,
    tenant: Option<&str>,
    request: Request,
) -> Result<Response<Body>, Failure> {
    let (parts, body) = request.into_parts();
    let principal = caller(front, tenant, &parts).await?;
    if parts.method != Method::POST {
        return Ok(reply::method_not_allowed("POST"));
    }
    check_content_type(&parts.headers)?;
    let body = read_body(&parts.headers, body, front.max_body.min(MAX_STORED)).await?;
    let (handle, info) = store(front, &principal, &body).await?;
    let mut response = reply::json(StatusCode::CREATED, told(&handle, &info).to_string());
    let place = format!("{}/{handle}", parts.uri.path().trim_end_matches('/'));
    if let Ok(place) = HeaderValue::from_str(&place) {
        response.headers_mut().insert(LOCATION, place);
    }
    Ok(response)
}

async fn store(
    front: &Front,
    principal: &Principal,
    body: &Bytes,
) -> Result<(String, HandleInfo), Failure> {
    // What cannot be read is not quoted: it may be a secret.
    let asked: Asked = serde_json::from_slice(body).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let why = format!(
            "the body is not {{\"server\": \"…\", \"config\": {{…}}, \"secrets\": {{\"NAME\": \"…\"}}, \"ttl\": \"24h\"}} (line {line}, column {column})"
        );
        Failure::new(Reason::InvalidRequest, why)
    })?;
    let setup = front.sessions.setup();
    let server = setup.server_for(principal, &asked.server)?;
    let ttl = time_to_live(asked.ttl.as_deref())?;
    let secrets = asked.secrets.into_iter();
    let secrets = secrets.map(|(name, secret)| (name, secret.into()));
    let config = ClientConfig::new(asked.config, secrets.collect());
    if config.is_empty() {
        let why = "there is nothing to store: both `config` and `secrets` are empty";
        return Err(Failure::new(Reason::ConfigInvalid, why));
    }
    setup
        .resolver
        .check_client(&principal.tenant, &server, &config)?;
    let may_be_kept = setup.resolver.may_be_kept(&server, &config);
    let stored = front
        .handles
        .create(principal, server, config, ttl, may_be_kept);
    stored.await
}

fn time_to_live(text: Option<&str>) -> Result<Duration, Failure> {
    let Some(text) = text else {
        return Ok(DEFAULT_TTL);
    };
    let least = Duration::from_secs(1);
    let ttl = humantime::parse_duration(text).ok();
    ttl.filter(|ttl| (least..=MAX_TTL).contains(ttl))
        .ok_or_else(|| {
            let most = humantime::format_duration(MAX_TTL);
            let why = format!("`ttl` must be a duration from \"1s\" to \"{most}\"");
            Failure::new(Reason::ConfigInvalid, why)
        })
}

async fn serve_one(
    front: &Front,
    tenant: Option<&str>,
    handle: &str,
    request: &Parts,
) -> Result<Response<Body>, Failure> {
    let principal = caller(front, tenant, request).await?;
    let unknown = || {
        let why = "no such config handle (it expired, was deleted, or never was)";
        Failure::new(Reason::NotFound, why)
    };
    match request.method {
        Method::GET => {
            let info = front.handles.info(handle, &principal).ok_or_else(unknown)?;
            Ok(reply::json(StatusCode::OK, told(handle, &info).to_string()))
        }
        Method::DELETE => {
            if !front.handles.delete(handle, &principal).await? {
                return Err(unknown());
            }
            Ok(reply::empty(StatusCode::NO_CONTENT))
        }
        _ => Ok(reply::method_not_allowed("GET, DELETE")),
    }
}

fn told(handle: &str, info: &HandleInfo) -> Value {
    let seconds = |at: SystemTime| {
        let since = at.duration_since(SystemTime::UNIX_EPOCH);
        since.unwrap_or_default().as_secs()
    };
    json!({
        "id": handle,
        "server": info.server.as_str(),
        "keys": info.keys,
        "secrets": info.secrets,
        "created": seconds(info.created),
        "expires": seconds(info.expires),
        "survivesRestart": info.is_kept,
    })
}

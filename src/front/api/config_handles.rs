//! `/v1/config`: a caller stores a config, secrets included, once, and sends its handle from then on.
//! Requests count against the caller's limits like any other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::extract::{Path, Request, State};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, LOCATION};
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::front::pipeline::audit;
use crate::front::pipeline::authenticate::{AuthGate, Caller};
use crate::front::pipeline::body::{RAISE_MAX_BODY, read_body};
use crate::front::pipeline::discard::take_unread;
use crate::front::pipeline::limits::Counted;
use crate::front::pipeline::negotiate::check_content_type;
use crate::front::pipeline::pacing::BodyLimits;
use crate::front::response::body::Body;
use crate::front::response::reply;
use crate::front::state::Front;
use crate::ids::ServerName;
use crate::protocol::{Failure, Reason};
use crate::store::IdHash;
use crate::tenancy::{
    ClientConfig, DEFAULT_TTL, HandleInfo, MAX_CONFIG, MAX_TTL, Named, Principal,
};

/// A request to store a config of one server, or of several.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StoreRequest {
    server: Option<String>,
    #[serde(default)]
    config: Map<String, Value>,
    #[serde(default)]
    secrets: BTreeMap<String, String>,
    servers: Option<BTreeMap<String, StoreRequestPart>>,
    ttl: Option<String>,
}

/// The part of such a request for one of several servers.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StoreRequestPart {
    #[serde(default)]
    config: Map<String, Value>,
    #[serde(default)]
    secrets: BTreeMap<String, String>,
}

impl StoreRequestPart {
    fn into_config(self) -> ClientConfig {
        let secrets = self.secrets.into_iter();
        let secrets = secrets.map(|(name, secret)| (name, secret.into()));
        ClientConfig::new(self.config, secrets.collect())
    }
}

pub(in crate::front) async fn all(
    State(front): State<Arc<Front>>,
    request: Request,
) -> Response<Body> {
    of_all(&front, None, request).await
}

pub(in crate::front) async fn all_of_tenant(
    State(front): State<Arc<Front>>,
    Path(tenant): Path<String>,
    request: Request,
) -> Response<Body> {
    of_all(&front, Some(&tenant), request).await
}

pub(in crate::front) async fn one(
    State(front): State<Arc<Front>>,
    Path(handle): Path<String>,
    request: Request,
) -> Response<Body> {
    of_one(&front, None, &handle, request).await
}

pub(in crate::front) async fn one_of_tenant(
    State(front): State<Arc<Front>>,
    Path((tenant, handle)): Path<(String, String)>,
    request: Request,
) -> Response<Body> {
    of_one(&front, Some(&tenant), &handle, request).await
}

async fn of_all(front: &Front, tenant: Option<&str>, request: Request) -> Response<Body> {
    let (parts, mut body) = request.into_parts();
    let gate = AuthGate::of_resource(&parts, parts.uri.path());
    let admitted = gate.admit(front, tenant).await;
    let outcome = match &admitted {
        Ok(caller) => create(front, gate, caller, &parts, &mut body).await,
        Err(failure) => Err(failure.clone()),
    };
    if outcome.is_err() {
        take_unread(parts.version, body).await;
    }
    never_stored(gate.answer(front, &admitted, outcome))
}

async fn of_one(
    front: &Front,
    tenant: Option<&str>,
    handle: &str,
    request: Request,
) -> Response<Body> {
    // The rest of the path is a credential.
    let parts = request.into_parts().0;
    let path = parts.uri.path();
    let resource = path.rsplit_once('/').map_or(path, |(resource, _)| resource);
    let gate = AuthGate::of_resource(&parts, resource);
    let admitted = gate.admit(front, tenant).await;
    let outcome = match &admitted {
        Ok(caller) => serve_one(front, caller, handle, &parts.method).await,
        Err(failure) => Err(failure.clone()),
    };
    never_stored(gate.answer(front, &admitted, outcome))
}

fn never_stored(mut response: Response<Body>) -> Response<Body> {
    let no_store = HeaderValue::from_static("no-store");
    response.headers_mut().insert(CACHE_CONTROL, no_store);
    response
}

/// An act of a known caller, for the audit log.
struct Act<'a> {
    front: &'a Front,
    principal: &'a Principal,
    name: &'static str,
    began: Instant,
}

impl Act<'_> {
    /// Writes down what became of it; returns what is said of that.
    fn ended(
        &self,
        server: Option<&str>,
        handle: Option<&str>,
        outcome: Result<Response<Body>, Failure>,
    ) -> Response<Body> {
        if let Some(audit) = &self.front.audit {
            let act = audit::ConfigAct {
                name: self.name,
                server,
                handle: handle.map(|handle| IdHash::of(handle).fingerprint()),
                failed: outcome.as_ref().err(),
                took: self.began.elapsed(),
            };
            audit::stored_config(audit, self.principal, act);
        }
        outcome.unwrap_or_else(|failure| {
            self.front.gateway.metrics().rejected(failure.reason);
            reply::failure(&failure)
        })
    }
}

async fn create(
    front: &Front,
    gate: AuthGate<'_>,
    caller: &Caller,
    parts: &Parts,
    body: &mut axum::body::Body,
) -> Result<Response<Body>, Failure> {
    let began = Instant::now();
    let Caller { runtime, principal } = caller;
    if parts.method != Method::POST {
        return Ok(reply::method_not_allowed("POST"));
    }
    check_content_type(&parts.headers)?;
    let permit = front
        .limits
        .admit(&runtime.config, principal, Counted::Request)?;
    let account = front.gateway.ledger().account(&principal.tenant);
    let limits = BodyLimits {
        max: front.max_body.min(MAX_CONFIG),
        remedy: match front.max_body < MAX_CONFIG {
            true => RAISE_MAX_BODY,
            false => "that is the most for a configuration, and fixed",
        },
        rate: &|| front.body_rate(principal),
        connection: gate.connection(),
        drain: &front.draining,
    };
    let body = read_body(&parts.headers, body, limits, &account).await?;
    let act = Act {
        front,
        principal,
        name: "config create",
        began,
    };
    let request = read(&body.bytes);
    let server = request.as_ref().ok().map(|request| match &request.server {
        Some(server) => server.clone(),
        None => ServerName::all().to_string(),
    });
    let stored = match request {
        Ok(request) => store(front, principal, request).await,
        Err(failure) => Err(failure),
    };
    let handle = stored.as_ref().ok().map(|(handle, _)| handle.clone());
    let response = stored.map(|(handle, info)| {
        let mut response = reply::json(StatusCode::CREATED, told(&handle, &info).to_string());
        let location = format!("{}/{handle}", parts.uri.path());
        if let Ok(location) = HeaderValue::from_str(&location) {
            response.headers_mut().insert(LOCATION, location);
        }
        response
    });
    let response = act.ended(server.as_deref(), handle.as_deref(), response);
    Ok(permit.kept_by(response))
}

fn read(body: &Bytes) -> Result<StoreRequest, Failure> {
    // What cannot be read is not quoted: it may be a secret.
    let request: StoreRequest = serde_json::from_slice(body).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let why = format!(
            "the body is neither {{\"server\": \"…\", \"config\": {{…}}, \"secrets\": {{\"NAME\": \"…\"}}, \"ttl\": \"24h\"}} nor {{\"servers\": {{\"…\": {{\"config\": {{…}}, \"secrets\": {{…}}}}}}, \"ttl\": \"24h\"}} (line {line}, column {column})"
        );
        Failure::new(Reason::InvalidRequest, why)
    })?;
    let is_of_one = request.server.is_some();
    let has_own = !request.config.is_empty() || !request.secrets.is_empty();
    if is_of_one == request.servers.is_some() || (has_own && !is_of_one) {
        let why = "the body holds either `server` with its `config` and `secrets`, or `servers` with those of each";
        return Err(Failure::new(Reason::InvalidRequest, why));
    }
    Ok(request)
}

async fn store(
    front: &Front,
    principal: &Principal,
    request: StoreRequest,
) -> Result<(String, HandleInfo), Failure> {
    let runtime = front.gateway.runtime_config();
    let ttl = time_to_live(request.ttl.as_deref())?;
    let (server, config) = match request.servers {
        None => {
            let name = request.server.unwrap_or_default();
            let server = runtime.server_for(principal, &name)?;
            let whole = StoreRequestPart {
                config: request.config,
                secrets: request.secrets,
            };
            (server, whole.into_config())
        }
        Some(servers) => {
            let mut parts = BTreeMap::new();
            for (name, part) in servers {
                let server = runtime.server_for(principal, &name)?;
                parts.insert(server, part.into_config());
            }
            (ServerName::all(), ClientConfig::of_servers(parts))
        }
    };
    if config.is_empty() {
        let why = "there is nothing to store: both `config` and `secrets` are empty";
        return Err(Failure::new(Reason::ConfigInvalid, why));
    }
    let (resolver, tenant) = (&runtime.resolver, &principal.tenant);
    if server == ServerName::all() {
        resolver.check_parts(tenant, &config).await?;
    } else {
        resolver.check_client(tenant, &server, &config).await?;
    }
    let may_be_read = resolver.may_be_kept(&server, &config);
    let stored = front
        .handles
        .create(principal, server, config, ttl, may_be_read);
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
    caller: &Caller,
    handle: &str,
    method: &Method,
) -> Result<Response<Body>, Failure> {
    let began = Instant::now();
    let Caller { runtime, principal } = caller;
    let permit = front
        .limits
        .admit(&runtime.config, principal, Counted::Request)?;
    let unknown = || {
        let why = "no such config handle (it expired, was deleted, or never was)";
        Failure::new(Reason::NotFound, why)
    };
    let response = match *method {
        Method::GET => {
            let info = front.handles.info(handle, principal).ok_or_else(unknown)?;
            reply::json(StatusCode::OK, told(handle, &info).to_string())
        }
        Method::DELETE => {
            let act = Act {
                front,
                principal,
                name: "config delete",
                began,
            };
            let deleted = front.handles.delete(handle, principal).await;
            let deleted = deleted.and_then(|server| server.ok_or_else(unknown));
            let server = deleted.as_ref().ok().cloned();
            let server = server.as_ref().map(ServerName::as_str);
            let gone = deleted.map(|_| reply::empty(StatusCode::NO_CONTENT));
            act.ended(server, Some(handle), gone)
        }
        _ => reply::method_not_allowed("GET, DELETE"),
    };
    Ok(permit.kept_by(response))
}

fn told(handle: &str, info: &HandleInfo) -> Value {
    let seconds = |at: SystemTime| {
        let since = at.duration_since(SystemTime::UNIX_EPOCH);
        since.unwrap_or_default().as_secs()
    };
    let mut told = json!({
        "id": handle,
        "created": seconds(info.created),
        "expires": seconds(info.expires),
        "survivesRestart": info.is_kept,
    });
    let named = |named: &Named| json!({ "keys": named.keys, "secrets": named.secrets });
    let servers = info.servers.iter();
    if info.is_of_several {
        told["servers"] = servers
            .map(|(server, own)| (server.to_string(), named(own)))
            .collect();
    } else {
        for (server, own) in servers {
            told["server"] = json!(server.as_str());
            told["keys"] = json!(own.keys);
            told["secrets"] = json!(own.secrets);
        }
    }
    told
}

//! Where clients learn which authorization server gives tokens for here (RFC 9728; 2025-11-25,
//! basic/authorization, "Protected Resource Metadata Discovery").

use axum::body::Body;
use http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use serde_json::json;

use super::reply;
use super::router::Front;
use crate::config::{Auth, AuthMode, Jwt};
use crate::protocol::{Failure, Reason};

/// Where the metadata of the resource at `/` is; of the one at `/x`, below it.
pub(super) const PATH: &str = "/.well-known/oauth-protected-resource";

/// The metadata of the resource at `path`, which begins with a slash or is empty.
pub(super) fn metadata(front: &Front, host: Option<&HeaderValue>, path: &str) -> Response<Body> {
    let setup = front.sessions.setup();
    let auth = &setup.config.auth;
    let (AuthMode::Jwt(jwt), Some(base)) = (&auth.mode, base_url(front, host)) else {
        let why = "no such path (there is no authorization server with this `auth.mode`)";
        return reply::failure(&Failure::new(Reason::NotFound, why), None);
    };
    let mut response = reply::json(
        StatusCode::OK,
        document(&format!("{base}{path}"), auth, jwt),
    );
    let headers = response.headers_mut();
    // It is for anyone, pages in a browser included.
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(
        CACHE_CONTROL,
        HeaderValue::from_static("public, max-age=300"),
    );
    response
}

fn document(resource: &str, auth: &Auth, jwt: &Jwt) -> String {
    let mut document = json!({
        "resource": resource,
        "authorization_servers": jwt.authorization_servers,
        "bearer_methods_supported": ["header"],
    });
    if !auth.required_scopes.is_empty() {
        document["scopes_supported"] = json!(auth.required_scopes);
    }
    document.to_string()
}

/// The address that clients know, without a slash at its end.
fn base_url(front: &Front, host: Option<&HeaderValue>) -> Option<String> {
    if let Some(url) = &front.public_url {
        return Some(url.trim_end_matches('/').to_owned());
    }
    let scheme = if front.is_tls { "https" } else { "http" };
    let host = host?.to_str().ok()?;
    let is_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
    (!host.is_empty() && host.chars().all(is_host)).then(|| format!("{scheme}://{host}"))
}

/// Completes what a refusal says in `WWW-Authenticate` with where the metadata is (RFC 9728, 5.1).
pub(super) fn challenge(
    front: &Front,
    host: Option<&HeaderValue>,
    path: &str,
    response: &mut Response<Body>,
) {
    let setup = front.sessions.setup();
    if !matches!(setup.config.auth.mode, AuthMode::Jwt(_)) {
        return;
    }
    let Some(said) = response.headers().get(WWW_AUTHENTICATE) else {
        return;
    };
    let (Some(base), Ok(said)) = (base_url(front, host), said.to_str()) else {
        return;
    };
    let mut text = format!("{said}, resource_metadata=\"{base}{PATH}{path}\"");
    let scopes = &setup.config.auth.required_scopes;
    if !scopes.is_empty() && !text.contains("scope=") {
        let scopes: Vec<_> = scopes.iter().map(String::as_str).collect();
        text.push_str(&format!(", scope=\"{}\"", scopes.join(" ")));
    }
    if let Ok(value) = HeaderValue::from_str(&text) {
        response.headers_mut().insert(WWW_AUTHENTICATE, value);
    }
}

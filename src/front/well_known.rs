//! Where clients learn which authorization server gives tokens for here (RFC 9728; 2025-11-25,
//! basic/authorization, "Protected Resource Metadata Discovery").

use http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, AUTHORIZATION, CACHE_CONTROL, HOST, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde_json::json;

use super::body::Body;
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
    let (AuthMode::Jwt(jwt), Some(base)) = (&auth.mode, front.addresses.base(host)) else {
        let why = "no such path (there is no authorization server with this `auth.mode`)";
        return reply::failure(&Failure::new(Reason::NotFound, why));
    };
    let path = front.addresses.below(path);
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

/// Whether a token came with the request.
fn has_token(headers: &HeaderMap) -> bool {
    let given = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
    given.is_some_and(|given| {
        let scheme = given.split(|byte| *byte == b' ').next().unwrap_or_default();
        scheme.eq_ignore_ascii_case(b"bearer") && given.len() > scheme.len() + 1
    })
}

/// Completes what a refusal says in `WWW-Authenticate`: that it is about the token, if there was one
/// (RFC 6750, 3.1), and where the metadata is (RFC 9728, 5.1).
pub(super) fn challenge(
    front: &Front,
    headers: &HeaderMap,
    path: &str,
    response: &mut Response<Body>,
) {
    if !response.status().is_client_error() {
        return;
    }
    let setup = front.sessions.setup();
    let takes_tokens = match setup.config.auth.mode {
        AuthMode::Token | AuthMode::Jwt(_) => true,
        AuthMode::None | AuthMode::Header(_) => false,
    };
    let said = response.headers().get(WWW_AUTHENTICATE);
    let Some(Ok(said)) = said.filter(|_| takes_tokens).map(HeaderValue::to_str) else {
        return;
    };
    let mut text = said.to_owned();
    if response.status() == StatusCode::UNAUTHORIZED && has_token(headers) {
        text.push_str(", error=\"invalid_token\"");
    }
    if matches!(setup.config.auth.mode, AuthMode::Jwt(_))
        && let Some(base) = front.addresses.base(headers.get(HOST))
    {
        text.push_str(&format!(", resource_metadata=\"{base}{PATH}{path}\""));
        let scopes = &setup.config.auth.required_scopes;
        if !scopes.is_empty() && !text.contains("scope=") {
            let scopes: Vec<_> = scopes.iter().map(String::as_str).collect();
            text.push_str(&format!(", scope=\"{}\"", scopes.join(" ")));
        }
    }
    if let Ok(value) = HeaderValue::from_str(&text) {
        response.headers_mut().insert(WWW_AUTHENTICATE, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_one_of_the_scheme_bearer() {
        let given = |value: &'static str| {
            let value = HeaderValue::from_static(value);
            has_token(&HeaderMap::from_iter([(AUTHORIZATION, value)]))
        };
        assert!(given("Bearer x") && given("bearer x"));
        assert!(!given("Bearer") && !given("Bearer ") && !given("Basic eDp4"));
        assert!(!has_token(&HeaderMap::new()));
    }
}

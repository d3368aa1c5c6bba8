//! How a refused caller is told to get credentials (RFC 6750, 3; RFC 9728, 5.1).

use http::header::{AUTHORIZATION, HOST, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use crate::config::AuthMode;
use crate::front::response::body::Body;
use crate::front::state::Front;

/// Where the metadata of the resource at `/` is; of the one at `/x`, below it.
pub(in crate::front) const METADATA_PATH: &str = "/.well-known/oauth-protected-resource";

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
pub(in crate::front) fn complete(
    front: &Front,
    headers: &HeaderMap,
    path: &str,
    response: &mut Response<Body>,
) {
    if !response.status().is_client_error() {
        return;
    }
    let runtime = front.gateway.runtime_config();
    let takes_tokens = match runtime.config.auth.mode {
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
    if matches!(runtime.config.auth.mode, AuthMode::Jwt(_))
        && let Some(base) = front.addresses.base(headers.get(HOST))
    {
        text.push_str(&format!(
            ", resource_metadata=\"{base}{METADATA_PATH}{path}\""
        ));
        let scopes = &runtime.config.auth.required_scopes;
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

//! Where clients learn which authorization server gives tokens for here (RFC 9728; 2025-11-25,
//! basic/authorization, "Protected Resource Metadata Discovery").

use http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL};
use http::{HeaderValue, Response, StatusCode};
use serde_json::json;

use crate::config::{Auth, AuthMode, Jwt};
use crate::front::response::body::Body;
use crate::front::response::reply;
use crate::front::state::Front;
use crate::protocol::{Failure, Reason};

/// The metadata of the resource at `path`, which begins with a slash or is empty.
pub(in crate::front) fn metadata(
    front: &Front,
    host: Option<&HeaderValue>,
    path: &str,
) -> Response<Body> {
    let runtime = front.gateway.runtime_config();
    let auth = &runtime.config.auth;
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
    // The document is for anyone, pages in a browser included.
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

//! The checks before any handler: `Host`, `Origin`, token, in this order.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, HOST, ORIGIN, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::error::ApiError;
use super::site;
use super::unread::BorrowedBody;
use crate::front::take_unread;
use crate::protocol::{ApiReason, host_name, is_loopback_name};

/// Whose page a browser says that a request is of.
const SEC_FETCH_SITE: &str = "sec-fetch-site";

/// The rules of one listener.
#[derive(Debug)]
pub(super) struct Guard {
    /// Answer loopback names only.
    loopback: bool,
    /// SHA-256 of the token.
    token: Option<[u8; 32]>,
}

impl Guard {
    pub(super) fn new(loopback: bool, token: Option<&SecretString>) -> Self {
        Self {
            loopback,
            token: token.map(|token| Sha256::digest(token.expose_secret()).into()),
        }
    }

    fn check(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
        if self.loopback {
            check_host(uri, headers)?;
        }
        let acts = !matches!(*method, Method::GET | Method::HEAD);
        if acts && !is_of_own_page(uri, headers) {
            return Err(ApiError::new(
                ApiReason::Forbidden,
                "actions from other web pages than the dashboard are refused; leave the `Origin` header out",
            ));
        }
        // The page asks for the token, and has nothing of what it shows.
        if site::serves(method, uri, headers) {
            return Ok(());
        }
        self.check_token(headers)
    }

    fn check_token(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        let Some(expected) = &self.token else {
            return Ok(());
        };
        // Digests have one length, and their comparison takes one time whatever was guessed.
        let given: [u8; 32] = Sha256::digest(bearer(headers).unwrap_or_default()).into();
        if bool::from(expected.ct_eq(&given)) {
            Ok(())
        } else {
            Err(ApiError::new(
                ApiReason::Unauthorized,
                "the admin token is missing or wrong; send `Authorization: Bearer <[admin] token>`",
            ))
        }
    }
}

/// Whether an action comes from no web page, or from the one that is served here: browsers say which.
fn is_of_own_page(uri: &Uri, headers: &HeaderMap) -> bool {
    let of_site = headers.get(SEC_FETCH_SITE);
    if of_site.is_some_and(|site| site != "same-origin" && site != "none") {
        return false;
    }
    let mut origins = headers.get_all(ORIGIN).iter();
    let origin = match (origins.next(), origins.next()) {
        (None, _) => return true,
        (Some(origin), None) => origin.to_str().unwrap_or_default(),
        (Some(_), Some(_)) => return false,
    };
    let authority = ["http://", "https://"].iter();
    let mut authority = authority.filter_map(|scheme| origin.strip_prefix(scheme));
    let host = host_of(uri, headers);
    !host.is_empty()
        && authority
            .next()
            .is_some_and(|it| it.eq_ignore_ascii_case(host))
}

fn host_of<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> &'a str {
    uri.authority()
        .map(|authority| authority.as_str())
        .or_else(|| headers.get(HOST)?.to_str().ok())
        .unwrap_or_default()
}

/// A page whose name was made to resolve to 127.0.0.1 still sends its own name as `Host`.
fn check_host(uri: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
    let host = host_of(uri, headers);
    if is_loopback_name(host_name(host)) {
        return Ok(());
    }
    Err(ApiError::new(
        ApiReason::Forbidden,
        format!(
            "host `{}` is not this machine; a loopback listener answers `localhost` and loopback addresses only",
            host.escape_default()
        ),
    ))
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked(b"Bearer ".len())?;
    scheme
        .eq_ignore_ascii_case(b"Bearer ")
        .then(|| token.trim_ascii())
}

/// The middleware.
pub(super) async fn admit(
    State(guard): State<Arc<Guard>>,
    request: Request,
    next: Next,
) -> Response {
    let checked = guard.check(request.method(), request.uri(), request.headers());
    let version = request.version();
    let (head, body) = request.into_parts();
    let (body, mut unread) = BorrowedBody::of(version, body);
    let request = Request::from_parts(head, body);
    let mut response = match checked {
        Ok(()) => next.run(request).await,
        Err(error) => {
            drop(request);
            error.into_response()
        }
    };
    if let Ok(body) = unread.try_recv() {
        take_unread(version, body).await;
    }
    let unauthorized = response.status() == StatusCode::UNAUTHORIZED;
    let headers = response.headers_mut();
    if unauthorized {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    let no_store = HeaderValue::from_static("no-store");
    headers.entry(CACHE_CONTROL).or_insert(no_store);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

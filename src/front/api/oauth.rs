//! `/v1/oauth/{server}`: a caller asks for a link with which a server is authorised upstream, looks
//! whether it is, or ends that. `/oauth/…`: where that link and the provider lead a browser, which has
//! no credentials of stdiopool's.
//!
//! The link shows a page first: whoever was sent one by someone else sees for whom it is. Opening it
//! gives the browser a cookie, without which the provider's answer is not taken (RFC 9700, 4.7.1).

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, COOKIE, REFERRER_POLICY, SET_COOKIE,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use secrecy::ExposeSecret;
use serde_json::json;

use crate::config::OAuth;
use crate::front::pipeline::authenticate::{AuthGate, Caller};
use crate::front::pipeline::limits::Counted;
use crate::front::response::body::Body;
use crate::front::response::reply;
use crate::front::state::Front;
use crate::ids::ServerName;
use crate::protocol::{Failure, Reason};
use crate::telemetry::audit::{AuditKind, AuditRecord};
use crate::tenancy::Principal;
use crate::tenancy::oauth::{Finished, LINK_LIFETIME, LinkError, OpenedLink};

/// Nothing of a page is loaded, run, framed or sent anywhere.
const POLICY: &str =
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(in crate::front) async fn of_server(
    State(front): State<Arc<Front>>,
    Path(server): Path<String>,
    request: Request,
) -> Response<Body> {
    answered(&front, None, &server, &request.into_parts().0).await
}

pub(in crate::front) async fn of_tenant(
    State(front): State<Arc<Front>>,
    Path((tenant, server)): Path<(String, String)>,
    request: Request,
) -> Response<Body> {
    answered(&front, Some(&tenant), &server, &request.into_parts().0).await
}

async fn answered(
    front: &Front,
    tenant: Option<&str>,
    server: &str,
    request: &Parts,
) -> Response<Body> {
    let gate = AuthGate::of_resource(request, request.uri.path());
    let admitted = gate.admit(front, tenant).await;
    let outcome = match &admitted {
        Ok(caller) => serve(front, caller, server, &request.method).await,
        Err(failure) => Err(failure.clone()),
    };
    let mut response = gate.answer(front, &admitted, outcome);
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn serve(
    front: &Front,
    caller: &Caller,
    server: &str,
    method: &Method,
) -> Result<Response<Body>, Failure> {
    let Caller { runtime, principal } = caller;
    let name = runtime.server_for(principal, server)?;
    let _permit = front
        .limits
        .admit(&runtime.config, principal, Counted::Request)?;
    let oauth = runtime
        .config
        .servers
        .get(&name)
        .and_then(|it| it.oauth.clone());
    let oauth = oauth.ok_or_else(|| {
        let why = format!("server `{name}` is not authorised upstream: it has no `oauth`");
        Failure::new(Reason::NotFound, why)
    })?;
    match *method {
        Method::GET => Ok(status(front, principal, &name)),
        Method::POST => {
            may_change(&oauth, principal)?;
            link(front, principal, &name, &oauth)
        }
        Method::DELETE => {
            may_change(&oauth, principal)?;
            revoke(front, principal, &name, &oauth).await
        }
        _ => Ok(reply::method_not_allowed("GET, POST, DELETE")),
    }
}

/// A tenant's authorisation is used by all its users; not each of them has to be able to change it.
fn may_change(oauth: &OAuth, principal: &Principal) -> Result<(), Failure> {
    match &oauth.link_scope {
        Some(scope) if !principal.scopes.contains(scope) => {
            let why = format!("authorising this server for the tenant takes the scope `{scope}`");
            Err(Failure::new(Reason::InsufficientScope, why).needing(scope))
        }
        _ => Ok(()),
    }
}

fn status(front: &Front, principal: &Principal, server: &ServerName) -> Response<Body> {
    let of_tenant = front.grants.list(Some(principal.tenant.as_str()));
    let grant = of_tenant.into_iter().find(|grant| grant.server == *server);
    let body = match grant {
        None => json!({ "authorised": false }),
        Some(grant) => json!({
            "authorised": true,
            "subject": grant.subject,
            "scope": grant.scope,
            "since": seconds(grant.authorised),
        }),
    };
    reply::json(StatusCode::OK, body.to_string())
}

fn link(
    front: &Front,
    principal: &Principal,
    server: &ServerName,
    oauth: &Arc<OAuth>,
) -> Result<Response<Body>, Failure> {
    let subject = principal.subject.clone();
    let made = front.grants.link(&principal.tenant, server, oauth, subject);
    let link = made.map_err(|error| match error {
        LinkError::TooMany(wait) => {
            Failure::new(Reason::TenantLimit, error.to_string()).retry_after(wait)
        }
        LinkError::NotKept(_) | LinkError::NoAddress | LinkError::NoRandom => {
            tracing::error!(tenant = %principal.tenant, %server, "no link to authorise it: {error}");
            let why = "no link can be made (the operator finds the cause in the log)";
            Failure::new(Reason::Internal, why)
        }
    })?;
    let body = json!({
        "authorize_url": link.url.expose_secret(),
        "expires": seconds(link.expires),
    });
    Ok(reply::json(StatusCode::CREATED, body.to_string()))
}

async fn revoke(
    front: &Front,
    principal: &Principal,
    server: &ServerName,
    oauth: &Arc<OAuth>,
) -> Result<Response<Body>, Failure> {
    let revoked = front
        .grants
        .revoke(&principal.tenant, server, Some(oauth))
        .await;
    let Some(told) = revoked else {
        let why = format!("server `{server}` is not authorised");
        return Err(Failure::new(Reason::NotFound, why));
    };
    if let Err(why) = told {
        tracing::warn!(tenant = %principal.tenant, %server, "the provider was not told of a revocation: {why}");
    }
    if let Some(audit) = &front.audit {
        audit.record(AuditRecord {
            kind: AuditKind::Act,
            tenant: Some(principal.tenant.to_string()),
            subject: principal.subject.clone(),
            token: principal.token.as_deref().map(str::to_owned),
            server: Some(server.to_string()),
            method: Some("oauth revoke".to_owned()),
            outcome: Some("ok".to_owned()),
            ..AuditRecord::default()
        });
    }
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

fn seconds(at: std::time::SystemTime) -> u64 {
    let since = at.duration_since(std::time::SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

/// A browser opens a link.
pub(in crate::front) async fn authorize(
    State(front): State<Arc<Front>>,
    Path(state): Path<String>,
    headers: HeaderMap,
) -> Response<Body> {
    if let Err(failure) = front.guarded(&headers) {
        return reply::failure(&failure);
    }
    let Some(opened) = front.grants.open(&state) else {
        let why = "This link is not valid: it was used, or is older than ten minutes.";
        return page(StatusCode::NOT_FOUND, "No such link", &escaped(why));
    };
    let (tenant, server) = (opened.tenant.as_str(), opened.server.as_str());
    let host = opened.provider.host_str().unwrap_or_default();
    let text = format!(
        "Server <b>{}</b> is about to be authorised for tenant <b>{}</b>: everyone of that tenant will use it as you, as far as you allow it. If that is not what you asked for, close this page.</p><p><a rel=\"noreferrer\" href=\"{}\">Go on at {}</a>",
        escaped(server),
        escaped(tenant),
        escaped(opened.provider.as_str()),
        escaped(host),
    );
    let mut response = page(StatusCode::OK, "Authorise a server", &text);
    if let Ok(cookie) = HeaderValue::from_str(&cookie(&opened)) {
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
    response
}

fn cookie(opened: &OpenedLink) -> String {
    let (name, value) = &opened.cookie;
    let secure = if opened.is_secure { "; Secure" } else { "" };
    // Lax: it comes with the provider's redirection.
    format!(
        "{name}={}; Path={}; Max-Age={}; HttpOnly; SameSite=Lax{secure}",
        value.expose_secret(),
        opened.cookie_path,
        LINK_LIFETIME.as_secs(),
    )
}

/// The provider has sent a browser back.
pub(in crate::front) async fn callback(
    State(front): State<Arc<Front>>,
    request: Request,
) -> Response<Body> {
    let headers = request.headers();
    if let Err(failure) = front.guarded(headers) {
        return reply::failure(&failure);
    }
    let query = request.uri().query().unwrap_or_default();
    let query = url::form_urlencoded::parse(query.as_bytes());
    let query = query.into_owned().collect();
    let may = |tenant: &crate::ids::TenantId, server: &ServerName| {
        let config = &front.gateway.runtime_config().config;
        config.has_tenant(tenant) && config.has_server(server)
    };
    let cookie = |name: &str| cookie_of(headers, name);
    match front.grants.finish(query, cookie, may).await {
        Finished::Authorised(tenant, server) => {
            let (tenant, server) = (escaped(tenant.as_str()), escaped(server.as_str()));
            let text = format!(
                "Server <b>{server}</b> is authorised for tenant <b>{tenant}</b>. This page can be closed."
            );
            page(StatusCode::OK, "Authorised", &text)
        }
        Finished::Failed(why) => {
            let text = format!("{}. Nothing has changed.", escaped(&why));
            page(StatusCode::BAD_REQUEST, "Not authorised", &text)
        }
    }
}

fn cookie_of(headers: &HeaderMap, name: &str) -> Option<String> {
    let all = headers.get_all(COOKIE).iter();
    let texts = all.filter_map(|value| value.to_str().ok());
    let mut pairs = texts.flat_map(|text| text.split(';'));
    pairs.find_map(|pair| {
        let (key, value) = pair.trim().split_once('=')?;
        (key == name).then(|| value.to_owned())
    })
}

/// A page with one paragraph, of markup that is put together here.
fn page(status: StatusCode, title: &str, paragraph: &str) -> Response<Body> {
    let text = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title></head>\n<body><h1>{title}</h1><p>{paragraph}</p></body></html>\n"
    );
    let mut response = Response::new(Body::whole(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CACHE_CONTROL, "no-store"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (REFERRER_POLICY, "no-referrer"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Text as it stands in HTML, in an attribute too.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_text() {
        let text = "<script>\"a\" & 'b'</script>";
        let expected = "&lt;script&gt;&quot;a&quot; &amp; &#39;b&#39;&lt;/script&gt;";
        assert_eq!(escaped(text), expected);
    }

    #[test]
    fn a_cookie_is_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, HeaderValue::from_static("a=1; ab=2;c=3=4"));
        headers.append(COOKIE, HeaderValue::from_static("d=5"));
        let of = |name| cookie_of(&headers, name);
        assert_eq!(of("ab").as_deref(), Some("2"));
        assert_eq!(of("c").as_deref(), Some("3=4"));
        assert_eq!(of("d").as_deref(), Some("5"));
        assert_eq!(of("b"), None);
    }
}

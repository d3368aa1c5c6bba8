//! What pages in browsers are told so that they may use the front door from other origins (WHATWG Fetch, "CORS
//! protocol").

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};

use crate::config::Origins;
use crate::front::response::body::Body;
use crate::front::response::reply;

/// The headers that a page may send beside those that every page may; [`PARAM_HEADERS`] are more.
const HEADERS: [&str; 9] = [
    "accept",
    "authorization",
    "content-type",
    "mcp-session-id",
    "mcp-protocol-version",
    "last-event-id",
    "mcp-method",
    "mcp-name",
    "mcp-client-config",
];
/// What a page may read beside what every page may.
const EXPOSED: &str = "mcp-session-id, mcp-protocol-version, www-authenticate, retry-after";
/// How the names of headers begin that repeat arguments of a tool (2026-07-28, basic/transports/streamable-http).
const PARAM_HEADERS: &str = "mcp-param-";
/// Longest list of headers that is looked at, in bytes.
const MAX_ASKED: usize = 8 << 10;
/// How long a browser may keep what it was told, in seconds. Firefox and Chrome keep it for 5 seconds unless told.
const MAX_AGE: &str = "600";

/// The answer to what a browser asks before it lets a page send something; `None` for other requests. A page of an
/// origin that is not allowed is not told so: its browser finds nothing that lets it.
pub(in crate::front) fn preflight(
    origins: &Origins,
    method: &Method,
    headers: &HeaderMap,
) -> Option<Response<Body>> {
    if *method != Method::OPTIONS || !headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD) {
        return None;
    }
    let mut response = reply::empty(StatusCode::NO_CONTENT);
    if allow(origins, headers, response.headers_mut()) {
        let told = response.headers_mut();
        told.insert(
            ACCESS_CONTROL_ALLOW_METHODS,
            HeaderValue::from_static("GET, POST, DELETE"),
        );
        told.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed_headers(headers));
        told.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE));
    }
    Some(response)
}

/// What an answer says to the browser whose page asked with those headers.
pub(in crate::front) fn exposed(origins: &Origins, asked: &HeaderMap) -> HeaderMap {
    let mut told = HeaderMap::new();
    if allow(origins, asked, &mut told) {
        told.insert(
            ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static(EXPOSED),
        );
    }
    told
}

/// Names the origin of the page, if it is allowed.
fn allow(origins: &Origins, asked: &HeaderMap, told: &mut HeaderMap) -> bool {
    told.append(VARY, HeaderValue::from_static("origin"));
    let origin = asked.get(ORIGIN);
    let Some(origin) = origin.filter(|it| it.to_str().is_ok_and(|it| origins.allows(it))) else {
        return false;
    };
    told.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    true
}

fn allowed_headers(asked: &HeaderMap) -> HeaderValue {
    let mut names = HEADERS.to_vec();
    let asked = asked.get(ACCESS_CONTROL_REQUEST_HEADERS);
    let asked = asked.and_then(|asked| asked.to_str().ok());
    let asked = asked.filter(|asked| asked.len() <= MAX_ASKED);
    // Any text follows the prefix: such headers can only be told one by one.
    let params = asked.into_iter().flat_map(|asked| asked.split(','));
    names.extend(params.map(str::trim).filter(|name| {
        let start = name.get(..PARAM_HEADERS.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(PARAM_HEADERS))
            && HeaderName::try_from(*name).is_ok()
    }));
    HeaderValue::try_from(names.join(", ")).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    const APP: &str = "https://app.example.com";

    fn asked(of: &[(HeaderName, &str)]) -> HeaderMap {
        let value = |text: &str| text.parse::<HeaderValue>().expect("valid");
        of.iter()
            .map(|(name, text)| (name.clone(), value(text)))
            .collect()
    }

    #[test]
    fn a_browser_is_told_what_a_page_may_send_and_read() {
        let origins = Origins::parse(&[APP]).expect("valid");
        let headers = asked(&[
            (ORIGIN, APP),
            (ACCESS_CONTROL_REQUEST_METHOD, "POST"),
            (
                ACCESS_CONTROL_REQUEST_HEADERS,
                "last-event-id, Mcp-Param-Region,x-other",
            ),
        ]);
        let told = preflight(&origins, &Method::OPTIONS, &headers).expect("a preflight");
        let told = told.headers();
        assert_eq!(told[ACCESS_CONTROL_ALLOW_ORIGIN], APP);
        let names = told[ACCESS_CONTROL_ALLOW_HEADERS].to_str().expect("text");
        assert!(names.contains("last-event-id") && names.contains("Mcp-Param-Region"));
        assert!(!names.contains("x-other"), "{names}");
        let exposed = exposed(&origins, &headers);
        assert_eq!(exposed[ACCESS_CONTROL_ALLOW_ORIGIN], APP);
        let exposed = &exposed[ACCESS_CONTROL_EXPOSE_HEADERS];
        let exposed = exposed.to_str().expect("text");
        assert!(exposed.contains("mcp-session-id") && exposed.contains("retry-after"));
    }

    #[test]
    fn other_origins_are_told_nothing() {
        let origins = Origins::parse(&[APP]).expect("valid");
        let method = (ACCESS_CONTROL_REQUEST_METHOD, "POST");
        let headers = asked(&[(ORIGIN, "https://evil.example"), method]);
        let told = preflight(&origins, &Method::OPTIONS, &headers).expect("a preflight");
        assert!(!told.headers().contains_key(ACCESS_CONTROL_ALLOW_ORIGIN));
        assert!(told.headers().contains_key(VARY));
        assert!(preflight(&origins, &Method::POST, &headers).is_none());
        let plain = asked(&[(ORIGIN, APP)]);
        assert!(preflight(&origins, &Method::OPTIONS, &plain).is_none());
    }
}

//! The first check of a request: protection against pages in a browser that reach for it
//! (basic/transports, "Security Warning": servers MUST validate the `Origin` header; DNS rebinding).

use std::net::SocketAddr;

use http::header::{HOST, ORIGIN};
use http::{HeaderMap, Uri};

use crate::config::Origins;
use crate::protocol::{Failure, Reason, host_name, is_loopback_name};

/// The check of `Host` and `Origin`.
#[derive(Clone, Debug)]
pub struct Guard {
    /// Listening on loopback: only loopback names are ours.
    is_loopback: bool,
    public_host: Option<String>,
}

impl Guard {
    /// For a listener at `address`, known to the outside as `public_url`.
    pub fn new(address: SocketAddr, public_url: Option<&str>) -> Self {
        let public_host = public_url
            .and_then(|url| url.parse::<Uri>().ok())
            .and_then(|url| url.host().map(str::to_ascii_lowercase));
        Self {
            is_loopback: address.ip().to_canonical().is_loopback(),
            public_host,
        }
    }

    /// Lets a request in or says why not.
    ///
    /// # Errors
    /// [`Reason::Forbidden`] for a foreign `Host` or none at a loopback listener, and for an `Origin` that
    /// is neither listed nor the listener itself.
    pub fn check(&self, headers: &HeaderMap, allowed: &Origins) -> Result<(), Failure> {
        let text = |name| {
            headers
                .get(name)
                .map(|value| value.to_str().unwrap_or("\u{fffd}"))
        };
        let host = text(HOST);
        if self.is_loopback {
            let Some(host) = host else {
                // HTTP/1.0 may leave it out, and so would whoever wants to get around the guard.
                return Err(Failure::new(
                    Reason::Forbidden,
                    "the header `Host` is missing, which a listener on a loopback address needs (send it)",
                ));
            };
            if !self.is_ours(host_name(host)) {
                return Err(Failure::new(
                    Reason::Forbidden,
                    format!(
                        "host `{}` is not this listener (behind a proxy, set `http.public_url`)",
                        host.to_ascii_lowercase()
                    ),
                ));
            }
        }
        let Some(origin) = text(ORIGIN).map(str::to_ascii_lowercase) else {
            return Ok(());
        };
        let is_listed = allowed.allows(&origin);
        // The listener's own pages, if `Host` was found to be ours above.
        let is_own = self.is_loopback
            && host.is_some_and(|host| {
                let schemes = ["http://", "https://"];
                schemes
                    .map(|scheme| origin.strip_prefix(scheme))
                    .iter()
                    .flatten()
                    .any(|own| own.eq_ignore_ascii_case(host))
            });
        if is_listed || is_own {
            return Ok(());
        }
        Err(Failure::new(
            Reason::Forbidden,
            format!("origin `{origin}` is not allowed (list it in `http.allowed_origins`)"),
        ))
    }

    fn is_ours(&self, name: &str) -> bool {
        let public = self.public_host.as_deref();
        is_loopback_name(name) || public.is_some_and(|public| public.eq_ignore_ascii_case(name))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(guard: &Guard, host: &str, origin: Option<&str>) -> bool {
        check_with(guard, &Origins::default(), host, origin)
    }

    fn check_with(guard: &Guard, allowed: &Origins, host: &str, origin: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().expect("valid"));
        if let Some(origin) = origin {
            headers.insert(ORIGIN, origin.parse().expect("valid"));
        }
        guard.check(&headers, allowed).is_ok()
    }

    #[test]
    fn a_loopback_listener_answers_only_to_loopback_names() {
        let local = "127.0.0.1:8080".parse().expect("valid");
        let guard = Guard::new(local, Some("https://mcp.example.com"));
        for ours in [
            "localhost",
            "localhost:8080",
            "127.0.0.1:1",
            "[::1]:8080",
            "[::ffff:127.0.0.1]:8080",
            "MCP.example.com",
        ] {
            assert!(check(&guard, ours, None), "{ours}");
        }
        for foreign in [
            "evil.example",
            "localhost.evil.example:8080",
            "10.0.0.1",
            "[::ffff:10.0.0.1]",
        ] {
            assert!(!check(&guard, foreign, None), "{foreign}");
        }
        let none = HeaderMap::new();
        assert!(guard.check(&none, &Origins::default()).is_err());
        let public = Guard::new("0.0.0.0:8080".parse().expect("valid"), None);
        assert!(public.check(&none, &Origins::default()).is_ok());
    }

    proptest! {
        /// Whoever is let in named this host, as a parser of addresses reads it.
        #[test]
        fn whoever_is_let_in_named_this_host(
            host in "(localhost|LOCALHOST|127\\.0\\.0\\.1|\\[::1\\]|evil|mcp\\.example\\.com|:|@|\\.|80|\\[|\\]|/|,| |%){0,6}",
        ) {
            let local = "127.0.0.1:8080".parse().expect("valid");
            let guard = Guard::new(local, Some("https://mcp.example.com"));
            let mut headers = HeaderMap::new();
            headers.insert(HOST, host.parse().expect("valid"));
            let authority = host.parse::<http::uri::Authority>();
            let name = authority.as_ref().map(|it| it.host().to_ascii_lowercase());
            let is_ours = name.is_ok_and(|name| {
                // All of 127.0.0.0/8 is of loopback.
                let address = name.parse::<std::net::Ipv4Addr>();
                ["localhost", "[::1]", "mcp.example.com"].contains(&&*name)
                    || address.is_ok_and(|address| address.is_loopback())
            });
            // A text that is no host is refused before it comes here.
            if guard.check(&headers, &Origins::default()).is_ok() && authority.is_ok() {
                prop_assert!(is_ours && !host.contains('@'), "{host}");
            }
        }
    }

    #[test]
    fn an_origin_is_listed_or_refused() {
        let public = "0.0.0.0:8080".parse().expect("valid");
        let guard = Guard::new(public, None);
        let allowed = Origins::parse(&["https://app.example.com/"]).expect("valid");
        let check_public = |origin| check_with(&guard, &allowed, "any.example", origin);
        assert!(check_public(None));
        assert!(check_public(Some("https://app.example.com")));
        assert!(!check_public(Some("http://any.example")));
        assert!(!check_public(Some("null")));
        let local = Guard::new("127.0.0.1:8080".parse().expect("valid"), None);
        assert!(check(
            &local,
            "localhost:8080",
            Some("http://localhost:8080")
        ));
        assert!(!check(
            &local,
            "localhost:8080",
            Some("http://localhost:9999")
        ));
        assert!(!check(
            &local,
            "localhost:8080",
            Some("http://evil.example")
        ));
    }
}

//! Addresses of the front door, as they are told to clients: behind a proxy they begin with `http.public_url`.

use std::net::SocketAddr;

use http::{HeaderValue, Uri};

/// The addresses of the front door. Every address that a client is told is made here.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// `http.public_url` without a slash at its end.
    public_url: Option<String>,
    /// The path of `http.public_url`, without a slash at its end: empty, or what a proxy puts before the paths of here.
    prefix: String,
    is_tls: bool,
}

/// Names of MCP endpoints.
const ENDPOINTS: [&str; 3] = ["mcp", "sse", "messages"];

impl Addresses {
    /// The addresses of a front door that speaks HTTPS or not.
    pub fn new(public_url: Option<&str>, is_tls: bool) -> Self {
        let public_url = public_url.map(|url| url.trim_end_matches('/').to_owned());
        let uri = public_url.as_ref().and_then(|url| url.parse::<Uri>().ok());
        let prefix = uri.as_ref().map_or("", Uri::path);
        Self {
            prefix: prefix.trim_end_matches('/').to_owned(),
            public_url,
            is_tls,
        }
    }

    /// The address of this front door, for a client that has named that host. Without a slash at the end. `None` without a host.
    pub(super) fn base(&self, host: Option<&HeaderValue>) -> Option<String> {
        if let Some(url) = &self.public_url {
            return Some(url.clone());
        }
        let host = host?.to_str().ok()?;
        let is_host =
            |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
        let is_host = !host.is_empty() && host.chars().all(is_host);
        is_host.then(|| format!("{}://{host}", self.scheme()))
    }

    /// The address of this front door, for whoever knows where it listens: `None` if that is no address for a browser.
    pub fn base_at(&self, address: SocketAddr) -> Option<String> {
        let own = || format!("{}://{address}", self.scheme());
        let is_own = address.ip().to_canonical().is_loopback();
        self.public_url.clone().or_else(|| is_own.then(own))
    }

    /// A path of here, as its clients know it.
    pub(super) fn path(&self, path: &str) -> String {
        format!("{}{path}", self.prefix)
    }

    /// A path of here, given as clients know it or as it is: some proxies take the prefix off, others do not.
    pub(super) fn below<'p>(&self, path: &'p str) -> &'p str {
        match path.strip_prefix(&self.prefix) {
            Some(rest) if rest.starts_with('/') => rest,
            _ => path,
        }
    }

    /// The path that a request means: one with a slash at its end is the one without it, and one of an MCP endpoint may
    /// have the prefix. `None` if it is the path as it is.
    pub(super) fn meant<'p>(&self, path: &'p str) -> Option<&'p str> {
        let plain = match path.strip_suffix('/') {
            Some(plain) if !plain.is_empty() => plain,
            _ => path,
        };
        let meant = match self.prefix.is_empty() || is_endpoint(plain) {
            true => plain,
            false => Some(self.below(plain))
                .filter(|rest| is_endpoint(rest))
                .unwrap_or(plain),
        };
        (meant.len() != path.len()).then_some(meant)
    }

    fn scheme(&self) -> &'static str {
        match self.is_tls {
            true => "https",
            false => "http",
        }
    }
}

/// Whether an MCP endpoint may be at that path.
fn is_endpoint(path: &str) -> bool {
    let Some((before, name)) = path.rsplit_once('/') else {
        return false;
    };
    let mut names = before.split('/').skip(1);
    let places = match names.next() {
        None => return ENDPOINTS.contains(&name),
        // A tenant, and a server perhaps.
        Some("t") => 2,
        Some(_) => 0,
    };
    ENDPOINTS.contains(&name) && names.count() <= places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_url_with_a_path_is_found_in_either_form_of_the_address() {
        let behind = |url| Addresses::new(Some(url), false);
        let addresses = behind("https://example.com/pool/");
        assert_eq!(addresses.below("/pool/github/mcp"), "/github/mcp");
        assert_eq!(addresses.below("/github/mcp"), "/github/mcp");
        assert_eq!(addresses.below("/pooled/mcp"), "/pooled/mcp");
        assert_eq!(addresses.below(""), "");
        assert_eq!(addresses.path("/github/messages"), "/pool/github/messages");
        let plain = behind("https://example.com");
        assert_eq!(plain.below("/github/mcp"), "/github/mcp");
        assert_eq!(plain.path("/github/messages"), "/github/messages");
        let none = Addresses::new(None, true);
        assert_eq!(none.below("/github/mcp"), "/github/mcp");
        let host = HeaderValue::from_static("here:8080");
        let of = |addresses: &Addresses| addresses.base(Some(&host));
        assert_eq!(of(&none).as_deref(), Some("https://here:8080"));
        assert_eq!(of(&addresses).as_deref(), Some("https://example.com/pool"));
    }

    #[test]
    fn a_path_is_the_same_with_a_slash_and_below_the_prefix() {
        let addresses = Addresses::new(Some("https://example.com/pool"), false);
        for (path, meant) in [
            ("/demo/mcp", None),
            ("/demo/mcp/", Some("/demo/mcp")),
            ("/t/acme/demo/mcp/", Some("/t/acme/demo/mcp")),
            ("/mcp/", Some("/mcp")),
            ("/v1/config/", Some("/v1/config")),
            ("/", None),
            ("/pool/demo/mcp", Some("/demo/mcp")),
            ("/pool/demo/messages/", Some("/demo/messages")),
            ("/pool/t/acme/demo/sse", Some("/t/acme/demo/sse")),
            // A server of that name.
            ("/pool/mcp", None),
            ("/pool/other/thing", None),
            ("/poolside/demo/mcp", None),
            ("/demo/mcp//", Some("/demo/mcp/")),
        ] {
            assert_eq!(addresses.meant(path), meant, "{path}");
        }
        let plain = Addresses::new(None, false);
        assert_eq!(plain.meant("/demo/mcp"), None);
        assert_eq!(plain.meant("/demo/mcp/"), Some("/demo/mcp"));
        assert_eq!(plain.meant("/pool/demo/mcp"), None);
    }
}

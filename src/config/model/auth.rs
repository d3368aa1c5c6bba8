//! `[auth]`: who callers are, and how they say so.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use jsonwebtoken::Algorithm;
use url::Url;

/// `[auth]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Auth {
    /// The way in which callers say who they are.
    pub mode: AuthMode,
    /// Scopes without which nobody comes in.
    pub required_scopes: BTreeSet<String>,
}

/// `[auth] mode`: who callers are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AuthMode {
    /// Callers name themselves: the tenant is the path's, else the default one. Only on loopback.
    None,
    /// Callers show a bearer token that a tenant has.
    Token,
    /// Callers show a signed token, which names the tenant.
    Jwt(Box<Jwt>),
    /// A proxy names the caller in headers.
    Header(Box<ProxyHeaders>),
}

/// The rules for JSON Web Tokens, and the claims that are read from them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Jwt {
    /// Where the issuer's keys are.
    pub keys: KeySource,
    /// `iss` must be this.
    pub issuer: String,
    /// `aud` must have one of these.
    pub audience: Vec<String>,
    /// Algorithms that a signature may have; none of them with a shared secret.
    pub algorithms: Vec<Algorithm>,
    /// The claim that names the tenant; dots lead into objects.
    pub tenant_claim: String,
    /// The claim with the scopes: a text with blanks between them, or a list.
    pub scope_claim: String,
    /// How far clocks may be apart.
    pub leeway: Duration,
    /// How long the issuer's keys are used before they are fetched again.
    pub refresh: Duration,
    /// Where clients get tokens: URLs of authorization servers.
    pub authorization_servers: Vec<String>,
}

/// Where the keys of signatures are, as a JWK Set (RFC 7517).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KeySource {
    /// The keys are fetched from that address.
    Url(Url),
    /// The keys are read from that file.
    File(PathBuf),
}

/// The headers that a proxy writes, and the proxies that may.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProxyHeaders {
    /// Addresses of these proxies.
    pub trusted: Vec<IpNet>,
    /// Has the proxy's secret.
    pub secret_header: http::HeaderName,
    /// SHA-256 of the secrets that it may have; none: it needs none.
    pub secrets: Vec<[u8; 32]>,
    /// Names the tenant.
    pub tenant: http::HeaderName,
    /// Names the user.
    pub subject: http::HeaderName,
    /// Header with the user's mail address.
    pub email: http::HeaderName,
    /// Header with the user's scopes, blanks or commas between them.
    pub scopes: http::HeaderName,
}

impl ProxyHeaders {
    /// A trusted network that has loopback addresses in it.
    pub fn trusted_loopback(&self) -> Option<&IpNet> {
        let loopback = [
            IpNet::from(Ipv4Net::new_assert(Ipv4Addr::LOCALHOST, 8).trunc()),
            IpNet::from(Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128)),
        ];
        self.trusted.iter().find(|network| {
            let overlaps = |own: &IpNet| own.contains(*network) || network.contains(own);
            loopback.iter().any(overlaps)
        })
    }
}

impl Auth {
    /// Whether callers name themselves, unchecked.
    pub fn is_open(&self) -> bool {
        self.mode == AuthMode::None
    }
}

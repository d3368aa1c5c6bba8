//! From credentials to a principal.

use std::collections::BTreeSet;
use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::time::SystemTime;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName};
use rustc_hash::FxHashMap;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use super::jwks::Keys;
use super::jwt::{self, JwtError};
use super::principal::Principal;
use super::uses::Uses;
use crate::config::{Auth, AuthMode, Config, DEFAULT_TENANT, Jwt, ProxyHeaders, Token};
use crate::ids::{TenantId, is_valid_name};
use crate::protocol::{Failure, Reason};

/// The credentials that a request presents.
#[derive(Clone, Copy, Debug)]
pub struct Credentials<'a> {
    /// The request's headers.
    pub headers: &'a HeaderMap,
    /// The address that the request comes from; `None` where that is not known.
    pub peer: Option<IpAddr>,
    /// The tenant that its path names.
    pub path_tenant: Option<&'a str>,
}

/// Whoever comes with a token.
#[derive(Debug)]
struct Bearer {
    principal: Principal,
    expires: Option<SystemTime>,
}

impl Bearer {
    fn of(tenant: &TenantId, token: &Token) -> Self {
        Self {
            principal: Principal {
                scopes: Arc::clone(&token.scopes),
                token: token.name.clone(),
                ..Principal::new(tenant.clone(), token.subject.clone())
            },
            expires: token.expires,
        }
    }
}

/// Says whose credentials are presented.
#[derive(Debug)]
pub struct Authenticator {
    auth: Auth,
    /// Clients have shown certificates.
    has_certificates: bool,
    tenants: BTreeSet<TenantId>,
    /// By hash. Looking one up takes a time that depends on the hash, from which nobody can
    /// find a token: to steer the hash is to invert SHA-256.
    tokens: FxHashMap<[u8; 32], Bearer>,
    uses: Arc<Uses>,
    /// Of the issuer, with `auth.mode = "jwt"`.
    keys: Option<Arc<Keys>>,
}

impl Authenticator {
    /// For the tenants of that config. Uses of tokens are noted in `uses`; `before` is the one
    /// that this replaces, whose keys stay known.
    pub fn new(config: &Config, uses: Arc<Uses>, before: Option<&Self>) -> Self {
        let tokens = config.tenants.iter().flat_map(|(id, tenant)| {
            let tokens = tenant.tokens.iter();
            tokens.map(move |token| (token.hash, Bearer::of(id, token)))
        });
        let keys = match &config.auth.mode {
            AuthMode::Jwt(jwt) => {
                let same = before.filter(|before| before.auth.mode == config.auth.mode);
                let known = same.and_then(|before| before.keys.clone());
                Some(known.unwrap_or_else(|| Arc::new(Keys::new(jwt.keys.clone(), jwt.refresh))))
            }
            AuthMode::None | AuthMode::Token | AuthMode::Header(_) => None,
        };
        Self {
            auth: config.auth.clone(),
            has_certificates: config.has_client_certificates(),
            tenants: config.tenants.keys().cloned().collect(),
            tokens: tokens.collect(),
            uses,
            keys,
        }
    }

    /// The caller.
    ///
    /// # Errors
    /// [`Reason::Unauthorized`] without valid credentials; [`Reason::NotFound`] when the path names
    /// another tenant than the credentials, as it does when there is no such tenant at all;
    /// [`Reason::InsufficientScope`] without the scopes that everyone needs.
    ///
    /// # Cancel-Safety
    /// A dropped call leaves nothing behind.
    pub async fn authenticate(&self, given: Credentials<'_>) -> Result<Principal, Failure> {
        let principal = match &self.auth.mode {
            AuthMode::None => {
                let name = given.path_tenant.unwrap_or(DEFAULT_TENANT);
                if !is_valid_name(name) {
                    return Err(no_such_tenant());
                }
                return Ok(Principal::new(TenantId::new(name), None));
            }
            AuthMode::Token => self.by_token(bearer(given.headers)?)?,
            AuthMode::Jwt(settings) => self.by_jwt(bearer(given.headers)?, settings).await?,
            AuthMode::Header(headers) => by_headers(headers, &given, self.has_certificates)?,
        };
        if !self.tenants.contains(&principal.tenant) {
            return Err(unauthorized(
                "the credentials name no tenant that is served here",
            ));
        }
        if given
            .path_tenant
            .is_some_and(|name| name != principal.tenant.as_str())
        {
            return Err(no_such_tenant());
        }
        self.check_scopes(&principal)?;
        Ok(principal)
    }

    fn by_token(&self, token: &[u8]) -> Result<Principal, Failure> {
        let presented: [u8; 32] = Sha256::digest(token).into();
        let known = self.tokens.get(&presented);
        let bearer = known.ok_or_else(|| unauthorized("the bearer token is not known"))?;
        if bearer.expires.is_some_and(|at| at <= SystemTime::now()) {
            return Err(unauthorized("the bearer token has expired"));
        }
        self.uses.note(presented);
        Ok(bearer.principal.clone())
    }

    async fn by_jwt(&self, token: &[u8], settings: &Jwt) -> Result<Principal, Failure> {
        let token = std::str::from_utf8(token);
        let token = token.map_err(|_| unauthorized("the bearer token is not a signed token"))?;
        // Whoever is not let in learns only that nobody is.
        let away = || {
            let why = "the keys of the authorization server are not to be had at the moment";
            Failure::new(Reason::AuthUnavailable, why)
                .retry_after(std::time::Duration::from_secs(10))
        };
        let Some(keys) = &self.keys else {
            return Err(away());
        };
        let known = keys.get().await.map_err(|_| away())?;
        let read = match jwt::read(token, settings, &known) {
            Err(JwtError::UnknownKey) => {
                let newer = keys.look_again(&known).await.map_err(|_| away())?;
                jwt::read(token, settings, &newer)
            }
            read => read,
        };
        read.map_err(|error| unauthorized(&error.to_string()))
    }

    fn check_scopes(&self, principal: &Principal) -> Result<(), Failure> {
        let required = &self.auth.required_scopes;
        let missing: Vec<_> = required.difference(&principal.scopes).cloned().collect();
        if missing.is_empty() {
            return Ok(());
        }
        let why = format!(
            "the credentials lack the scope `{}` (`auth.required_scopes`)",
            missing.join("`, `")
        );
        let needed: Vec<_> = required.iter().map(String::as_str).collect();
        Err(Failure::new(Reason::InsufficientScope, why).needing(&needed.join(" ")))
    }
}

/// Whether a peer is on this host, as servers are: the system lets nobody else's address be bound.
fn is_of_this_host(peer: IpAddr) -> bool {
    let peer = peer.to_canonical();
    peer.is_loopback() || UdpSocket::bind((peer, 0)).is_ok()
}

/// Checks that a proxy is what it says, by more than its address.
fn check_proxy(
    names: &ProxyHeaders,
    headers: &HeaderMap,
    peer: IpAddr,
    has_certificates: bool,
) -> Result<(), Failure> {
    if names.secrets.is_empty() {
        if has_certificates || !is_of_this_host(peer) {
            return Ok(());
        }
        return Err(unauthorized(
            "the request comes from this host, where servers run too (set `auth.proxy_secrets`, or `http.tls.client_ca`)",
        ));
    }
    let shown = only(headers, &names.secret_header)?.unwrap_or_default();
    let shown: [u8; 32] = Sha256::digest(shown).into();
    let is_known = names.secrets.iter().fold(Choice::from(0), |known, secret| {
        known | secret.ct_eq(&shown)
    });
    if is_known.into() {
        return Ok(());
    }
    let name = &names.secret_header;
    Err(unauthorized(&format!(
        "the proxy's secret in `{name}` is missing or not one of `auth.proxy_secrets`"
    )))
}

/// Whom a trusted proxy names.
fn by_headers(
    names: &ProxyHeaders,
    given: &Credentials<'_>,
    has_certificates: bool,
) -> Result<Principal, Failure> {
    // A listener on IPv6 shows IPv4 peers in a form of its own.
    let peer = given.peer.map(|peer| peer.to_canonical());
    let is_trusted = |peer: &IpAddr| names.trusted.iter().any(|network| network.contains(peer));
    let peer = peer.filter(is_trusted).ok_or_else(|| {
        unauthorized("the request does not come from a proxy of `auth.trusted_proxies`")
    })?;
    check_proxy(names, given.headers, peer, has_certificates)?;
    let tenant = only(given.headers, &names.tenant)?
        .ok_or_else(|| unauthorized(&format!("the proxy names no tenant in `{}`", names.tenant)))?;
    if !is_valid_name(tenant) {
        return Err(unauthorized("the proxy's tenant is not a tenant's name"));
    }
    let text = |name| {
        let text = only(given.headers, name)?;
        Ok::<_, Failure>(text.map(str::to_owned))
    };
    let scopes = only(given.headers, &names.scopes)?.unwrap_or_default();
    let scopes = scopes.split([' ', ',']).filter(|scope| !scope.is_empty());
    Ok(Principal {
        email: text(&names.email)?,
        scopes: Arc::new(scopes.map(str::to_owned).collect()),
        ..Principal::new(TenantId::new(tenant), text(&names.subject)?)
    })
}

/// The value of a header that is there once at the most: of two, one may be the client's own.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h str>, Failure> {
    let mut values = headers.get_all(name).iter();
    let (first, second) = (values.next(), values.next());
    if second.is_some() {
        return Err(unauthorized(&format!("the header `{name}` is there twice")));
    }
    let text = first.map(|value| value.to_str()).transpose();
    let text = text.map_err(|_| unauthorized(&format!("the header `{name}` is not text")))?;
    Ok(text.map(str::trim).filter(|text| !text.is_empty()))
}

/// The token of `Authorization: Bearer …` (RFC 6750, 2.1; the scheme's case does not matter).
fn bearer(headers: &HeaderMap) -> Result<&[u8], Failure> {
    let value = headers.get(AUTHORIZATION).ok_or_else(|| {
        unauthorized("credentials are missing (send `Authorization: Bearer TOKEN`)")
    })?;
    let value = value.as_bytes();
    let (scheme, token) = match value.iter().position(|byte| *byte == b' ') {
        Some(at) => value.split_at(at),
        None => (value, &[][..]),
    };
    let token = token.trim_ascii();
    if !scheme.eq_ignore_ascii_case(b"bearer") || token.is_empty() {
        return Err(unauthorized("`Authorization` is not `Bearer TOKEN`"));
    }
    Ok(token)
}

fn unauthorized(why: &str) -> Failure {
    Failure::new(Reason::Unauthorized, why)
}

fn no_such_tenant() -> Failure {
    Failure::new(Reason::NotFound, "no such path for these credentials")
}

#[cfg(test)]
#[path = "authenticator_tests.rs"]
mod tests;

//! From credentials to a principal.

use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use super::principal::Principal;
use crate::config::{AuthMode, Config, DEFAULT_TENANT};
use crate::ids::{TenantId, is_valid_name};
use crate::protocol::{Failure, Reason};

/// Says whose credentials are presented.
#[derive(Debug)]
pub struct Authenticator {
    mode: AuthMode,
    tokens: Vec<([u8; 32], TenantId)>,
}

impl Authenticator {
    /// For the tenants of that config.
    pub fn new(config: &Config) -> Self {
        let tokens = config.tenants.iter().flat_map(|(id, tenant)| {
            let hashes = tenant.token_hashes.iter();
            hashes.map(move |hash| (*hash, id.clone()))
        });
        Self {
            mode: config.auth,
            tokens: tokens.collect(),
        }
    }

    /// The caller, given the value of `Authorization` and the tenant that the path names.
    ///
    /// # Errors
    /// [`Reason::Unauthorized`] without valid credentials; [`Reason::NotFound`] when the path names
    /// another tenant than the credentials, as it does when there is no such tenant at all.
    pub fn authenticate(
        &self,
        authorization: Option<&[u8]>,
        path_tenant: Option<&str>,
    ) -> Result<Principal, Failure> {
        let tenant = match self.mode {
            AuthMode::None => {
                let name = path_tenant.unwrap_or(DEFAULT_TENANT);
                if !is_valid_name(name) {
                    return Err(no_such_tenant());
                }
                TenantId::new(name)
            }
            AuthMode::Token => {
                let tenant = self.owner_of(bearer(authorization)?)?;
                if path_tenant.is_some_and(|name| name != tenant.as_str()) {
                    return Err(no_such_tenant());
                }
                tenant
            }
        };
        Ok(Principal::new(tenant, None))
    }

    /// Compares with every known hash, each in constant time, so that the time taken tells
    /// nothing about which or how much of one fits.
    fn owner_of(&self, token: &[u8]) -> Result<TenantId, Failure> {
        let presented: [u8; 32] = Sha256::digest(token).into();
        let mut found = u64::MAX;
        for (n, (hash, _)) in (0_u64..).zip(&self.tokens) {
            let is_it: Choice = hash[..].ct_eq(&presented[..]);
            found.conditional_assign(&n, is_it);
        }
        let owner = usize::try_from(found).ok().and_then(|n| self.tokens.get(n));
        owner
            .map(|(_, tenant)| tenant.clone())
            .ok_or_else(|| unauthorized("the bearer token is not known"))
    }
}

/// The token of `Authorization: Bearer …` (RFC 6750, 2.1; the scheme's case does not matter).
fn bearer(authorization: Option<&[u8]>) -> Result<&[u8], Failure> {
    let value = authorization.ok_or_else(|| {
        unauthorized("credentials are missing (send `Authorization: Bearer TOKEN`)")
    })?;
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
mod tests {
    use super::*;

    fn authenticator() -> Authenticator {
        let hash = |token: &str| Sha256::digest(token).into();
        Authenticator {
            mode: AuthMode::Token,
            tokens: vec![
                (hash("first"), TenantId::new("acme")),
                (hash("second"), TenantId::new("globex")),
                (hash("third"), TenantId::new("acme")),
            ],
        }
    }

    fn tenant(header: Option<&str>, path: Option<&str>) -> Result<String, Reason> {
        let who = authenticator().authenticate(header.map(str::as_bytes), path);
        who.map(|principal| principal.tenant.to_string())
            .map_err(|failure| failure.reason)
    }

    #[test]
    fn a_token_belongs_to_one_tenant() {
        assert_eq!(tenant(Some("Bearer first"), None), Ok("acme".into()));
        assert_eq!(tenant(Some("bearer  second "), None), Ok("globex".into()));
        assert_eq!(
            tenant(Some("BEARER third"), Some("acme")),
            Ok("acme".into())
        );
    }

    #[test]
    fn what_is_no_known_token_is_unauthorized() {
        for header in [
            None,
            Some(""),
            Some("first"),
            Some("Bearer"),
            Some("Bearer "),
            Some("Basic first"),
            Some("Bearer firs"),
            Some("Bearer first x"),
        ] {
            assert_eq!(
                tenant(header, None),
                Err(Reason::Unauthorized),
                "{header:?}"
            );
        }
    }

    #[test]
    fn another_tenants_path_is_as_unknown_as_none() {
        assert_eq!(
            tenant(Some("Bearer first"), Some("globex")),
            Err(Reason::NotFound)
        );
        assert_eq!(
            tenant(Some("Bearer first"), Some("nobody")),
            Err(Reason::NotFound)
        );
        // Whoever has no credentials learns not even that.
        assert_eq!(tenant(None, Some("globex")), Err(Reason::Unauthorized));
    }

    #[test]
    fn without_credentials_the_path_names_the_tenant() {
        let open = Authenticator {
            mode: AuthMode::None,
            tokens: vec![],
        };
        let tenant = |path| {
            open.authenticate(None, path)
                .map(|who| who.tenant.to_string())
        };
        assert_eq!(tenant(None).expect("default"), "default");
        assert_eq!(tenant(Some("acme")).expect("named"), "acme");
        assert_eq!(
            tenant(Some("../x")).expect_err("no name").reason,
            Reason::NotFound
        );
    }
}

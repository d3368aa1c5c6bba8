//! `[servers.NAME.oauth]`: an authorization server, and what stdiopool is to it.

use std::collections::BTreeMap;
use std::time::Duration;

use url::Url;

use super::secret::SecretSource;

/// `[servers.NAME.oauth]`: an authorization server, and what stdiopool is to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OAuth {
    /// Where the user's browser is sent.
    pub authorization_url: Url,
    /// Where codes and refresh tokens are exchanged.
    pub token_url: Url,
    /// Where a token is revoked (RFC 7009).
    pub revocation_url: Option<Url>,
    /// The `iss` that answers of the authorization server must have (RFC 9207).
    pub issuer: Option<String>,
    /// stdiopool's name there.
    pub client_id: String,
    /// The secret to it; a public client has none.
    pub client_secret: Option<SecretSource>,
    /// How both are sent.
    pub client_auth: ClientAuth,
    /// What is asked for.
    pub scopes: Vec<String>,
    /// Further parameters of the authorization request.
    pub parameters: BTreeMap<String, String>,
    /// How long an access token is taken to be valid that does not say it.
    pub default_lifetime: Duration,
    /// The scope that a caller needs to authorise or revoke.
    pub link_scope: Option<String>,
}

/// How a client proves who it is at the token endpoint (RFC 6749, 2.3.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClientAuth {
    /// `Authorization: Basic`.
    Basic,
    /// Both are sent as parameters of the form.
    Post,
}

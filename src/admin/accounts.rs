//! Tenants, tokens, secrets and authorisations of the state store: what can be done to them, and what
//! is told.
//!
//! Each act is carried out by a running stdiopool through the admin API, and by the command
//! line on the state folder of one that does not run.

use std::pin::Pin;
use std::time::{SystemTime, UNIX_EPOCH};

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::protocol::ApiReason;
use crate::tenancy::TenantSettings;

/// An act on the accounts of the state folder.
#[derive(Clone, Debug)]
pub enum Act {
    /// Every tenant, of pool.toml too.
    ListTenants,
    /// The tenant of that name.
    ShowTenant(String),
    /// A new tenant.
    AddTenant(String, TenantSettings),
    /// Settings of one; what is not given stays.
    SetTenant(String, TenantSettings),
    /// Removes one with its tokens and secrets.
    RemoveTenant(String),
    /// Tokens of a tenant, or of all.
    ListTokens(Option<String>),
    /// A new token of a tenant.
    CreateToken(String, NewToken),
    /// Revokes a tenant's token of that name.
    RevokeToken(String, String),
    /// Names of a tenant's secrets, or of all.
    ListSecrets(Option<String>),
    /// Sets a tenant's secret of that name.
    SetSecret(String, String, SecretString),
    /// Removes one.
    RemoveSecret(String, String),
    /// What a tenant has authorised upstream, or all have.
    ListGrants(Option<String>),
    /// A link for a user of the tenant to authorise that server.
    LinkGrant(String, String),
    /// Ends the tenant's authorisation of that server.
    RevokeGrant(String, String),
}

impl Act {
    /// The act's name in the audit log.
    pub fn name(&self) -> &'static str {
        match self {
            Self::ListTenants => "tenant list",
            Self::ShowTenant(_) => "tenant show",
            Self::AddTenant(..) => "tenant add",
            Self::SetTenant(..) => "tenant set",
            Self::RemoveTenant(_) => "tenant remove",
            Self::ListTokens(_) => "token list",
            Self::CreateToken(..) => "token create",
            Self::RevokeToken(..) => "token revoke",
            Self::ListSecrets(_) => "secret list",
            Self::SetSecret(..) => "secret set",
            Self::RemoveSecret(..) => "secret remove",
            Self::ListGrants(_) => "oauth list",
            Self::LinkGrant(..) => "oauth link",
            Self::RevokeGrant(..) => "oauth revoke",
        }
    }

    /// Whether the act only looks.
    pub fn only_looks(&self) -> bool {
        matches!(
            self,
            Self::ListTenants
                | Self::ShowTenant(_)
                | Self::ListTokens(_)
                | Self::ListSecrets(_)
                | Self::ListGrants(_)
        )
    }

    /// Whether the act changes something of the config that is in force.
    pub fn changes(&self) -> bool {
        // Whoever holds a token upstream that has changed is told by other means.
        !self.only_looks() && !matches!(self, Self::LinkGrant(..) | Self::RevokeGrant(..))
    }

    /// The tenant it is about.
    pub fn tenant(&self) -> Option<&str> {
        match self {
            Self::ListTenants => None,
            Self::ListTokens(tenant) | Self::ListSecrets(tenant) | Self::ListGrants(tenant) => {
                tenant.as_deref()
            }
            Self::ShowTenant(tenant)
            | Self::AddTenant(tenant, _)
            | Self::SetTenant(tenant, _)
            | Self::RemoveTenant(tenant)
            | Self::CreateToken(tenant, _)
            | Self::RevokeToken(tenant, _)
            | Self::SetSecret(tenant, ..)
            | Self::RemoveSecret(tenant, _)
            | Self::LinkGrant(tenant, _)
            | Self::RevokeGrant(tenant, _) => Some(tenant),
        }
    }

    /// The server it is about.
    pub fn server(&self) -> Option<&str> {
        match self {
            Self::LinkGrant(_, server) | Self::RevokeGrant(_, server) => Some(server),
            _ => None,
        }
    }

    /// The token or secret it is about.
    pub fn object(&self) -> Option<&str> {
        match self {
            Self::CreateToken(_, token) => Some(&token.name),
            Self::RevokeToken(_, name)
            | Self::SetSecret(_, name, _)
            | Self::RemoveSecret(_, name) => Some(name),
            _ => None,
        }
    }
}

/// A token to be made.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// The token's name, within the tenant.
    pub name: String,
    /// The user it stands for.
    #[serde(default)]
    pub subject: Option<String>,
    /// Scopes that a caller with the token has.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// Seconds that it is valid; for ever without.
    #[serde(default)]
    pub expires_in_seconds: Option<u64>,
}

/// The answer to an act.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Reply {
    /// What was done, in words.
    Done {
        /// The words.
        message: String,
    },
    /// The tenant that was asked for.
    Tenant(Box<TenantDetails>),
    /// Several.
    Tenants(Vec<TenantDetails>),
    /// A token that was made, this once.
    Made(MadeToken),
    /// Tokens, without what they are.
    Tokens(Vec<TokenDetails>),
    /// Secrets, without their values.
    Secrets(Vec<SecretDetails>),
    /// A link, this once.
    Link(LinkDetails),
    /// What is authorised upstream, without tokens.
    Grants(Vec<GrantDetails>),
}

/// `GET /api/v1/accounts`
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct TenantDetails {
    /// The tenant's name.
    pub name: String,
    /// Where the tenant is defined: `pool.toml` or `store`.
    pub source: String,
    /// The settings of a tenant of the store; `None` for one of pool.toml.
    pub settings: Option<TenantSettings>,
    /// How many tokens the tenant has.
    pub tokens: usize,
    /// How many secrets the tenant has.
    pub secrets: usize,
    /// When the tenant was added, in seconds since 1970; only of the store's.
    pub created: Option<u64>,
}

/// A token just made. The token is told this once: only its hash is kept.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct MadeToken {
    /// The token.
    pub token: String,
    /// The tenant whose token this is.
    pub tenant: String,
    /// The token's name.
    pub name: String,
    /// When the token stops being valid, in seconds since 1970.
    pub expires: Option<u64>,
}

/// `GET /api/v1/tokens`
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct TokenDetails {
    /// The tenant whose token this is.
    pub tenant: String,
    /// The token's name.
    pub name: String,
    /// The user it stands for.
    pub subject: Option<String>,
    /// Scopes that a caller with the token has.
    pub scopes: Vec<String>,
    /// When the token was made, in seconds since 1970.
    pub created: u64,
    /// When the token stops being valid, in seconds since 1970.
    pub expires: Option<u64>,
    /// When the token was last used, in seconds since 1970, to within a minute.
    pub last_used: Option<u64>,
}

/// `GET /api/v1/secrets`
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SecretDetails {
    /// The tenant whose secret this is.
    pub tenant: String,
    /// The name by which templates refer to the secret.
    pub name: String,
    /// When the secret was last set, in seconds since 1970.
    pub changed: u64,
}

/// A link with which a server is authorised upstream. Whoever has the link needs no other credentials.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct LinkDetails {
    /// Address at which the user authorises, for a browser.
    pub authorize_url: String,
    /// Until when, in seconds since 1970.
    pub expires: u64,
}

/// `GET /api/v1/oauth`
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct GrantDetails {
    /// The tenant whose authorisation this is.
    pub tenant: String,
    /// What is authorised.
    pub server: String,
    /// The user who did it, if one is known.
    pub subject: Option<String>,
    /// Scopes of the access token, where the provider says.
    pub scope: Option<String>,
    /// When, in seconds since 1970.
    pub authorised: u64,
}

/// Seconds since 1970.
pub fn seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Why an act was not carried out; nothing has changed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AccountError {
    /// The subject of the act is not there.
    #[error("{0}")]
    NotFound(String),
    /// The thing that the act would make is there already.
    #[error("{0}")]
    Exists(String),
    /// What the act asks for is not allowed.
    #[error("{0}")]
    Invalid(String),
    /// The request cannot be carried out by this stdiopool.
    #[error("{0}")]
    Unavailable(String),
    /// The disk or the system.
    #[error("{0}")]
    Failed(String),
}

impl AccountError {
    /// The reason of the answer, to which its status belongs.
    pub(super) fn reason(&self) -> ApiReason {
        match self {
            Self::NotFound(_) => ApiReason::NotFound,
            Self::Exists(_) => ApiReason::Exists,
            Self::Invalid(_) => ApiReason::InvalidRequest,
            Self::Unavailable(_) => ApiReason::Unavailable,
            Self::Failed(_) => ApiReason::Internal,
        }
    }
}

/// An act under way.
pub type Accounting = Pin<Box<dyn Future<Output = Result<Reply, AccountError>> + Send>>;

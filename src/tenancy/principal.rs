//! The authenticated caller.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::ids::TenantId;

/// A caller, and what is known of them. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Principal {
    /// The account.
    pub tenant: TenantId,
    /// The user of it, where the credentials name one.
    pub subject: Option<String>,
    /// The user's mail address, where the credentials have it.
    pub email: Option<String>,
    /// What else the credentials say of them, by name: `${user.NAME}`.
    pub claims: Arc<BTreeMap<String, Value>>,
    /// What the user may do.
    pub scopes: Arc<BTreeSet<String>>,
    /// The name of the token they came with, if it was one that has a name.
    pub token: Option<Arc<str>>,
}

impl Principal {
    /// A user of a tenant, of whom nothing else is known.
    pub fn new(tenant: TenantId, subject: Option<String>) -> Self {
        Self {
            tenant,
            subject,
            email: None,
            claims: Arc::default(),
            scopes: Arc::default(),
            token: None,
        }
    }

    /// Who of the tenant it is, for limits and for what is counted: the user, or the token where the credentials name no user;
    /// `None` where they name neither.
    pub fn user(&self) -> Option<Arc<str>> {
        let user = self.subject.as_deref().map(Arc::from);
        user.or_else(|| self.token.clone())
    }

    /// A digest of what the credentials say of the user, whatever their tenant and name.
    pub fn fingerprint(&self) -> [u8; 32] {
        let said = serde_json::json!([self.email, &*self.claims]);
        Sha256::digest(said.to_string()).into()
    }

    /// Whether both are one user of one tenant: what one has made, the other may use.
    /// Credentials are renewed, and then say other things of that user.
    pub fn is_same_as(&self, other: &Self) -> bool {
        (&self.tenant, &self.subject) == (&other.tenant, &other.subject)
    }
}

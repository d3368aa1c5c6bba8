//! Memory that parts of a session's record take, by which they are charged.

use crate::bridge::weight_of;
use crate::tenancy::{ClientConfig, Principal};

/// Bytes that a client's config takes, about: its values as trees, its secrets.
pub(super) fn weight_of_config(config: &ClientConfig) -> usize {
    let values = config.values().iter();
    let values: usize = values
        .map(|(name, value)| name.len() + weight_of(value))
        .sum();
    let parts: usize = config.parts().values().map(weight_of_config).sum();
    size_of::<ClientConfig>() + config.bytes() + values + parts
}

/// Bytes that a session takes for what is known of the user who opened it, about.
pub(super) fn weight_of_principal(principal: &Principal) -> usize {
    /// An entry of a set or a map beside its text.
    const ENTRY: usize = 64;
    let texts = [principal.subject.as_ref(), principal.email.as_ref()];
    let texts: usize = texts.into_iter().flatten().map(String::len).sum();
    let scopes: usize = principal.scopes.iter().map(|it| ENTRY + it.len()).sum();
    let claims = principal.claims.iter();
    let claims: usize = claims
        .map(|(name, value)| ENTRY + name.len() + weight_of(value))
        .sum();
    principal.tenant.as_str().len() + texts + scopes + claims
}

//! The authenticated caller.

use crate::ids::TenantId;

/// Who calls.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Principal {
    /// The account.
    pub tenant: TenantId,
    /// The user of it, where the credentials name one.
    pub subject: Option<String>,
}

impl Principal {
    /// Whether the other is the same user of the same tenant: what one has made, the other may use.
    pub fn is_same_as(&self, other: &Self) -> bool {
        self == other
    }
}

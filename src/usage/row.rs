//! A row of what was used.

use std::sync::Arc;

use super::{Amounts, Hour};
use crate::ids::{ServerName, TenantId};

/// The name of those beyond a bound, who are counted together: tenants, or users of a tenant. No tenant can be called so.
pub const OTHERS: &str = "*";
/// The name of the tenant of what is no tenant's: spares.
pub const NOBODY: &str = "";

/// What one user of one tenant has used of one server in one hour.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// The tenant; [`NOBODY`], [`OTHERS`].
    pub tenant: TenantId,
    /// The user, or the name of the token where the credentials name no user; `None`: what is no user's alone; [`OTHERS`].
    pub user: Option<Arc<str>>,
    /// The server; `*` for what is asked of all servers at once.
    pub server: ServerName,
    /// The hour.
    pub hour: Hour,
    /// What was used.
    pub amounts: Amounts,
}

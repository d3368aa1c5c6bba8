//! What tenants, servers and variables may be called.

use crate::ids::MAX_NAME_LEN;

/// The message for a name that no `what` (a tenant, a server) can have.
pub(super) fn bad_name(what: &str, name: &str) -> String {
    format!(
        "\"{name}\" cannot be the name of a {what}: 1 to {MAX_NAME_LEN} letters, digits, `.`, `_` or `-`, starting with a letter or digit"
    )
}

/// Whether `name` can be the name of an environment variable.
pub(super) fn is_variable(name: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0'])
}

//! Pool keys: which processes are interchangeable.

use sha2::{Digest, Sha256};

use crate::config::Server;
use crate::ids::{PoolKey, ProgramId, ServerName, TenantId};

/// The key of a server's processes for a tenant: `launch` is the launch spec's fingerprint, `class`
/// names what the process is told of its clients, `scope` the session where it is not shared.
pub fn pool_key(
    server: &ServerName,
    tenant: &TenantId,
    launch: &[u8; 32],
    class: &[u8],
    scope: Option<&str>,
) -> PoolKey {
    digest(&[
        server.as_str().as_bytes(),
        tenant.as_str().as_bytes(),
        launch,
        class,
        &[u8::from(scope.is_some())],
        scope.unwrap_or_default().as_bytes(),
    ])
}

/// A key like `key`, but one that only the `n`th request has.
pub fn derived_key(key: PoolKey, n: u64) -> PoolKey {
    digest(&[&key.0, &n.to_le_bytes()])
}

/// What a server runs, whichever values its templates get.
pub fn program_id(name: &ServerName, server: &Server) -> ProgramId {
    let args = format!("{:?}", server.args);
    let fields = [name.as_str(), &server.command, &args].map(str::as_bytes);
    ProgramId(digest(&fields).0)
}

fn digest(fields: &[&[u8]]) -> PoolKey {
    let mut hash = Sha256::new();
    for field in fields {
        // Length first, so that no two sequences of fields run together into the same bytes.
        hash.update((field.len() as u64).to_le_bytes());
        hash.update(field);
    }
    let mut key = [0; 16];
    key.copy_from_slice(&hash.finalize()[..16]);
    PoolKey(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_counts_and_equal_parts_give_equal_keys() {
        let key = |server: &str, tenant: &str, launch: u8, class: &str, scope| {
            let (server, tenant) = (ServerName::new(server), TenantId::new(tenant));
            pool_key(&server, &tenant, &[launch; 32], class.as_bytes(), scope)
        };
        let one = key("a", "b", 0, "c", None);
        assert_eq!(one, key("a", "b", 0, "c", None));
        for other in [
            key("ab", "", 0, "c", None),
            key("a", "x", 0, "c", None),
            key("a", "b", 1, "c", None),
            key("a", "b", 0, "", None),
            key("a", "b", 0, "c", Some("")),
            key("a", "b", 0, "c", Some("s")),
            derived_key(one, 0),
            derived_key(one, 1),
        ] {
            assert_ne!(one, other);
        }
        // Stable across versions and machines.
        assert_eq!(one.to_string(), "a75a167dd9777416fe686b8df117eab0");
    }
}

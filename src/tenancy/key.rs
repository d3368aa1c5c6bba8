//! Pool keys: which processes are interchangeable.

use std::collections::BTreeSet;

use serde_json::json;
use sha2::{Digest, Sha256};

use super::client_config::ClientConfig;
use super::principal::Principal;
use crate::config::Server;
use crate::config::template::Reference;
use crate::fields;
use crate::ids::{Lineage, PoolKey, ProgramId, ServerName, TenantId};

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

/// The lineage of such a key: in place of the launch spec, whose parts change with pool.toml, config, secrets and tokens,
/// what of the caller it depends on, as [`caller_of`] says.
pub fn lineage(
    server: &ServerName,
    tenant: &TenantId,
    caller: &[u8],
    class: &[u8],
    scope: Option<&str>,
) -> Lineage {
    Lineage(
        digest(&[
            b"lineage",
            server.as_str().as_bytes(),
            tenant.as_str().as_bytes(),
            caller,
            class,
            &[u8::from(scope.is_some())],
            scope.unwrap_or_default().as_bytes(),
        ])
        .0,
    )
}

/// What a launch spec of the server depends on that is the caller's, and not the tenant's or the operator's: the
/// values of what its templates say of user and session, and what the caller sets.
pub fn caller_of(
    server: &Server,
    user: &Principal,
    session: &str,
    client: Option<&ClientConfig>,
) -> Vec<u8> {
    let mut said = BTreeSet::new();
    for (_, reference) in server.references() {
        let value = match &reference {
            Reference::UserSub => json!(user.subject),
            Reference::UserEmail => json!(user.email),
            Reference::UserClaim(name) => {
                let named = user.claims.iter().filter(|(claim, _)| {
                    let rest = name.strip_prefix(claim.as_str());
                    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
                });
                json!(named.map(|(_, value)| value).collect::<Vec<_>>())
            }
            Reference::SessionId => json!(session),
            Reference::Config(_)
            | Reference::Secret(_)
            | Reference::SecretFile(_)
            | Reference::OAuthToken
            | Reference::OAuthTokenFile
            | Reference::TenantId
            | Reference::DirData
            | Reference::DirTmp => continue,
        };
        said.insert(json!([reference.to_string(), value]).to_string());
    }
    let mut said = json!(said).to_string().into_bytes();
    said.extend(client.into_iter().flat_map(ClientConfig::fingerprint));
    said
}

/// A lineage like `lineage`, but one that only the `n`th of its kind has.
pub fn derived_lineage(lineage: Lineage, n: u64) -> Lineage {
    Lineage(digest(&[&lineage.0, &n.to_le_bytes()]).0)
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
        fields::put(field, |part| hash.update(part));
    }
    let mut key = [0; 16];
    key.copy_from_slice(&hash.finalize()[..16]);
    PoolKey(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lineage_lasts_as_long_as_the_caller_is_the_same() {
        let text = r#"
[servers.plain]
command = "plain"
args = ["${config.a:-}", "${secret.s:-}"]
[servers.own]
command = "own"
args = ["${user.sub:-}", "${user.team:-}"]
[servers.each]
command = "each"
env = { ID = "${session.id}" }
"#;
        let config = crate::config::parse(text, "pool.toml", std::path::Path::new("/"));
        let config = config.expect("valid");
        let user = |sub: &str, team: &str, other: &str| {
            let mut user = Principal::new(TenantId::new("t"), Some(sub.to_owned()));
            let claims = [("team", team), ("iat", other)];
            let claims = claims.map(|(name, value)| (name.to_owned(), json!(value)));
            user.claims = std::sync::Arc::new(claims.into());
            user
        };
        let of = |server: &str, user: &Principal, session: &str, sets: Option<&str>| {
            let server = &config.servers[server];
            let client = sets.map(|value| {
                let values = [("a".to_owned(), json!(value))].into_iter().collect();
                ClientConfig::new(values, std::collections::BTreeMap::new())
            });
            caller_of(server, user, session, client.as_ref())
        };
        let (anna, bob) = (user("anna", "x", "1"), user("bob", "x", "1"));
        let plain = of("plain", &anna, "s", None);
        assert_eq!(plain, of("plain", &bob, "other", None), "not its caller's");
        assert_ne!(plain, of("plain", &anna, "s", Some("1")));
        assert_ne!(
            of("plain", &anna, "s", Some("2")),
            of("plain", &anna, "s", Some("1"))
        );
        assert_ne!(of("own", &anna, "s", None), of("own", &bob, "s", None));
        let renewed = user("anna", "x", "2");
        assert_eq!(of("own", &anna, "s", None), of("own", &renewed, "s", None));
        let moved = user("anna", "y", "1");
        assert_ne!(of("own", &anna, "s", None), of("own", &moved, "s", None));
        assert_ne!(of("each", &anna, "s", None), of("each", &anna, "t", None));
    }

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

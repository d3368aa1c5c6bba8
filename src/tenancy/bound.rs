//! What stdiopool tells a server's tools of who calls: arguments it sets, and an identity.

use serde_json::{Map, Value, json};

use super::client_config::ClientConfig;
use super::principal::Principal;
use super::render::Values;
use super::resolver::Resolver;
use crate::ids::ServerName;
use crate::protocol::Failure;

impl Resolver {
    /// The arguments that are set for a caller of that tool, with their values as raw JSON. A
    /// template that is nothing but one value has the value's type, any other is a text.
    ///
    /// # Errors
    /// [`Reason::ConfigInvalid`](crate::protocol::Reason::ConfigInvalid) when a value is missing or
    /// the caller may not set it: nothing is called then.
    pub fn bound_arguments(
        &self,
        user: &Principal,
        name: &ServerName,
        tool: &str,
        client: Option<&ClientConfig>,
    ) -> Result<Vec<(String, String)>, Failure> {
        let arguments = self.server(name)?.bind.of(tool);
        if arguments.is_empty() {
            return Ok(vec![]);
        }
        // Whether it fits is found out on the way to a worker, without which nothing is called.
        let config = self.unchecked_config_of(&user.tenant, name, client)?;
        let values = Values {
            // A bound argument cannot refer to a secret.
            secret_root: std::path::Path::new(""),
            config: &config,
            secrets: &Default::default(),
            token: None,
            tenant: user.tenant.as_str(),
            user: Some(user),
            // No template of an argument refers to these.
            session: "",
            data: "",
            tmp: "",
        };
        let mut bound = Vec::with_capacity(arguments.len());
        for (argument, (template, _)) in arguments {
            let value = values.json(template)?;
            bound.push((argument.to_owned(), value.to_string()));
        }
        Ok(bound)
    }

    /// What a server that asks for it is told of a caller, as raw JSON; `None` if it does not ask.
    pub fn identity(&self, user: &Principal, name: &ServerName) -> Option<String> {
        let fields = &self.server(name).ok()?.identity;
        if fields.is_empty() {
            return None;
        }
        let value = |field: &str| match field {
            "sub" => user.subject.as_deref().map(Value::from),
            "email" => user.email.as_deref().map(Value::from),
            "tenant" => Some(Value::from(user.tenant.as_str())),
            "scopes" => Some(json!(*user.scopes)),
            claim => user.claims.get(claim).cloned(),
        };
        let told: Map<String, Value> = fields
            .iter()
            .filter_map(|field| Some((field.clone(), value(field)?)))
            .collect();
        Some(Value::Object(told).to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config;
    use crate::ids::TenantId;
    use crate::store::StateDir;

    const TEXT: &str = r#"
[servers.crm]
command = "crm"
identity = ["sub", "email", "tenant", "scopes", "org", "missing"]
[servers.crm.bind.create]
account = "${user.account.id}"
region = "${config.region}"
labels = "${config.labels}"
note = "by ${user.sub} of ${tenant.id}"
[servers.crm.config]
properties.region = { type = "string", default = "eu" }
properties.labels = { type = "array", default = ["x", "y"] }
[servers.plain]
command = "plain"
"#;

    fn resolver() -> (Resolver, tempfile::TempDir) {
        let folder = tempfile::tempdir().expect("a folder");
        let config = config::parse(TEXT, "pool.toml", folder.path()).expect("valid");
        let state = StateDir::open(&folder.path().join("state")).expect("opens");
        let vault = Arc::new(crate::store::Vault::without_key());
        let secrets = Arc::new(crate::tenancy::Secrets::new(vault));
        let resolver = Resolver::new(Arc::new(config), Arc::new(state), secrets).expect("compiles");
        (resolver, folder)
    }

    fn anna() -> Principal {
        let mut anna = Principal::new(TenantId::new("acme"), Some("anna".to_owned()));
        anna.email = Some("anna@acme.example".to_owned());
        let claims = json!({ "account": { "id": 7 }, "org": ["o1"] });
        let claims = claims.as_object().cloned().unwrap_or_default();
        anna.claims = Arc::new(claims.into_iter().collect());
        anna.scopes = Arc::new(["read".to_owned()].into());
        anna
    }

    #[test]
    fn arguments_come_from_user_tenant_and_config_with_their_types() {
        let (resolver, _folder) = resolver();
        let crm = ServerName::new("crm");
        let bound = resolver.bound_arguments(&anna(), &crm, "create", None);
        let shown: Vec<_> = bound
            .expect("bound")
            .into_iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        assert_eq!(
            shown,
            [
                "account=7",
                r#"labels=["x","y"]"#,
                r#"note="by anna of acme""#,
                r#"region="eu""#
            ]
        );
        let other = resolver.bound_arguments(&anna(), &crm, "other", None);
        assert!(other.expect("none").is_empty());
    }

    #[test]
    fn what_the_credentials_do_not_say_is_missed() {
        let (resolver, _folder) = resolver();
        let nobody = Principal::new(TenantId::new("acme"), None);
        let missing = resolver
            .bound_arguments(&nobody, &ServerName::new("crm"), "create", None)
            .expect_err("misses");
        assert!(
            missing.message.contains("`user.account.id` has no value"),
            "{missing}"
        );
    }

    #[test]
    fn a_server_is_told_what_it_asks_for_and_nothing_else() {
        let (resolver, _folder) = resolver();
        let told = resolver.identity(&anna(), &ServerName::new("crm"));
        let told: Value = serde_json::from_str(&told.expect("asked for")).expect("JSON");
        assert_eq!(
            told,
            json!({
                "sub": "anna", "email": "anna@acme.example", "tenant": "acme",
                "scopes": ["read"], "org": ["o1"],
            })
        );
        assert_eq!(resolver.identity(&anna(), &ServerName::new("plain")), None);
    }
}

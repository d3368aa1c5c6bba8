//! What callers may set of a server's config, and what holds then.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::client_config::ClientConfig;
use super::resolver::Resolver;
use super::values::{MAX_MISFITS, Misfit, Schema, refused};
use crate::config::template::Reference;
use crate::ids::{ServerName, TenantId};
use crate::protocol::{Failure, Reason, step_to};

impl Resolver {
    /// The config that holds for a caller: the schema's defaults, what its tenant has set, what
    /// the caller sets itself.
    ///
    /// # Errors
    /// [`Reason::ConfigInvalid`] when it does not fit, or sets what callers may not set.
    ///
    /// # Cancel-Safety
    /// Cancel-safe.
    pub async fn config_of(
        &self,
        tenant: &TenantId,
        name: &ServerName,
        client: Option<&ClientConfig>,
    ) -> Result<Map<String, Value>, Failure> {
        let Some(schema) = self.schemas.get(name) else {
            return self.unchecked_config_of(tenant, name, client);
        };
        if let Some(client) = client {
            self.may_set(name, client)?;
        }
        let applied = self.applied(schema, tenant, name, client).await?;
        applied.map_err(|misfits| {
            let mend = self.mend(tenant, name);
            let failure = refused(&misfits, name, tenant, &mend);
            match self.advert(tenant, name) {
                Some(schema) => failure.detail("schema", schema),
                None => failure,
            }
        })
    }

    /// The config of a caller as [`Resolver::config_of`] has it, without a look at whether it fits.
    ///
    /// # Errors
    /// [`Reason::ConfigInvalid`] when it sets what callers may not set.
    pub(super) fn unchecked_config_of(
        &self,
        tenant: &TenantId,
        name: &ServerName,
        client: Option<&ClientConfig>,
    ) -> Result<Map<String, Value>, Failure> {
        if let Some(client) = client {
            self.may_set(name, client)?;
        }
        let layers = self.layers(tenant, name, client);
        Ok(match self.schemas.get(name) {
            Some(schema) => schema.merged(layers),
            None => layers.last().map(|map| (*map).clone()).unwrap_or_default(),
        })
    }

    /// The config that holds, or where it does not fit. A config of the operator's alone, or a small one, is
    /// checked at once; what a caller sets in addition may take its time, elsewhere.
    async fn applied(
        &self,
        schema: &Arc<Schema>,
        tenant: &TenantId,
        name: &ServerName,
        client: Option<&ClientConfig>,
    ) -> Result<Result<Map<String, Value>, Vec<Misfit>>, Failure> {
        let layers = self.layers(tenant, name, client);
        if client.is_none_or(|client| schema.is_quick(client.bytes())) {
            return Ok(schema.apply(layers));
        }
        let schema = Arc::clone(schema);
        let layers: Vec<_> = layers.into_iter().cloned().collect();
        self.checks.run(tenant, move || schema.apply(&layers)).await
    }

    fn layers<'a>(
        &'a self,
        tenant: &TenantId,
        name: &ServerName,
        client: Option<&'a ClientConfig>,
    ) -> Vec<&'a Map<String, Value>> {
        let settings = self.config.tenants.get(tenant);
        let given = settings.and_then(|tenant| tenant.config.get(name));
        given
            .into_iter()
            .chain(client.map(ClientConfig::values))
            .collect()
    }

    fn mend(&self, tenant: &TenantId, name: &ServerName) -> String {
        let takes = self
            .config
            .servers
            .get(name)
            .map(|server| &server.client_config);
        match takes.filter(|keys| !keys.is_empty()) {
            Some(keys) => format!(
                "callers may set {}; the operator sets `tenants.{tenant}.config.{name}`",
                listed(keys)
            ),
            None => format!("set `tenants.{tenant}.config.{name}`"),
        }
    }

    /// Checks that a caller may set all that, whatever the values.
    fn may_set(&self, name: &ServerName, client: &ClientConfig) -> Result<(), Failure> {
        let server = self.server(name)?;
        let refuse = |pointer: String, message: String| {
            let error = json!({ "pointer": pointer, "message": message });
            let failure = Failure::new(Reason::ConfigInvalid, message);
            Err(failure.detail("errors", json!([error])))
        };
        let keys = client.values().keys();
        if let Some(key) = keys
            .into_iter()
            .find(|key| !server.client_config.contains(key))
        {
            let pointer = format!("/{}", step_to(key));
            let message = format!(
                "callers of server `{name}` cannot set `{key}`, at \"{pointer}\" (they may set {}; see `servers.{name}.client_config`)",
                listed(&server.client_config)
            );
            return refuse(pointer, message);
        }
        let names = client.secrets().keys();
        if let Some(secret) = names
            .into_iter()
            .find(|name| !server.client_secrets.contains(name))
        {
            let message = format!(
                "callers of server `{name}` cannot bring the secret `{secret}` (they may bring {}; see `servers.{name}.client_secrets`)",
                listed(&server.client_secrets)
            );
            return refuse(format!("/{}", step_to(secret)), message);
        }
        Ok(())
    }

    /// Checks what a caller wants to set as far as it can be checked without the rest: what is
    /// missing may come from elsewhere.
    ///
    /// # Errors
    /// As for [`Resolver::config_of`].
    ///
    /// # Cancel-Safety
    /// Cancel-safe.
    pub async fn check_client(
        &self,
        tenant: &TenantId,
        name: &ServerName,
        client: &ClientConfig,
    ) -> Result<(), Failure> {
        self.may_set(name, client)?;
        let Some(schema) = self.schemas.get(name) else {
            return Ok(());
        };
        let mut misfits = match self.applied(schema, tenant, name, Some(client)).await? {
            Ok(_) => return Ok(()),
            Err(misfits) => misfits,
        };
        misfits.retain(|misfit| misfit.missing.is_none());
        if misfits.is_empty() {
            return Ok(());
        }
        Err(refused(&misfits, name, tenant, &self.mend(tenant, name)))
    }

    /// Checks a config of several servers, part by part. Servers that are not there any more are passed over.
    ///
    /// # Errors
    /// As for [`Resolver::config_of`], [of a part](of_part).
    ///
    /// # Cancel-Safety
    /// Cancel-safe.
    pub async fn check_parts(
        &self,
        tenant: &TenantId,
        client: &ClientConfig,
    ) -> Result<(), Failure> {
        let parts = client.parts().iter();
        for (name, part) in parts.filter(|(name, _)| self.config.servers.contains_key(*name)) {
            let checked = self.check_client(tenant, name, part).await;
            checked.map_err(|failure| of_part(failure, name))?;
        }
        Ok(())
    }

    /// What a server tells its clients of the config they may send: a JSON Schema of nothing but
    /// the keys they may set; required is what their tenant has not set. `None` if they may set
    /// nothing.
    pub fn advert(&self, tenant: &TenantId, name: &ServerName) -> Option<Value> {
        let server = self.config.servers.get(name)?;
        if server.client_config.is_empty() && server.client_secrets.is_empty() {
            return None;
        }
        let mut advert = match server.schema.as_deref() {
            Some(Value::Object(schema)) => schema.clone(),
            _ => Map::new(),
        };
        let is_open = |key: &str| server.client_config.iter().any(|open| open == key);
        if let Some(Value::Object(properties)) = advert.get_mut("properties") {
            properties.retain(|key, _| is_open(key));
        }
        let set = self.layers(tenant, name, None);
        if let Some(Value::Array(required)) = advert.get_mut("required") {
            required.retain(|key| {
                let key = key.as_str().unwrap_or_default();
                is_open(key) && !set.iter().any(|values| values.contains_key(key))
            });
        }
        advert.insert("type".to_owned(), "object".into());
        advert.insert("additionalProperties".to_owned(), false.into());
        if !server.client_secrets.is_empty() {
            // Not values of the config: they are brought by a handle.
            advert.insert("x-secrets".to_owned(), json!(server.client_secrets));
        }
        Some(Value::Object(advert))
    }

    /// Whether what a caller sets may be written to disk: it brings no secret, and no value that
    /// the schema calls confidential ([`is_confidential`](crate::config::Server::is_confidential)).
    pub fn may_be_kept(&self, name: &ServerName, client: &ClientConfig) -> bool {
        if !client.parts().is_empty() {
            let mut parts = client.parts().iter();
            return parts.all(|(name, part)| self.may_be_kept(name, part));
        }
        let server = self.config.servers.get(name);
        let is_confidential =
            |key: &String| server.is_some_and(|server| server.is_confidential(key));
        client.secrets().is_empty() && !client.values().keys().any(is_confidential)
    }

    /// Whether nothing keeps the server from being started but what a caller may still set.
    ///
    /// # Cancel-Safety
    /// Cancel-safe.
    pub async fn awaits_client(
        &self,
        tenant: &TenantId,
        name: &ServerName,
        client: Option<&ClientConfig>,
    ) -> bool {
        let Some(server) = self.config.servers.get(name) else {
            return false;
        };
        if client.is_some_and(|client| self.may_set(name, client).is_err()) {
            return false;
        }
        let is_open = |key: &str| {
            let top = key.split('.').next().unwrap_or_default();
            let mut open = server.client_config.iter();
            open.any(|open| open == key || open == top)
        };
        let misfits = match self.schemas.get(name) {
            None => vec![],
            Some(schema) => match self.applied(schema, tenant, name, client).await {
                Ok(Ok(_)) => vec![],
                Ok(Err(misfits)) => misfits,
                Err(_unchecked) => return false,
            },
        };
        misfits.len() <= MAX_MISFITS
            && misfits
                .iter()
                .all(|misfit| misfit.missing.as_deref().is_some_and(is_open))
            && (!misfits.is_empty()
                || server.references().any(|(_, reference)| match reference {
                    Reference::Config(key) => is_open(&key),
                    Reference::Secret(name) => server.client_secrets.contains(&name),
                    _ => false,
                }))
    }
}

/// What is wrong with the config of one server, as told where configs are given by server: pointers
/// begin with its name, and so does the schema.
pub fn of_part(mut failure: Failure, server: &ServerName) -> Failure {
    let Some(details) = failure
        .details
        .as_mut()
        .filter(|_| failure.reason == Reason::ConfigInvalid)
    else {
        return failure;
    };
    let step = step_to(server.as_str());
    if let Some(Value::Array(errors)) = details.get_mut("errors") {
        for error in errors {
            let within = error["pointer"].as_str().unwrap_or_default();
            error["pointer"] = format!("/{step}{within}").into();
        }
    }
    if let Some(schema) = details.get_mut("schema") {
        *schema = advert_of_parts([(server, schema.take())]);
    }
    failure
}

/// A schema of configs by server.
pub fn advert_of_parts<'a>(parts: impl IntoIterator<Item = (&'a ServerName, Value)>) -> Value {
    let parts = parts.into_iter();
    let properties: Map<_, _> = parts
        .map(|(server, schema)| (server.to_string(), schema))
        .collect();
    json!({ "type": "object", "additionalProperties": false, "properties": properties })
}

fn listed(names: &[String]) -> String {
    if names.is_empty() {
        return "nothing".to_owned();
    }
    let quoted: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_part_pointers_and_schema_are_by_server_and_nothing_else_changes() {
        let server = ServerName::new("a.b");
        let error = json!({ "pointer": "/x/0", "message": "why" });
        let failure = Failure::new(Reason::ConfigInvalid, "why")
            .detail("errors", json!([error]))
            .detail("schema", json!({ "type": "object" }));
        let told = of_part(failure, &server).details.expect("details");
        assert_eq!(told["errors"][0]["pointer"], "/a.b/x/0");
        assert_eq!(told["errors"][0]["message"], "why");
        let of_part_of = &told["schema"]["properties"]["a.b"];
        assert_eq!(*of_part_of, json!({ "type": "object" }));
        let plain = Failure::new(Reason::ConfigInvalid, "why");
        assert_eq!(of_part(plain.clone(), &server), plain);
        let other = Failure::new(Reason::NotFound, "why").detail("errors", json!([error]));
        assert_eq!(of_part(other.clone(), &server), other);
    }
}

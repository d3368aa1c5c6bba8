//! The tenants of pool.toml and those of the state store, as one. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::config::{Config, Rates, SecretSource, Tenant, Token, Warning};
use crate::ids::{ServerName, TenantId};
use crate::store::AccountRows;
use crate::usage::Quotas;

/// The settings of a tenant of the state store; one that is not set has the default.
#[derive(Clone, PartialEq, Default, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TenantSettings {
    /// The tenant's share under contention, 1 to 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// Workers it may have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_workers: Option<usize>,
    /// Requests a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<u32>,
    /// Requests at once after a pause.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
    /// Requests that are not answered yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrent: Option<u32>,
    /// Calls in a month; 0 is no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub monthly_calls: Option<u64>,
    /// Bytes that workers hold for an hour, in a month; 0 is no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_hours: Option<u64>,
    /// The tenant's values for servers' schemas.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub config: BTreeMap<String, Map<String, Value>>,
}

impl TenantSettings {
    /// The settings, with what the others set in their place.
    #[must_use]
    pub fn with(mut self, others: Self) -> Self {
        self.weight = others.weight.or(self.weight);
        self.max_workers = others.max_workers.or(self.max_workers);
        self.requests_per_minute = others.requests_per_minute.or(self.requests_per_minute);
        self.burst = others.burst.or(self.burst);
        self.concurrent = others.concurrent.or(self.concurrent);
        self.monthly_calls = others.monthly_calls.or(self.monthly_calls);
        self.memory_hours = others.memory_hours.or(self.memory_hours);
        self.config.extend(others.config);
        self
    }

    /// Checks that the settings can be used with that config.
    ///
    /// # Errors
    /// The setting that cannot, and what is allowed.
    pub fn check(&self, config: &Config) -> Result<(), InvalidSettings> {
        if let Some(weight) = self.weight.filter(|weight| !(1..=1000).contains(weight)) {
            return Err(InvalidSettings::Weight(weight));
        }
        if self.max_workers == Some(0) {
            return Err(InvalidSettings::MaxWorkers);
        }
        for (name, values) in &self.config {
            let server = config.servers.get(name.as_str());
            let server = server.ok_or_else(|| {
                let names: Vec<_> = config.servers.keys().map(ServerName::as_str).collect();
                InvalidSettings::NoServer {
                    name: name.clone(),
                    known: names.join(", "),
                }
            })?;
            let Some(schema) = &server.schema else {
                continue;
            };
            let validator = jsonschema::validator_for(schema);
            let validator = validator.map_err(|error| InvalidSettings::Schema {
                server: name.clone(),
                why: error.to_string(),
            })?;
            let instance = Value::Object(values.clone());
            for error in validator.iter_errors(&instance) {
                // Required values may come from elsewhere.
                use jsonschema::error::ValidationErrorKind::Required;
                if !matches!(error.kind(), Required { .. }) {
                    let pointer = error.instance_path();
                    // The values may be confidential.
                    let why = error.masked();
                    return Err(InvalidSettings::Values {
                        server: name.clone(),
                        pointer: pointer.to_string(),
                        why: why.to_string(),
                    });
                }
            }
        }
        Ok(())
    }

    fn tenant(&self, config: &Config, warnings: &mut Vec<Warning>, name: &str) -> Tenant {
        let of_servers = self.config.iter().filter_map(|(server, values)| {
            let found = config.server_name(server);
            if found.is_none() {
                warnings.push(Warning {
                    line: None,
                    message: format!("tenant `{name}` of the state store has values for server `{server}`, which is not there"),
                });
            }
            Some((found?, values.clone()))
        });
        let of_servers = of_servers.collect();
        let default = config.rates.tenant;
        let rates = Rates {
            requests_per_minute: self
                .requests_per_minute
                .unwrap_or(default.requests_per_minute),
            burst: self.burst.unwrap_or(default.burst),
            concurrent: self.concurrent.unwrap_or(default.concurrent),
            streams: default.streams,
        };
        let of_all = config.rates.quotas;
        let quotas = Quotas {
            monthly_calls: self.monthly_calls.unwrap_or(of_all.monthly_calls),
            memory_hours: self.memory_hours.unwrap_or(of_all.memory_hours),
        };
        Tenant {
            tokens: vec![],
            rates: Some(rates),
            quotas,
            memory_held: None,
            body_rate: None,
            weight: self.weight.unwrap_or(1),
            max_workers: self.max_workers,
            networks: BTreeMap::new(),
            config: of_servers,
            secrets: BTreeMap::new(),
        }
    }
}

/// Why settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidSettings {
    /// No share.
    #[error("`weight` must be from 1 to 1000, not {0}")]
    Weight(u32),
    /// No workers at all.
    #[error("`max_workers` must be 1 or more")]
    MaxWorkers,
    /// Values for a server that is not there.
    #[error("there is no server `{name}` to configure; there are {known}")]
    NoServer {
        /// The name that was given.
        name: String,
        /// The names of the servers that are there.
        known: String,
    },
    /// A schema that is none.
    #[error("the schema of `{server}`: {why}")]
    Schema {
        /// The server whose schema it is.
        server: String,
        /// What is wrong with the schema.
        why: String,
    },
    /// Values that do not fit; they are not repeated.
    #[error("the values for `{server}` do not fit its schema at \"{pointer}\": {why}")]
    Values {
        /// The server whose values they are.
        server: String,
        /// JSON pointer of the place.
        pointer: String,
        /// What is wrong there.
        why: String,
    },
}

/// Why pool.toml and the state store do not go together.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// A tenant that is in both.
    #[error("{}", in_both(.0))]
    InBoth(String),
    /// Settings that cannot be read.
    #[error("the settings of tenant `{tenant}` in the state store cannot be read: {source}")]
    Unreadable {
        /// The tenant whose settings they are.
        tenant: String,
        /// What is wrong.
        source: serde_json::Error,
    },
}

/// What is wrong with a tenant that is in pool.toml and in the state store.
pub fn in_both(name: &str) -> String {
    format!(
        "tenant `{name}` is in pool.toml and in the state store: remove it from one (`stdiopool tenant remove {name}`)"
    )
}

/// The config with the tenants, tokens and secrets of the state store in it.
///
/// # Errors
/// A tenant that is in both, or one whose settings cannot be read.
pub fn merged(file: &Config, rows: &AccountRows) -> Result<Config, MergeError> {
    let mut config = file.clone();
    for row in &rows.tenants {
        let name = &row.name;
        if config.tenants.contains_key(name.as_str()) {
            return Err(MergeError::InBoth(name.clone()));
        }
        let settings: TenantSettings =
            serde_json::from_str(&row.settings).map_err(|source| MergeError::Unreadable {
                tenant: name.clone(),
                source,
            })?;
        let tenant = settings.tenant(file, &mut config.warnings, name);
        config.tenants.insert(TenantId::new(name.as_str()), tenant);
    }
    for row in &rows.tokens {
        // One of a tenant that has gone from pool.toml waits for it to come back.
        if let Some(tenant) = config.tenants.get_mut(row.tenant.as_str()) {
            tenant.tokens.push(Token {
                hash: row.hash,
                name: Some(row.name.as_str().into()),
                subject: row.subject.clone(),
                scopes: Arc::new(row.scopes.iter().cloned().collect()),
                expires: row.expires,
            });
        }
    }
    for row in rows.secrets.iter().filter(|row| row.of_grant().is_none()) {
        if let Some(tenant) = config.tenants.get_mut(row.tenant.as_str()) {
            let source = SecretSource::Stored(row.sealed.as_slice().into());
            tenant.secrets.entry(row.name.clone()).or_insert(source);
        }
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;
    use crate::config;
    use crate::store::{SecretRow, TenantRow, TokenRow, now};

    fn file() -> Config {
        let text = "[limits]\ntenant = { requests_per_minute = 60 }\n[servers.a]\ncommand = \"a\"\n[servers.a.config]\nrequired = [\"n\", \"m\"]\nproperties.n = { type = \"integer\" }\n[tenants.acme]\nsecrets.k = { env = \"K\" }\n";
        config::parse(text, "pool.toml", Path::new("/")).expect("valid")
    }

    fn tenant(name: &str, settings: &Value) -> TenantRow {
        TenantRow {
            name: name.to_owned(),
            settings: settings.to_string(),
            created: now(),
        }
    }

    fn secret(tenant: &str, name: &str) -> SecretRow {
        SecretRow {
            tenant: tenant.to_owned(),
            name: name.to_owned(),
            sealed: vec![7],
            changed: now(),
        }
    }

    #[test]
    fn both_kinds_of_tenants_stand_beside_each_other() {
        let token = TokenRow {
            tenant: "acme".to_owned(),
            name: "ci".to_owned(),
            hash: [1; 32],
            subject: None,
            scopes: vec![],
            created: now(),
            expires: None,
            last_used: None,
        };
        let settings =
            json!({ "weight": 3, "concurrent": 5, "config": { "a": { "n": 1 }, "gone": {} } });
        let rows = AccountRows {
            tenants: vec![tenant("globex", &settings)],
            tokens: vec![token],
            secrets: vec![
                secret("acme", "k"),
                secret("acme", "l"),
                secret("acme", "oauth:a"),
                secret("nobody", "k"),
            ],
            key_check: None,
        };
        let config = merged(&file(), &rows).expect("merges");
        let globex = &config.tenants["globex"];
        assert_eq!((globex.weight, globex.config.len()), (3, 1));
        let rates = globex.rates.expect("its own");
        assert_eq!((rates.requests_per_minute, rates.concurrent), (60, 5));
        let acme = &config.tenants["acme"];
        assert_eq!(acme.tokens[0].name.as_deref(), Some("ci"));
        assert!(
            matches!(acme.secrets["k"], SecretSource::Env(_)),
            "the file goes first"
        );
        assert!(matches!(acme.secrets["l"], SecretSource::Stored(_)));
        assert!(!acme.secrets.contains_key("oauth:a"), "no secret to name");
        assert!(config.warnings.iter().any(|w| w.message.contains("`gone`")));

        let twice = AccountRows {
            tenants: vec![tenant("acme", &json!({}))],
            ..AccountRows::default()
        };
        let error = merged(&file(), &twice).expect_err("in both");
        let error = error.to_string();
        assert!(error.contains("`acme` is in pool.toml and"), "{error}");
    }

    #[test]
    fn settings_are_checked_before_they_are_kept() {
        let check = |settings: Value| {
            let settings: TenantSettings = serde_json::from_value(settings).expect("settings");
            settings.check(&file())
        };
        assert!(check(json!({ "config": { "a": { "n": 1 } } })).is_ok());
        for (wrong, word) in [
            (json!({ "weight": 0 }), "weight"),
            (json!({ "max_workers": 0 }), "max_workers"),
            (json!({ "config": { "b": {} } }), "there are a"),
            (json!({ "config": { "a": { "n": "x" } } }), "/n"),
        ] {
            let error = check(wrong).expect_err("wrong");
            let error = error.to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}

//! Reads `[tenants.NAME]`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use serde_json::{Map, Value, json};
use toml::Spanned;
use toml::de::DeValue;

use super::digest::sha256;
use super::mistake::similar;
use super::model::{DefaultRates, Server, Tenant, Token};
use super::names::bad_name;
use super::network::networks;
use super::quotas::quotas;
use super::rates;
use super::reader::Reader;
use super::secret_source::secrets;
use super::shown::{shown, to_json};
use crate::ids::{ServerName, TenantId, is_valid_name};
use crate::protocol::{name_of, step_to};

type Servers = BTreeMap<ServerName, Server>;

pub(super) fn tenants(
    root: &mut Reader<'_, '_>,
    servers: &Servers,
    rates: &DefaultRates,
    base_dir: &Path,
) -> BTreeMap<TenantId, Tenant> {
    let mut owners: BTreeMap<[u8; 32], String> = BTreeMap::new();
    let read = root.entries("tenants", |name, span, reader| {
        if name != "*" && !is_valid_name(name) {
            reader.notes.mistakes.push((span, bad_name("tenant", name)));
        }
        (
            TenantId::new(name),
            tenant(name, reader, servers, rates, base_dir, &mut owners),
        )
    });
    read.into_iter().collect()
}

fn tenant(
    name: &str,
    reader: &mut Reader<'_, '_>,
    servers: &Servers,
    defaults: &DefaultRates,
    base_dir: &Path,
    owners: &mut BTreeMap<[u8; 32], String>,
) -> Tenant {
    let tokens = tokens(name, reader, owners);
    let weight = reader.number(
        "weight",
        Some(1),
        1..=1000,
        "The tenant's share of the pool under contention, beside the others' weights.",
    );
    let max_workers = reader.number(
        "max_workers",
        None,
        1..=1_000_000,
        "Worker processes it may have, instead of `pool.max_workers_per_tenant`.",
    );
    let has_limits = reader.has("limits");
    let (rates, quotas, memory_held, body_rate) = reader.table("limits", |reader| {
        let rates = rates::rates(reader, defaults.tenant);
        (
            has_limits.then_some(rates),
            quotas(reader, defaults.quotas),
            rates::memory_held(reader),
            rates::own_body_rate(reader),
        )
    });
    let networks = networks(reader, servers);
    let config = config(reader, servers);
    let secrets = secrets(reader, base_dir);
    Tenant {
        tokens,
        rates,
        quotas,
        memory_held,
        body_rate,
        weight: weight.and_then(|n| u32::try_from(n).ok()).unwrap_or(1),
        max_workers: max_workers.and_then(|n| usize::try_from(n).ok()),
        networks,
        config,
        secrets,
    }
}

fn tokens(
    tenant: &str,
    reader: &mut Reader<'_, '_>,
    owners: &mut BTreeMap<[u8; 32], String>,
) -> Vec<Token> {
    let text = json!({ "type": "string" });
    let table = json!({
        "type": "object",
        "required": ["hash"],
        "properties": {
            "hash": text, "name": text, "subject": text, "expires": text,
            "scopes": { "type": "array", "items": text },
        },
        "additionalProperties": false,
    });
    let schema = json!({ "type": "array", "items": { "anyOf": [text, table] } });
    reader.keep_private("tokens");
    let doc = "The tenant's bearer tokens, each as \"sha256:\" and the SHA-256 of the token in hexadecimal digits, or as { hash = \"sha256:…\", name = \"…\", subject = \"user\", scopes = […], expires = \"2027-01-01T00:00:00Z\" }. `stdiopool token create` makes others, which are not in this file.";
    let Some(value) = reader.raw("tokens", schema, doc) else {
        return vec![];
    };
    let Some(items) = value.get_ref().as_array() else {
        reader.wrong("tokens", "`tokens` must be a list");
        return vec![];
    };
    let mut tokens = Vec::new();
    for item in items.iter() {
        let (text, token) = match item.get_ref() {
            DeValue::String(text) => (Some(text.to_string()), Token::default()),
            DeValue::Table(table) => {
                let path = reader.name("tokens");
                let mut inner = Reader::new(reader.notes, Some(table), item.span(), path);
                let read = token(&mut inner);
                inner.finish();
                read
            }
            _ => (None, Token::default()),
        };
        match text.as_deref().and_then(sha256) {
            Some(hash) => match owners.insert(hash, tenant.to_owned()) {
                None => tokens.push(Token { hash, ..token }),
                Some(owner) => reader.wrong("tokens", format!("this token is listed for tenant `{owner}` already; a token belongs to one tenant")),
            },
            // Not shown: it may be the token itself.
            None => reader.wrong("tokens", "an entry of `tokens` is not \"sha256:\" with 64 hexadecimal digits (make one with: printf %s TOKEN | sha256sum)"),
        }
    }
    tokens
}

/// Reads a token that is written with more than its hash.
fn token(reader: &mut Reader<'_, '_>) -> (Option<String>, Token) {
    let hash = reader.text("hash", None, "");
    let name = reader.text("name", None, "").map(Arc::from);
    let subject = reader.text("subject", None, "");
    let scopes: BTreeSet<_> = reader.texts("scopes", &[], "").into_iter().collect();
    let expires = reader.text("expires", None, "").and_then(|text| {
        let at: Option<SystemTime> = humantime::parse_rfc3339_weak(&text).ok();
        if at.is_none() {
            reader.wrong(
                "expires",
                "`expires` of a token must be a time such as \"2027-01-01T00:00:00Z\"",
            );
        }
        at
    });
    let token = Token {
        name,
        subject,
        scopes: Arc::new(scopes),
        expires,
        ..Token::default()
    };
    (hash, token)
}

fn config(
    reader: &mut Reader<'_, '_>,
    servers: &Servers,
) -> BTreeMap<ServerName, Map<String, Value>> {
    let schema = json!({ "type": "object", "additionalProperties": { "type": "object" } });
    let name = reader.name("config");
    let doc = "The tenant's values for the schemas of servers: `config.SERVER = { key = value }`.";
    let Some(value) = reader.raw("config", schema, doc) else {
        return BTreeMap::new();
    };
    let Some(table) = value.get_ref().as_table() else {
        reader.wrong(
            "config",
            format!("`{name}` must be a table, not {}", shown(value.get_ref())),
        );
        return BTreeMap::new();
    };
    let mut config = BTreeMap::new();
    for (server, value) in table {
        let path = format!("{name}.{}", server.get_ref());
        let Some((server_name, definition)) = servers.get_key_value(server.get_ref().as_ref())
        else {
            let names = servers.keys().map(ServerName::as_str);
            let hint = similar(server.get_ref(), names.clone()).map_or_else(
                || format!("there are {}", names.collect::<Vec<_>>().join(", ")),
                |word| format!("did you mean `{word}`?"),
            );
            let message = format!("`{path}` is for a server that is not there; {hint}");
            reader.notes.mistakes.push((server.span(), message));
            continue;
        };
        let Value::Object(values) = to_json(value.get_ref()) else {
            let message = format!("`{path}` must be a table, not {}", shown(value.get_ref()));
            reader.notes.mistakes.push((value.span(), message));
            continue;
        };
        validate(reader, &path, value, &values, definition);
        config.insert(server_name.clone(), values);
    }
    config
}

/// Checks a tenant's values against the schema; required ones may still come from elsewhere, so
/// that those missing are a warning.
fn validate(
    reader: &mut Reader<'_, '_>,
    path: &str,
    place: &Spanned<DeValue<'_>>,
    values: &Map<String, Value>,
    server: &Server,
) {
    let Some(schema) = &server.schema else { return };
    let Ok(validator) = jsonschema::validator_for(schema) else {
        return;
    };
    let mut is_confidential = false;
    for key in values.keys().filter(|key| server.is_confidential(key)) {
        is_confidential = true;
        let step = step_to(key);
        reader
            .notes
            .keep_private(span_at(place, &format!("/{step}")));
    }
    let instance = Value::Object(values.clone());
    for error in validator.iter_errors(&instance) {
        let pointer = error.instance_path().to_string();
        if let jsonschema::error::ValidationErrorKind::Required { property } = error.kind() {
            if let Some(what) = without(&pointer, property, schema, server) {
                let message = format!(
                    "`{path}` has no value for {property}, which the schema requires: {what}"
                );
                reader.notes.warnings.push((Some(place.span()), message));
            }
            continue;
        }
        let span = span_at(place, &pointer);
        // An error about an object shows all that is in it.
        let why = if is_confidential {
            error.masked().to_string()
        } else {
            error.to_string()
        };
        let message = format!("`{path}` does not fit the server's schema at \"{pointer}\": {why}");
        reader.notes.mistakes.push((span, message));
    }
}

/// What follows when a required value is missing at `pointer`; `None` when nothing does, because the
/// schema has a default for it.
fn without(
    pointer: &str,
    property: &Value,
    schema: &Value,
    server: &Server,
) -> Option<&'static str> {
    let key = property.as_str().filter(|_| pointer.is_empty());
    let Some(key) = key else {
        return Some("its requests will be refused");
    };
    if !schema["properties"][key]["default"].is_null() {
        return None;
    }
    let may_be_given = server.client_config.iter().any(|given| given == key);
    Some(if may_be_given {
        "requests whose callers do not set it will be refused"
    } else {
        "its requests will be refused"
    })
}

/// Where the value of a JSON pointer stands.
fn span_at(value: &Spanned<DeValue<'_>>, pointer: &str) -> Range<usize> {
    let mut found = value;
    for step in pointer.split('/').skip(1) {
        let step = name_of(step);
        let next = match found.get_ref() {
            DeValue::Table(table) => table
                .iter()
                .find(|(key, _)| key.get_ref().as_ref() == step)
                .map(|(_, value)| value),
            DeValue::Array(items) => step.parse().ok().and_then(|n: usize| items.get(n)),
            _ => None,
        };
        match next {
            Some(next) => found = next,
            None => break,
        }
    }
    found.span()
}

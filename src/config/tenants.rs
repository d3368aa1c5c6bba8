//! Reads `[tenants.NAME]`.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use serde_json::{Map, Value, json};
use toml::Spanned;
use toml::de::DeValue;

use super::mistake::similar;
use super::model::{SecretSource, Server, Tenant};
use super::reader::{Reader, shown, to_json};
use super::servers::bad_name;
use crate::ids::{ServerName, TenantId, is_valid_name};

type Servers = BTreeMap<ServerName, Server>;

pub(super) fn tenants(
    root: &mut Reader<'_, '_>,
    servers: &Servers,
    base_dir: &Path,
) -> BTreeMap<TenantId, Tenant> {
    let mut owners: BTreeMap<[u8; 32], String> = BTreeMap::new();
    let read = root.entries("tenants", |name, span, reader| {
        if name != "*" && !is_valid_name(name) {
            reader.notes.mistakes.push((span, bad_name("tenant", name)));
        }
        (
            TenantId::new(name),
            tenant(name, reader, servers, base_dir, &mut owners),
        )
    });
    read.into_iter().collect()
}

fn tenant(
    name: &str,
    reader: &mut Reader<'_, '_>,
    servers: &Servers,
    base_dir: &Path,
    owners: &mut BTreeMap<[u8; 32], String>,
) -> Tenant {
    reader.keep_private("tokens");
    let tokens = reader.texts("tokens", &[], "Hashes of the tenant's bearer tokens: \"sha256:\" and the SHA-256 of the token in hexadecimal digits.");
    let mut token_hashes = Vec::new();
    for text in &tokens {
        match hash(text) {
            Some(hash) => match owners.insert(hash, name.to_owned()) {
                None => token_hashes.push(hash),
                Some(owner) => reader.wrong("tokens", format!("this token is listed for tenant `{owner}` already; a token belongs to one tenant")),
            },
            // Not shown: it may be the token itself.
            None => reader.wrong("tokens", "an entry of `tokens` is not \"sha256:\" with 64 hexadecimal digits (make one with: printf %s TOKEN | sha256sum)"),
        }
    }
    let weight = reader.number(
        "weight",
        Some(1),
        1..=1000,
        "Its share of the pool under contention, beside the others' weights.",
    );
    let max_workers = reader.number(
        "max_workers",
        None,
        1..=1_000_000,
        "Worker processes it may have, instead of `pool.max_workers_per_tenant`.",
    );
    let config = config(reader, servers);
    let secrets = secrets(reader, base_dir);
    Tenant {
        token_hashes,
        weight: weight.and_then(|n| u32::try_from(n).ok()).unwrap_or(1),
        max_workers: max_workers.and_then(|n| usize::try_from(n).ok()),
        config,
        secrets,
    }
}

fn hash(text: &str) -> Option<[u8; 32]> {
    let digits = text
        .strip_prefix("sha256:")
        .filter(|digits| digits.len() == 64)?;
    let mut hash = [0; 32];
    for (byte, pair) in hash.iter_mut().zip(digits.as_bytes().chunks(2)) {
        let pair = std::str::from_utf8(pair).ok()?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    Some(hash)
}

fn config(
    reader: &mut Reader<'_, '_>,
    servers: &Servers,
) -> BTreeMap<ServerName, Map<String, Value>> {
    let schema = json!({ "type": "object", "additionalProperties": { "type": "object" } });
    let name = reader.name("config");
    let doc = "Its values for the schemas of servers: `config.SERVER = { key = value }`.";
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
    let instance = Value::Object(values.clone());
    for error in validator.iter_errors(&instance) {
        let pointer = error.instance_path().to_string();
        if let jsonschema::error::ValidationErrorKind::Required { property } = error.kind() {
            let message = format!(
                "`{path}` has no value for {property}, which the schema requires: its requests will be refused"
            );
            reader.notes.warnings.push(message);
            continue;
        }
        let span = span_at(place, &pointer);
        let message =
            format!("`{path}` does not fit the server's schema at \"{pointer}\": {error}");
        reader.notes.mistakes.push((span, message));
    }
}

/// Where the value of a JSON pointer stands.
fn span_at(value: &Spanned<DeValue<'_>>, pointer: &str) -> Range<usize> {
    let mut found = value;
    for step in pointer.split('/').skip(1) {
        let step = step.replace("~1", "/").replace("~0", "~");
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

fn secrets(reader: &mut Reader<'_, '_>, base_dir: &Path) -> BTreeMap<String, SecretSource> {
    let text = json!({ "type": "string" });
    let schema = json!({
        "type": "object",
        "additionalProperties": {
            "type": "object",
            "properties": { "env": text, "file": text, "command": { "type": "array", "items": text } },
            "additionalProperties": false,
            "minProperties": 1,
            "maxProperties": 1,
        },
    });
    let name = reader.name("secrets");
    let doc = "Where its secrets are: { env = \"VARIABLE\" } of stdiopool's environment, { file = \"path\" }, or { command = [\"program\", …] } whose output it is.";
    reader.keep_private("secrets");
    let Some(value) = reader.raw("secrets", schema, doc) else {
        return BTreeMap::new();
    };
    let Some(table) = value.get_ref().as_table() else {
        reader.wrong(
            "secrets",
            format!("`{name}` must be a table, not {}", shown(value.get_ref())),
        );
        return BTreeMap::new();
    };
    let mut secrets = BTreeMap::new();
    for (secret, value) in table {
        let path = format!("{name}.{}", secret.get_ref());
        let Some(table) = value.get_ref().as_table() else {
            // Not shown: it may be the secret itself.
            let message = format!(
                "`{path}` must say where the secret is: {{ env = \"…\" }}, {{ file = \"…\" }} or {{ command = […] }}"
            );
            reader.notes.mistakes.push((value.span(), message));
            continue;
        };
        let mut inner = Reader::new(reader.notes, Some(table), value.span(), path.as_str());
        let env = inner.text("env", None, "").map(SecretSource::Env);
        let file = inner
            .text("file", None, "")
            .map(|file| SecretSource::File(base_dir.join(file)));
        let command = inner
            .has("command")
            .then(|| inner.texts("command", &[], ""));
        let _known = command.is_none().then(|| inner.texts("command", &[], ""));
        if command.as_ref().is_some_and(Vec::is_empty) {
            inner.wrong(
                "command",
                format!("`{path}.command` is empty; it is the program and its arguments"),
            );
        }
        let mut sources: Vec<_> = [env, file, command.map(SecretSource::Command)]
            .into_iter()
            .flatten()
            .collect();
        let span = inner.span.clone();
        inner.finish();
        if sources.len() != 1 {
            let message = format!(
                "`{path}` must have one of `env`, `file` and `command`, not {}",
                sources.len()
            );
            reader.notes.mistakes.push((span, message));
        }
        if let Some(source) = sources.pop() {
            secrets.insert(secret.get_ref().to_string(), source);
        }
    }
    secrets
}

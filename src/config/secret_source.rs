//! Reads where secrets are: in a variable of stdiopool's environment, in a file, or on the output of a command.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::json;

use super::model::SecretSource;
use super::reader::Reader;
use super::shown::shown;

/// Reads `secrets` of a tenant: where each is.
pub(super) fn secrets(
    reader: &mut Reader<'_, '_>,
    base_dir: &Path,
) -> BTreeMap<String, SecretSource> {
    let doc = "Where its secrets are: { env = \"VARIABLE\" } of stdiopool's environment, { file = \"path\" }, or { command = [\"program\", …] } whose output it is.";
    by_name(reader, "secrets", base_dir, doc)
}

/// Reads a table of secrets: where each is, by its name.
pub(super) fn by_name(
    reader: &mut Reader<'_, '_>,
    key: &'static str,
    base_dir: &Path,
    doc: &'static str,
) -> BTreeMap<String, SecretSource> {
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
    let name = reader.name(key);
    reader.keep_private(key);
    let Some(value) = reader.raw(key, schema, doc) else {
        return BTreeMap::new();
    };
    let Some(table) = value.get_ref().as_table() else {
        reader.wrong(
            key,
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
        let (mut sources, span) = (sources(&mut inner, base_dir, ""), inner.span.clone());
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

/// A table that says where one secret is; `None` when nothing is said.
pub(super) fn source(
    reader: &mut Reader<'_, '_>,
    base_dir: &Path,
    doc: &'static str,
) -> Option<SecretSource> {
    let mut found = sources(reader, base_dir, doc);
    if found.len() > 1 {
        let message = format!(
            "`{}` must have one of `env`, `file` and `command`, not {}",
            reader.name("").trim_end_matches('.'),
            found.len()
        );
        let span = reader.span.clone();
        reader.notes.mistakes.push((span, message));
    }
    found.pop()
}

fn sources(reader: &mut Reader<'_, '_>, base_dir: &Path, doc: &'static str) -> Vec<SecretSource> {
    let env = reader.text("env", None, doc).map(SecretSource::Env);
    let file = reader.text("file", None, doc);
    let file = file.map(|file| SecretSource::File(base_dir.join(file)));
    let is_command = reader.has("command");
    let command = reader.texts("command", &[], doc);
    if is_command && command.is_empty() {
        let message = format!(
            "`{}` is empty; it is the program and its arguments",
            reader.name("command")
        );
        reader.wrong("command", message);
    }
    let command = is_command.then_some(SecretSource::Command(command));
    [env, file, command].into_iter().flatten().collect()
}

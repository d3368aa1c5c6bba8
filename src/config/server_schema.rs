//! Reads `config` and `client_config` of a server: the JSON Schema of what tenants may set, and what of it callers may.

use std::sync::Arc;

use serde_json::{Value, json};

use super::reader::Reader;
use super::shown::to_json;

pub(super) fn schema(reader: &mut Reader<'_, '_>) -> Option<Arc<Value>> {
    let doc = "A JSON Schema of an object: what tenants may set for this server. `default` of a property holds where a tenant sets nothing.";
    let name = reader.name("config");
    let value = reader.raw("config", json!({ "type": "object" }), doc)?;
    let schema = to_json(value.get_ref());
    if let Err(error) = jsonschema::meta::validate(&schema) {
        let path = error.instance_path().to_string();
        if let Some(given) = wrong_type(&schema, &path) {
            let of = path.trim_start_matches('/').replace('/', ".");
            let message = format!(
                "`{name}.{of}`: `type` must be string, number, integer, boolean, array, object or null, not {given}"
            );
            reader.wrong("config", message);
            return None;
        }
        reader.wrong(
            "config",
            format!(
                "`{name}` is not a valid JSON Schema: {error} at \"{}\"",
                error.instance_path()
            ),
        );
        return None;
    }
    // A schema that cannot be compiled is refused when it is put in force.
    let patterns = jsonschema::PatternOptions::fancy_regex();
    let compiled = jsonschema::options()
        .with_pattern_options(patterns)
        .build(&schema);
    if let Err(error) = compiled {
        let at = error.instance_path().to_string();
        let message = format!("`{name}` cannot be used as a JSON Schema: {error} at \"{at}\"");
        reader.wrong("config", message);
        return None;
    }
    match schema.get("type") {
        None => {}
        Some(object) if object == "object" => {}
        Some(other) => {
            reader.wrong(
                "config",
                format!("`{name}` must describe an object, not {other}"),
            );
            return None;
        }
    }
    Some(Arc::new(schema))
}

/// What stands there in place of a type, or in a list of types, if that is what is wrong.
fn wrong_type(schema: &Value, path: &str) -> Option<Value> {
    let types = [
        "string", "number", "integer", "boolean", "array", "object", "null",
    ];
    let is_type = |value: &Value| value.as_str().is_some_and(|it| types.contains(&it));
    let given = schema.pointer(path).filter(|_| path.ends_with("/type"))?;
    let is_fine = match given {
        Value::Array(all) => !all.is_empty() && all.iter().all(is_type),
        other => is_type(other),
    };
    (!is_fine).then(|| given.clone())
}

/// Keys that callers may set must be described: it is validated and advertised.
pub(super) fn client_config(reader: &mut Reader<'_, '_>, schema: Option<&Value>) -> Vec<String> {
    let doc = "Keys of the config that a caller may set itself, per session or per request, over what its tenant has set.";
    let keys = reader.texts("client_config", &[], doc);
    let properties = schema.and_then(|schema| schema.get("properties"));
    for key in &keys {
        if properties.is_none_or(|properties| properties.get(key).is_none()) {
            let name = reader.name("client_config");
            let of = reader.name("config.properties");
            reader.wrong(
                "client_config",
                format!("`{name}` lists \"{key}\", which `{of}` does not describe: what callers set is validated"),
            );
        }
    }
    keys
}

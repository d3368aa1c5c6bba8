//! The JSON Schema of pool.toml and the reference of its keys, both from what the reader asks for.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::notes::{KeyDoc, Notes};
use super::read;
use super::reader::Reader;

/// Every key there is.
fn keys() -> Vec<KeyDoc> {
    let mut notes = Notes::default();
    let mut root = Reader::new(&mut notes, None, 0..0, "");
    let _defaults = read::config(&mut root, Path::new("/"));
    root.finish();
    notes.docs
}

/// The JSON Schema (2020-12) of pool.toml, for editors.
pub fn json_schema() -> Value {
    let mut root = table();
    for key in keys() {
        let mut place = &mut root;
        let mut steps: Vec<_> = key.path.split('.').collect();
        let Some(name) = steps.pop() else { continue };
        for step in steps {
            place = if step == "*" {
                let entry = &mut place["additionalProperties"];
                if !entry.is_object() {
                    *entry = table();
                }
                entry
            } else {
                let properties = &mut place["properties"];
                if properties.get(step).is_none() {
                    properties[step] = table();
                }
                &mut properties[step]
            };
        }
        let mut schema = key.schema;
        schema["description"] = Value::from(key.doc);
        place["properties"][name] = schema;
        if key.path == "servers.*.command" {
            place["required"] = json!(["command"]);
        }
    }
    root["$schema"] = Value::from("https://json-schema.org/draft/2020-12/schema");
    root["title"] = Value::from("pool.toml of stdiopool");
    root
}

fn table() -> Value {
    json!({ "type": "object", "properties": Map::new(), "additionalProperties": false })
}

/// The reference of every key, as Markdown.
pub fn reference() -> String {
    let mut text = String::from(
        "# Reference of pool.toml\n\nEvery key, what it means, and what holds when it is not written. Durations are texts such as\n`\"30s\"`, `\"10m\"`, `\"24h\"`; sizes texts such as `\"512MiB\"`. Unknown keys are mistakes. `stdiopool check`\nsays every mistake with its place, `stdiopool schema` prints a JSON Schema for editors.\n\nThis page is made from the code that reads the file; a test keeps the two equal.\n",
    );
    let mut section = String::new();
    for key in keys() {
        let (table, name) = key.path.rsplit_once('.').unwrap_or(("", &key.path));
        if table != section {
            section = table.to_owned();
            let shown = table
                .replace("servers.*", "servers.NAME")
                .replace("tenants.*", "tenants.NAME")
                .replace("policy.*", "policy.NAME");
            text.push_str(&format!(
                "\n## [{shown}]\n\n| key | default | meaning |\n| --- | --- | --- |\n"
            ));
        }
        let default = key
            .default
            .map_or_else(|| "-".to_owned(), |default| format!("`{default}`"));
        let doc = key.doc.replace('|', "\\|");
        text.push_str(&format!("| `{name}` | {default} | {doc} |\n"));
    }
    text
}

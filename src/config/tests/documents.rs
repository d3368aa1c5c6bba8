//! What is made from the code or comes along with it, and must say what the code does: the reference of the keys, the JSON Schema,
//! the examples.

use std::path::Path;

use serde_json::json;

use super::{SMALLEST, read};
use crate::config::{json_schema, load, reference};

/// Documents in `docs/` that are made from the code. `BLESS=1 cargo test` writes them anew.
#[test]
fn the_documents_say_what_the_code_does() {
    let schema = format!("{:#}\n", json_schema());
    for (file, made) in [("config.md", reference()), ("pool.schema.json", schema)] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("docs")
            .join(file);
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&path, &made).expect("written");
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            kept == made,
            "docs/{file} is out of date: BLESS=1 cargo test the_documents"
        );
    }
}

#[test]
fn the_files_that_come_along_have_no_mistake() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for file in ["pool.toml", "docs/pool.example.toml"] {
        let path = root.join(file);
        let config = load(&path).unwrap_or_else(|error| panic!("{error}"));
        assert!(!config.servers.is_empty());
        let text = std::fs::read_to_string(&path).expect("there");
        let value: toml::Value = toml::from_str(&text).expect("TOML");
        let value = serde_json::to_value(value).expect("JSON");
        let schema = jsonschema::validator_for(&json_schema()).expect("a schema");
        let errors: Vec<_> = schema
            .iter_errors(&value)
            .map(|e| format!("{e} at {}", e.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{file}: {errors:?}");
    }
}

/// The example shows every pool-wide key with its default: reading it changes nothing.
#[test]
fn the_example_shows_the_defaults() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/pool.example.toml");
    let shown = load(&path).expect("valid");
    let default = read(SMALLEST).expect("valid");
    assert_eq!(shown.http.listen, default.http.listen);
    assert_eq!(shown.http.max_body, default.http.max_body);
    assert_eq!(shown.http.memory, default.http.memory);
    assert_eq!(shown.admin.listen, default.admin.listen);
    assert_eq!(shown.pool, default.pool);
    assert_eq!((shown.rates, shown.audit), (default.rates, default.audit));
    assert_eq!(shown.packages, default.packages);
}

#[test]
fn the_schema_takes_a_secret_from_each_of_its_sources() {
    let schema = jsonschema::validator_for(&json_schema()).expect("a schema");
    let key = |source: serde_json::Value| schema.is_valid(&json!({ "state": { "key": source } }));
    for source in [
        json!({ "file": "state.key" }),
        json!({ "env": "KEY" }),
        json!({ "command": ["pass", "key"] }),
    ] {
        assert!(key(source.clone()), "{source}");
    }
    assert!(
        !schema.is_valid(&json!({ "servers": { "s": {} } })),
        "no command"
    );
}

//! A tenant's values for a server's config schema: merged over the defaults, and validated.

use std::sync::Arc;

use jsonschema::Validator;
use jsonschema::error::ValidationErrorKind;
use serde_json::{Map, Value};

use crate::ids::{ServerName, TenantId};
use crate::protocol::{Failure, Reason};

/// A server's config schema, ready to use.
#[derive(Debug)]
pub(super) struct Schema {
    validator: Validator,
    defaults: Map<String, Value>,
}

impl Schema {
    /// Compiles a schema.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn new(schema: &Arc<Value>) -> Result<Self, String> {
        let validator = jsonschema::validator_for(schema).map_err(|error| error.to_string())?;
        Ok(Self {
            validator,
            defaults: defaults(schema),
        })
    }

    /// The tenant's values over the defaults.
    ///
    /// # Errors
    /// [`Reason::ConfigInvalid`] with every JSON pointer at which they do not fit, and what is
    /// allowed there; values are not repeated, they may be confidential.
    pub(super) fn apply(
        &self,
        values: Option<&Map<String, Value>>,
        server: &ServerName,
        tenant: &TenantId,
    ) -> Result<Map<String, Value>, Failure> {
        let mut merged = self.defaults.clone();
        merge(&mut merged, values.into_iter().flatten());
        let instance = Value::Object(merged);
        let complaints: Vec<_> = self
            .validator
            .iter_errors(&instance)
            .map(|error| match error.kind() {
                ValidationErrorKind::Required { property } => {
                    let missing = property.as_str().unwrap_or_default();
                    let at = dotted(&error.instance_path().to_string());
                    format!("`config{at}.{missing}` is required and has no value")
                }
                _ => {
                    let masked = error.masked().to_string();
                    format!("at \"{}\": {masked}", error.instance_path())
                }
            })
            .collect();
        match instance {
            Value::Object(merged) if complaints.is_empty() => Ok(merged),
            _ => Err(Failure::new(
                Reason::ConfigInvalid,
                format!(
                    "the config of tenant `{tenant}` does not fit server `{server}`: {} (set `tenants.{tenant}.config.{server}`)",
                    complaints.join("; ")
                ),
            )),
        }
    }
}

fn dotted(pointer: &str) -> String {
    pointer.replace('/', ".")
}

/// The defaults of a schema's properties, those of objects in it included.
fn defaults(schema: &Value) -> Map<String, Value> {
    let properties = schema.get("properties").and_then(Value::as_object);
    let of_property = |(name, property): (&String, &Value)| {
        let own = property.get("default").cloned();
        let inner = defaults(property);
        let value = match own {
            Some(Value::Object(mut own)) => {
                for (name, value) in inner {
                    own.entry(name).or_insert(value);
                }
                Some(Value::Object(own))
            }
            Some(own) => Some(own),
            None => (!inner.is_empty()).then_some(Value::Object(inner)),
        };
        Some((name.clone(), value?))
    };
    properties
        .into_iter()
        .flatten()
        .filter_map(of_property)
        .collect()
}

/// Puts `over` over `base`: objects member by member, anything else whole.
fn merge<'a>(
    base: &mut Map<String, Value>,
    over: impl IntoIterator<Item = (&'a String, &'a Value)>,
) {
    for (name, value) in over {
        match (base.get_mut(name), value) {
            (Some(Value::Object(base)), Value::Object(over)) => merge(base, over),
            _ => {
                base.insert(name.clone(), value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn apply(values: Value) -> Result<Value, String> {
        let schema = Arc::new(json!({
            "type": "object",
            "required": ["repo"],
            "additionalProperties": false,
            "properties": {
                "repo": { "type": "string", "pattern": "^[^/]+/[^/]+$" },
                "limit": { "type": "integer", "default": 10, "maximum": 100 },
                "log": { "type": "object", "properties": { "level": { "default": "info" }, "file": {} } },
            },
        }));
        let schema = Schema::new(&schema).expect("valid");
        let (server, tenant) = (ServerName::new("github"), TenantId::new("acme"));
        let values = values.as_object().cloned();
        let applied = schema.apply(values.as_ref(), &server, &tenant);
        applied
            .map(Value::Object)
            .map_err(|failure| failure.message)
    }

    #[test]
    fn the_tenants_values_go_over_the_defaults() {
        let applied = apply(json!({ "repo": "a/b", "log": { "file": "x" } })).expect("fits");
        let expected =
            json!({ "repo": "a/b", "limit": 10, "log": { "level": "info", "file": "x" } });
        assert_eq!(applied, expected);
    }

    #[test]
    fn every_misfit_is_named_with_what_is_allowed_and_without_its_value() {
        insta::assert_snapshot!(apply(json!(null)).expect_err("misses"));
        let text = apply(json!({ "repo": "hunter22", "limit": 101, "x": 1 })).expect_err("misfits");
        assert!(!text.contains("hunter22"), "{text}");
        insta::assert_snapshot!(text);
    }
}

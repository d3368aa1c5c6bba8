//! A tenant's values for a server's config schema: merged over the defaults, and validated.

use std::sync::Arc;

use jsonschema::error::ValidationErrorKind;
use jsonschema::{PatternOptions, Validator};
use serde_json::{Map, Value, json};

use crate::ids::{ServerName, TenantId};
use crate::protocol::{Failure, Reason, step_to};

/// Steps back that the match of one pattern may take; a value that needs more does not fit.
const MAX_BACKTRACKS: usize = 100_000;
/// Most misfits that are looked for and told.
pub(super) const MAX_MISFITS: usize = 32;
/// Values of at most so many bytes are checked at once, if their schema is quick to check.
const QUICK_BYTES: usize = 4 << 10;
/// Keywords whose checks may take longer than their values are long.
const SLOW_KEYWORDS: [&str; 9] = [
    "pattern",
    "patternProperties",
    "uniqueItems",
    "contains",
    "anyOf",
    "oneOf",
    "$ref",
    "$dynamicRef",
    "$recursiveRef",
];

/// Why a schema cannot be used, as its reader says it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct NoSchema(String);

/// A server's config schema, ready to use.
#[derive(Debug)]
pub(super) struct Schema {
    validator: Validator,
    defaults: Map<String, Value>,
    /// Whether the schema's checks may take longer than the values are long.
    is_slow: bool,
}

impl Schema {
    /// Compiles a schema.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn new(schema: &Arc<Value>) -> Result<Self, NoSchema> {
        let patterns = PatternOptions::fancy_regex().backtrack_limit(MAX_BACKTRACKS);
        let options = jsonschema::options().with_pattern_options(patterns);
        let built = options.build(schema);
        let validator = built.map_err(|error| NoSchema(error.to_string()))?;
        Ok(Self {
            is_slow: has_slow_keyword(schema),
            validator,
            defaults: defaults(schema),
        })
    }

    /// Whether values of so many bytes are checked in no time.
    pub(super) fn is_quick(&self, bytes: usize) -> bool {
        !self.is_slow && bytes <= QUICK_BYTES
    }

    /// The tenant's values over the defaults, and the caller's over both, unchecked.
    pub(super) fn merged<'v>(
        &self,
        layers: impl IntoIterator<Item = &'v Map<String, Value>>,
    ) -> Map<String, Value> {
        let mut merged = self.defaults.clone();
        for layer in layers {
            merge(&mut merged, layer);
        }
        merged
    }

    /// The tenant's values over the defaults, and the caller's over both, checked against the schema.
    ///
    /// # Errors
    /// Places at which they do not fit, at most one more than [`MAX_MISFITS`].
    pub(super) fn apply<'v>(
        &self,
        layers: impl IntoIterator<Item = &'v Map<String, Value>>,
    ) -> Result<Map<String, Value>, Vec<Misfit>> {
        let instance = Value::Object(self.merged(layers));
        let misfits = self.validator.iter_errors(&instance).map(misfit);
        let misfits: Vec<_> = misfits.take(MAX_MISFITS + 1).collect();
        match instance {
            Value::Object(merged) if misfits.is_empty() => Ok(merged),
            _ => Err(misfits),
        }
    }
}

/// A place at which a config does not fit its schema. Values are not repeated, they may be
/// confidential.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Misfit {
    /// JSON pointer of the place.
    pub(super) pointer: String,
    /// What is wrong there, and what is allowed.
    pub(super) why: String,
    /// A key of the config itself that is required and has no value.
    pub(super) missing: Option<String>,
}

fn misfit(error: jsonschema::ValidationError<'_>) -> Misfit {
    let place = error.instance_path().to_string();
    match error.kind() {
        ValidationErrorKind::Required { property } => {
            let missing = property.as_str().unwrap_or_default();
            let at = dotted(&place);
            Misfit {
                why: format!("`config{at}.{missing}` is required and has no value"),
                pointer: format!("{place}/{}", step_to(missing)),
                missing: place.is_empty().then(|| missing.to_owned()),
            }
        }
        _ => Misfit {
            why: format!("at \"{place}\": {}", error.masked()),
            pointer: place,
            missing: None,
        },
    }
}

/// What a caller is told of misfits: `mend` says what to do.
pub(super) fn refused(
    misfits: &[Misfit],
    server: &ServerName,
    tenant: &TenantId,
    mend: &str,
) -> Failure {
    let told = &misfits[..misfits.len().min(MAX_MISFITS)];
    let mut whys: Vec<_> = told.iter().map(|misfit| misfit.why.as_str()).collect();
    if told.len() < misfits.len() {
        whys.push("and more");
    }
    let message = format!(
        "the config of tenant `{tenant}` does not fit server `{server}`: {} ({mend})",
        whys.join("; ")
    );
    let errors = told
        .iter()
        .map(|misfit| json!({ "pointer": misfit.pointer, "message": misfit.why }));
    Failure::new(Reason::ConfigInvalid, message).detail("errors", errors.collect())
}

/// Whether a schema, or a schema in it, has one of [`SLOW_KEYWORDS`]; a property of that name counts too.
fn has_slow_keyword(schema: &Value) -> bool {
    match schema {
        Value::Object(members) => members
            .iter()
            .any(|(name, value)| SLOW_KEYWORDS.contains(&&**name) || has_slow_keyword(value)),
        Value::Array(items) => items.iter().any(has_slow_keyword),
        _ => false,
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
pub(super) fn merge<'a>(
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
    use super::*;

    /// The error is a text: what a user reads of it is compared.
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
        let applied = schema.apply(&values);
        applied.map(Value::Object).map_err(|misfits| {
            let mend = format!("set `tenants.{tenant}.config.{server}`");
            refused(&misfits, &server, &tenant, &mend).message
        })
    }

    #[test]
    fn the_tenants_values_go_over_the_defaults() {
        let applied = apply(json!({ "repo": "a/b", "log": { "file": "x" } })).expect("fits");
        let expected =
            json!({ "repo": "a/b", "limit": 10, "log": { "level": "info", "file": "x" } });
        assert_eq!(applied, expected);
    }

    #[test]
    fn a_pattern_that_backtracks_without_end_is_given_up() {
        let schema = Arc::new(json!({ "properties": { "a": { "pattern": "^(?=(a+)+$)b" } } }));
        let schema = Schema::new(&schema).expect("valid");
        let values = json!({ "a": "a".repeat(60) + "!" });
        let began = std::time::Instant::now();
        let values = values.as_object().cloned();
        schema.apply(&values).expect_err("no match");
        assert!(began.elapsed() < std::time::Duration::from_secs(5));
        assert!(!schema.is_quick(1));
    }

    #[test]
    fn every_misfit_is_named_with_what_is_allowed_and_without_its_value() {
        insta::assert_snapshot!(apply(json!(null)).expect_err("misses"));
        let many = Schema::new(&Arc::new(json!({ "additionalProperties": false }))).expect("valid");
        let extra: Map<_, _> = (0..2_000).map(|n| (format!("p{n}"), json!([]))).collect();
        let nested = json!({ "a": vec![0; 5_000] });
        let numbers = Arc::new(json!({ "properties": { "a": { "items": { "type": "string" } } } }));
        let numbers = Schema::new(&numbers).expect("valid");
        for (schema, values) in [
            (&many, extra),
            (&numbers, nested.as_object().cloned().expect("an object")),
        ] {
            let misfits = schema.apply([&values]).expect_err("misfits");
            assert!(misfits.len() <= MAX_MISFITS + 1, "{}", misfits.len());
            let told = refused(
                &misfits,
                &ServerName::new("s"),
                &TenantId::new("t"),
                "mend it",
            );
            assert!(told.message.len() < 100_000, "{}", told.message.len());
        }
        let text = apply(json!({ "repo": "hunter22", "limit": 101, "x": 1 })).expect_err("misfits");
        assert!(!text.contains("hunter22"), "{text}");
        insta::assert_snapshot!(text);
    }
}

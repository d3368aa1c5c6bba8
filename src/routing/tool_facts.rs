//! What a tool takes, as far as its `inputSchema` says so: which arguments it declares, and whether it may take others.

use std::collections::BTreeSet;

use serde_json::Value;

/// How deep schemas are looked into for what is composed of several (`allOf` and the like).
const MAX_DEPTH: usize = 4;

/// The arguments that a tool takes, by its schema.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct ToolFacts {
    pub(super) declared: BTreeSet<String>,
    /// An undeclared name is no argument of it.
    says_all: bool,
}

/// Whether a tool takes an argument.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ArgumentSupport {
    Declared,
    /// The tool's schema declares others only, or none.
    Not,
    /// The tool's schema does not say.
    Unsaid,
}

impl ToolFacts {
    /// From a tool's `inputSchema`.
    pub(crate) fn of(schema: &Value) -> Self {
        let mut facts = Self::default();
        let mut is_open = false;
        facts.read(schema, MAX_DEPTH, &mut is_open);
        facts.says_all &= !is_open;
        facts
    }

    fn read(&mut self, schema: &Value, depth: usize, is_open: &mut bool) {
        let Some(members) = schema.as_object() else {
            return;
        };
        if let Some(properties) = members.get("properties").and_then(Value::as_object) {
            self.says_all = true;
            self.declared.extend(properties.keys().cloned());
        }
        self.says_all |= members.get("additionalProperties") == Some(&Value::Bool(false));
        // Names that are nowhere written out.
        *is_open |= ["$ref", "$dynamicRef", "patternProperties"]
            .iter()
            .any(|name| members.contains_key(*name));
        let several = ["allOf", "anyOf", "oneOf"].iter();
        let several = several.filter_map(|name| members.get(*name)?.as_array());
        let one = ["if", "then", "else"].iter();
        let one = one.filter_map(|name| members.get(*name));
        for part in several.flatten().chain(one) {
            match depth.checked_sub(1) {
                Some(depth) => self.read(part, depth, is_open),
                None => *is_open = true,
            }
        }
    }

    /// The facts that hold of both, for a tool that is listed twice.
    pub(crate) fn with(&self, other: &Self) -> Self {
        let both = self.declared.intersection(&other.declared);
        Self {
            declared: both.cloned().collect(),
            says_all: self.says_all && other.says_all,
        }
    }

    /// Bytes of the names that are kept.
    pub(crate) fn bytes(&self) -> usize {
        self.declared.iter().map(|name| name.len() + NAME).sum()
    }

    /// Whether the tool takes an argument of that name.
    pub(super) fn takes(&self, argument: &str) -> ArgumentSupport {
        match self.declared.contains(argument) {
            true => ArgumentSupport::Declared,
            false if self.says_all => ArgumentSupport::Not,
            false => ArgumentSupport::Unsaid,
        }
    }
}

/// The memory of a name beside its letters, in bytes.
pub(crate) const NAME: usize = 64;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A tool that says what it takes.
    fn takes(arguments: &[&str]) -> Value {
        let properties = arguments.iter().map(|name| ((*name).to_owned(), json!({})));
        json!({ "type": "object", "properties": properties.collect::<serde_json::Map<_, _>>() })
    }

    #[test]
    fn what_a_tool_takes_is_read_from_composed_schemas_too() {
        let of = |schema: Value| ToolFacts::of(&schema);
        let both =
            of(json!({ "properties": { "a": {} }, "oneOf": [{ "properties": { "b": {} } }] }));
        assert_eq!(
            (both.takes("a"), both.takes("b"), both.takes("c")),
            (
                ArgumentSupport::Declared,
                ArgumentSupport::Declared,
                ArgumentSupport::Not
            )
        );
        let elsewhere =
            of(json!({ "properties": { "a": {} }, "allOf": [{ "$ref": "#/$defs/x" }] }));
        assert_eq!(
            (elsewhere.takes("a"), elsewhere.takes("b")),
            (ArgumentSupport::Declared, ArgumentSupport::Unsaid)
        );
        assert_eq!(
            of(json!({ "type": "object", "additionalProperties": false })).takes("a"),
            ArgumentSupport::Not
        );
        assert_eq!(
            of(json!({ "patternProperties": { "^x": {} }, "additionalProperties": false }))
                .takes("a"),
            ArgumentSupport::Unsaid
        );
        assert_eq!(of(Value::Null).takes("a"), ArgumentSupport::Unsaid);
        assert_eq!(of(json!(true)).takes("a"), ArgumentSupport::Unsaid);
        let deep = (0..20).fold(
            json!({ "properties": { "a": {} } }),
            |inner, _| json!({ "allOf": [inner] }),
        );
        assert_eq!(of(deep).takes("b"), ArgumentSupport::Unsaid);
        let twice = of(takes(&["a", "b"])).with(&of(takes(&["b"])));
        assert_eq!(
            (twice.takes("a"), twice.takes("b")),
            (ArgumentSupport::Not, ArgumentSupport::Declared)
        );
    }
}

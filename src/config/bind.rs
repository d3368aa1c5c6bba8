//! Reads `bind` and `identity` of a server: what stdiopool says to its tools of who calls.

use std::collections::BTreeMap;

use globset::{Glob, GlobMatcher};
use serde_json::{Value, json};

use super::globs::unlike_a_name;
use super::reader::Reader;
use super::resembling::resembles;
use super::shown::shown;
use super::template::{Reference, Template, TemplateError};

/// Arguments of tools that stdiopool sets, in the order in which later rules go before earlier ones.
#[derive(Clone, Default, Debug)]
pub struct Bind(Vec<BindRule>);

/// The arguments that are set for the callers of some tools.
#[derive(Clone, Debug)]
pub struct BindRule {
    pattern: String,
    /// `None` for the name of one tool.
    glob: Option<GlobMatcher>,
    arguments: BTreeMap<String, Template>,
}

impl BindRule {
    /// The tool's name, or a glob of names.
    pub fn pattern(&self) -> &str {
        &self.pattern
    }

    /// Whether the rule names one tool.
    pub fn is_exact(&self) -> bool {
        self.glob.is_none()
    }

    /// Whether the rule is about that tool.
    pub fn matches(&self, tool: &str) -> bool {
        match &self.glob {
            Some(glob) => glob.is_match(tool),
            None => self.pattern == tool,
        }
    }

    /// Whether the rule may have been meant for that tool, by a slip in its name.
    pub fn resembles(&self, tool: &str) -> bool {
        resembles(&self.pattern, tool)
    }

    /// The value of each argument, by its name.
    pub fn arguments(&self) -> &BTreeMap<String, Template> {
        &self.arguments
    }
}

impl Bind {
    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Every rule.
    pub fn rules(&self) -> &[BindRule] {
        &self.0
    }

    /// Whether a rule names that tool, if only to say that nothing is set for it.
    pub fn names(&self, tool: &str) -> bool {
        let mut rules = self.0.iter().filter(|rule| rule.is_exact());
        rules.any(|rule| rule.matches(tool))
    }

    /// Rules that may have been meant for that tool, by a slip, and are not about it. None for a tool that a rule names.
    pub fn resembling(&self, tool: &str) -> impl Iterator<Item = &BindRule> {
        let is_named = self.names(tool);
        let rules = self.0.iter().filter(move |_| !is_named);
        rules.filter(|rule| !rule.matches(tool) && rule.resembles(tool))
    }

    /// What is set for callers of that tool, each by one rule: that of its name before globs, a longer glob
    /// before a shorter one.
    pub fn of(&self, tool: &str) -> BTreeMap<&str, (&Template, &BindRule)> {
        let rules = self.0.iter().filter(|rule| rule.matches(tool));
        let arguments = rules.flat_map(|rule| {
            let arguments = rule.arguments.iter();
            arguments.map(move |(name, template)| (name.as_str(), (template, rule)))
        });
        arguments.collect()
    }

    fn add(&mut self, rule: BindRule) {
        self.0.push(rule);
        let key = |rule: &BindRule| (rule.is_exact(), rule.pattern.len());
        self.0.sort_by_key(key);
    }
}

/// Reads `bind`; `schema` is that of the server's config.
pub(super) fn bind(reader: &mut Reader<'_, '_>, schema: Option<&Value>) -> Bind {
    let texts = json!({ "type": "object", "additionalProperties": { "type": "string" } });
    let schema_of_key = json!({ "type": "object", "additionalProperties": texts });
    let doc = "Arguments of its tools that are set from who calls or from the config, `bind.TOOL = { account_id = \"${user.account}\" }`; TOOL is a name, or a glob of names (`bind.\"*\"`), of which a name goes first, then the longest: templates of user, tenant and config. They are hidden from the tool's schema, and a caller who gives one is refused. A call is passed on once the server has listed its tools (stdiopool asks if nobody has): a tool that a binding names and that has no such argument, one that resembles a name or glob which matches nothing (unless it has a binding of its own, `bind.TOOL = {}` at least), and one that is not listed are not called. A glob sets an argument where a tool has it, or does not say what it takes; a tool without it is called without, and where none that the glob matches has it, none of them is called.";
    let name = reader.name("bind");
    let Some(value) = reader.raw("bind", schema_of_key, doc) else {
        return Bind::default();
    };
    let mut bind = Bind::default();
    let mut mistakes = Vec::new();
    let Some(tools) = value.get_ref().as_table() else {
        let given = shown(value.get_ref());
        reader.wrong("bind", format!("`{name}` must be a table, not {given}"));
        return bind;
    };
    for (tool, value) in tools {
        let (all, name) = (&name, format!("{name}.{}", tool.get_ref()));
        if let Some(why) = unlike_a_name(tool.get_ref()) {
            let message = format!("`{all}` has {:?}, which {why}", tool.get_ref());
            mistakes.push((tool.span(), message));
            continue;
        }
        let Some(arguments) = value.get_ref().as_table() else {
            let given = shown(value.get_ref());
            let message = format!("`{name}` must be a table of arguments, not {given}");
            mistakes.push((value.span(), message));
            continue;
        };
        let pattern = tool.get_ref().to_string();
        let glob = match glob(&pattern) {
            Ok(glob) => glob,
            Err(error) => {
                mistakes.push((tool.span(), format!("`{name}`: {error}")));
                continue;
            }
        };
        let mut of_tool = BTreeMap::new();
        for (argument, value) in arguments {
            if let Some(why) = unlike_a_name(argument.get_ref()) {
                let message = format!("`{name}` has {:?}, which {why}", argument.get_ref());
                mistakes.push((argument.span(), message));
                continue;
            }
            let name = format!("{name}.{}", argument.get_ref());
            match template(value.get_ref().as_str(), schema) {
                Ok(template) => {
                    of_tool.insert(argument.get_ref().to_string(), template);
                }
                Err(why) => mistakes.push((value.span(), format!("`{name}` {why}"))),
            }
        }
        bind.add(BindRule {
            pattern,
            glob,
            arguments: of_tool,
        });
    }
    reader.notes.mistakes.extend(mistakes);
    bind
}

/// The glob that a text is, if it is one.
fn glob(text: &str) -> Result<Option<GlobMatcher>, globset::Error> {
    let is_glob = text.contains(['*', '?', '[', '{']);
    is_glob
        .then(|| Ok(Glob::new(text)?.compile_matcher()))
        .transpose()
}

/// Why an argument cannot be bound to that; follows the name of its key.
#[derive(Debug, thiserror::Error)]
enum NoBinding {
    #[error("must be a text")]
    NoText,
    #[error("is no template: {0}")]
    NoTemplate(TemplateError),
    #[error("refers to `config.{0}`, which the schema does not have")]
    NotInSchema(String),
    #[error("refers to `{0}`; an argument can be made of user, tenant and config")]
    OfNoCaller(Reference),
}

fn template(text: Option<&str>, schema: Option<&Value>) -> Result<Template, NoBinding> {
    let text = text.ok_or(NoBinding::NoText)?;
    let template = Template::parse(text).map_err(NoBinding::NoTemplate)?;
    for reference in template.references() {
        match reference {
            Reference::UserSub
            | Reference::UserEmail
            | Reference::UserClaim(_)
            | Reference::TenantId => {}
            Reference::Config(key) => {
                let top = key.split('.').next().unwrap_or_default();
                let properties = schema.and_then(|schema| schema.get("properties"));
                if properties.is_some_and(|properties| properties.get(top).is_none()) {
                    return Err(NoBinding::NotInSchema(key.clone()));
                }
            }
            Reference::Secret(_)
            | Reference::SecretFile(_)
            | Reference::OAuthToken
            | Reference::OAuthTokenFile
            | Reference::SessionId
            | Reference::DirData
            | Reference::DirTmp => {
                return Err(NoBinding::OfNoCaller(reference.clone()));
            }
        }
    }
    Ok(template)
}

/// Reads `identity`.
pub(super) fn identity(reader: &mut Reader<'_, '_>) -> Vec<String> {
    let doc = "What the server is told of who calls, with each request in `_meta[\"dev.stdiopool/identity\"]`: \"sub\", \"email\", \"tenant\", \"scopes\", or the name of a claim. What the credentials do not say is left out. Nothing without.";
    reader.texts("identity", &[], doc)
}

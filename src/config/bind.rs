//! Reads `bind` and `identity` of a server: what stdiopool says to its tools of who calls.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::reader::Reader;
use super::shown::shown;
use super::template::{Reference, Template};

/// Arguments of tools that stdiopool sets: by tool, by argument.
pub type Bind = BTreeMap<String, BTreeMap<String, Template>>;

/// Reads `bind`; `schema` is that of the server's config.
pub(super) fn bind(reader: &mut Reader<'_, '_>, schema: Option<&Value>) -> Bind {
    let texts = json!({ "type": "object", "additionalProperties": { "type": "string" } });
    let schema_of_key = json!({ "type": "object", "additionalProperties": texts });
    let doc = "Arguments of its tools that are set from who calls or from the config, `bind.TOOL = { account_id = \"${user.account}\" }`: templates of user, tenant and config. They are hidden from the tool's schema, and a caller who gives one is refused.";
    let name = reader.name("bind");
    let Some(value) = reader.raw("bind", schema_of_key, doc) else {
        return Bind::new();
    };
    let mut bind = Bind::new();
    let mut mistakes = Vec::new();
    let Some(tools) = value.get_ref().as_table() else {
        let given = shown(value.get_ref());
        reader.wrong("bind", format!("`{name}` must be a table, not {given}"));
        return bind;
    };
    for (tool, value) in tools {
        let name = format!("{name}.{}", tool.get_ref());
        let Some(arguments) = value.get_ref().as_table() else {
            let given = shown(value.get_ref());
            let message = format!("`{name}` must be a table of arguments, not {given}");
            mistakes.push((value.span(), message));
            continue;
        };
        let of_tool: &mut BTreeMap<_, _> = bind.entry(tool.get_ref().to_string()).or_default();
        for (argument, value) in arguments {
            let name = format!("{name}.{}", argument.get_ref());
            match template(value.get_ref().as_str(), schema) {
                Ok(template) => {
                    of_tool.insert(argument.get_ref().to_string(), template);
                }
                Err(why) => mistakes.push((value.span(), format!("`{name}` {why}"))),
            }
        }
    }
    reader.notes.mistakes.extend(mistakes);
    bind
}

fn template(text: Option<&str>, schema: Option<&Value>) -> Result<Template, String> {
    let text = text.ok_or("must be a text")?;
    let template = Template::parse(text).map_err(|error| format!("is no template: {error}"))?;
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
                    return Err(format!(
                        "refers to `config.{key}`, which the schema does not have"
                    ));
                }
            }
            Reference::Secret(_)
            | Reference::SecretFile(_)
            | Reference::OAuthToken
            | Reference::OAuthTokenFile
            | Reference::SessionId
            | Reference::DirData
            | Reference::DirTmp => {
                return Err(format!(
                    "refers to `{reference}`; an argument can be made of user, tenant and config"
                ));
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

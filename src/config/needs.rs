//! What servers need of config and secrets, and nobody can give them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::mistake::similar;
use super::model::{Arg, Config, Server};
use super::odd::{Odd, path};
use super::template::{Piece, Reference, Template};
use crate::ids::ServerName;

/// Values that servers require and that no tenant of the file sets and no caller may: their requests are refused. And
/// secrets that tenants have by a name with a slip in it.
pub(super) fn unmet(config: &Config) -> Vec<Odd> {
    let mut unmet = Vec::new();
    for (name, server) in &config.servers {
        for (key, place) in needed(server) {
            if !may_be_set(config, name, server, &key) {
                let keys = [path(["servers", name.as_str()]), place].concat();
                unmet.push((keys, format!(
                    "server `{name}` needs `config.{key}`, which no tenant of this file sets and no caller may: its requests are refused until a tenant has it (`tenants.TENANT.config.{name}.{key}`, `stdiopool tenant set`), `servers.{name}.client_config` lists it, or it has a default"
                )));
            }
        }
    }
    unmet.extend(misnamed_secrets(config));
    unmet
}

/// Whether a tenant of the file or a caller sets that key, or it is told elsewhere that none does.
fn may_be_set(config: &Config, name: &ServerName, server: &Server, key: &str) -> bool {
    let schema = server.schema.as_deref();
    let required = schema.and_then(|schema| schema["required"].as_array());
    let is_required = required.is_some_and(|keys| keys.iter().any(|it| it == key));
    // Of a tenant with other values for it, that is told where they stand.
    let has = |values: &serde_json::Map<String, Value>| is_required || values.contains_key(key);
    let mut tenants = config.tenants.values();
    let mut of_callers = server.client_config.iter();
    of_callers.any(|given| given == key)
        || tenants.any(|tenant| tenant.config.get(name).is_some_and(has))
}

/// The keys of its config without which a server is not started, each with the place that says so.
fn needed(server: &Server) -> BTreeMap<String, Vec<String>> {
    let mut needed = BTreeMap::new();
    let schema = server.schema.as_deref();
    let has_default = |key: &str| {
        let default = schema.map(|schema| &schema["properties"][key]["default"]);
        default.is_some_and(|default| !default.is_null())
    };
    let required = schema.and_then(|schema| schema["required"].as_array());
    for key in required.into_iter().flatten().filter_map(Value::as_str) {
        needed.insert(key.to_owned(), path(["config", "required"]));
    }
    let args = server.args.iter().enumerate();
    let always = args.filter_map(|(at, arg)| match arg {
        Arg::Always(template) => Some((vec!["args".to_owned(), at.to_string()], template)),
        Arg::When { .. } => None,
    });
    let env = server.env.iter();
    let env = env.map(|(variable, template)| (path(["env", variable]), template));
    let cwd = server.cwd.iter().map(|template| (path(["cwd"]), template));
    for (place, template) in always.chain(env).chain(cwd) {
        for key in undefaulted(template) {
            let top = key.split('.').next().unwrap_or_default().to_owned();
            needed.entry(top).or_insert_with(|| place.clone());
        }
    }
    needed.retain(|key, _| !has_default(key));
    needed
}

fn undefaulted(template: &Template) -> impl Iterator<Item = &str> {
    template.pieces().iter().filter_map(|piece| match piece {
        Piece::Value {
            reference: Reference::Config(key),
            default: None,
        } => Some(key.as_str()),
        _ => None,
    })
}

/// Secrets of tenants that no server asks for, where one that the tenant lacks has a similar name.
fn misnamed_secrets(config: &Config) -> Vec<Odd> {
    let references = config.servers.values().flat_map(Server::references);
    let asked: BTreeSet<String> = references
        .filter_map(|(_, reference)| match reference {
            Reference::Secret(name) | Reference::SecretFile(name) => Some(name),
            _ => None,
        })
        .collect();
    let mut misnamed = Vec::new();
    for (tenant, settings) in &config.tenants {
        let lacking = || {
            let asked = asked.iter().map(String::as_str);
            asked.filter(|name| !settings.secrets.contains_key(*name))
        };
        let unasked = settings
            .secrets
            .keys()
            .filter(|name| !asked.contains(*name));
        for name in unasked {
            if let Some(close) = similar(name, lacking()) {
                let keys = path(["tenants", tenant.as_str(), "secrets", name]);
                misnamed.push((keys, format!(
                    "`tenants.{tenant}.secrets.{name}` is a secret that no server asks for; did you mean `{close}`?"
                )));
            }
        }
    }
    misnamed
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::parse;

    fn told(text: &str) -> Vec<String> {
        let config = parse(text, "pool.toml", Path::new("/")).expect("no mistakes");
        let warnings = config.warnings.iter();
        warnings.map(|it| it.placed("pool.toml")).collect()
    }

    #[test]
    fn what_nobody_can_set_is_told() {
        let server = "[servers.a]\ncommand = \"a\"\n";
        let schema = "[servers.a.config]\nrequired = [\"r\"]\nproperties.r.type = \"string\"\n";
        let words =
            "server `a` needs `config.r`, which no tenant of this file sets and no caller may";
        for (text, line) in [
            (format!("{server}{schema}"), 4),
            (format!("{server}args = [\"${{config.r}}\"]\n"), 3),
            (
                format!("{server}env = {{ R = \"x${{config.r.deep}}\" }}\n"),
                3,
            ),
        ] {
            let told = told(&text);
            let place = format!("pool.toml:{line}: {words}");
            assert!(
                told.iter().any(|it| it.starts_with(&place)),
                "{text}\n{told:?}"
            );
        }
        for text in [
            format!("{server}client_config = [\"r\"]\n{schema}"),
            format!("{server}{schema}properties.r.default = \"x\"\n"),
            format!("{server}{schema}[tenants.t]\nconfig.a.r = \"x\"\n"),
            format!("{server}args = [\"${{config.r:-x}}\"]\n"),
            format!("{server}args = [{{ when = \"config.r\", args = [\"${{config.r}}\"] }}]\n"),
        ] {
            assert_eq!(told(&text), [""; 0], "{text}");
        }
    }

    #[test]
    fn a_secret_with_a_slip_in_its_name_is_told() {
        let server = "[servers.a]\ncommand = \"a\"\nenv = { T = \"${secret.github_token}\" }\n";
        let tenants = "[tenants.x]\nsecrets.github_token = { env = \"A\" }\n[tenants.y]\nsecrets.github_tokne = { env = \"B\" }\nsecrets.other = { env = \"C\" }\n";
        assert_eq!(
            told(&format!("{server}{tenants}")),
            [
                "pool.toml:7: `tenants.y.secrets.github_tokne` is a secret that no server asks for; did you mean `github_token`?"
            ]
        );
    }
}

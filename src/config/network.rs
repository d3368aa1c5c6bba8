//! Reads `network` of servers, and of tenants for servers.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use serde_json::{Value, json};
use toml::Spanned;
use toml::de::DeValue;

use super::mistake::similar;
use super::model::{Isolation, Server};
use super::reader::Reader;
use super::shown::shown;
use crate::egress::{AllowList, Network};
use crate::ids::ServerName;

/// The forms that both keys take.
const FORMS: &str = "\"on\", \"off\" or { allow = [\"api.example.com\", \"*.example.com:8443\"] }";

fn schema() -> Value {
    json!({ "anyOf": [
        { "type": "string", "enum": ["on", "off"] },
        {
            "type": "object",
            "required": ["allow"],
            "properties": { "allow": { "type": "array", "items": { "type": "string" } } },
            "additionalProperties": false,
        },
    ] })
}

/// `network` of a server.
pub(super) fn network(reader: &mut Reader<'_, '_>, sandbox: Isolation) -> Network {
    let doc = "What it reaches by the network. \"on\": what the host reaches. \"off\": itself, by a loopback of its own; neither other servers nor stdiopool nor any host. `{ allow = [\"api.github.com\", \"*.example.com:8443\", \"10.0.0.7:5432\"] }`: itself and these, by TCP: names (`*.` is every name below), addresses and networks of them, with a port or else with 443 and 80. Names are looked up outside, for each connection; what they lead to inside of a network (private, loopback, link-local and metadata addresses, the host's own) is refused unless that address is listed too (docs/sandbox.md). Where the host cannot give it a network of its own, a server with \"off\" or a list is refused. A tenant's `network` can narrow it for that tenant.";
    let default = Some("\"on\"".to_owned());
    let Some(value) = reader.key("network", schema(), default, doc) else {
        return Network::On;
    };
    let path = reader.name("network");
    let network = read(reader, &path, value).unwrap_or_default();
    if !network.is_host() && sandbox == Isolation::None {
        let text = short(&network);
        reader.wrong("network", format!("`{path}` {text} does not hold a server with `sandbox = \"none\"`, which may go back to the host's network; write \"standard\" or \"strict\""));
    }
    network
}

/// `network` of a tenant: what servers reach when they run for it.
pub(super) fn networks(
    reader: &mut Reader<'_, '_>,
    servers: &BTreeMap<ServerName, Server>,
) -> BTreeMap<ServerName, Network> {
    let schema = json!({ "type": "object", "additionalProperties": schema() });
    let name = reader.name("network");
    let doc = "What servers reach by the network when they run for it, where that is less than for all: `network.SERVER = \"off\"`, or `{ allow = […] }` with hosts that the server's own list has, if it has one. It only takes away.";
    let Some(value) = reader.raw("network", schema, doc) else {
        return BTreeMap::new();
    };
    let Some(table) = value.get_ref().as_table() else {
        let found = shown(value.get_ref());
        reader.wrong("network", format!("`{name}` must be a table, not {found}"));
        return BTreeMap::new();
    };
    let mut networks = BTreeMap::new();
    for (key, value) in table {
        let path = format!("{name}.{}", key.get_ref());
        let Some((server_name, server)) = servers.get_key_value(key.get_ref().as_ref()) else {
            let why = format!("`{path}` is for a server that is not there");
            note(reader, value.span(), why);
            continue;
        };
        let Some(network) = read(reader, &path, value) else {
            continue;
        };
        if let Some(why) = beyond(&path, &network, server_name, server) {
            note(reader, value.span(), why);
        } else if network != server.network {
            networks.insert(server_name.clone(), network);
        }
    }
    networks
}

/// Why a tenant cannot have that network at a server.
fn beyond(
    path: &str,
    network: &Network,
    server_name: &ServerName,
    server: &Server,
) -> Option<String> {
    let text = short(network);
    if !network.is_host() && server.sandbox == Isolation::None {
        return Some(format!(
            "`{path}` {text} does not hold a server with `sandbox = \"none\"`"
        ));
    }
    if *network != server.network && server.min_idle > 0 {
        return Some(format!(
            "`{path}` differs from tenant to tenant, but `servers.{server_name}.min_idle` keeps workers that are the same for all"
        ));
    }
    let more = match (network, &server.network) {
        (Network::Off, _) | (_, Network::On) => return None,
        (Network::On, _) | (Network::Allow(_), Network::Off) => text,
        (Network::Allow(own), Network::Allow(all)) => format!("\"{}\"", own.beyond(all)?),
    };
    Some(format!(
        "`{path}` {more} gives a tenant more than `servers.{server_name}.network` gives all"
    ))
}

fn note(reader: &mut Reader<'_, '_>, span: Range<usize>, why: String) {
    reader.notes.mistakes.push((span, why));
}

/// A network as a sentence has it.
fn short(network: &Network) -> String {
    match network {
        Network::On => "\"on\"".to_owned(),
        Network::Off => "\"off\"".to_owned(),
        Network::Allow(_) => "with a list".to_owned(),
    }
}

/// Reads a network; what is none is noted.
fn read(reader: &mut Reader<'_, '_>, path: &str, value: &Spanned<DeValue<'_>>) -> Option<Network> {
    match value.get_ref() {
        DeValue::String(text) if text == "on" => Some(Network::On),
        DeValue::String(text) if text == "off" => Some(Network::Off),
        DeValue::Table(table) => {
            for (key, _) in table.iter().filter(|(key, _)| key.get_ref() != "allow") {
                let hint = match similar(key.get_ref(), ["allow"]) {
                    Some(_) => "; did you mean `allow`?",
                    None => "; it has `allow`",
                };
                let why = format!("unknown key `{}` in `{path}`{hint}", key.get_ref());
                note(reader, key.span(), why);
            }
            let allow = table.iter().find(|(key, _)| key.get_ref() == "allow");
            let Some((_, allow)) = allow else {
                let why = format!("`{path}` must be {FORMS}; it has no `allow`");
                note(reader, value.span(), why);
                return None;
            };
            list(reader, &format!("{path}.allow"), allow).map(Network::Allow)
        }
        other => {
            let hint = match other.as_str().and_then(|it| similar(it, ["on", "off"])) {
                Some(word) => format!("; did you mean \"{word}\"?"),
                None => String::new(),
            };
            let why = format!("`{path}` must be {FORMS}, not {}{hint}", shown(other));
            note(reader, value.span(), why);
            None
        }
    }
}

fn list(
    reader: &mut Reader<'_, '_>,
    path: &str,
    value: &Spanned<DeValue<'_>>,
) -> Option<Arc<AllowList>> {
    let items = value.get_ref().as_array();
    let texts = items.and_then(|items| {
        let texts = items
            .iter()
            .map(|it| Some(it.get_ref().as_str()?.to_owned()));
        texts.collect::<Option<Vec<_>>>()
    });
    let (Some(items), Some(texts)) = (items, texts) else {
        let why = format!(
            "`{path}` must be a list of hosts, such as [\"api.example.com\"], not {}",
            shown(value.get_ref())
        );
        note(reader, value.span(), why);
        return None;
    };
    if texts.is_empty() {
        let why = format!("`{path}` has no host: write \"off\" instead of the table");
        note(reader, value.span(), why);
        return None;
    }
    match AllowList::parse(&texts) {
        Ok(list) => {
            for (rule, by) in list.needless() {
                let why = format!("`{path}` has \"{rule}\", which \"{by}\" allows already");
                reader.notes.warnings.push((Some(value.span()), why));
            }
            Some(Arc::new(list))
        }
        Err(wrong) => {
            for (at, error) in wrong {
                let item = items.get(at);
                let span = item.map_or_else(|| value.span(), Spanned::span);
                let text = item.map(|it| shown(it.get_ref())).unwrap_or_default();
                note(reader, span, format!("`{path}`: {text} {error}"));
            }
            None
        }
    }
}

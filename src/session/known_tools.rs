//! What servers' tools are called and take, as far as servers have told: what rules about tools are held
//! against ([`super::rules`]).

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use parking_lot::Mutex;
use rustc_hash::{FxHashMap, FxHasher};
use serde::Deserialize;
use serde_json::Value;

use super::rules::{self, Finding};
use crate::config::Config;
use crate::ids::ServerName;

/// Tools of a server, and arguments of a tool, that are looked at. Of a server with more nothing is concluded.
const MAX_TOOLS: usize = 2000;
const MAX_ARGUMENTS: usize = 200;
/// Bytes of a name that are kept.
const MAX_NAME: usize = 256;

/// What a tool takes.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct ToolFacts {
    /// The names of its arguments; `None` where its schema does not say.
    pub(super) arguments: Option<BTreeSet<String>>,
    /// Its schema allows no others.
    pub(super) is_closed: bool,
}

impl ToolFacts {
    /// Whether it is known not to have that argument.
    pub(super) fn lacks(&self, argument: &str) -> bool {
        let known = self.arguments.as_ref();
        known.is_some_and(|known| !known.contains(argument))
    }
}

/// The tools of a server.
#[derive(Clone, Default, Debug)]
pub(super) struct Known {
    /// By name, of all tenants that have listed them.
    pub(super) tools: BTreeMap<String, ToolFacts>,
    /// The end of the list was seen, and it was not too long.
    pub(super) is_whole: bool,
    is_cut: bool,
    last: u64,
}

#[derive(Debug, Default)]
struct Inner {
    known: BTreeMap<ServerName, Known>,
    findings: Vec<Finding>,
    refused: FxHashMap<ServerName, FxHashMap<String, Arc<str>>>,
}

/// The tools of every server with rules about them.
#[derive(Debug, Default)]
pub(super) struct KnownTools(Mutex<Inner>);

#[derive(Deserialize)]
struct Page {
    tools: Vec<Tool>,
    #[serde(default, rename = "nextCursor")]
    next_cursor: Value,
}

#[derive(Deserialize)]
struct Tool {
    name: String,
    #[serde(default, rename = "inputSchema")]
    schema: Value,
}

impl KnownTools {
    /// Takes in a page of a server's list of tools, and returns what is found wrong with the rules because of it
    /// that was not before.
    pub(super) fn learn(&self, config: &Config, server: &ServerName, result: &str) -> Vec<Finding> {
        let mut hasher = FxHasher::default();
        result.hash(&mut hasher);
        let hash = hasher.finish();
        let mut inner = self.0.lock();
        if inner.known.get(server).is_some_and(|it| it.last == hash) {
            return vec![];
        }
        let Ok(page) = serde_json::from_str::<Page>(result) else {
            return vec![];
        };
        let known = inner.known.entry(server.clone()).or_default();
        known.last = hash;
        let is_last = match &page.next_cursor {
            Value::Null => true,
            Value::String(cursor) => cursor.is_empty(),
            _ => false,
        };
        for tool in page.tools {
            if known.tools.len() >= MAX_TOOLS || tool.name.len() > MAX_NAME {
                known.is_cut = true;
                break;
            }
            let facts = facts(&tool.schema);
            known.tools.insert(tool.name, facts);
        }
        known.is_whole = (known.is_whole || is_last) && !known.is_cut;
        inner.apply(config)
    }

    /// Holds other rules against what is known. Returns what was not found wrong before.
    pub(super) fn reconsider(&self, config: &Config) -> Vec<Finding> {
        let mut inner = self.0.lock();
        inner.known.retain(|server, _| config.has_server(server));
        inner.apply(config)
    }

    /// Why nobody may call that tool, if it is so.
    pub(super) fn refusal(&self, server: &ServerName, tool: &str) -> Option<Arc<str>> {
        self.0.lock().refused.get(server)?.get(tool).cloned()
    }

    /// Whether a tool of that name is known not to take that argument, and no unknown ones.
    pub(super) fn rejects(&self, server: &ServerName, tool: &str, argument: &str) -> bool {
        let inner = self.0.lock();
        let facts = inner.known.get(server).and_then(|it| it.tools.get(tool));
        facts.is_some_and(|facts| facts.is_closed && facts.lacks(argument))
    }

    /// What is wrong with the rules, and the servers with rules whose tools are not known.
    pub(super) fn told(&self, config: &Config) -> (Vec<Finding>, Vec<ServerName>) {
        let inner = self.0.lock();
        let is_known = |server: &ServerName| inner.known.get(server).is_some_and(|it| it.is_whole);
        let unknown = config
            .servers
            .keys()
            .filter(|server| rules::concern(config, server) && !is_known(server));
        (inner.findings.clone(), unknown.cloned().collect())
    }
}

impl Inner {
    fn apply(&mut self, config: &Config) -> Vec<Finding> {
        let (findings, refused) = rules::check(config, &self.known);
        self.refused = refused;
        let before = std::mem::replace(&mut self.findings, findings);
        let new = self.findings.iter().filter(|it| !before.contains(it));
        new.cloned().collect()
    }
}

fn facts(schema: &Value) -> ToolFacts {
    let properties = schema.get("properties").and_then(Value::as_object);
    let names = properties.map(|all| all.keys().filter(|name| name.len() <= MAX_NAME));
    ToolFacts {
        arguments: names
            .map(|names| names.cloned().collect::<BTreeSet<_>>())
            .filter(|names| names.len() <= MAX_ARGUMENTS),
        is_closed: schema.get("additionalProperties") == Some(&Value::Bool(false)),
    }
}

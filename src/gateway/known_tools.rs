//! What servers' tools are called and take, as far as servers have told: what rules about tools are held
//! against ([`super::rules`], [`crate::routing::Verdict`]), for the log, events and `check --live`.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use rustc_hash::FxHasher;
use serde::Deserialize;
use serde_json::Value;

use super::rules::{self, Finding, ServerTools};
use crate::config::{Bind, Config};
use crate::folding::case_folded;
use crate::ids::ServerName;
use crate::routing::ToolList;
use crate::routing::{Misfit, Verdict};

/// Tools of a server that are looked at. Of a server with more nothing is concluded.
const MAX_TOOLS: usize = 2000;
/// Bytes of a name that are kept.
const MAX_NAME: usize = 256;
/// Lists of a server that are different and in use: what is set for its tools is held against each. Of more it is told
/// only with the calls that are refused.
const MAX_LISTS: usize = 64;

/// Whole lists of a server with `bind`: the latest, and others while they are in use.
#[derive(Default, Debug)]
struct Lists {
    latest: Option<Arc<ToolList>>,
    others: Vec<Weak<ToolList>>,
}

#[derive(Debug, Default)]
struct Inner {
    known: BTreeMap<ServerName, ServerTools>,
    lists: BTreeMap<ServerName, Lists>,
    findings: Vec<Finding>,
}

/// The tools of every server with rules about them.
#[derive(Debug, Default)]
pub(crate) struct KnownTools(Mutex<Inner>);

#[derive(Deserialize)]
struct Page {
    tools: Vec<Tool>,
    #[serde(default, rename = "nextCursor")]
    next_cursor: Value,
}

#[derive(Deserialize)]
struct Tool {
    name: String,
}

impl KnownTools {
    /// Takes in a page of a server's list of tools, and returns what is found wrong with the rules because of it
    /// that was not before.
    pub(crate) fn learn(&self, config: &Config, server: &ServerName, result: &str) -> Vec<Finding> {
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
            known.folded.insert(case_folded(&tool.name));
            known.tools.insert(tool.name);
        }
        known.is_whole = (known.is_whole || is_last) && !known.is_cut;
        inner.apply(config)
    }

    /// Holds other rules against what is known. Returns what was not found wrong before.
    pub(crate) fn reconsider(&self, config: &Config) -> Vec<Finding> {
        let mut inner = self.0.lock();
        inner.known.retain(|server, _| config.has_server(server));
        inner.lists.retain(|server, _| config.has_server(server));
        inner.apply(config)
    }

    /// Takes in a whole list of a server's tools, and returns what is found wrong with what is set for them because of
    /// it that was not before.
    pub(crate) fn learn_list(
        &self,
        config: &Config,
        server: &ServerName,
        list: &Arc<ToolList>,
    ) -> Vec<Finding> {
        let mut inner = self.0.lock();
        let known = inner.known.entry(server.clone()).or_default();
        let names = list.tools().keys().filter(|name| name.len() <= MAX_NAME);
        let names: Vec<_> = names.take(MAX_TOOLS).cloned().collect();
        known
            .folded
            .extend(names.iter().map(|name| case_folded(name)));
        known.tools.extend(names);
        known.is_cut |= known.tools.len() > MAX_TOOLS;
        known.is_whole = !known.is_cut;
        inner.lists.entry(server.clone()).or_default().add(list);
        inner.apply(config)
    }

    /// Whether that is no tool's name as it is listed, and some server would take it for one that is: whatever is decided
    /// by names would be decided on another tool than is called.
    pub(crate) fn is_lookalike(&self, server: &ServerName, tool: &str) -> bool {
        let inner = self.0.lock();
        let Some(known) = inner.known.get(server) else {
            return false;
        };
        !known.tools.contains(tool) && known.folded.contains(&case_folded(tool))
    }

    /// What is wrong with the rules, and the servers with rules whose tools are not known.
    pub(crate) fn told(&self, config: &Config) -> (Vec<Finding>, Vec<ServerName>) {
        let inner = self.0.lock();
        let binds = |server: &ServerName| {
            let server = config.servers.get(server);
            server.is_some_and(|server| !server.bind.is_empty())
        };
        let is_known = |server: &ServerName| {
            inner.known.get(server).is_some_and(|it| it.is_whole)
                && (!binds(server) || inner.lists.contains_key(server))
        };
        let unknown = config
            .servers
            .keys()
            .filter(|server| rules::concern(config, server) && !is_known(server));
        (inner.findings.clone(), unknown.cloned().collect())
    }
}

impl Inner {
    fn apply(&mut self, config: &Config) -> Vec<Finding> {
        let mut findings = rules::check(config, &self.known);
        for (server, lists) in &self.lists {
            if let Some(of_server) = config.servers.get(server) {
                let misfits = lists.misfits(server, &of_server.bind).into_iter();
                findings.extend(misfits.map(|message| Finding {
                    server: Some(server.clone()),
                    message,
                }));
            }
        }
        let before = std::mem::replace(&mut self.findings, findings);
        let new = self.findings.iter().filter(|it| !before.contains(it));
        new.cloned().collect()
    }
}

impl Lists {
    fn add(&mut self, list: &Arc<ToolList>) {
        self.others.retain(|other| other.strong_count() > 0);
        let is_same = |other: &ToolList| other.tools() == list.tools();
        if let Some(before) = self.latest.replace(Arc::clone(list))
            && !is_same(&before)
        {
            self.others.push(Arc::downgrade(&before));
        }
        // Another of them may be in use for longer.
        let is_other = |other: &Weak<ToolList>| other.upgrade().is_some_and(|it| !is_same(&it));
        self.others.retain(is_other);
        if self.others.len() >= MAX_LISTS {
            self.others.remove(0);
        }
    }

    /// What is wrong with what is set, in words: whatever calls are refused for, and what no list makes right.
    fn misfits(&self, server: &ServerName, bind: &Bind) -> Vec<String> {
        let others = self.others.iter().filter_map(Weak::upgrade);
        let lists: Vec<_> = self.latest.iter().cloned().chain(others).collect();
        let verdicts = lists
            .iter()
            .map(|list| Verdict::on(server, bind, list.tools()));
        let misfits: Vec<_> = verdicts.map(|verdict| verdict.misfits).collect();
        let is_in_all = |misfit: &Misfit| {
            let mut lists = misfits.iter();
            lists.all(|of_list| of_list.iter().any(|other| other.key == misfit.key))
        };
        let told = misfits.iter().flatten();
        let told = told.filter(|misfit| misfit.refuses || is_in_all(misfit));
        let told: BTreeSet<&str> = told.map(|misfit| misfit.message.as_str()).collect();
        told.into_iter().map(str::to_owned).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;
    use crate::config::parse;
    use crate::routing::Pages;

    fn config(more: &str) -> Config {
        let text = format!("[servers.git]\ncommand = \"git\"\n{more}");
        parse(&text, "pool.toml", Path::new("/")).expect("no mistakes")
    }

    fn list(tools: &[&str]) -> Arc<ToolList> {
        let schema = json!({ "properties": { "repo": {} } });
        let tool = |name: &&str| json!({ "name": name, "inputSchema": schema });
        let page = json!({ "tools": tools.iter().map(tool).collect::<Vec<_>>() });
        let mut pages = Pages::default();
        assert_eq!(pages.take(&page.to_string()), Ok(None));
        Arc::new(pages.whole(None))
    }

    fn told(findings: Vec<Finding>) -> Vec<String> {
        findings.into_iter().map(|it| it.message).collect()
    }

    #[test]
    fn the_lists_that_are_looked_at_are_bounded() {
        let git = ServerName::new("git");
        let config = config("bind.status = { repo = \"x\" }");
        let tools = KnownTools::default();
        let names: Vec<String> = (0..3 * MAX_LISTS).map(|n| format!("tool_{n}")).collect();
        let lists: Vec<_> = names.iter().map(|name| list(&[name.as_str()])).collect();
        for list in &lists {
            tools.learn_list(&config, &git, list);
        }
        let inner = tools.0.lock();
        assert!(inner.lists[&git].others.len() <= MAX_LISTS);
        assert!(inner.findings.len() == 1, "{:?}", inner.findings);
    }

    #[test]
    fn what_is_wrong_is_told_once_and_for_as_long_as_some_list_has_it() {
        let git = ServerName::new("git");
        let config = config("bind.status = { repo = \"x\" }\nbind.push = { repo = \"x\" }");
        let tools = KnownTools::default();
        let unmatched = "`servers.git.bind.push` matches no tool of the server";
        let slip = "`servers.git.bind.status` matches no tool of the server; did you mean `statsu`? Until it is mended, calls of `statsu` are refused";
        let (one, two) = (list(&["statsu"]), list(&["status"]));
        assert_eq!(
            told(tools.learn_list(&config, &git, &one)),
            [unmatched, slip]
        );
        assert!(
            tools.learn_list(&config, &git, &one).is_empty(),
            "told once"
        );
        // Another tenant's server has the tool. The first one's calls are refused still.
        assert!(tools.learn_list(&config, &git, &two).is_empty());
        assert_eq!(told(tools.told(&config).0), [unmatched, slip]);
        drop(one);
        assert!(tools.reconsider(&config).is_empty());
        assert_eq!(told(tools.told(&config).0), [unmatched]);
        let three = list(&["push"]);
        assert!(tools.learn_list(&config, &git, &three).is_empty());
        let told = told(tools.told(&config).0);
        assert!(told.is_empty(), "each is in some list: {told:?}");
    }
}

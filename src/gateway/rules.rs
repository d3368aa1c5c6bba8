//! Rules about tools that decide by the name alone (`tools`, `[policy]`) against the tools that there are. Pure.
//!
//! A rule that matches nothing protects nothing, and is told. Arguments that `bind` sets are checked against each list by
//! itself ([`crate::routing::Verdict`]).

use std::collections::{BTreeMap, BTreeSet};

use crate::config::{Config, Globs, similar};
use crate::ids::ServerName;
use crate::routing::did_you_mean;

/// A rule that does not do what it says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// The server it is about; none for a rule about several.
    pub server: Option<ServerName>,
    /// What is wrong, with the key, and what follows from it.
    pub message: String,
}

/// The tools of a server.
#[derive(Clone, Default, Debug)]
pub(crate) struct ServerTools {
    /// By name, of all tenants that have listed them.
    pub(crate) tools: BTreeSet<String>,
    /// The end of the list was seen, and it was not too long.
    pub(crate) is_whole: bool,
    pub(crate) is_cut: bool,
    /// A digest of the page that was seen last.
    pub(crate) last: u64,
    /// The tools' names with the case folded.
    pub(crate) folded: BTreeSet<String>,
}

/// Whether there are rules about that server's tools.
pub(crate) fn concern(config: &Config, server: &ServerName) -> bool {
    let of_server = config.servers.get(server);
    let own = of_server.is_some_and(|it| !it.bind.is_empty() || !it.tools.offers_everything());
    own || config.policy.rules.iter().any(|rule| {
        rule.servers.matches(server.as_str())
            && (!rule.deny.is_empty() || rule.allow.as_ref().is_some_and(|it| !it.is_everything()))
    })
}

/// Findings on the rules.
pub(crate) fn check(config: &Config, known: &BTreeMap<ServerName, ServerTools>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (server, known) in known.iter().filter(|(_, known)| known.is_whole) {
        let Some(of_server) = config.servers.get(server) else {
            continue;
        };
        for (key, globs) in [
            ("allow", &of_server.tools.allow),
            ("deny", &of_server.tools.deny),
        ] {
            for pattern in unmatched(globs, known) {
                let close = similar(pattern, known.tools.iter().map(String::as_str));
                findings.push(Finding {
                    server: Some(server.clone()),
                    message: format!(
                        "`servers.{server}.tools.{key}` has \"{pattern}\", which matches no tool of the server{}",
                        did_you_mean(close)
                    ),
                });
            }
        }
    }
    for rule in &config.policy.rules {
        let meant = config.servers.keys();
        let meant: Vec<_> = meant
            .filter(|server| rule.servers.matches(server.as_str()))
            .map(|server| known.get(server).filter(|known| known.is_whole))
            .collect();
        // Of a server whose tools nobody knows nothing can be said.
        let Some(meant) = meant.into_iter().collect::<Option<Vec<_>>>() else {
            continue;
        };
        let lists = [("allow", rule.allow.as_ref()), ("deny", Some(&rule.deny))];
        for (key, globs) in lists {
            for pattern in globs.into_iter().flat_map(|globs| globs.texts()) {
                let is_matched = meant.iter().any(|known| matches_any(pattern, known));
                if !is_matched && pattern != "*" && !meant.is_empty() {
                    findings.push(Finding {
                        server: None,
                        message: format!(
                            "`policy.{}.tools.{key}` has \"{pattern}\", which matches no tool of the servers that the rule is about",
                            rule.name
                        ),
                    });
                }
            }
        }
    }
    findings
}

fn unmatched<'a>(globs: &'a Globs, known: &ServerTools) -> Vec<&'a str> {
    let texts = globs.texts().iter().map(String::as_str);
    let texts = texts.filter(|text| *text != "*");
    texts.filter(|text| !matches_any(text, known)).collect()
}

fn matches_any(pattern: &str, known: &ServerTools) -> bool {
    // A text that is no pattern is a mistake of the file, told elsewhere.
    Globs::new(vec![pattern.to_owned()])
        .is_ok_and(|glob| known.tools.iter().any(|tool| glob.matches(tool)))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::parse;
    use crate::gateway::known_tools::KnownTools;

    const LIST: &str = r#"{"tools":[
        {"name":"git_status","inputSchema":{"properties":{"repo":{},"path":{}}}},
        {"name":"git_log","inputSchema":{"properties":{"repo":{}},"additionalProperties":false}},
        {"name":"odd"}]}"#;

    fn learnt(more: &str) -> Vec<String> {
        let text = format!("[servers.git]\ncommand = \"git\"\n{more}");
        let config = parse(&text, "pool.toml", Path::new("/")).expect("no mistakes");
        let tools = KnownTools::default();
        let found = tools.learn(&config, &ServerName::new("git"), LIST);
        assert!(
            tools
                .learn(&config, &ServerName::new("git"), LIST)
                .is_empty(),
            "told once"
        );
        found.into_iter().map(|it| it.message).collect()
    }

    #[test]
    fn another_spelling_of_a_listed_tool_is_no_tool() {
        let text = "[servers.git]\ncommand = \"git\"\ntools.deny = [\"odd\"]\n";
        let config = parse(text, "pool.toml", Path::new("/")).expect("no mistakes");
        let (git, tools) = (ServerName::new("git"), KnownTools::default());
        assert!(!tools.is_lookalike(&git, "GIT_STATUS"), "nothing is known");
        tools.learn(&config, &git, LIST);
        for (name, is_one) in [
            ("git_status", false),
            ("GIT_STATUS", true),
            ("git_\u{17f}tatus", true),
            ("git_stash", false),
        ] {
            assert_eq!(tools.is_lookalike(&git, name), is_one, "{name}");
        }
    }

    #[test]
    fn filters_and_policy_rules_that_match_nothing_are_told() {
        let found = learnt(
            "tools.deny = [\"delete_*\", \"git_l*\"]\n[policy.a]\ntools.deny = [\"git_lgo\"]\n[policy.b]\nservers = [\"git\"]\ntools.allow = [\"git_*\"]\n",
        );
        assert_eq!(
            found,
            [
                "`servers.git.tools.deny` has \"delete_*\", which matches no tool of the server",
                "`policy.a.tools.deny` has \"git_lgo\", which matches no tool of the servers that the rule is about"
            ]
        );
        // Of a second server nothing is known.
        let found =
            learnt("[servers.other]\ncommand = \"x\"\n[policy.a]\ntools.deny = [\"git_lgo\"]\n");
        assert!(found.is_empty(), "{found:?}");
    }
}

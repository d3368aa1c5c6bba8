//! Rules about tools (`bind`, `tools`, `[policy]`) against the tools that there are. Pure.
//!
//! A rule that matches nothing protects nothing. It is told; and a tool for which a binding was meant that
//! cannot be applied is not called at all, as it would be called without.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::known_tools::Known;
use crate::config::{Config, Globs, similar};
use crate::ids::ServerName;

/// A rule that does not do what it says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// The server it is about; none for a rule about several.
    pub server: Option<ServerName>,
    /// What is wrong, with the key, and what follows from it.
    pub message: String,
}

/// Tools that are not called, by server, and why.
type Refused = FxHashMap<ServerName, FxHashMap<String, Arc<str>>>;

/// Whether there are rules about that server's tools.
pub(super) fn concern(config: &Config, server: &ServerName) -> bool {
    let of_server = config.servers.get(server);
    let own = of_server.is_some_and(|it| !it.bind.is_empty() || !it.tools.offers_everything());
    own || config.policy.rules.iter().any(|rule| {
        rule.servers.matches(server.as_str())
            && (!rule.deny.is_empty() || rule.allow.as_ref().is_some_and(|it| !it.is_everything()))
    })
}

/// What is wrong with the rules, and which tools are not called because of it.
pub(super) fn check(
    config: &Config,
    known: &BTreeMap<ServerName, Known>,
) -> (Vec<Finding>, Refused) {
    let (mut findings, mut refused) = (Vec::new(), Refused::default());
    for (server, known) in known.iter().filter(|(_, known)| known.is_whole) {
        let Some(of_server) = config.servers.get(server) else {
            continue;
        };
        let mut find = |message: String| {
            let server = Some(server.clone());
            findings.push(Finding { server, message });
        };
        for (key, globs) in [
            ("allow", &of_server.tools.allow),
            ("deny", &of_server.tools.deny),
        ] {
            for pattern in unmatched(globs, known) {
                let close = similar(pattern, known.tools.keys().map(String::as_str));
                find(format!(
                    "`servers.{server}.tools.{key}` has \"{pattern}\", which matches no tool of the server{}",
                    did_you_mean(close)
                ));
            }
        }
        for (tool, why) in bindings(server, &of_server.bind, known, &mut find) {
            let of_server = refused.entry(server.clone()).or_default();
            of_server.insert(tool, why.into());
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
    (findings, refused)
}

/// Tools that are not called because what is bound for their callers could not be applied, and why.
fn bindings(
    server: &ServerName,
    bind: &crate::config::Bind,
    known: &Known,
    find: &mut impl FnMut(String),
) -> Vec<(String, String)> {
    let mut refused = Vec::new();
    for rule in bind.rules() {
        let pattern = rule.pattern();
        let key = format!("servers.{server}.bind.{pattern}");
        let mut meant = known
            .tools
            .iter()
            .filter(|(name, _)| rule.matches(name))
            .peekable();
        if meant.peek().is_none() {
            let close = similar(pattern, known.tools.keys().map(String::as_str));
            let close = close.filter(|_| rule.is_exact());
            let what = format!(
                "`{key}` matches no tool of the server{}",
                did_you_mean(close)
            );
            match close {
                // It has a binding of its own, and so is meant by that one.
                Some(close) if bind.of(close).is_empty() => {
                    find(format!(
                        "{what} Until it is mended, calls of `{close}` are refused"
                    ));
                    refused.push((close.to_owned(), key));
                }
                _ => find(what),
            }
            continue;
        }
        let meant: Vec<_> = meant.collect();
        for argument in rule.arguments().keys() {
            if !meant.iter().all(|(_, facts)| facts.lacks(argument)) {
                continue;
            }
            let arguments = meant.iter().flat_map(|(_, facts)| &facts.arguments);
            let close = similar(argument, arguments.flatten().map(String::as_str));
            let of = match rule.is_exact() {
                true => "the tool does not have",
                false => "no tool that it matches has",
            };
            let what = format!(
                "`{key}` sets `{argument}`, which {of}{}",
                did_you_mean(close)
            );
            if rule.is_exact() {
                find(format!(
                    "{what} Until it is mended, calls of the tool are refused"
                ));
                refused.push((pattern.to_owned(), format!("{key}.{argument}")));
            } else {
                find(what);
            }
        }
    }
    let why = |key: String| {
        format!(
            "what is set for callers of this tool could not be applied to it (`{key}`; `stdiopool check --live` says why), so it is not called"
        )
    };
    let refused = refused.into_iter();
    refused.map(|(tool, key)| (tool, why(key))).collect()
}

fn did_you_mean(close: Option<&str>) -> String {
    close.map_or_else(String::new, |close| format!("; did you mean `{close}`?"))
}

fn unmatched<'a>(globs: &'a Globs, known: &Known) -> Vec<&'a str> {
    let texts = globs.texts().iter().map(String::as_str);
    let texts = texts.filter(|text| *text != "*");
    texts.filter(|text| !matches_any(text, known)).collect()
}

fn matches_any(pattern: &str, known: &Known) -> bool {
    // What is no pattern is a mistake of the file, told elsewhere.
    Globs::new(vec![pattern.to_owned()])
        .is_ok_and(|glob| known.tools.keys().any(|tool| glob.matches(tool)))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::known_tools::KnownTools;
    use super::*;
    use crate::config::parse;

    const LIST: &str = r#"{"tools":[
        {"name":"git_status","inputSchema":{"properties":{"repo":{},"path":{}}}},
        {"name":"git_log","inputSchema":{"properties":{"repo":{}},"additionalProperties":false}},
        {"name":"odd"}]}"#;

    fn learnt(more: &str) -> (Vec<String>, KnownTools) {
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
        (found.into_iter().map(|it| it.message).collect(), tools)
    }

    #[test]
    fn a_binding_that_matches_nothing_is_told_and_the_tool_that_was_meant_is_not_called() {
        let git = ServerName::new("git");
        let (found, tools) = learnt("bind.git_statsu = { repo = \"x\" }");
        assert_eq!(
            found,
            [
                "`servers.git.bind.git_statsu` matches no tool of the server; did you mean `git_status`? Until it is mended, calls of `git_status` are refused"
            ]
        );
        assert!(
            tools
                .refusal(&git, "git_status")
                .is_some_and(|why| why.contains("bind.git_statsu"))
        );
        assert_eq!(tools.refusal(&git, "git_log"), None);

        let (found, tools) = learnt("bind.git_status = { rpeo = \"x\" }");
        assert_eq!(
            found,
            [
                "`servers.git.bind.git_status` sets `rpeo`, which the tool does not have; did you mean `repo`? Until it is mended, calls of the tool are refused"
            ]
        );
        assert!(tools.refusal(&git, "git_status").is_some());
    }

    #[test]
    fn globs_bind_what_they_match() {
        let git = ServerName::new("git");
        let (found, tools) =
            learnt("bind.\"git_*\" = { path = \"x\" }\nbind.odd = { any = \"y\" }");
        assert!(found.is_empty(), "{found:?}");
        // One with other arguments has nothing to be bound, and takes nothing that it does not know.
        assert!(
            tools.rejects(&git, "git_log", "path") && !tools.rejects(&git, "git_status", "path")
        );
        let (found, _) = learnt("bind.\"svn_*\" = { path = \"x\" }\nbind.\"*\" = { none = \"x\" }");
        // `odd` does not say what it takes.
        assert_eq!(
            found,
            ["`servers.git.bind.svn_*` matches no tool of the server"]
        );
    }

    #[test]
    fn filters_and_policy_rules_that_match_nothing_are_told() {
        let (found, _) = learnt(
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
        let (found, _) =
            learnt("[servers.other]\ncommand = \"x\"\n[policy.a]\ntools.deny = [\"git_lgo\"]\n");
        assert!(found.is_empty(), "{found:?}");
    }
}

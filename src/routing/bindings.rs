//! The arguments that are set for the tools of a list (`bind`). Pure: the rules and the list in, a verdict on each tool out.
//!
//! ```text
//!  a rule matches no tool of the list ──▶ told; tools that it resembles, and that no rule names, are refused
//!  a rule sets an argument of a tool
//!    the tool declares it, or does not say what it takes ──▶ set
//!    it declares others, or takes none; the rule
//!      names the tool                                   ──▶ told; refused
//!      is a glob, and a tool that it matches declares it ──▶ neither set nor to be given
//!      is a glob, and none does                          ──▶ told; all that it matches are refused
//! ```
//!
//! Invariants: a tool is called only if each argument that a rule sets for it is set, or one that it does not have; a
//! caller never gives an argument that a rule sets; the order of tools and rules means nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::tool_facts::{ArgumentSupport, ToolFacts};
use crate::config::{Bind, BindRule, similar};
use crate::ids::ServerName;

/// The tools of a list, by name.
pub(crate) type Tools = BTreeMap<String, ToolFacts>;

/// The binding of a tool's calls.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct CallBinding {
    /// The rule because of which the tool is refused.
    pub(crate) refused_by: Option<String>,
    /// Arguments that are set.
    pub(crate) sets: BTreeSet<String>,
    /// Arguments that the tool does not have, and that a caller may not give.
    pub(crate) withheld: BTreeSet<String>,
}

impl CallBinding {
    /// Why the tool is not called, if it is not.
    pub(crate) fn refusal(&self) -> Option<String> {
        let key = self.refused_by.as_ref()?;
        Some(format!(
            "what is set for callers of this tool could not be applied to it (`{key}`; `stdiopool check --live` says why), so it is not called"
        ))
    }
}

/// An argument that a rule sets.
#[derive(Clone, Copy, Debug)]
struct SetArgument<'a> {
    /// The rule's key.
    of_rule: &'a str,
    argument: &'a str,
}

/// A rule that does not do what it says with a list of tools.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Misfit {
    /// The rule's key, and the argument's where that is what does not fit.
    pub(crate) key: String,
    /// The misfit in words, and what follows from it.
    pub(crate) message: String,
    /// Calls are refused because of it.
    pub(crate) refuses: bool,
}

/// The verdict on a list of tools.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Verdict {
    bindings: BTreeMap<String, CallBinding>,
    /// Rules that do not do what they say.
    pub(crate) misfits: Vec<Misfit>,
}

impl Verdict {
    /// What becomes of a call of that tool; `None` if it is not in the list.
    pub(crate) fn of(&self, tool: &str) -> Option<&CallBinding> {
        self.bindings.get(tool)
    }

    /// Holds the rules of a server against a list of its tools.
    pub(crate) fn on(server: &ServerName, bind: &Bind, tools: &Tools) -> Self {
        let bindings = tools
            .keys()
            .map(|name| (name.clone(), CallBinding::default()));
        let mut verdict = Self {
            bindings: bindings.collect(),
            misfits: Vec::new(),
        };
        for rule in bind.rules() {
            let key = format!("servers.{server}.bind.{}", rule.pattern());
            let meant: Vec<_> = tools
                .iter()
                .filter(|(tool, _)| rule.matches(tool))
                .collect();
            if meant.is_empty() {
                verdict.matches_nothing(bind, rule, key, tools);
                continue;
            }
            for argument in rule.arguments().keys() {
                // Another rule may go before this one.
                let own = meant.iter().filter(|(tool, _)| {
                    let by = bind.of(tool);
                    let by = by.get(argument.as_str());
                    by.is_some_and(|(_, by)| std::ptr::eq(*by, rule))
                });
                let own: Vec<&str> = own.map(|(tool, _)| tool.as_str()).collect();
                let set = SetArgument {
                    of_rule: &key,
                    argument,
                };
                verdict.sets(rule, set, &meant, &own);
            }
        }
        verdict.misfits.sort();
        verdict
    }

    fn matches_nothing(&mut self, bind: &Bind, rule: &BindRule, key: String, tools: &Tools) {
        let alike = tools.keys().map(String::as_str);
        let alike: Vec<&str> = alike
            .filter(|tool| !bind.names(tool) && rule.resembles(tool))
            .collect();
        for tool in &alike {
            self.refuse(tool, &key);
        }
        let close = match rule.is_exact() {
            true => similar(rule.pattern(), tools.keys().map(String::as_str)),
            false => None,
        };
        let what = format!("`{key}` matches no tool of the server");
        let follows = match alike.is_empty() {
            true => None,
            false => Some(format!("calls of {} are refused", quoted(&alike))),
        };
        let message = told(what, close, follows);
        self.misfits.push(Misfit {
            key,
            message,
            refuses: !alike.is_empty(),
        });
    }

    /// What a rule does with one of its arguments: for the tools that it matches, of which `own` are those for which
    /// no other rule sets it.
    fn sets(
        &mut self,
        rule: &BindRule,
        SetArgument { of_rule, argument }: SetArgument<'_>,
        meant: &[(&String, &ToolFacts)],
        own: &[&str],
    ) {
        let takes = |wanted: ArgumentSupport| {
            meant
                .iter()
                .any(|(_, facts)| facts.takes(argument) == wanted)
        };
        let is_applied = takes(ArgumentSupport::Declared) || !takes(ArgumentSupport::Not);
        if is_applied {
            let own = meant
                .iter()
                .filter(|(tool, _)| own.contains(&tool.as_str()));
            for (tool, facts) in own {
                let binding = self.bindings.entry((*tool).clone()).or_default();
                match facts.takes(argument) {
                    ArgumentSupport::Declared | ArgumentSupport::Unsaid => {
                        binding.sets.insert(argument.to_owned())
                    }
                    ArgumentSupport::Not => binding.withheld.insert(argument.to_owned()),
                };
            }
            return;
        }
        let key = format!("{of_rule}.{argument}");
        for tool in own {
            self.refuse(tool, &key);
        }
        let known = meant.iter().flat_map(|(_, facts)| &facts.declared);
        let close = similar(argument, known.map(String::as_str));
        let (of, calls) = match rule.is_exact() {
            true => ("the tool does not have", "calls of the tool are refused"),
            false => (
                "no tool that it matches has",
                "calls of what it matches are refused",
            ),
        };
        let what = format!("`{of_rule}` sets `{argument}`, which {of}");
        let follows = (!own.is_empty()).then(|| calls.to_owned());
        let message = told(what, close, follows);
        self.misfits.push(Misfit {
            key,
            message,
            refuses: !own.is_empty(),
        });
    }

    fn refuse(&mut self, tool: &str, key: &str) {
        if let Some(binding) = self.bindings.get_mut(tool) {
            binding.refused_by.get_or_insert_with(|| key.to_owned());
        }
    }
}

/// The end of what is said of a slip.
pub(crate) fn did_you_mean(close: Option<&str>) -> String {
    close.map_or_else(String::new, |close| format!("; did you mean `{close}`?"))
}

/// What is wrong, what was probably meant, and what follows.
fn told(what: String, close: Option<&str>, follows: Option<String>) -> String {
    let hint = did_you_mean(close);
    match follows {
        None => format!("{what}{hint}"),
        Some(follows) => {
            let stop = if close.is_some() { "" } else { "." };
            format!("{what}{hint}{stop} Until it is mended, {follows}")
        }
    }
}

/// Names for people, the first few of them.
fn quoted(names: &[&str]) -> String {
    const MOST: usize = 5;
    let mut text = format!("`{}`", names[..names.len().min(MOST)].join("`, `"));
    if names.len() > MOST {
        text.push_str(&format!(" and {} more", names.len() - MOST));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::config::parse;

    fn bind(rules: &str) -> Bind {
        let text = format!("[servers.git]\ncommand = \"git\"\n{rules}\n");
        let config = parse(&text, "pool.toml", Path::new("/"));
        let config = config.unwrap_or_else(|error| panic!("{rules}: {error}"));
        config.servers[&ServerName::new("git")].bind.clone()
    }

    fn tools(list: &[(&str, Value)]) -> Tools {
        let facts = |(name, schema): &(&str, Value)| ((*name).to_owned(), ToolFacts::of(schema));
        list.iter().map(facts).collect()
    }

    /// A tool that says what it takes.
    fn takes(arguments: &[&str]) -> Value {
        let properties = arguments.iter().map(|name| ((*name).to_owned(), json!({})));
        json!({ "type": "object", "properties": properties.collect::<serde_json::Map<_, _>>() })
    }

    fn git() -> Tools {
        tools(&[
            ("git_status", takes(&["repo", "path"])),
            ("git_log", takes(&["repo"])),
            ("version", takes(&[])),
            ("odd", json!({ "type": "object" })),
        ])
    }

    /// By tool, what becomes of it, for a test to compare.
    fn verdict(rules: &str, tools: &Tools) -> (String, Vec<String>) {
        let verdict = Verdict::on(&ServerName::new("git"), &bind(rules), tools);
        let shown = verdict.bindings.iter().filter_map(|(tool, binding)| {
            let CallBinding {
                refused_by,
                sets,
                withheld,
            } = binding;
            match refused_by {
                Some(by) => Some(format!(
                    "{tool} refused by {}",
                    by.trim_start_matches("servers.git.bind.")
                )),
                None if sets.is_empty() && withheld.is_empty() => None,
                None => {
                    Some(format!("{tool} sets {sets:?} withholds {withheld:?}").replace('"', ""))
                }
            }
        });
        let messages = verdict.misfits.iter().map(|misfit| misfit.message.clone());
        (shown.collect::<Vec<_>>().join("; "), messages.collect())
    }

    #[test]
    fn a_slip_in_a_name_refuses_all_tools_that_may_be_meant() {
        let (binding, told) = verdict("bind.git_statsu = { repo = \"x\" }", &git());
        assert_eq!(binding, "git_status refused by git_statsu");
        assert_eq!(
            told,
            [
                "`servers.git.bind.git_statsu` matches no tool of the server; did you mean `git_status`? Until it is mended, calls of `git_status` are refused"
            ]
        );
        let (binding, told) = verdict("bind.\"gti_*\" = { repo = \"x\" }", &git());
        assert_eq!(
            binding,
            "git_log refused by gti_*; git_status refused by gti_*"
        );
        assert_eq!(
            told,
            [
                "`servers.git.bind.gti_*` matches no tool of the server. Until it is mended, calls of `git_log`, `git_status` are refused"
            ]
        );
        // Another rule that is for all tools says nothing of the one that was meant.
        let (binding, _) = verdict(
            "bind.\"*\" = { }\nbind.git_statsu = { repo = \"x\" }",
            &git(),
        );
        assert_eq!(binding, "git_status refused by git_statsu");
        // One that names it does.
        let (binding, told) = verdict(
            "bind.git_status = { }\nbind.git_statsu = { repo = \"x\" }",
            &git(),
        );
        assert_eq!((binding.as_str(), told.len()), ("", 1));
        let (binding, told) = verdict("bind.\"svn_*\" = { repo = \"x\" }", &git());
        assert_eq!(
            (binding.as_str(), &*told),
            (
                "",
                &["`servers.git.bind.svn_*` matches no tool of the server".to_owned()][..]
            )
        );
    }

    #[test]
    fn a_slip_in_an_argument_refuses_what_its_rule_matches() {
        let (binding, told) = verdict("bind.git_status = { rpeo = \"x\" }", &git());
        assert_eq!(binding, "git_status refused by git_status.rpeo");
        assert_eq!(
            told,
            [
                "`servers.git.bind.git_status` sets `rpeo`, which the tool does not have; did you mean `repo`? Until it is mended, calls of the tool are refused"
            ]
        );
        let (binding, told) = verdict("bind.\"git_*\" = { rpeo = \"x\" }", &git());
        assert_eq!(
            binding,
            "git_log refused by git_*.rpeo; git_status refused by git_*.rpeo"
        );
        assert_eq!(
            told,
            [
                "`servers.git.bind.git_*` sets `rpeo`, which no tool that it matches has; did you mean `repo`? Until it is mended, calls of what it matches are refused"
            ]
        );
        // A tool that does not say what it takes does not make it right.
        let (binding, _) = verdict("bind.\"*\" = { rpeo = \"x\" }", &git());
        assert_eq!(binding.matches("refused by *.rpeo").count(), 4, "{binding}");
        // Names are as they are written.
        let (binding, _) = verdict("bind.git_log = { Repo = \"x\" }", &git());
        assert_eq!(binding, "git_log refused by git_log.Repo");
    }

    #[test]
    fn a_glob_sets_an_argument_where_it_is_and_nobody_gives_it_elsewhere() {
        let (binding, told) = verdict("bind.\"*\" = { path = \"x\" }", &git());
        assert_eq!(
            binding,
            "git_log sets {} withholds {path}; git_status sets {path} withholds {}; odd sets {path} withholds {}; version sets {} withholds {path}"
        );
        assert!(told.is_empty(), "{told:?}");
        // Each argument by the nearest rule.
        let rules = "bind.\"*\" = { repo = \"x\", path = \"x\" }\nbind.git_log = { path = \"y\" }";
        let (binding, _) = verdict(rules, &git());
        assert!(
            binding.contains("git_log refused by git_log.path"),
            "{binding}"
        );
    }

    const NAMES: [&str; 6] = ["get", "gets", "gte", "put", "post", "list_all"];
    const PATTERNS: [&str; 9] = [
        "get", "gets", "lsit_all", "put", "*", "g*", "*et", "p?t", "lits_*",
    ];
    const ARGUMENTS: [&str; 4] = ["id", "repo", "rpeo", "path"];

    /// The tables of `bind`, each pattern once.
    fn rules() -> impl Strategy<Value = Vec<(&'static str, BTreeSet<&'static str>)>> {
        let pattern = proptest::sample::select(&PATTERNS[..]);
        let arguments =
            proptest::collection::btree_set(proptest::sample::select(&ARGUMENTS[..]), 0..3);
        proptest::collection::btree_map(pattern, arguments, 0..4)
            .prop_map(|rules| rules.into_iter().collect())
    }

    fn lists() -> impl Strategy<Value = Tools> {
        let argument = proptest::sample::select(&ARGUMENTS[..]);
        let schema =
            (proptest::collection::vec(argument, 0..3), 0..3_u8).prop_map(|(arguments, kind)| {
                match kind {
                    0 => json!({ "type": "object" }),
                    1 => json!({ "type": "object", "additionalProperties": false }),
                    _ => takes(&arguments),
                }
            });
        let name = proptest::sample::select(&NAMES[..]);
        proptest::collection::btree_map(name.prop_map(str::to_owned), schema, 0..5).prop_map(
            |tools| {
                tools
                    .iter()
                    .map(|(name, schema)| (name.clone(), ToolFacts::of(schema)))
                    .collect()
            },
        )
    }

    fn written(rules: &[(&str, BTreeSet<&str>)]) -> String {
        let rule = |(pattern, arguments): &(&str, BTreeSet<&str>)| {
            let arguments: Vec<_> = arguments
                .iter()
                .map(|name| format!("{name} = \"x\""))
                .collect();
            format!("bind.\"{pattern}\" = {{ {} }}\n", arguments.join(", "))
        };
        rules.iter().map(rule).collect()
    }

    proptest! {
        #[test]
        fn a_tool_is_called_only_with_all_that_is_set_for_it(rules in rules(), tools in lists()) {
            let bind = bind(&written(&rules));
            let verdict = Verdict::on(&ServerName::new("git"), &bind, &tools);
            prop_assert_eq!(verdict.bindings.len(), tools.len());
            for (tool, facts) in &tools {
                let binding = verdict.of(tool).expect("each tool has one");
                let wanted: BTreeSet<String> = bind.of(tool).keys().map(|name| (*name).to_owned()).collect();
                if binding.refused_by.is_some() {
                    // And somebody hears why.
                    prop_assert!(verdict.misfits.iter().any(|misfit| misfit.refuses));
                    continue;
                }
                let kept: BTreeSet<String> = binding.sets.union(&binding.withheld).cloned().collect();
                prop_assert_eq!(&kept, &wanted, "all of it is set or withheld");
                for argument in &binding.sets {
                    prop_assert_ne!(facts.takes(argument), ArgumentSupport::Not);
                }
                for argument in &binding.withheld {
                    prop_assert_eq!(facts.takes(argument), ArgumentSupport::Not);
                    let (_, by) = bind.of(tool)[argument.as_str()];
                    prop_assert!(!by.is_exact());
                    let mut meant = tools.iter().filter(|(tool, _)| by.matches(tool));
                    prop_assert!(meant.any(|(_, facts)| facts.takes(argument) == ArgumentSupport::Declared));
                }
                // No rule that was probably meant for it is without effect.
                for rule in bind.resembling(tool) {
                    prop_assert!(tools.keys().any(|tool| rule.matches(tool)), "{}", rule.pattern());
                }
            }
        }

        #[test]
        fn where_nothing_is_wrong_nothing_is_refused(rules in rules(), tools in lists()) {
            let bind = bind(&written(&rules));
            let verdict = Verdict::on(&ServerName::new("git"), &bind, &tools);
            let is_refused = verdict.bindings.values().any(|binding| binding.refused_by.is_some());
            prop_assert_eq!(is_refused, verdict.misfits.iter().any(|misfit| misfit.refuses));
        }

        #[test]
        fn the_order_of_rules_does_not_matter(rules in rules(), tools in lists()) {
            let backwards: Vec<_> = rules.iter().rev().cloned().collect();
            let server = ServerName::new("git");
            let bindings = |rules: &[_]| {
                let verdict = Verdict::on(&server, &bind(&written(rules)), &tools);
                let bindings = verdict.bindings.into_iter();
                let is_refused = bindings.map(|(tool, it)| (tool, it.refused_by.is_some(), it.sets, it.withheld));
                (is_refused.collect::<Vec<_>>(), verdict.misfits)
            };
            prop_assert_eq!(bindings(&rules), bindings(&backwards));
        }
    }
}

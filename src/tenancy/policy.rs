//! The right of callers to use servers and tools. Pure: what pool.toml says and the caller, in; a decision
//! and why, out.
//!
//! ```text
//!  a rule with only `tools.deny` that is about the caller and server  ─┐ takes away:
//!  `tools.deny` of any other such rule                                ─┴▶ denied, whatever grants
//!  `tools.allow` of such a rule                                       ───▶ allowed
//!  the caller is granted other things                                 ───▶ denied
//!  the caller is granted nothing anywhere                             ───▶ `policy.default`
//! ```
//!
//! Invariants: taking away wins, in whatever order rules stand, and whatever the case of a tool's name, as a server
//! may not tell upper from lower case; granting goes by the very name. A server is allowed where any of its tools may be. A policy deliberately knows nothing of what a server offers at all (`tools` of the
//! server), which holds for everyone.

use std::fmt;

use super::principal::Principal;
use crate::config::{Globs, Policy, Rule, Taking};

/// Whether something may be used, and why.
#[derive(Clone, Debug)]
pub struct Decision<'p> {
    /// The use is allowed.
    pub is_allowed: bool,
    /// The cause of the decision.
    pub why: Why<'p>,
}

/// Why something may be used or not.
#[derive(Clone, Debug)]
pub enum Why<'p> {
    /// There are no rules.
    NoRules,
    /// No rule grants the caller anything.
    Default(&'p Policy),
    /// A rule grants it.
    Granted(&'p Rule),
    /// A rule takes it away, by that glob.
    Denied(&'p Rule, Taking<'p>),
    /// The rules that grant the caller other things.
    NotGranted(Vec<&'p Rule>),
}

impl fmt::Display for Why<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRules => f.write_str("there are no rules (`[policy.NAME]`)"),
            Self::Default(policy) if policy.denies_by_default => {
                f.write_str("no rule grants this caller anything, and `policy.default` is \"deny\"")
            }
            Self::Default(_) => f.write_str(
                "no rule grants this caller anything, and `policy.default` is \"allow\"",
            ),
            Self::Granted(rule) => write!(f, "`policy.{}` grants it", rule.name),
            Self::Denied(rule, Taking { glob, is_exact }) => {
                let spelling = match is_exact {
                    true => "",
                    false => " whatever the case of its name",
                };
                write!(
                    f,
                    "`policy.{}.tools.deny` has \"{glob}\", which takes it away{spelling}",
                    rule.name
                )
            }
            Self::NotGranted(rules) => {
                let names: Vec<_> = rules
                    .iter()
                    .map(|rule| format!("`policy.{}`", rule.name))
                    .collect();
                write!(
                    f,
                    "this caller is granted things by {}, but not this",
                    names.join(", ")
                )
            }
        }
    }
}

impl Why<'_> {
    /// The line of pool.toml that decided, if one did.
    pub fn line(&self) -> Option<usize> {
        match self {
            Self::NoRules => None,
            Self::Default(policy) => Some(policy.line),
            Self::Granted(rule) | Self::Denied(rule, _) => Some(rule.line),
            Self::NotGranted(rules) => rules.first().map(|rule| rule.line),
        }
    }
}

impl Rule {
    /// Whether the rule is about that caller.
    fn is_about(&self, who: &Principal) -> bool {
        let has_scope = |scopes: &Globs| {
            let mut own = who.scopes.iter();
            own.any(|scope| scopes.matches(scope))
        };
        let is_user = |users: &Globs| {
            let mut names = who.subject.iter().chain(&who.email);
            names.any(|name| users.matches(name))
        };
        let is_tenant = |tenants: &Globs| tenants.matches(who.tenant.as_str());
        self.scopes.as_ref().is_none_or(has_scope)
            && self.tenants.as_ref().is_none_or(is_tenant)
            && self.users.as_ref().is_none_or(is_user)
    }
}

/// Whether a caller may use a server at all.
pub fn server<'p>(policy: &'p Policy, who: &Principal, name: &str) -> Decision<'p> {
    let everything = Taking {
        glob: "*",
        is_exact: true,
    };
    let denies = |rule: &'p Rule| rule.deny.is_everything().then_some(everything);
    decide(policy, who, name, denies, |_| true)
}

/// Whether a caller may use a tool of a server.
pub fn tool<'p>(policy: &'p Policy, who: &Principal, name: &str, tool: &str) -> Decision<'p> {
    let denies = |rule: &'p Rule| rule.deny.taking(tool);
    let grants = |rule: &Rule| rule.allow.as_ref().is_some_and(|allow| allow.matches(tool));
    decide(policy, who, name, denies, grants)
}

fn decide<'p>(
    policy: &'p Policy,
    who: &Principal,
    server: &str,
    denies: impl Fn(&'p Rule) -> Option<Taking<'p>>,
    grants: impl Fn(&Rule) -> bool,
) -> Decision<'p> {
    if policy.rules.is_empty() && !policy.denies_by_default {
        return Decision {
            is_allowed: true,
            why: Why::NoRules,
        };
    }
    let about: Vec<&Rule> = policy
        .rules
        .iter()
        .filter(|rule| rule.is_about(who))
        .collect();
    let is_here = |rule: &&&'p Rule| rule.servers.matches(server);
    for rule in about.iter().filter(is_here) {
        if let Some(glob) = denies(rule) {
            return Decision {
                is_allowed: false,
                why: Why::Denied(rule, glob),
            };
        }
    }
    let granting: Vec<&Rule> = about
        .iter()
        .filter(|rule| rule.allow.is_some())
        .copied()
        .collect();
    if granting.is_empty() {
        return Decision {
            is_allowed: !policy.denies_by_default,
            why: Why::Default(policy),
        };
    }
    let granted = granting.iter().filter(is_here).find(|rule| grants(rule));
    match granted {
        Some(rule) => Decision {
            is_allowed: true,
            why: Why::Granted(rule),
        },
        None => Decision {
            is_allowed: false,
            why: Why::NotGranted(granting),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::config::parse;
    use crate::ids::TenantId;

    fn policy(text: &str) -> Policy {
        let servers =
            ["a", "github", "shell"].map(|name| format!("[servers.{name}]\ncommand = \"a\"\n"));
        let text = format!("{text}\n{}", servers.concat());
        let config = parse(&text, "pool.toml", Path::new("/"));
        config.unwrap_or_else(|error| panic!("{error}")).policy
    }

    fn who(tenant: &str, subject: Option<&str>, scopes: &[&str]) -> Principal {
        let mut who = Principal::new(TenantId::new(tenant), subject.map(ToOwned::to_owned));
        who.scopes = Arc::new(scopes.iter().map(|scope| (*scope).to_owned()).collect());
        who
    }

    const TEXT: &str = r#"
[policy.readers]
scopes = ["read", "read:*"]
servers = ["git*"]
tools = { allow = ["get_*", "list_*"] }

[policy.staff]
tenants = ["acme"]
users = ["*@acme.example", "root"]

[policy.nobody-deletes]
tools = { deny = ["delete_*"] }

[policy.no-shell]
scopes = ["guest"]
servers = ["shell"]
tools = { deny = ["*"] }
"#;

    #[test]
    fn rules_grant_and_take_away() {
        let policy = policy(TEXT);
        let may = |who: &Principal, name, wanted| tool(&policy, who, name, wanted).is_allowed;
        let reader = who("acme", None, &["read:issues"]);
        assert!(may(&reader, "github", "get_issue"));
        assert!(!may(&reader, "github", "create_issue"));
        assert!(!may(&reader, "shell", "get_issue"));
        assert!(!server(&policy, &reader, "shell").is_allowed);
        let root = who("acme", Some("root"), &[]);
        assert!(may(&root, "shell", "run") && !may(&root, "shell", "delete_all"));
        let mut by_mail = who("acme", Some("u1"), &[]);
        by_mail.email = Some("anna@acme.example".to_owned());
        assert!(may(&by_mail, "github", "create_issue"));
        // A user of another tenant, with an equal name: no rule grants anything, and the default holds.
        let other = who("globex", Some("root"), &[]);
        assert!(matches!(
            tool(&policy, &other, "shell", "run").why,
            Why::Default(_)
        ));
        assert!(may(&other, "shell", "run") && !may(&other, "shell", "delete_x"));
        let guest = who("globex", None, &["guest"]);
        assert!(!server(&policy, &guest, "shell").is_allowed);
        assert!(server(&policy, &guest, "github").is_allowed);
    }

    #[test]
    fn another_spelling_is_taken_away_and_never_granted() {
        let policy = policy(TEXT);
        let root = who("acme", Some("root"), &[]);
        let denied = tool(&policy, &root, "shell", "DELETE_ALL");
        assert!(!denied.is_allowed);
        assert_eq!(
            denied.why.to_string(),
            "`policy.nobody-deletes.tools.deny` has \"delete_*\", which takes it away whatever the case of its name"
        );
        let reader = who("acme", None, &["read"]);
        assert!(!tool(&policy, &reader, "github", "GET_ISSUE").is_allowed);
    }

    #[test]
    fn the_default_is_for_those_whom_nothing_is_granted() {
        let closed = policy(&format!("[policy]\ndefault = \"deny\"\n{TEXT}"));
        let stranger = who("globex", None, &[]);
        assert!(!server(&closed, &stranger, "github").is_allowed);
        assert!(server(&closed, &who("x", None, &["read"]), "github").is_allowed);
        let empty = policy("[policy]\ndefault = \"deny\"\n");
        assert!(!server(&empty, &stranger, "github").is_allowed);
        assert!(server(&policy(""), &stranger, "github").is_allowed);
    }

    #[test]
    fn a_decision_names_its_rule_and_line() {
        let policy = policy(TEXT);
        let reader = who("acme", None, &["read"]);
        let told = |wanted| {
            let decision = tool(&policy, &reader, "github", wanted);
            format!("{} ({:?})", decision.why, decision.why.line())
        };
        assert_eq!(told("get_x"), "`policy.readers` grants it (Some(2))");
        assert_eq!(
            told("delete_x"),
            "`policy.nobody-deletes.tools.deny` has \"delete_*\", which takes it away (Some(11))"
        );
        assert_eq!(
            told("run"),
            "this caller is granted things by `policy.readers`, but not this (Some(2))"
        );
    }

    fn globs() -> impl Strategy<Value = Globs> {
        let pattern = proptest::sample::select(&["*", "a", "b", "a*", "?b", "{a,c}"][..]);
        proptest::collection::vec(pattern, 0..3).prop_map(|texts| {
            Globs::new(texts.into_iter().map(ToOwned::to_owned).collect()).expect("globs")
        })
    }

    fn rules() -> impl Strategy<Value = Vec<Rule>> {
        let option = || proptest::option::of(globs());
        let rule = (option(), option(), option(), globs(), option(), globs());
        proptest::collection::vec(rule, 0..5).prop_map(|rules| {
            let rules = rules.into_iter().enumerate();
            rules
                .map(|(n, (scopes, tenants, users, servers, allow, deny))| Rule {
                    name: n.to_string(),
                    line: n + 1,
                    scopes,
                    tenants,
                    users,
                    servers,
                    allow,
                    deny,
                })
                .collect()
        })
    }

    fn callers() -> impl Strategy<Value = Principal> {
        let name = proptest::sample::select(&["a", "b", "ab", "c"][..]);
        (
            name.clone(),
            proptest::option::of(name.clone()),
            proptest::collection::vec(name, 0..3),
        )
            .prop_map(|(tenant, subject, scopes)| who(tenant, subject, &scopes))
    }

    fn names() -> impl Strategy<Value = &'static str> {
        proptest::sample::select(&["a", "b", "ab", "c"][..])
    }

    fn whole(rules: Vec<Rule>, denies_by_default: bool) -> Policy {
        Policy {
            denies_by_default,
            line: 0,
            rules,
        }
    }

    proptest! {
        #[test]
        fn the_order_of_rules_does_not_matter(
            rules in rules(), deny: bool, who in callers(), name in names(), wanted in names(),
        ) {
            let backwards = whole(rules.iter().rev().cloned().collect(), deny);
            let policy = whole(rules, deny);
            prop_assert_eq!(
                tool(&policy, &who, name, wanted).is_allowed,
                tool(&backwards, &who, name, wanted).is_allowed
            );
        }

        #[test]
        fn what_a_name_may_not_none_of_its_spellings_may(
            rules in rules(), who in callers(), name in names(), wanted in names(),
        ) {
            let policy = whole(rules, false);
            if matches!(tool(&policy, &who, name, wanted).why, Why::Denied(..)) {
                prop_assert!(!tool(&policy, &who, name, &wanted.to_uppercase()).is_allowed);
            }
        }

        #[test]
        fn taking_away_wins(
            rules in rules(), deny: bool, who in callers(), name in names(), wanted in names(), at: usize,
        ) {
            let mut rules = rules;
            let taking = Rule {
                name: "x".to_owned(), line: 0, scopes: None, tenants: None, users: None,
                servers: Globs::new(vec!["*".to_owned()]).expect("a glob"),
                allow: None,
                deny: Globs::new(vec![wanted.to_owned()]).expect("a glob"),
            };
            rules.insert(at % (rules.len() + 1), taking);
            prop_assert!(!tool(&whole(rules, deny), &who, name, wanted).is_allowed);
        }

        #[test]
        fn a_rule_that_only_takes_away_grants_nothing(
            rules in rules(), deny: bool, who in callers(), name in names(), wanted in names(), globs in globs(),
        ) {
            let before = tool(&whole(rules.clone(), deny), &who, name, wanted).is_allowed;
            let mut rules = rules;
            rules.push(Rule {
                name: "x".to_owned(), line: 0, scopes: None, tenants: None, users: None,
                servers: Globs::new(vec!["*".to_owned()]).expect("a glob"),
                allow: None,
                deny: globs,
            });
            prop_assert!(before || !tool(&whole(rules, deny), &who, name, wanted).is_allowed);
        }

        #[test]
        fn where_a_tool_is_allowed_its_server_is(
            rules in rules(), deny: bool, who in callers(), name in names(), wanted in names(),
        ) {
            let policy = whole(rules, deny);
            prop_assert!(
                !tool(&policy, &who, name, wanted).is_allowed || server(&policy, &who, name).is_allowed
            );
        }

        #[test]
        fn where_the_default_is_deny_everything_allowed_is_granted_by_a_rule(
            rules in rules(), who in callers(), name in names(), wanted in names(),
        ) {
            let policy = whole(rules, true);
            let decision = tool(&policy, &who, name, wanted);
            prop_assert_eq!(decision.is_allowed, matches!(decision.why, Why::Granted(_)));
        }
    }
}

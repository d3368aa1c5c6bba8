//! Reads `[policy]`: who may use which servers and tools.

use super::globs::{self, Globs};
use super::reader::Reader;

/// `[policy]`
#[derive(Clone, Default, Debug)]
pub struct Policy {
    /// Whether callers whom no rule grants anything may use nothing, instead of everything.
    pub denies_by_default: bool,
    /// The line that says so.
    pub line: usize,
    /// `[policy.NAME]`, in the order of their names.
    pub rules: Vec<Rule>,
}

/// `[policy.NAME]`: a rule, about callers that all of its selectors match; a selector that is not
/// there matches everyone.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The rule's name.
    pub name: String,
    /// The rule's line in pool.toml, from 1.
    pub line: usize,
    /// The caller has one of these scopes.
    pub scopes: Option<Globs>,
    /// The caller is of one of these tenants.
    pub tenants: Option<Globs>,
    /// The caller is one of these users, by name or mail address.
    pub users: Option<Globs>,
    /// The servers it is about.
    pub servers: Globs,
    /// The tools it grants; `None`: it grants none, and only takes away.
    pub allow: Option<Globs>,
    /// The tools it takes away, whatever grants them.
    pub deny: Globs,
}

pub(super) fn read(reader: &mut Reader<'_, '_>) -> Policy {
    let words = [("allow", false), ("deny", true)];
    let doc = "What callers may use whom no rule grants anything: \"allow\" is everything that their tenant has, \"deny\" nothing.";
    let denies_by_default = reader.word("default", "allow", &words, doc);
    let line = reader.line_of("default");
    let mut rules = reader.others(|name, line, reader| rule(name, line, reader));
    rules.sort_by(|a, b| a.name.cmp(&b.name));
    Policy {
        denies_by_default: denies_by_default.unwrap_or(false),
        line,
        rules,
    }
}

fn rule(name: &str, line: usize, reader: &mut Reader<'_, '_>) -> Rule {
    let selector = |reader: &mut Reader<'_, '_>, key, doc| {
        let is_there = reader.has(key);
        let globs = globs::read(reader, key, &[], doc);
        is_there.then_some(globs)
    };
    let scopes = selector(
        reader,
        "scopes",
        "The rule is about callers whose credentials have one of these scopes (globs). Of `scopes`, `tenants` and `users`, all that are given must match.",
    );
    let tenants = selector(
        reader,
        "tenants",
        "The rule is about callers of these tenants (globs).",
    );
    let users = selector(
        reader,
        "users",
        "The rule is about these users (globs of their name or mail address).",
    );
    let doc =
        "The servers it is about (globs). One that no rule grants is as one that is not there.";
    let servers = globs::read(reader, "servers", &["*"], doc);
    let (allow, deny) = reader.table("tools", |reader| {
        let only_denies = reader.has("deny") && !reader.has("allow");
        let allow = globs::read(
            reader,
            "allow",
            &["*"],
            "Globs of the tools it grants. A rule with only `deny` grants nothing.",
        );
        let doc = "Globs of tools it takes away, whichever rule grants them, and whatever the case of their names: some servers do not tell upper from lower case.";
        let deny = globs::read(reader, "deny", &[], doc);
        ((!only_denies).then_some(allow), deny)
    });
    Rule {
        name: name.to_owned(),
        line,
        scopes,
        tenants,
        users,
        servers,
        allow,
        deny,
    }
}

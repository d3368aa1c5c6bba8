//! What can be read and cannot be meant. `check` refuses it; `serve` says so and goes on, as the rest of the file
//! is not at fault.

use std::fmt;

use super::globs::Globs;
use super::mistake::similar;
use super::model::{Arg, Config, Server};
use super::template::Template;

/// What credentials of common services begin with, and how many letters more they have at least.
const CREDENTIALS: [(&str, usize); 14] = [
    ("sk-", 20),
    ("sk_live_", 16),
    ("ghp_", 20),
    ("gho_", 20),
    ("ghs_", 20),
    ("github_pat_", 20),
    ("glpat-", 16),
    ("xoxb-", 16),
    ("xoxp-", 16),
    ("AKIA", 16),
    ("AIza", 30),
    ("hf_", 20),
    ("npm_", 30),
    ("pypi-", 30),
];

/// Programs that read `~` and `$HOME` themselves.
const SHELLS: [&str; 6] = ["sh", "bash", "dash", "zsh", "fish", "ksh"];

pub(super) fn doubts(config: &Config) -> Vec<String> {
    let mut doubts = Vec::new();
    for (name, server) in &config.servers {
        of_server(name.as_str(), server, &mut doubts);
    }
    for rule in &config.policy.rules {
        let servers = config.servers.keys().map(|name| name.as_str());
        for pattern in unmatched(&rule.servers, servers.clone()) {
            let close = similar(pattern, servers.clone());
            let close = close.map_or_else(String::new, |it| format!("; did you mean \"{it}\"?"));
            doubts.push(format!(
                "`policy.{}.servers` has \"{pattern}\", which matches no server{close}",
                rule.name
            ));
        }
    }
    doubts
}

/// Patterns that match none of these names.
fn unmatched<'a>(
    globs: &'a Globs,
    names: impl Iterator<Item = &'a str> + Clone,
) -> impl Iterator<Item = &'a str> {
    let texts = globs.texts().iter().map(String::as_str);
    texts.filter(move |text| {
        let glob = Globs::new(vec![(*text).to_owned()]);
        *text != "*" && glob.is_ok_and(|glob| !names.clone().any(|name| glob.matches(name)))
    })
}

fn of_server(name: &str, server: &Server, doubts: &mut Vec<String>) {
    let program = server.command.rsplit('/').next().unwrap_or_default();
    let is_shell = SHELLS.contains(&program);
    let args = server.args.iter().enumerate().flat_map(|(at, arg)| {
        let templates = match arg {
            Arg::Always(template) => std::slice::from_ref(template),
            Arg::When { args, .. } => args,
        };
        templates.iter().map(move |it| (format!("args[{at}]"), it))
    });
    let env = server.env.iter();
    let env = env.map(|(variable, template)| (format!("env.{variable}"), template));
    let cwd = server.cwd.iter().map(|it| ("cwd".to_owned(), it));
    for (key, template) in args.chain(env).chain(cwd) {
        let place = format!("servers.{name}.{key}");
        let is_expanded = is_shell && key.starts_with("args");
        doubts.extend(of_template(&place, template, is_expanded));
    }
}

fn of_template(place: &dyn fmt::Display, template: &Template, is_expanded: bool) -> Option<String> {
    let text = template.as_literal()?;
    if let Some(prefix) = credential(text) {
        return Some(format!(
            "`{place}` holds what looks like a credential (\"{prefix}…\"): whoever reads this file has it. Give it to tenants (`stdiopool secret set TENANT NAME`) and write `${{secret.NAME}}`, best in `env`"
        ));
    }
    if is_expanded {
        return None;
    }
    // Behind the `=` of a flag too, as in `--root=~/x`.
    let value = text.split_once('=').map_or(text, |(_, value)| value);
    let home = ["~/", "$HOME", "${HOME}"].into_iter();
    let home = home.chain((value == "~").then_some("~"));
    let found = home.into_iter().find(|home| value.starts_with(home))?;
    Some(format!(
        "`{place}` begins with `{found}`, which no shell is there to read: write the path, or `${{dir.data}}` for a folder of the tenant's own"
    ))
}

/// What the credential in a text begins with, if there is one.
fn credential(text: &str) -> Option<&'static str> {
    let is_letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let (prefix, _) = CREDENTIALS.into_iter().find(|(prefix, more)| {
        text.match_indices(prefix).any(|(at, _)| {
            let before = text[..at].chars().next_back();
            let letters = text[at + prefix.len()..]
                .chars()
                .take_while(|c| is_letter(*c));
            before.is_none_or(|c| !is_letter(c)) && letters.count() >= *more
        })
    })?;
    Some(prefix)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::parse;

    fn doubts(text: &str) -> Vec<String> {
        let config = parse(text, "pool.toml", Path::new("/")).expect("no mistakes");
        config.doubts
    }

    #[test]
    fn credentials_and_home_folders_are_told_by_their_place_and_not_quoted() {
        let secret = "ghp_0123456789abcdefghij0123456789abcdef";
        let text = format!(
            "[servers.a]\ncommand = \"a\"\nargs = [\"--token={secret}\", \"~/x\", \"--root=$HOME/y\", \"sk-short\", \"a~/b\"]\nenv = {{ KEY = \"{secret}\", OTHER = \"task-{secret}\" }}\ncwd = \"~/z\"\n"
        );
        let found = doubts(&text);
        let places: Vec<_> = found.iter().filter_map(|it| it.split('`').nth(1)).collect();
        assert_eq!(
            places,
            [
                "servers.a.args[0]",
                "servers.a.args[1]",
                "servers.a.args[2]",
                "servers.a.env.KEY",
                "servers.a.cwd"
            ]
        );
        assert!(
            found.iter().all(|it| !it.contains("0123456789")),
            "{found:?}"
        );
        let shell = "[servers.a]\ncommand = \"/bin/sh\"\nargs = [\"-c\", \"$HOME/run\"]\n";
        assert!(doubts(shell).is_empty());
    }

    #[test]
    fn policy_rules_name_servers_that_there_are() {
        let text =
            "[servers.github]\ncommand = \"a\"\n[policy.x]\nservers = [\"git*\", \"gihtub\"]\n";
        assert_eq!(
            doubts(text),
            [
                "`policy.x.servers` has \"gihtub\", which matches no server; did you mean \"github\"?"
            ]
        );
    }
}

//! Doubts: settings that can be read and are hardly meant. A certain error is a mistake; what only looks like one is warned of, as a program
//! may read it otherwise.

use std::fmt;

use super::downloads::LAUNCHERS;
use super::globs::Globs;
use super::homes::home_in_paths;
use super::mistake::similar;
use super::model::{Arg, Config, Server};
use super::needs;
use super::odd::{Odd, path};
use super::template::{Piece, Template};
use super::units;

/// The beginnings of credentials of common services, and the letters that such a credential has beside its beginning at least.
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

pub(super) fn doubts(config: &Config) -> Vec<Odd> {
    let mut doubts = Vec::new();
    for (name, server) in &config.servers {
        of_server(name.as_str(), server, &mut doubts);
    }
    doubts.extend(greedy_tenants(config));
    doubts.extend(needs::unmet(config));
    doubts
}

/// Rules of the policy whose globs match no server, and what is wrong with each: such a rule takes nothing away, whatever
/// it was meant to.
pub(super) fn aimless_rules(config: &Config) -> Vec<(&str, String)> {
    let mut aimless = Vec::new();
    for rule in &config.policy.rules {
        let servers = config.servers.keys().map(|name| name.as_str());
        for pattern in unmatched(&rule.servers, servers.clone()) {
            let close = similar(pattern, servers.clone());
            let close = close.map_or_else(String::new, |it| format!("; did you mean \"{it}\"?"));
            let why = format!(
                "`policy.{}.servers` has \"{pattern}\", which matches no server{close}",
                rule.name
            );
            aimless.push((rule.name.as_str(), why));
        }
    }
    aimless
}

/// What share of `http.memory` one tenant may hold at the most without being warned of: with a quarter, four tenants have
/// to be at their limits at once before anybody else is refused; the defaults are an eighth.
const LARGEST_SHARE: u64 = 4;

/// Tenants that may hold so much of what all may hold together that few of them could refuse everyone else.
fn greedy_tenants(config: &Config) -> Vec<Odd> {
    let of_all = config.http.memory;
    let is_greedy = |bytes: u64| bytes > of_all / LARGEST_SHARE;
    let warning = |keys: Vec<String>, bytes: u64| {
        let why = format!(
            "`{}` is {}, more than a quarter of `http.memory` ({}): a few tenants at their limits have everyone else refused with 503; raise `http.memory` to {}, or lower this limit",
            keys.join("."),
            units::size_text(bytes),
            units::size_text(of_all),
            units::size_text(bytes.saturating_mul(LARGEST_SHARE)),
        );
        (keys, why)
    };
    let mut greedy = Vec::new();
    let of_each = config.rates.memory_held;
    if is_greedy(of_each) {
        greedy.push(warning(path(["limits", "memory_held"]), of_each));
    }
    for (tenant, settings) in &config.tenants {
        if let Some(bytes) = settings.memory_held.filter(|bytes| is_greedy(*bytes)) {
            let keys = path(["tenants", tenant.as_str(), "limits", "memory_held"]);
            greedy.push(warning(keys, bytes));
        }
    }
    greedy
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

fn of_server(name: &str, server: &Server, doubts: &mut Vec<Odd>) {
    let program = server.command.rsplit('/').next().unwrap_or_default();
    let is_shell = SHELLS.contains(&program);
    let args = server.args.iter().enumerate().flat_map(|(at, arg)| {
        let templates = match arg {
            Arg::Always(template) => std::slice::from_ref(template),
            Arg::When { args, .. } => args,
        };
        let keys = ["args".to_owned(), at.to_string()];
        templates
            .iter()
            .map(move |it| (format!("args[{at}]"), keys.to_vec(), it))
    });
    let env = server.env.iter();
    let env = env.map(|(variable, template)| {
        let shown = format!("env.{variable}");
        (shown, path(["env", variable]), template)
    });
    let cwd = server.cwd.iter();
    let cwd = cwd.map(|it| ("cwd".to_owned(), path(["cwd"]), it));
    if let Some(hidden) = behind_env(program, server) {
        let why = format!(
            "`servers.{name}.command` is `{program}`, behind which `{hidden}` is not seen: its package is downloaded by each tenant, from wherever the worker's own environment says; write command = \"{hidden}\""
        );
        doubts.push((path(["servers", name, "command"]), why));
    }
    for (key, keys, template) in args.chain(env).chain(cwd) {
        let place = format!("servers.{name}.{key}");
        let is_expanded = is_shell && key.starts_with("args");
        let found = of_template(&place, template, is_expanded);
        let keys = [path(["servers", name]), keys].concat();
        doubts.extend(found.map(|found| (keys, found)));
    }
}

/// The launcher of packages that is started by `env`, which only looks for it on the PATH.
fn behind_env<'s>(program: &str, server: &'s Server) -> Option<&'s str> {
    let first = server.args.first().filter(|_| program == "env")?;
    let Arg::Always(template) = first else {
        return None;
    };
    let word = template.as_literal()?;
    LAUNCHERS.contains(&word).then_some(word)
}

fn of_template(place: &dyn fmt::Display, template: &Template, is_expanded: bool) -> Option<String> {
    let written = template.pieces().iter().filter_map(|piece| match piece {
        Piece::Literal(text) => Some(text.as_str()),
        Piece::Value { .. } => None,
    });
    let mut written = written;
    let shown = written.find_map(|text| {
        let prefix = credential(text).map(|prefix| format!("\"{prefix}…\""));
        prefix.or_else(|| has_password(text).then(|| "a password in a URL".to_owned()))
    });
    if let Some(shown) = shown {
        return Some(format!(
            "`{place}` holds what looks like a credential ({shown}): whoever reads this file has it. Give it to tenants (`stdiopool secret set TENANT NAME`) and write `${{secret.NAME}}`, best in `env`"
        ));
    }
    let text = template.as_literal()?;
    if is_expanded {
        return None;
    }
    let found = home_in_paths(text)?;
    Some(format!(
        "`{place}` has `{found}` for a folder, which no shell is there to read: write the path, or `${{dir.data}}` for a folder of the tenant's own"
    ))
}

/// Whether a password stands in a URL: `scheme://user:password@host` (RFC 3986, 3.2.1).
fn has_password(text: &str) -> bool {
    let mut authorities = text.match_indices("://").map(|(at, _)| {
        let rest = &text[at + 3..];
        let end = rest.find(|c: char| c.is_whitespace() || "/?#\"'".contains(c));
        &rest[..end.unwrap_or(rest.len())]
    });
    authorities.any(|authority| {
        let user = authority.rsplit_once('@').map(|(user, _)| user);
        let password = user.and_then(|user| user.split_once(':'));
        // A placeholder of another language is no password.
        password.is_some_and(|(_, it)| !it.is_empty() && !it.starts_with(['$', '<', '{', '%']))
    })
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
        let warnings = config.warnings.iter();
        warnings.map(|it| it.placed("pool.toml")).collect()
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
        assert!(found[0].starts_with("pool.toml:3: "), "{found:?}");
        assert!(found[4].starts_with("pool.toml:5: "), "{found:?}");
        let url = |text: &str| {
            let args = format!("args = [\"{text}\"]");
            doubts(&format!("[servers.a]\ncommand = \"a\"\n{args}\n")).concat()
        };
        for text in [
            "https://me:hunter22@pypi.example.com/simple",
            "--db=postgres://u:hunter22@db/x?y=1",
            "postgres://u:hunter22@${tenant.id}.db/x",
        ] {
            let found = url(text);
            let is_told = found.contains("(a password in a URL)");
            assert!(is_told && !found.contains("hunter22"), "{found}");
        }
        for text in [
            "https://example.com/a:b@c",
            "postgres://u@db/x",
            "postgres://u:${tenant.id}@db/x",
            "me:there@home",
        ] {
            assert_eq!(url(text), "", "{text}");
        }
        let url = "[servers.a]\ncommand = \"a\"\nenv = { URL = \"https://b/?x=$HOME\", PAGE = \"$HOMEPAGE\" }\n";
        assert!(doubts(url).is_empty(), "a text is a text");
        let shell = "[servers.a]\ncommand = \"/bin/sh\"\nargs = [\"-c\", \"$HOME/run\"]\n";
        assert!(doubts(shell).is_empty());
    }

    #[test]
    fn policy_rules_name_servers_that_there_are() {
        let text =
            "[servers.github]\ncommand = \"a\"\n[policy.x]\nservers = [\"git*\", \"gihtub\"]\n";
        let error = parse(text, "pool.toml", Path::new("/")).expect_err("a mistake");
        let told = "pool.toml:4:11: `policy.x.servers` has \"gihtub\", which matches no server; did you mean \"github\"?\n";
        assert!(error.to_string().starts_with(told), "{error}");
    }

    #[test]
    fn a_tenant_that_may_hold_more_than_a_quarter_of_all_is_warned_of() {
        let server = "[servers.a]\ncommand = \"a\"\n";
        assert!(doubts(server).is_empty(), "the defaults are an eighth");
        let told = |more: &str| doubts(&format!("{more}\n{server}"));
        assert!(
            told("[limits]\nmemory_held = \"128MiB\"").is_empty(),
            "a quarter"
        );
        let found = told("[limits]\nmemory_held = \"129MiB\"");
        assert_eq!(
            found,
            [
                "pool.toml:2: `limits.memory_held` is 129MiB, more than a quarter of `http.memory` (512MiB): a few tenants at their limits have everyone else refused with 503; raise `http.memory` to 516MiB, or lower this limit"
            ]
        );
        let found = told("[tenants.x]\nlimits.memory_held = \"400MiB\"");
        assert!(
            found.len() == 1 && found[0].contains(":2: `tenants.x.limits.memory_held` is 400MiB"),
            "{found:?}"
        );
        // Raised for one large request where it is not written, and with it what all may hold.
        let found = told("[http]\nmax_body = \"300MiB\"");
        assert!(
            found.len() == 1 && found[0].contains("`limits.memory_held` is 632MiB"),
            "{found:?}"
        );
    }
}

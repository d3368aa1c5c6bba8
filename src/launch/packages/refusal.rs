//! What callers are told of a package that cannot be installed: whether it is there at all, and what to do.

use std::collections::BTreeMap;
use std::fmt::Write;

/// Longest part of what npm or uv said that is told, in characters.
const MAX_TOLD: usize = 300;
/// Shortest value of a variable that is masked, in bytes: masking shorter ones would garble ordinary text.
const MIN_MASKED: usize = 4;
/// The text in place of what is masked.
const MASK: &str = "[redacted]";

/// What npm, uv and pip say when a registry does not have a package, or none of its versions is meant.
const ABSENT: [&str; 8] = [
    "(E404)",
    "(ETARGET)",
    "(ENOVERSIONS)",
    "was not found in the package registry",
    "there is no version of",
    "there are no versions of",
    "No matching distribution found",
    "Not Found - GET",
];
/// Parts of the names of variables, in lower case, whose values are credentials.
const CREDENTIALS: [&str; 6] = ["auth", "password", "passwd", "secret", "token", "key"];

/// Why a package cannot be installed, for whoever calls its server: by its name, as `why` has it, without credentials of
/// the environment of installs, and what to do about it.
pub(super) fn refusal(
    name: &str,
    server: &str,
    why: &str,
    env: &BTreeMap<String, String>,
) -> String {
    let is_absent = ABSENT.iter().any(|words| why.contains(words));
    let told = bounded(&masked(why, env));
    if !is_absent {
        return format!("package `{name}` could not be installed: {told}");
    }
    format!(
        "package `{name}` is not in the registry, or not in that version ({told}); correct `servers.{server}.args`, or name the registry that has it"
    )
}

/// The beginning of a text, on one line.
fn bounded(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut told: String = line.chars().take(MAX_TOLD).collect();
    if told.len() < line.len() {
        told.push('…');
    }
    told
}

/// A text without credentials: values of variables that hold some, and what stands before the host of a URL.
pub fn masked(text: &str, env: &BTreeMap<String, String>) -> String {
    let mut masked = without_user_info(text);
    let is_credential = |name: &str| {
        let name = name.to_ascii_lowercase();
        CREDENTIALS.iter().any(|part| name.contains(part))
    };
    for (_, value) in env.iter().filter(|(name, _)| is_credential(name)) {
        if value.len() >= MIN_MASKED {
            masked = masked.replace(value.as_str(), MASK);
        }
    }
    masked
}

fn without_user_info(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        out.push_str(before);
        out.push_str("://");
        let end = after
            .find(|c: char| c.is_whitespace() || matches!(c, '/' | '?' | '#' | '"' | '\'' | '`'));
        let (authority, behind) = after.split_at(end.unwrap_or(after.len()));
        match authority.rsplit_once('@') {
            Some((_, host)) => {
                // Writing to a text does not fail.
                let _infallible = write!(out, "{MASK}@{host}");
            }
            None => out.push_str(authority),
        }
        rest = behind;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_told_apart_from_what_failed() {
        let told = |why: &str| refusal("x@9", "srv", why, &BTreeMap::new());
        for why in [
            "`npm install` ended with exit status: 1: 404 Not Found - GET http://r/x - not found (E404)",
            "`npm install` ended with exit status: 1: No matching version found for x@9. (ETARGET)",
            "`uv pip` ended with exit status: 1: × No solution found when resolving dependencies: ╰─▶ Because x was not found in the package registry and you require x, we can conclude that your requirements are unsatisfiable.",
            "`uv pip` ended with exit status: 1: × No solution found: ╰─▶ Because there is no version of x==9 and you require x==9",
            "ERROR: No matching distribution found for x==9",
        ] {
            let told = told(why);
            assert!(
                told.starts_with("package `x@9` is not in the registry, or not in that version (`")
                    || told.starts_with(
                        "package `x@9` is not in the registry, or not in that version (ERROR"
                    ),
                "{told}"
            );
            assert!(
                told.ends_with("correct `servers.srv.args`, or name the registry that has it"),
                "{told}"
            );
        }
        assert_eq!(
            told("`npm install` ended with signal 9"),
            "package `x@9` could not be installed: `npm install` ended with signal 9"
        );
    }

    #[test]
    fn credentials_are_masked_and_the_text_is_bounded() {
        let env = BTreeMap::from([
            ("UV_INDEX_ACME_PASSWORD".to_owned(), "hunter22".to_owned()),
            ("npm_config__auth".to_owned(), "aHVudGVyMjI=".to_owned()),
            ("UV_INDEX_ACME_USERNAME".to_owned(), "op".to_owned()),
        ]);
        let why = "GET https://me:pa@ss@reg.example/x?y and\nhttps://reg.example/z hunter22 aHVudGVyMjI= (E404)";
        let told = refusal("x", "s", why, &env);
        assert!(
            told.contains("(GET https://[redacted]@reg.example/x?y and https://reg.example/z [redacted] [redacted] (E404))"),
            "{told}"
        );
        let long = refusal("x", "s", &"ä".repeat(5000), &env);
        assert!(long.ends_with('…') && long.chars().count() < 400, "{long}");
    }
}

//! Variables that decide where packages come from: installs are told of the operator's, workers are not, and what runs as
//! written must not ask another registry for that without a word.

use std::collections::BTreeMap;

use secrecy::SecretString;

use crate::config::downloads::{Certainty, Downloader, Family, Word, downloaders};

/// What the names of variables begin with, in lower case, that configure installers.
const INSTALLERS: [&str; 13] = [
    "npm_config_",
    "pnpm_config_",
    "bun_config_",
    "yarn_",
    "corepack_npm_registry",
    "jsr_url",
    "uv_",
    "pip_",
    "pipx_",
    "goproxy",
    "goprivate",
    "gonoproxy",
    "gonosumdb",
];
/// Variables by which programs find a proxy, in lower case.
const PROXIES: [&str; 4] = ["http_proxy", "https_proxy", "all_proxy", "no_proxy"];
/// Variables of installers, in lower case, that say where they work and not from what: an install has places of its own.
const PLACES: [&str; 22] = [
    // What npm tells the scripts that it runs; stdiopool may be one.
    "npm_config_global",
    "npm_config_global_prefix",
    "npm_config_init_module",
    "npm_config_local_prefix",
    "npm_config_location",
    "npm_config_node_gyp",
    "npm_config_prefix",
    "npm_config_user_agent",
    "npm_config_workspace",
    "npm_config_workspaces",
    "npm_config_dry_run",
    "npm_config_cache",
    "uv_cache_dir",
    "uv_link_mode",
    "uv_no_cache",
    "uv_project",
    "uv_project_environment",
    "uv_system_python",
    "uv_target",
    "uv_tool_bin_dir",
    "uv_tool_dir",
    "uv_working_directory",
];
/// What is in the names of variables, behind the installer's, that decide where packages come from or which are meant.
const DECIDING: [&str; 13] = [
    "registry",
    "index",
    "find_links",
    "globalconfig",
    "userconfig",
    "config_file",
    "rc_filename",
    "npm_scopes",
    "constraint",
    "exclude_newer",
    "before",
    "release_age",
    "cooldown",
];

/// A name as it is compared: npm takes both cases, and `-` for `_`.
fn normal(name: &str) -> String {
    name.to_ascii_lowercase().replace('-', "_")
}

/// Whether two names of variables are one to an installer.
pub fn is_one_variable(one: &str, other: &str) -> bool {
    normal(one) == normal(other)
}

/// Whether a variable is a setting of npm's, which takes its name in upper and lower case.
pub fn is_of_npm(name: &str) -> bool {
    normal(name).starts_with("npm_config_")
}

/// Whether a variable of stdiopool's own environment is one that installs see, as they would if the operator ran npx or
/// uvx: it configures an installer, or names a proxy.
pub fn is_for_installs(name: &str) -> bool {
    let name = normal(name);
    let configures = INSTALLERS.iter().any(|prefix| name.starts_with(prefix));
    (configures && !PLACES.contains(&&*name)) || PROXIES.contains(&&*name)
}

/// Whether a variable decides where packages come from that programs of a family download, or which are meant.
fn decides(family: Family, name: &str) -> bool {
    let name = normal(name);
    let mut prefixes = family.variables().iter();
    let setting = prefixes.find_map(|prefix| name.strip_prefix(prefix));
    // Some are known by their whole names.
    setting.is_some_and(|it| it.is_empty() || DECIDING.iter().any(|word| it.contains(word)))
}

/// Whether a variable says to programs of a family from which registry packages come.
pub(super) fn is_said_by(family: Family, name: &str) -> bool {
    let name = normal(name);
    let prefixes = family.variables().iter();
    let mut settings = prefixes.filter_map(|prefix| name.strip_prefix(prefix));
    settings.any(|setting| matches!(setting, "registry" | "npm_registry_server" | "index_url"))
}

/// Where programs ask for packages that nobody has told, without a slash at the end.
const PUBLIC: [&str; 6] = [
    "https://registry.npmjs.org",
    "https://registry.yarnpkg.com",
    "https://npm.jsr.io",
    "https://jsr.io",
    "https://pypi.org/simple",
    "https://proxy.golang.org,direct",
];

/// Whether a variable of stdiopool's own environment names a registry that is public and known to all. Workers have it too: it
/// tells them nothing, and without it they might ask another that a file names.
pub fn names_public_registry(name: &str, value: &str) -> bool {
    let is_public = PUBLIC.contains(&value.trim_end_matches('/'));
    is_public && says_from_where(name) && !is_proxy(name)
}

/// Whether a variable names a proxy.
fn is_proxy(name: &str) -> bool {
    let name = normal(name);
    name != "no_proxy" && name.ends_with("_proxy") && !name.ends_with("noproxy")
}

/// Whether a variable of stdiopool's own environment says to installs where packages come from: which registry, which
/// versions, through which proxy.
pub fn says_from_where(name: &str) -> bool {
    let decides = || Family::ALL.iter().any(|family| decides(*family, name));
    is_for_installs(name) && (is_proxy(name) || decides())
}

/// Variables of the environment of installs that a worker does not have.
fn lacking<'a>(
    installs: &'a BTreeMap<String, String>,
    worker: &BTreeMap<String, SecretString>,
) -> Vec<&'a str> {
    let has = |name: &str| worker.keys().any(|own| is_one_variable(own, name));
    let names = installs.keys().map(String::as_str);
    names
        .filter(|name| is_for_installs(name) && !has(name))
        .collect()
}

/// Variables of the environment of installs that decide where the packages of a command come from, and that its worker
/// does not have.
pub fn withheld<'a>(
    program: &str,
    args: &[Word],
    installs: &'a BTreeMap<String, String>,
    worker: &BTreeMap<String, SecretString>,
) -> Vec<&'a str> {
    let mut names = lacking(installs, worker);
    if names.is_empty() {
        return names;
    }
    let found = downloaders(program, args);
    retain(&mut names, &found, Certainty::Runs);
    names
}

/// Keeps what decides for one of those programs that stand so, and is not said in its line.
fn retain(names: &mut Vec<&str>, found: &[Downloader], certainty: Certainty) {
    names.retain(|name| {
        let mut found = found.iter().filter(|it| it.certainty == certainty);
        found.any(|it| decides(it.family, name) && !it.says(name))
    });
}

/// What of the environment of installs a worker does not have that is run as written, beside what it is refused for.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Unseen<'a> {
    /// A program that its words name and that downloads packages, and the variables that decide from where.
    pub named: Option<(String, Vec<&'a str>)>,
    /// The program that downloads the worker's packages, and the proxies that it would go through.
    pub proxies: Option<(String, Vec<&'a str>)>,
}

/// What of the environment of installs the worker of a command does not have, where its words name what downloads packages.
pub fn unseen<'a>(
    program: &str,
    args: &[Word],
    installs: &'a BTreeMap<String, String>,
    worker: &BTreeMap<String, SecretString>,
) -> Unseen<'a> {
    let mut deciding = lacking(installs, worker);
    if deciding.is_empty() {
        return Unseen::default();
    }
    let found = downloaders(program, args);
    let Some(first) = found.first() else {
        return Unseen::default();
    };
    let mut proxies = deciding.clone();
    proxies.retain(|name| is_proxy(name));
    retain(&mut deciding, &found, Certainty::Named);
    let of = |names: Vec<&'a str>| (!names.is_empty()).then(|| (first.program.clone(), names));
    Unseen {
        named: of(deciding),
        proxies: of(proxies),
    }
}

/// Variables of the environment of installs that decide for programs of those families, and that a worker does not have.
pub fn lacking_of<'a>(
    families: &[Family],
    installs: &'a BTreeMap<String, String>,
    worker: &BTreeMap<String, SecretString>,
) -> Vec<&'a str> {
    let mut names = lacking(installs, worker);
    names.retain(|name| families.iter().any(|family| decides(*family, name)));
    names
}

/// Variables by which a launcher goes and the installer in its place does not: what they decide an install cannot heed.
pub fn unheeded<'a>(
    program: &str,
    args: &[Word],
    installs: &'a BTreeMap<String, String>,
) -> Option<&'a str> {
    let own = ["pnpm_config_", "bun_config_", "pip_", "pipx_"];
    let withheld = withheld(program, args, installs, &BTreeMap::new());
    let is_own = |name: &&str| own.iter().any(|prefix| normal(name).starts_with(prefix));
    withheld.into_iter().find(is_own)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map<V: From<String>>(names: &[&str]) -> BTreeMap<String, V> {
        let pairs = names
            .iter()
            .map(|name| ((*name).to_owned(), V::from("x".to_owned())));
        pairs.collect()
    }

    #[test]
    fn installs_see_what_configures_them_and_not_where_others_work() {
        for name in [
            "NPM_CONFIG_REGISTRY",
            "npm_config_@acme:registry",
            "UV_INDEX_ACME_PASSWORD",
            "UV_PYTHON",
            "PIP_INDEX_URL",
            "https_proxy",
            "NO_PROXY",
        ] {
            assert!(is_for_installs(name), "{name}");
        }
        for name in [
            "npm_config_local_prefix",
            "NPM_CONFIG_CACHE",
            "UV_TOOL_DIR",
            "UV_SYSTEM_PYTHON",
            "AWS_SECRET_ACCESS_KEY",
            "npm_lifecycle_event",
        ] {
            assert!(!is_for_installs(name), "{name}");
        }
    }

    #[test]
    fn registries_that_are_public_are_named_by_their_whole_address() {
        for (name, value) in [
            ("NPM_CONFIG_REGISTRY", "https://registry.npmjs.org/"),
            ("npm_config_registry", "https://registry.npmjs.org"),
            ("UV_DEFAULT_INDEX", "https://pypi.org/simple/"),
            ("PIP_INDEX_URL", "https://pypi.org/simple"),
        ] {
            assert!(names_public_registry(name, value), "{name}={value}");
        }
        for (name, value) in [
            ("NPM_CONFIG_REGISTRY", "http://registry.npmjs.org/"),
            ("NPM_CONFIG_REGISTRY", "https://u:p@registry.npmjs.org/"),
            ("NPM_CONFIG_REGISTRY", "https://registry.npmjs.org.evil/"),
            ("HTTPS_PROXY", "https://registry.npmjs.org/"),
            ("OTHER", "https://registry.npmjs.org/"),
        ] {
            assert!(!names_public_registry(name, value), "{name}={value}");
        }
    }

    #[test]
    fn what_a_launcher_would_go_by_and_its_worker_lacks_is_withheld() {
        let installs = map(&[
            "HTTPS_PROXY",
            "NPM_CONFIG_REGISTRY",
            "PNPM_CONFIG_REGISTRY",
            "UV_EXTRA_INDEX_URL",
            "UV_PYTHON",
            "npm_config_loglevel",
        ]);
        let words = |args: &[&str]| args.iter().map(|it| Word::known(it)).collect::<Vec<_>>();
        let seen = |program, args: &[&str], worker: &[&str]| {
            withheld(program, &words(args), &installs, &map(worker))
        };
        assert_eq!(seen("/usr/bin/npx", &["x"], &[]), ["NPM_CONFIG_REGISTRY"]);
        let passed = ["npm_config_registry"];
        assert_eq!(seen("npm", &["exec", "x"], &passed), [""; 0]);
        assert_eq!(seen("npm", &["start"], &[]), [""; 0]);
        let passed = ["npm-config-registry"];
        let left = ["PNPM_CONFIG_REGISTRY"];
        assert_eq!(seen("pnpm", &["dlx", "x"], &passed), left);
        assert_eq!(seen("uvx", &["x"], &[]), ["UV_EXTRA_INDEX_URL"]);
        assert_eq!(seen("node", &["x.js"], &[]), [""; 0]);
        let unheeded = |program, args: &[&str]| unheeded(program, &words(args), &installs);
        assert_eq!(unheeded("npx", &["x"]), None);
        assert_eq!(
            unheeded("pnpm", &["dlx", "x"]),
            Some("PNPM_CONFIG_REGISTRY")
        );
        // Behind whatever runs it, unless the line says it itself.
        let script = "cd / && exec npx -y @corp/x";
        assert_eq!(seen("sh", &["-c", script], &[]), ["NPM_CONFIG_REGISTRY"]);
        assert_eq!(
            seen("sh", &["-c", script], &["npm_config_registry"]),
            [""; 0]
        );
        assert_eq!(
            seen("env", &["A=1", "uvx", "x"], &[]),
            ["UV_EXTRA_INDEX_URL"]
        );
        let own = ["NPM_CONFIG_REGISTRY=https://r", "npx", "x"];
        assert_eq!(seen("env", &own, &[]), [""; 0]);
        assert_eq!(seen("npx", &["--registry=https://r", "x"], &[]), [""; 0]);
        // A program that is only named is not refused, and told.
        assert_eq!(seen("gateway", &["--stdio", "npx -y x"], &[]), [""; 0]);
        let unseen = |program, args: &[&str]| {
            let unseen = unseen(program, &words(args), &installs, &map(&[]));
            (unseen.named, unseen.proxies)
        };
        let npx = |names: &[&'static str]| Some(("npx".to_owned(), names.to_vec()));
        let proxies = npx(&["HTTPS_PROXY"]);
        let named = npx(&["NPM_CONFIG_REGISTRY"]);
        assert_eq!(
            unseen("gateway", &["--stdio", "npx -y x"]),
            (named, proxies.clone())
        );
        assert_eq!(unseen("npx", &["x"]), (None, proxies));
        assert_eq!(unseen("cat", &["x"]), (None, None));
        assert_eq!(
            lacking_of(&[Family::Uv], &installs, &map(&[])),
            ["UV_EXTRA_INDEX_URL"]
        );
    }
}

//! Variables that decide where packages come from: installs are told of the operator's, workers are not, and what runs as
//! written must not ask another registry for that without a word.

use std::collections::BTreeMap;

use secrecy::SecretString;

/// What the names of variables begin with, in lower case, that configure installers.
const INSTALLERS: [&str; 6] = [
    "npm_config_",
    "pnpm_config_",
    "bun_config_",
    "uv_",
    "pip_",
    "pipx_",
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
const DECIDING: [&str; 8] = [
    "registry",
    "index",
    "find_links",
    "globalconfig",
    "userconfig",
    "config_file",
    "exclude_newer",
    "before",
];

/// A name as it is compared: npm takes both cases, and `-` for `_`.
fn normal(name: &str) -> String {
    name.to_ascii_lowercase().replace('-', "_")
}

/// Whether two names of variables mean the same to an installer.
pub fn is_one_variable(one: &str, other: &str) -> bool {
    normal(one) == normal(other)
}

/// Whether a variable of stdiopool's own environment is one that installs see, as they would if the operator ran npx or
/// uvx: it configures an installer, or names a proxy.
pub fn is_for_installs(name: &str) -> bool {
    let name = normal(name);
    let configures = INSTALLERS.iter().any(|prefix| name.starts_with(prefix));
    (configures && !PLACES.contains(&&*name)) || PROXIES.contains(&&*name)
}

/// Prefixes of the variables that a command goes by when it fetches packages; none for one that fetches nothing.
fn read_by(program: &str, first: Option<&str>) -> &'static [&'static str] {
    let is_exec = matches!(first, Some("exec" | "x" | "dlx"));
    match program.rsplit('/').next().unwrap_or_default() {
        "npx" => &["npm_config_"],
        "npm" if is_exec => &["npm_config_"],
        "pnpx" => &["npm_config_", "pnpm_config_"],
        "pnpm" if is_exec => &["npm_config_", "pnpm_config_"],
        "bunx" => &["npm_config_", "bun_config_"],
        "bun" if is_exec => &["npm_config_", "bun_config_"],
        "uvx" | "uv" => &["uv_"],
        "pipx" => &["uv_", "pip_", "pipx_"],
        _ => &[],
    }
}

/// Variables of the environment of installs that decide where the packages of a command come from, and that its worker
/// does not have.
pub fn withheld<'a>(
    program: &str,
    first: Option<&str>,
    installs: &'a BTreeMap<String, String>,
    worker: &BTreeMap<String, SecretString>,
) -> Vec<&'a str> {
    let prefixes = read_by(program, first);
    let decides = |name: &str| {
        let name = normal(name);
        let setting = prefixes.iter().find_map(|prefix| name.strip_prefix(prefix));
        setting.is_some_and(|setting| DECIDING.iter().any(|word| setting.contains(word)))
    };
    let has = |name: &str| worker.keys().any(|own| is_one_variable(own, name));
    let names = installs.keys().map(String::as_str);
    names.filter(|name| decides(name) && !has(name)).collect()
}

/// Variables by which a launcher goes and the installer in its place does not: what they decide an install cannot heed.
pub fn unheeded<'a>(
    program: &str,
    first: Option<&str>,
    installs: &'a BTreeMap<String, String>,
) -> Option<&'a str> {
    let own = ["pnpm_config_", "bun_config_", "pip_", "pipx_"];
    let withheld = withheld(program, first, installs, &BTreeMap::new());
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
    fn what_a_launcher_would_go_by_and_its_worker_lacks_is_withheld() {
        let installs = map(&[
            "HTTPS_PROXY",
            "NPM_CONFIG_REGISTRY",
            "PNPM_CONFIG_REGISTRY",
            "UV_EXTRA_INDEX_URL",
            "UV_PYTHON",
            "npm_config_loglevel",
        ]);
        let seen =
            |program, first, worker: &[&str]| withheld(program, first, &installs, &map(worker));
        assert_eq!(seen("/usr/bin/npx", None, &[]), ["NPM_CONFIG_REGISTRY"]);
        assert_eq!(seen("npm", Some("exec"), &["npm_config_registry"]), [""; 0]);
        assert_eq!(seen("npm", Some("start"), &[]), [""; 0]);
        assert_eq!(
            seen("pnpm", Some("dlx"), &["npm-config-registry"]),
            ["PNPM_CONFIG_REGISTRY"]
        );
        assert_eq!(seen("uvx", None, &[]), ["UV_EXTRA_INDEX_URL"]);
        assert_eq!(seen("node", None, &[]), [""; 0]);
        assert_eq!(unheeded("npx", None, &installs), None);
        assert_eq!(
            unheeded("pnpm", Some("dlx"), &installs),
            Some("PNPM_CONFIG_REGISTRY")
        );
    }
}

//! Variables of stdiopool's own environment by which npx and uvx would run something else here, and which nothing goes by: neither
//! workers nor installs see them.

use std::collections::BTreeMap;
use std::ffi::OsString;

use super::finding::{Finding, Weight, path};
use crate::config::Config;
use crate::config::downloads::{Certainty, Family, downloaders};
use crate::launch::is_one_variable;

/// A variable, whose launchers go by it, and what for.
struct Place {
    variable: &'static str,
    family: Family,
    what: &'static str,
}

const PLACES: [Place; 3] = [
    Place {
        variable: "npm_config_prefix",
        family: Family::Npm,
        what: "packages that are installed globally there are not run in place of the registry's",
    },
    Place {
        variable: "UV_TOOL_DIR",
        family: Family::Uv,
        what: "tools that are installed there are not run in place of the index's",
    },
    Place {
        variable: "UV_ENV_FILE",
        family: Family::Uv,
        what: "programs do not get the variables in it",
    },
];

/// This process's environment.
pub(super) fn own() -> BTreeMap<String, String> {
    let text = |(name, value): (OsString, OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    std::env::vars_os().filter_map(text).collect()
}

/// What of that environment servers' launchers would go by and do not.
pub(super) fn findings(config: &Config, own: &BTreeMap<String, String>) -> Vec<Finding> {
    // One command that is hosted for the user alone has no file that could say more.
    if config.only_server.is_some() {
        return vec![];
    }
    // npm tells its scripts, of which stdiopool may be one.
    let is_of_npm = own.contains_key("npm_lifecycle_event");
    let mut findings = Vec::new();
    for place in &PLACES {
        let is_meant = |name: &str| is_one_variable(name, place.variable);
        let own = own
            .iter()
            .find(|(name, value)| is_meant(name) && !value.is_empty());
        let Some((name, value)) = own.filter(|_| !(is_of_npm && place.family == Family::Npm))
        else {
            continue;
        };
        if config.pool.pass_env.iter().any(|name| is_meant(name)) {
            continue;
        }
        let server = config.servers.iter().find(|(_, server)| {
            let found = downloaders(&server.command, &server.words());
            let runs = found
                .iter()
                .any(|it| it.certainty == Certainty::Runs && it.family == place.family);
            runs && !server.env.keys().any(|name| is_meant(name))
        });
        let Some((server, _)) = server else {
            continue;
        };
        let message = format!(
            "{name} of stdiopool's own environment ({value}) is not gone by, for server `{server}` and others of its launcher: {}; name it in `pool.pass_env`, which gives it to every worker, set it in `servers.{server}.env` (\"\": not meant), or leave it out of the environment",
            place.what
        );
        let of_server = ["args", "env", "launch"];
        let of_server = of_server.map(|key| path(["servers", server.as_str(), key]));
        findings.push(Finding {
            rests_on: [of_server.to_vec(), vec![path(["pool", "pass_env"])]].concat(),
            ..Finding::new(
                Weight::Odd,
                ["servers", server.as_str(), "command"],
                message,
            )
        });
    }
    findings
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config;

    #[test]
    fn what_nothing_goes_by_is_told_of_launchers_that_would() {
        let told = |toml: &str, own: &[(&str, &str)]| {
            let config = config::parse(toml, "pool.toml", Path::new("/")).expect("valid");
            let own = own
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            let found = findings(&config, &own.collect());
            let found = found.into_iter().map(|it| it.message);
            found.collect::<Vec<_>>()
        };
        let uvx = "[servers.a]\ncommand = \"uvx\"\nargs = [\"x\"]\n";
        let npx = "[servers.a]\ncommand = \"npx\"\nargs = [\"-y\", \"x\"]\n";
        for (toml, name) in [
            (uvx, "UV_TOOL_DIR"),
            (uvx, "UV_ENV_FILE"),
            (npx, "npm_config_prefix"),
            (npx, "NPM_CONFIG_PREFIX"),
        ] {
            let own = [(name, "/opt/x")];
            let found = told(toml, &own);
            assert!(
                found.len() == 1 && found[0].starts_with(name) && found[0].contains("(/opt/x)"),
                "{found:?}"
            );
            let silent = [
                format!("{toml}env = {{ {name} = \"/opt/x\" }}\n"),
                format!("{toml}[pool]\npass_env = [\"{name}\"]\n"),
                "[servers.a]\ncommand = \"cat\"\n".to_owned(),
            ];
            for toml in silent {
                assert_eq!(told(&toml, &own), [""; 0], "{toml}");
            }
            assert_eq!(told(toml, &[(name, "")]), [""; 0], "it is not set");
        }
        let of_script = [
            ("npm_config_prefix", "/usr"),
            ("npm_lifecycle_event", "start"),
        ];
        assert_eq!(told(npx, &of_script), [""; 0], "npm has set it");
    }
}

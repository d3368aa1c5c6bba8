//! Install scripts of npm's packages: which of them run, and which did not.
//!
//! npm runs all of them up to 11 and only those that are allowed from 12 on, and npx says nothing of it. Here as there they
//! run by the rules of the npm that is installed; what did not run is kept with the entry, and told.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::command_error::CommandError;
use super::helper::Helper;
use super::npm_settings::NpmSettings;
use crate::launch::line::AllowedScripts;
use crate::launch::{LaunchSpec, is_one_variable};

/// The first npm that runs no script that is not allowed (docs.npmjs.com, config, allow-scripts).
const ALLOWING_SINCE: u32 = 12;
/// The variable of npm that allows scripts.
const ALLOWS: &str = "npm_config_allow_scripts";

/// The folder in npm's cache where npx installs.
const NPX: &str = "_npx";
/// Installs of npx that are looked at, when a start has failed.
const MAX_NPX: usize = 16;

/// The install scripts that run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Scripts {
    /// All scripts run.
    All,
    /// All scripts run, though npm would run allowed ones only: the line says so.
    AllByFlag,
    /// No script runs, for this reason.
    None(String),
    /// Scripts of the packages that are allowed run, as npm takes their names; by npm of that version.
    Allowed(Vec<String>, String),
}

/// Install scripts that did not run.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Unscripted {
    /// Packages whose scripts did not run, with their versions.
    pub packages: Vec<String>,
    /// Why.
    pub why: String,
}

impl Unscripted {
    /// For people: whose scripts did not run, and why.
    pub fn told(&self) -> String {
        format!(
            "install scripts of {} did not run: {}",
            self.packages.join(", "),
            self.why
        )
    }

    /// How the scripts are allowed, for a server of that name.
    pub fn remedy(&self, server: &str) -> String {
        format!(
            "if you trust them, set {ALLOWS} = \"{}\" in `servers.{server}.env`",
            self.names()
        )
    }

    /// Packages whose scripts did not run, as npm is told.
    pub fn names(&self) -> String {
        let names = self.packages.iter().map(|package| without_version(package));
        names.collect::<Vec<_>>().join(",")
    }
}

fn without_version(package: &str) -> &str {
    match package.rfind('@') {
        None | Some(0) => package,
        Some(at) => &package[..at],
    }
}

/// Takes from an environment what it allows: as a variable, npm takes it for npx, and refuses it where a lock file is
/// installed from.
pub(super) fn take_allowed(env: &mut BTreeMap<String, String>) -> Option<String> {
    let is_it = |name: &str| is_one_variable(name, ALLOWS);
    let named = env.iter().find(|(name, _)| is_it(name));
    let value = named.map(|(_, value)| value.clone());
    env.retain(|name, _| !is_it(name));
    value.filter(|value| !value.is_empty())
}

/// The scripts that run of a lock file that wants some. `allowed`: those that the environment allows.
///
/// # Errors
/// When npm does not say its version.
pub(super) async fn that_run(
    helper: &Helper<'_>,
    settings: &NpmSettings,
    said: &AllowedScripts,
    allowed: Option<&str>,
) -> Result<Scripts, CommandError> {
    if settings.ignores_scripts() {
        return Ok(Scripts::None("npm's `ignore-scripts` is set".to_owned()));
    }
    let npm = helper.answer("npm", &["--version"]).await?;
    let major = npm.split('.').next().and_then(|it| it.parse().ok());
    let major: u32 = major.ok_or_else(|| CommandError::NoAnswer {
        command: "npm --version",
        printed: npm.clone(),
    })?;
    if major < ALLOWING_SINCE || settings.allows_all_scripts() {
        return Ok(Scripts::All);
    }
    let names = match said {
        AllowedScripts::All => return Ok(Scripts::AllByFlag),
        AllowedScripts::Of(names) => names,
        AllowedScripts::AsConfigured => allowed.unwrap_or(settings.allowed_scripts()),
    };
    let names = names
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty());
    let mut names: Vec<String> = names.map(ToOwned::to_owned).collect();
    names.sort();
    names.dedup();
    Ok(Scripts::Allowed(names, npm))
}

impl Scripts {
    /// Tells entries apart that differ by the scripts that ran.
    pub(super) fn name(&self) -> String {
        match self {
            Self::All | Self::AllByFlag => "scripts".to_owned(),
            Self::None(_) => "no scripts".to_owned(),
            Self::Allowed(names, _) => format!("scripts of {}", names.join(",")),
        }
    }

    /// Whether some may run.
    pub(super) fn may_run(&self) -> bool {
        !matches!(self, Self::None(_))
    }

    /// The flag of `npm ci` that says which scripts run.
    pub(super) fn flag(&self) -> Option<&'static str> {
        match self {
            Self::AllByFlag => Some("--dangerously-allow-all-scripts"),
            Self::None(_) => Some("--ignore-scripts"),
            Self::All | Self::Allowed(..) => None,
        }
    }

    /// What the package.json says of it beside which `npm ci` runs.
    pub(super) fn policy(&self) -> Value {
        match self {
            Self::All | Self::AllByFlag | Self::None(_) => json!({}),
            Self::Allowed(names, _) => names
                .iter()
                .map(|name| (name.clone(), Value::Bool(true)))
                .collect(),
        }
    }

    /// The scripts that did not run when that lock file was installed; `None` if all did. npm is asked where it decides.
    pub(super) async fn not_run(&self, helper: &Helper<'_>, lock: &Value) -> Option<Unscripted> {
        let (packages, why) = match self {
            Self::All | Self::AllByFlag => return None,
            Self::None(why) => (wanted(lock), why.clone()),
            Self::Allowed(_, npm) => {
                let why = format!("npm {npm} runs only those that are allowed");
                (pending(helper, lock).await, why)
            }
        };
        (!packages.is_empty()).then_some(Unscripted { packages, why })
    }
}

/// The scripts that npm says it has not run.
async fn pending(helper: &Helper<'_>, lock: &Value) -> Vec<String> {
    let listed = helper
        .answer("npm", &["install-scripts", "ls", "--json"])
        .await;
    let packages = listed.and_then(|listed| {
        of_list(&listed).ok_or_else(|| CommandError::NoAnswer {
            command: "npm install-scripts ls",
            printed: listed.clone(),
        })
    });
    packages.unwrap_or_else(|why| {
        tracing::debug!("which install scripts did not run is not known for certain: {why}");
        wanted(lock)
    })
}

/// The packages of such a list whose scripts nobody has decided on.
fn of_list(listed: &str) -> Option<Vec<String>> {
    let listed: Value = serde_json::from_str(listed).ok()?;
    let packages = listed["allowScripts"].as_array()?.iter();
    let changes = packages.flat_map(|package| package["changes"].as_array().into_iter().flatten());
    let pending = changes.filter(|change| change["change"] == "pending");
    let mut keys: Vec<String> = pending
        .filter_map(|change| change["key"].as_str().map(ToOwned::to_owned))
        .collect();
    keys.sort();
    Some(keys)
}

/// Packages of a lock file that want to run a script when they are installed, with their versions.
pub(super) fn wanted(lock: &Value) -> Vec<String> {
    let packages = lock["packages"].as_object().into_iter().flatten();
    let with_script = packages.filter(|(_, package)| package["hasInstallScript"] == true);
    let mut wanted: Vec<String> = with_script
        .map(|(place, package)| {
            let name = place.rsplit("node_modules/").next().unwrap_or(place);
            match package["version"].as_str() {
                Some(version) => format!("{name}@{version}"),
                None => name.to_owned(),
            }
        })
        .collect();
    wanted.sort();
    wanted.dedup();
    wanted
}

/// The cache folder in which npm keeps what npx installs, for a process of npx or npm that runs as written; `None` for other programs.
pub fn npm_cache(spec: &LaunchSpec) -> Option<PathBuf> {
    matches!(spec.program.rsplit('/').next(), Some("npx" | "npm")).then_some(())?;
    let set = |name: &str| {
        spec.env
            .get(name)
            .map(|it| PathBuf::from(it.expose_secret()))
    };
    set("npm_config_cache").or_else(|| Some(set("HOME")?.join(".npm")))
}

/// What npx has installed in a cache of npm's that wants install scripts, as far as it is to be found. Blocks.
pub fn wanted_by_npx(cache: &Path) -> Vec<String> {
    let installs = std::fs::read_dir(cache.join(NPX)).into_iter().flatten();
    let locks = installs.flatten().take(MAX_NPX).filter_map(|install| {
        let lock = install.path().join("node_modules/.package-lock.json");
        let text = crate::folders::read_plain(&lock).ok()?;
        serde_json::from_slice::<Value>(&text).ok()
    });
    let mut packages: Vec<String> = locks.flat_map(|lock| wanted(&lock)).collect();
    packages.sort();
    packages.dedup();
    packages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_file_tells_who_wants_scripts() {
        let lock = json!({ "packages": {
            "": {},
            "node_modules/a": { "version": "1.0.0" },
            "node_modules/a/node_modules/@x/b": { "version": "2.0.0", "hasInstallScript": true },
            "node_modules/c": { "version": "3.0.0", "hasInstallScript": true },
        } });
        let told = Unscripted {
            packages: wanted(&lock),
            why: "npm 12.0.0 runs only those that are allowed".to_owned(),
        };
        assert_eq!(
            told.told(),
            "install scripts of @x/b@2.0.0, c@3.0.0 did not run: npm 12.0.0 runs only those that are allowed"
        );
        assert_eq!(
            told.remedy("a"),
            "if you trust them, set npm_config_allow_scripts = \"@x/b,c\" in `servers.a.env`"
        );
    }

    #[test]
    fn what_npm_lists_is_read_and_nothing_else() {
        let listed = r#"{"allowScripts": [{"name": "a", "changes": [{"key": "a@1.0.0", "change": "pending"}]},
            {"name": "b", "changes": [{"key": "b@1.0.0", "change": "unused"}]}]}"#;
        assert_eq!(of_list(listed), Some(vec!["a@1.0.0".to_owned()]));
        assert_eq!(of_list("{}"), None);
        assert_eq!(of_list("x"), None);
    }

    #[test]
    fn what_the_environment_allows_is_taken_out_of_it() {
        let mut env = BTreeMap::from([
            ("NPM_CONFIG_ALLOW_SCRIPTS".to_owned(), "a".to_owned()),
            ("npm_config_registry".to_owned(), "x".to_owned()),
        ]);
        assert_eq!(take_allowed(&mut env), Some("a".to_owned()));
        assert_eq!(env.len(), 1);
        assert_eq!(take_allowed(&mut env), None);
    }
}

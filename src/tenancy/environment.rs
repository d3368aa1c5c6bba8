//! The environment every worker starts from. Nothing of stdiopool's own gets through but what is
//! named here or in `pool.pass_env`.
//!
//! | variable | value |
//! | --- | --- |
//! | PATH, LANG | stdiopool's own |
//! | HOME | the tenant's folder for the server, so that what a server keeps in its home is the tenant's |
//! | TMPDIR | the tenant's temporary folder for the server |
//! | npm_config_cache, UV_CACHE_DIR, UV_TOOL_DIR, UV_PYTHON_INSTALL_DIR | the tenant's own for the server: what is in them is run |
//! | npm_config_userconfig, UV_CONFIG_FILE | those of the user stdiopool runs as |
//!
//! Files of other launchers (bun, pnpm, yarn, pip) in that user's home reach no worker: a start that would go by one is refused.
//!
//! One command that is hosted for the user alone has the user's own HOME, caches and settings of installers.
//!
//! Pythons that uv installs for packages are in the folder of the user that stdiopool runs as, which workers cannot write.
//!
//! Installs see what configures npm, uv and their like, and the variables that name proxies, as npx and uvx would. Where one of
//! them names the public registry, workers have it as well.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use crate::config::{Config, Server};
use crate::launch::{
    LAUNCHER_FOLDERS, SettingsFile, installation_of, is_for_installs, is_one_variable,
    names_public_registry, settings_files,
};

/// `PATH` where stdiopool has none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// `LANG` where stdiopool has none.
const DEFAULT_LANG: &str = "C.UTF-8";

/// Where uv installs Pythons, and where that is below HOME.
const PYTHONS: &str = "UV_PYTHON_INSTALL_DIR";
const PYTHONS_BELOW_HOME: &str = ".local/share/uv/python";

/// Folders of a tenant for a server.
#[derive(Clone, Default, Debug)]
pub(super) struct Folders {
    /// The folder whose contents outlive workers.
    pub(super) data: PathBuf,
    /// What the workers need for a while.
    pub(super) tmp: PathBuf,
    /// Private views of packages, and caches of launchers.
    pub(super) packages: PathBuf,
}

/// The environment of the installs of a server's package.
#[derive(Clone, Default, Debug)]
pub struct InstallEnvironment {
    /// What all workers have in common, what of stdiopool's own environment configures installers, and what the
    /// server's `env` sets for every tenant alike. HOME is missing, unless it is the user's own.
    pub variables: BTreeMap<String, String>,
    /// Why there cannot be one install for all tenants: they may have the package from different registries.
    pub differs: Option<String>,
    /// Files in the home folder of the user that stdiopool runs as that tell launchers where packages come from.
    pub files: Vec<SettingsFile>,
}

/// The environment that all workers have in common, read once.
#[derive(Debug)]
pub(super) struct Environment {
    common: BTreeMap<String, String>,
    /// What of stdiopool's own environment installs see beside that.
    installs: BTreeMap<String, String>,
    /// Where Pythons of uv's are, for installs: workers only read them.
    pythons: Option<String>,
    /// HOME is the user's own: one command, hosted for the user alone.
    is_personal: bool,
    /// Files of the user's that tell launchers where packages come from, where HOME is another.
    files: Vec<SettingsFile>,
}

impl Environment {
    /// Picks from stdiopool's own environment.
    pub(super) fn new(
        config: &Config,
        own: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Self {
        let own = Own::read(own);
        let is_personal = config.only_server.is_some();
        let installs = own.of_installs();
        let mut common = own.of_every_process(is_personal);
        common.extend(own.of_launchers(is_personal));
        for (name, value) in &installs {
            if is_personal || names_public_registry(name, value) {
                common.insert(name.clone(), value.clone());
            }
        }
        for name in &config.pool.pass_env {
            if let Some(value) = own.get(name) {
                common.insert(name.clone(), value);
            }
        }
        Self {
            common,
            installs,
            pythons: own.pythons(),
            is_personal,
            files: match is_personal {
                true => vec![],
                false => settings_files(&own.variables),
            },
        }
    }

    /// Where Pythons of uv's are that a server may run on and must not change.
    pub(super) fn pythons(&self, server: &Server) -> Option<PathBuf> {
        let own = server
            .env
            .get(PYTHONS)
            .and_then(|template| template.as_literal());
        let own = own.map(PathBuf::from);
        own.or_else(|| self.pythons.as_ref().map(PathBuf::from))
            .filter(|_| !self.is_personal)
    }

    /// Files and folders that workers read though they may be where only the operator comes to: programs on the PATH
    /// with what they need, this program, and what variables name that all workers have. Variables of a server's `env` are not
    /// among them.
    pub(super) fn shared(&self) -> Vec<PathBuf> {
        let home = std::env::var_os("HOME").map(PathBuf::from);
        let mut shared: Vec<PathBuf> = std::env::current_exe().into_iter().collect();
        for (name, value) in &self.common {
            match name.as_str() {
                "PATH" => {
                    let folders = std::env::split_paths(value).filter(|it| it.is_absolute());
                    for folder in folders {
                        let real = folder.canonicalize().ok().filter(|real| *real != folder);
                        for folder in std::iter::once(folder).chain(real) {
                            shared.extend(installation_of(&folder, home.as_deref()));
                        }
                    }
                }
                "HOME" => {}
                _ => shared.extend(Some(PathBuf::from(value)).filter(|it| it.is_absolute())),
            }
        }
        shared.sort();
        shared.dedup();
        shared
    }

    /// The environment of npm and uv when they install the package of that server.
    pub(super) fn of_installs(&self, server: &Server) -> InstallEnvironment {
        let mut variables = self.common.clone();
        for (name, value) in &self.installs {
            if !variables.keys().any(|known| is_one_variable(known, name)) {
                variables.insert(name.clone(), value.clone());
            }
        }
        if let Some(pythons) = &self.pythons {
            variables.insert(PYTHONS.to_owned(), pythons.clone());
        }
        let mut differs = None;
        for (name, template) in &server.env {
            let lower = name.to_ascii_lowercase();
            match template.as_literal() {
                Some(value) if lower != "home" => {
                    variables.retain(|known, _| !is_one_variable(known, name));
                    variables.insert(name.clone(), value.to_owned());
                }
                None if lower.starts_with("npm_config_") || lower.starts_with("uv_") => {
                    differs = Some(format!("`env.{name}` may differ from tenant to tenant"));
                }
                Some(_) | None => {}
            }
        }
        InstallEnvironment {
            variables,
            differs,
            files: self.files.clone(),
        }
    }

    /// The environment of workers that have folders each for itself: HOME and TMPDIR are missing.
    pub(super) fn without_folders(&self) -> BTreeMap<String, String> {
        let mut variables = self.common.clone();
        variables.remove("HOME");
        variables
    }

    /// The environment of workers whose folders are these.
    pub(super) fn of(&self, folders: &Folders) -> BTreeMap<String, String> {
        let mut variables = self.common.clone();
        variables.insert("TMPDIR".to_owned(), folders.tmp.display().to_string());
        if !self.is_personal || !variables.contains_key("HOME") {
            variables.insert("HOME".to_owned(), folders.data.display().to_string());
        }
        if !self.is_personal {
            let names = ["npm_config_cache", "UV_CACHE_DIR", "UV_TOOL_DIR", PYTHONS];
            for (name, folder) in names.into_iter().zip(LAUNCHER_FOLDERS) {
                let own = || folders.packages.join(folder).display().to_string();
                variables.entry(name.to_owned()).or_insert_with(own);
            }
        }
        variables
    }
}

/// stdiopool's own environment.
struct Own {
    variables: BTreeMap<String, String>,
    home: Option<PathBuf>,
}

impl Own {
    /// Reads what is set. What is not Unicode cannot be passed on; nothing named here is.
    fn read(own: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let text = |(name, value): (OsString, OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        let set = own.into_iter().filter_map(text);
        let variables: BTreeMap<String, String> =
            set.filter(|(_, value)| !value.is_empty()).collect();
        let home = variables.get("HOME").map(PathBuf::from);
        Self { variables, home }
    }

    fn get(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }

    /// What configures installers, or names proxies.
    fn of_installs(&self) -> BTreeMap<String, String> {
        let installs = self.variables.iter();
        let installs = installs.filter(|(name, _)| is_for_installs(name));
        installs
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }

    /// What every process needs; HOME only where it is the user's own.
    fn of_every_process(&self, is_personal: bool) -> BTreeMap<String, String> {
        let or = |name: &str, without: &str| self.get(name).unwrap_or_else(|| without.to_owned());
        let mut common = BTreeMap::from([
            ("PATH".to_owned(), or("PATH", DEFAULT_PATH)),
            ("LANG".to_owned(), or("LANG", DEFAULT_LANG)),
        ]);
        if is_personal && let Some(home) = &self.home {
            common.insert("HOME".to_owned(), home.display().to_string());
        }
        common
    }

    /// The places of launchers' settings and, where those are the user's own, of their caches: as is set, else at the usual places
    /// below HOME.
    fn of_launchers(&self, is_personal: bool) -> impl Iterator<Item = (String, String)> {
        let caches = [
            ("npm_config_cache", ".npm", false),
            ("UV_CACHE_DIR", ".cache/uv", false),
            (PYTHONS, PYTHONS_BELOW_HOME, false),
        ];
        let caches = caches.into_iter().filter(move |_| is_personal);
        let settings = [
            ("npm_config_userconfig", ".npmrc", true),
            ("UV_CONFIG_FILE", ".config/uv/uv.toml", true),
        ];
        caches
            .chain(settings)
            .filter_map(|(name, below_home, is_file)| {
                let usual = || {
                    let path = self.home.as_ref()?.join(below_home);
                    // A file that is named must be there; a folder is made when it is needed.
                    (!is_file || path.is_file()).then(|| path.display().to_string())
                };
                // npm takes both cases.
                let own = self.get(name);
                let own = own.or_else(|| self.get(&name.to_ascii_uppercase()));
                Some((name.to_owned(), own.or_else(usual)?))
            })
    }

    /// Where Pythons of uv's are.
    fn pythons(&self) -> Option<String> {
        self.get(PYTHONS).or_else(|| {
            let below = self.home.as_ref()?.join(PYTHONS_BELOW_HOME);
            Some(below.display().to_string())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    const OWN: [(&str, &str); 9] = [
        ("PATH", "/bin"),
        ("HOME", "/home/op"),
        ("AWS_SECRET_ACCESS_KEY", "hunter22"),
        ("UV_CACHE_DIR", "/cache/uv"),
        ("TZ", "Europe/Berlin"),
        ("LD_PRELOAD", "evil.so"),
        ("NPM_CONFIG_REGISTRY", "https://own/"),
        ("UV_DEFAULT_INDEX", "https://own/simple"),
        ("https_proxy", "http://proxy"),
    ];

    fn environment(config: &Config) -> Environment {
        let own = OWN.map(|(name, value)| (name.into(), value.into()));
        Environment::new(config, own)
    }

    fn variables(config: &Config) -> BTreeMap<String, String> {
        environment(config).of(&Folders {
            data: "/data".into(),
            tmp: "/tmp/t".into(),
            packages: "/packages".into(),
        })
    }

    #[test]
    fn only_what_is_named_gets_through_and_home_is_the_tenants() {
        let text = "[servers.a]\ncommand = \"a\"\n";
        let config = config::parse(text, "pool.toml", std::path::Path::new("/")).expect("valid");
        let shown: Vec<_> = variables(&config)
            .into_iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        assert_eq!(
            shown,
            [
                "HOME=/data",
                "LANG=C.UTF-8",
                "PATH=/bin",
                "TMPDIR=/tmp/t",
                "TZ=Europe/Berlin",
                "UV_CACHE_DIR=/packages/uv",
                "UV_PYTHON_INSTALL_DIR=/packages/uv-python",
                "UV_TOOL_DIR=/packages/uv-tools",
                "npm_config_cache=/packages/npm",
            ]
        );
    }

    #[test]
    fn one_command_of_ones_own_has_ones_own_home() {
        let config = config::single_command(vec!["a".into()]).expect("valid");
        let variables = variables(&config);
        assert_eq!(variables["HOME"], "/home/op");
        assert_eq!(variables["npm_config_cache"], "/home/op/.npm");
        assert_eq!(variables["UV_CACHE_DIR"], "/cache/uv");
        assert_eq!(variables["NPM_CONFIG_REGISTRY"], "https://own/");
    }

    #[test]
    fn workers_know_of_a_registry_that_everyone_knows() {
        let text = "[servers.a]\ncommand = \"a\"\n";
        let config = config::parse(text, "pool.toml", std::path::Path::new("/")).expect("valid");
        let own = [
            ("NPM_CONFIG_REGISTRY", "https://registry.npmjs.org/"),
            ("UV_DEFAULT_INDEX", "https://own/simple"),
        ];
        let own = own.map(|(name, value)| (name.into(), value.into()));
        let common = Environment::new(&config, own).common;
        assert_eq!(common["NPM_CONFIG_REGISTRY"], "https://registry.npmjs.org/");
        assert!(!common.contains_key("UV_DEFAULT_INDEX"));
    }

    #[test]
    fn installs_see_the_operators_registries_and_what_the_server_sets_instead() {
        let text = "[servers.a]\ncommand = \"a\"\n[servers.b]\ncommand = \"b\"\nenv = { npm_config_registry = \"https://b/\", UV_PRERELEASE = \"${config.x}\" }\n";
        let config = config::parse(text, "pool.toml", std::path::Path::new("/")).expect("valid");
        let environment = environment(&config);
        let of = |name: &str| environment.of_installs(&config.servers[name]);
        let a = of("a");
        assert_eq!(a.differs, None);
        assert_eq!(a.variables["NPM_CONFIG_REGISTRY"], "https://own/");
        assert_eq!(a.variables["UV_DEFAULT_INDEX"], "https://own/simple");
        assert_eq!(a.variables["https_proxy"], "http://proxy");
        let pythons = "/home/op/.local/share/uv/python";
        assert_eq!(a.variables["UV_PYTHON_INSTALL_DIR"], pythons);
        let read_only = environment.pythons(&config.servers["a"]);
        assert_eq!(read_only, Some(pythons.into()), "workers only read them");
        assert!(!a.variables.contains_key("AWS_SECRET_ACCESS_KEY"));
        let b = of("b");
        assert_eq!(b.variables["npm_config_registry"], "https://b/");
        assert!(
            !b.variables.contains_key("NPM_CONFIG_REGISTRY"),
            "npm would take either"
        );
        assert!(b.differs.is_some_and(|why| why.contains("UV_PRERELEASE")));
    }
}

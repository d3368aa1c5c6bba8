//! The environment every worker starts from. Nothing of stdiopool's own gets through but what is
//! named here or in `pool.pass_env`.
//!
//! | variable | value |
//! | --- | --- |
//! | PATH, LANG | stdiopool's own |
//! | HOME | the tenant's folder for the server, so that what a server keeps in its home is the tenant's |
//! | TMPDIR | the tenant's temporary folder for the server |
//! | npm_config_cache, UV_CACHE_DIR, UV_TOOL_DIR | the tenant's own for the server: what is in them is run |
//! | npm_config_userconfig, UV_PYTHON_INSTALL_DIR, UV_CONFIG_FILE | those of the user stdiopool runs as |
//!
//! One command that is hosted for the user alone has the user's own HOME and caches.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use crate::config::{Config, Server};

/// `PATH` where stdiopool has none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// `LANG` where stdiopool has none.
const DEFAULT_LANG: &str = "C.UTF-8";

/// Folders of a tenant for a server.
#[derive(Clone, Default, Debug)]
pub(super) struct Folders {
    /// What its workers keep.
    pub(super) data: PathBuf,
    /// What they need for a while.
    pub(super) tmp: PathBuf,
    /// Private views of packages, and caches of launchers.
    pub(super) packages: PathBuf,
}

/// What all workers have in common, read once.
#[derive(Debug)]
pub(super) struct Environment {
    common: BTreeMap<String, String>,
    /// HOME is the user's own: one command, hosted for the user alone.
    is_personal: bool,
}

impl Environment {
    /// Picks from stdiopool's own environment, which `own` looks up.
    pub(super) fn new(config: &Config, own: impl Fn(&str) -> Option<OsString>) -> Self {
        // Values that are not Unicode cannot be passed on; nothing named here has such values.
        let own = |name: &str| {
            own(name)?
                .into_string()
                .ok()
                .filter(|value| !value.is_empty())
        };
        let is_personal = config.only_server.is_some();
        let mut common = BTreeMap::new();
        let mut set = |name: &str, value: String| common.insert(name.to_owned(), value);
        set(
            "PATH",
            own("PATH").unwrap_or_else(|| DEFAULT_PATH.to_owned()),
        );
        set(
            "LANG",
            own("LANG").unwrap_or_else(|| DEFAULT_LANG.to_owned()),
        );
        let home = own("HOME").map(PathBuf::from);
        if is_personal && let Some(home) = &home {
            set("HOME", home.display().to_string());
        }
        let caches = [
            ("npm_config_cache", ".npm", false),
            ("UV_CACHE_DIR", ".cache/uv", false),
        ];
        let caches = caches.into_iter().filter(|_| is_personal);
        let settings = [
            ("npm_config_userconfig", ".npmrc", true),
            ("UV_PYTHON_INSTALL_DIR", ".local/share/uv/python", false),
            ("UV_CONFIG_FILE", ".config/uv/uv.toml", true),
        ];
        for (name, below_home, is_file) in caches.chain(settings) {
            let usual = || {
                let path = home.as_ref()?.join(below_home);
                // A file that is named must be there; a folder is made when it is needed.
                (!is_file || path.is_file()).then(|| path.display().to_string())
            };
            if let Some(value) = own(name).or_else(usual) {
                set(name, value);
            }
        }
        for name in &config.pool.pass_env {
            if let Some(value) = own(name) {
                set(name, value);
            }
        }
        Self {
            common,
            is_personal,
        }
    }

    /// The environment of npm and uv when they install the package of that server: what all workers
    /// have in common, and what the server's `env` sets for every tenant alike. HOME is missing, unless
    /// it is the user's own.
    ///
    /// # Errors
    /// When tenants may have it from different registries.
    pub(super) fn of_installs(&self, server: &Server) -> Result<BTreeMap<String, String>, String> {
        let mut variables = self.common.clone();
        for (name, template) in &server.env {
            let lower = name.to_ascii_lowercase();
            match template.as_literal() {
                Some(value) if lower != "home" => {
                    variables.insert(name.clone(), value.to_owned());
                }
                None if lower.starts_with("npm_config_") || lower.starts_with("uv_") => {
                    return Err(format!("`env.{name}` may differ from tenant to tenant"));
                }
                Some(_) | None => {}
            }
        }
        Ok(variables)
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
            for (name, folder) in [
                ("npm_config_cache", "npm"),
                ("UV_CACHE_DIR", "uv"),
                ("UV_TOOL_DIR", "uv-tools"),
            ] {
                let own = || folders.packages.join(folder).display().to_string();
                variables.entry(name.to_owned()).or_insert_with(own);
            }
        }
        variables
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    const OWN: [(&str, &str); 6] = [
        ("PATH", "/bin"),
        ("HOME", "/home/op"),
        ("AWS_SECRET_ACCESS_KEY", "hunter22"),
        ("UV_CACHE_DIR", "/cache/uv"),
        ("TZ", "Europe/Berlin"),
        ("LD_PRELOAD", "evil.so"),
    ];

    fn variables(config: &Config) -> BTreeMap<String, String> {
        let own = |name: &str| {
            OWN.iter()
                .find(|(n, _)| *n == name)
                .map(|(_, v)| (*v).into())
        };
        Environment::new(config, own).of(&Folders {
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
                "UV_PYTHON_INSTALL_DIR=/home/op/.local/share/uv/python",
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
    }
}

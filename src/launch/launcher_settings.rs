//! What a launcher reads beside its command line: variables and files that decide where packages come from, how old they
//! must be, and what their program gets. Settings that are not understood are left to the launcher.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};

use crate::folders::read_plain;

use super::line::{NodeLauncher, PackageRun, PythonLauncher, Recipe};

/// Variables of uv that change nothing of which package is meant, or of which its own installs are told.
const OF_INSTALLS: [&str; 4] = ["npm_config_", "uv_", "pipx_home", "pipx_bin_dir"];

/// The environment of a process.
type Variables = BTreeMap<String, SecretString>;

/// Why the launcher would go by something that an install of stdiopool does not, for a process with that environment
/// and working directory; `None` if it would not. Looks at a few files.
pub(super) fn decides(env: &Variables, cwd: &Path, run: &PackageRun) -> Option<String> {
    let around = LaunchContext { env, cwd };
    match &run.recipe {
        Recipe::Npm { launcher, .. } => match launcher {
            NodeLauncher::Npm => around.npm_options().err().map(|why| why.to_string()),
            NodeLauncher::Pnpm => around
                .variable_of("pnpm_config_")
                .or_else(|| around.file_of("pnpm", &["pnpm/config.yaml", "pnpm/rc"]))
                .or_else(|| around.beside("pnpm", "pnpm-workspace.yaml")),
            NodeLauncher::Bun => around
                .variable_of("bun_config_")
                .or_else(|| around.file_of("bun", &[".bunfig.toml", "bunfig.toml"]))
                .or_else(|| around.beside("bun", "bunfig.toml")),
        },
        Recipe::PyPi {
            launcher,
            requirements,
            ..
        } => match launcher {
            PythonLauncher::Uv => around
                .set("UV_ENV_FILE")
                .map(|file| format!("uv would read variables from {file} (`UV_ENV_FILE`)"))
                .or_else(|| {
                    let name = requirements.first()?.name();
                    around.tool_of_uv(name)
                }),
            PythonLauncher::Pipx => around
                .variable_of("pip_")
                .or_else(|| around.variable_of("pipx_"))
                .or_else(|| around.file_of("pip", &["pip/pip.conf", ".pip/pip.conf"]))
                .or_else(|| around.system_file("/etc/pip.conf", "pip")),
        },
    }
}

/// Variables that the launcher makes for the program, beside those that it has itself.
pub(super) fn makes(env: &Variables, run: &PackageRun) -> Option<(String, String)> {
    match &run.recipe {
        Recipe::Npm {
            launcher: NodeLauncher::Npm,
            ..
        } => {
            let cwd = Path::new("");
            let options = LaunchContext { env, cwd }.npm_options().ok().flatten()?;
            Some(("NODE_OPTIONS".to_owned(), options))
        }
        _ => None,
    }
}

/// What npm gives a program as NODE_OPTIONS cannot be told from that file of its configuration.
#[derive(Debug, thiserror::Error)]
#[error("what `node-options` in {} means is npm's to say", .0.display())]
struct NodeOptionsUnclear(PathBuf);

struct LaunchContext<'a> {
    env: &'a Variables,
    cwd: &'a Path,
}

impl LaunchContext<'_> {
    /// A variable's value, if it has one.
    fn set(&self, name: &str) -> Option<&str> {
        let value = self.env.get(name)?.expose_secret();
        (!value.is_empty()).then_some(value)
    }

    /// A variable that begins so, whatever its case, and is none of those that installs are told too.
    fn variable_of(&self, prefix: &str) -> Option<String> {
        let is_meant = |name: &&String| {
            let name = name.to_ascii_lowercase();
            name.starts_with(prefix)
                && name != "pipx_default_python"
                && !OF_INSTALLS.iter().any(|known| name.starts_with(known))
        };
        let name = self.env.keys().find(is_meant)?;
        Some(format!("the launcher goes by `{name}`"))
    }

    fn home(&self) -> Option<PathBuf> {
        self.set("HOME").map(PathBuf::from)
    }

    /// A configuration file of the user's: below the folder of those, or below HOME.
    fn file_of(&self, whose: &str, names: &[&str]) -> Option<String> {
        let folders = [
            self.set("XDG_CONFIG_HOME").map(PathBuf::from),
            self.home().map(|home| home.join(".config")),
            self.home(),
        ];
        let mut files = folders
            .iter()
            .flatten()
            .flat_map(|folder| names.iter().map(move |name| folder.join(name)));
        let found = files.find(|file| file.is_file())?;
        Some(configures(&found, whose))
    }

    /// One in the working directory, or above it.
    fn beside(&self, whose: &str, name: &str) -> Option<String> {
        let cwd = self.cwd;
        if cwd.as_os_str().is_empty() {
            return None;
        }
        let mut files = cwd.ancestors().map(|folder| folder.join(name));
        let found = files.find(|file| file.is_file())?;
        Some(configures(&found, whose))
    }

    fn system_file(&self, path: &str, whose: &str) -> Option<String> {
        let path = Path::new(path);
        path.is_file().then(|| configures(path, whose))
    }

    /// uvx runs what `uv tool install` has put in place (docs.astral.sh/uv/guides/tools).
    fn tool_of_uv(&self, name: &str) -> Option<String> {
        let data = || {
            let own = self.set("XDG_DATA_HOME").map(PathBuf::from);
            own.or_else(|| Some(self.home()?.join(".local/share")))
        };
        let tools = self.set("UV_TOOL_DIR").map(PathBuf::from);
        let tools = tools.or_else(|| Some(data()?.join("uv/tools")))?;
        let name = name.to_ascii_lowercase().replace(['_', '.'], "-");
        let tool = tools.join(name);
        tool.join("uv-receipt.toml").is_file().then(|| {
            format!(
                "{} is installed as a tool of uv, which uvx may run instead",
                tool.display()
            )
        })
    }

    /// What npm gives a program as NODE_OPTIONS: `node-options` of its configuration (npm-config(7)).
    ///
    /// # Errors
    /// When that cannot be told.
    fn npm_options(&self) -> Result<Option<String>, NodeOptionsUnclear> {
        let own = self.env.iter().find(|(name, value)| {
            let name = name.to_ascii_lowercase().replace('-', "_");
            name == "npm_config_node_options" && !value.expose_secret().is_empty()
        });
        if let Some((_, value)) = own {
            return Ok(Some(value.expose_secret().to_owned()));
        }
        let named = self.env.iter().find(|(name, _)| {
            let name = name.to_ascii_lowercase().replace('-', "_");
            name == "npm_config_userconfig"
        });
        let file = match named {
            Some((_, path)) => PathBuf::from(path.expose_secret()),
            None => match self.home() {
                Some(home) => home.join(".npmrc"),
                None => return Ok(None),
            },
        };
        let Some(text) = read_settings(&file) else {
            return Ok(None);
        };
        let settings = text.lines().filter_map(|line| line.split_once('='));
        let mut options = settings.filter(|(name, _)| name.trim() == "node-options");
        let Some((_, value)) = options.next_back() else {
            return Ok(None);
        };
        let value = value.trim();
        let plain = value.trim_matches('"');
        if value.contains(['$', '\'', ';', '#', '\\']) || plain.contains('"') {
            return Err(NodeOptionsUnclear(file));
        }
        Ok(Some(plain.to_owned()).filter(|value| !value.is_empty() && value != "null"))
    }
}

/// A file of settings, which a server may have put there: one that a link leads to is taken, but no pipe is waited for.
fn read_settings(file: &Path) -> Option<String> {
    let file = file.canonicalize().ok()?;
    String::from_utf8(read_plain(&file).ok()?).ok()
}

fn configures(file: &Path, whose: &str) -> String {
    format!("{} configures {whose}", file.display())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::understand;
    use super::*;

    struct Host(tempfile::TempDir);

    impl Host {
        fn new() -> Self {
            Self(tempfile::tempdir().expect("a folder"))
        }

        fn with(&self, file: &str, text: &str) -> &Self {
            let path = self.0.path().join(file);
            fs::create_dir_all(path.parent().expect("it has one")).expect("a folder");
            fs::write(path, text).expect("a file");
            self
        }

        fn env(&self, more: &[(&str, &str)]) -> Variables {
            let home = self.0.path().display().to_string();
            let mut env = Variables::from([("HOME".to_owned(), home.into())]);
            for (name, value) in more {
                env.insert((*name).to_owned(), (*value).into());
            }
            env
        }

        fn why(&self, line: &str, env: &[(&str, &str)]) -> Option<String> {
            decides(&self.env(env), Path::new(""), &run(line))
        }
    }

    fn run(line: &str) -> PackageRun {
        let mut words = line.split(' ');
        let program = words.next().expect("a program");
        let args: Vec<_> = words.map(Some).collect();
        let run = understand(program, &args);
        run.expect("a launcher").expect("understood")
    }

    #[test]
    fn what_says_where_packages_come_from_is_the_launchers_to_read() {
        for (line, name) in [
            ("pnpm dlx a", "PNPM_CONFIG_REGISTRY"),
            ("pnpm dlx a", "pnpm_config_minimum_release_age"),
            ("bunx a", "BUN_CONFIG_REGISTRY"),
            ("pipx run a", "PIP_INDEX_URL"),
            ("pipx run a", "PIPX_COOLDOWN"),
            ("uvx a", "UV_ENV_FILE"),
        ] {
            let why = Host::new().why(line, &[(name, "x")]);
            assert!(why.expect(line).contains(name), "{line}");
        }
        for (line, file) in [
            ("pnpm dlx a", ".config/pnpm/config.yaml"),
            ("pnpm dlx a", ".config/pnpm/rc"),
            ("bunx a", ".bunfig.toml"),
            ("pipx run a", ".config/pip/pip.conf"),
            ("uvx a.b", ".local/share/uv/tools/a-b/uv-receipt.toml"),
        ] {
            let host = Host::new();
            assert!(host.with(file, "").why(line, &[]).is_some(), "{line}");
        }
        for (line, name) in [
            ("npx a", "PNPM_CONFIG_REGISTRY"),
            ("pnpm dlx a", "npm_config_registry"),
            ("pipx run a", "PIPX_DEFAULT_PYTHON"),
            ("pipx run a", "PIPX_HOME"),
            ("uvx a", "UV_INDEX_URL"),
        ] {
            if line.starts_with("pipx") && Path::new("/etc/pip.conf").exists() {
                continue;
            }
            assert_eq!(Host::new().why(line, &[(name, "x")]), None, "{line}");
        }
    }

    #[test]
    fn node_options_of_npm_are_given_to_the_program() {
        let options = |host: &Host, env| makes(&host.env(env), &run("npx a")).map(|(_, it)| it);
        let host = Host::new();
        assert_eq!(options(&host, &[]), None);
        let variable = [("NPM_CONFIG_NODE_OPTIONS", "--a")];
        assert_eq!(options(&host, &variable), Some("--a".to_owned()));
        host.with(".npmrc", "save=false\nnode-options = \"--b --c\"\n");
        assert_eq!(options(&host, &[]), Some("--b --c".to_owned()));
        assert_eq!(options(&host, &variable), Some("--a".to_owned()));
        assert_eq!(makes(&host.env(&[]), &run("bunx a")), None);
        host.with(".npmrc", "node-options=${MINE}\n");
        assert!(host.why("npx a", &[]).is_some());
    }
}

//! Files in the home folder of the user that stdiopool runs as that tell launchers where packages come from. A worker has another
//! home, and its launcher would ask the public registry in their place.
//!
//! npm's and uv's own are no part of this: workers and installs are given theirs by a variable.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};

use super::sources::{is_one_variable, is_said_by};
use crate::config::downloads::{Certainty, Family, Word, downloaders};
use crate::folders::read_plain;

/// A file that tells launchers of a family where packages come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SettingsFile {
    family: Family,
    path: PathBuf,
    /// The variable that says the same.
    variable: &'static str,
    /// Installs in the launcher's place go by the file.
    is_of_installs: bool,
}

/// Where a family's files are: below the folder of configuration (its place is XDG_CONFIG_HOME, else `.config`), below HOME.
struct Places {
    family: Family,
    below_config: &'static [&'static str],
    below_home: &'static [&'static str],
    variable: &'static str,
    is_of_installs: bool,
}

const PLACES: [Places; 6] = [
    Places {
        family: Family::Bun,
        below_config: &[],
        below_home: &[".bunfig.toml"],
        variable: "BUN_CONFIG_REGISTRY",
        is_of_installs: false,
    },
    // bun does not go by `npm_config_userconfig`, which workers have.
    Places {
        family: Family::Bun,
        below_config: &[],
        below_home: &[".npmrc"],
        variable: "BUN_CONFIG_REGISTRY",
        is_of_installs: true,
    },
    Places {
        family: Family::Pnpm,
        below_config: &["pnpm/rc", "pnpm/config.yaml"],
        below_home: &[],
        variable: "PNPM_CONFIG_REGISTRY",
        is_of_installs: false,
    },
    Places {
        family: Family::Yarn,
        below_config: &[],
        below_home: &[".yarnrc.yml", ".yarnrc"],
        variable: "YARN_NPM_REGISTRY_SERVER",
        is_of_installs: false,
    },
    Places {
        family: Family::Pipx,
        below_config: &["pip/pip.conf"],
        below_home: &[".pip/pip.conf"],
        variable: "PIP_INDEX_URL",
        is_of_installs: false,
    },
    Places {
        family: Family::Pip,
        below_config: &["pip/pip.conf"],
        below_home: &[".pip/pip.conf"],
        variable: "PIP_INDEX_URL",
        is_of_installs: false,
    },
];

/// What settings are called that decide where packages come from, or which are meant, in lower case and without what joins words.
const DECIDING: [&str; 7] = [
    "registry",
    "scopes",
    "index",
    "findlinks",
    "constraint",
    "releaseage",
    "cooldown",
];

/// The files of the user with that environment that decide where packages come from. Reads a few files.
pub fn settings_files(own: &BTreeMap<String, String>) -> Vec<SettingsFile> {
    let folder = |name: &str| {
        let path = own.get(name).map(PathBuf::from);
        path.filter(|path| path.is_absolute())
    };
    let home = folder("HOME");
    let config_home = folder("XDG_CONFIG_HOME");
    let config = config_home
        .clone()
        .or_else(|| Some(home.as_ref()?.join(".config")));
    let mut found = Vec::new();
    for places in &PLACES {
        let of_config = places.below_config.iter().map(|name| (&config, name));
        let of_home = places.below_home.iter().map(|name| (&home, name));
        // bun looks into XDG_CONFIG_HOME by the names that it has below HOME.
        let of_both = places.below_home.iter().map(|name| (&config_home, name));
        let of_both = of_both.filter(|_| places.family == Family::Bun);
        for (folder, name) in of_config.chain(of_both).chain(of_home) {
            let Some(path) = folder.as_ref().map(|folder| folder.join(name)) else {
                continue;
            };
            if decides(&path) {
                found.push(SettingsFile {
                    family: places.family,
                    path,
                    variable: places.variable,
                    is_of_installs: places.is_of_installs,
                });
            }
        }
    }
    found
}

/// Whether a file has a setting that decides. One that is there and cannot be read may.
fn decides(path: &Path) -> bool {
    let Ok(real) = path.canonicalize() else {
        return false;
    };
    if !real.is_file() {
        return false;
    }
    let Ok(text) = read_plain(&real) else {
        return true;
    };
    let text = String::from_utf8_lossy(&text).to_ascii_lowercase();
    let lines = text.lines().map(str::trim_start);
    let mut settings = lines.filter(|line| !line.starts_with(['#', ';']));
    settings.any(|line| {
        let plain: String = line.chars().filter(|c| !matches!(c, '-' | '_')).collect();
        DECIDING.iter().any(|word| plain.contains(word))
    })
}

impl SettingsFile {
    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The variable that tells a worker's launcher what the file would.
    pub fn variable(&self) -> &'static str {
        self.variable
    }

    /// Whether an install in the launcher's place does not go by the file either.
    pub fn is_unheeded(&self) -> bool {
        !self.is_of_installs
    }

    /// Whether a worker with that environment sees the file, or is told the same.
    fn reaches(&self, worker: &BTreeMap<String, SecretString>) -> bool {
        let is_below = |name: &str| {
            let folder = worker.get(name).map(|folder| folder.expose_secret());
            folder.is_some_and(|folder| !folder.is_empty() && self.path.starts_with(folder))
        };
        let is_told = worker
            .keys()
            .any(|name| is_one_variable(name, self.variable) || is_said_by(self.family, name));
        is_told || is_below("HOME") || is_below("XDG_CONFIG_HOME")
    }
}

/// The files that decide where the packages of a command come from, and that its worker's launcher does not see.
pub fn withheld_files<'a>(
    program: &str,
    args: &[Word],
    files: &'a [SettingsFile],
    worker: &BTreeMap<String, SecretString>,
) -> Vec<&'a SettingsFile> {
    let mut unseen: Vec<_> = files.iter().filter(|file| !file.reaches(worker)).collect();
    if unseen.is_empty() {
        return unseen;
    }
    let found = downloaders(program, args);
    unseen.retain(|file| {
        let mut runs = found.iter().filter(|it| it.certainty == Certainty::Runs);
        runs.any(|it| it.family == file.family && !it.says(file.variable))
    });
    unseen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_operators_files_decide_is_withheld_from_workers() {
        let host = tempfile::tempdir().expect("a folder");
        let home = host.path().join("home");
        let own = |more: &[(&str, &Path)]| {
            let mut own = BTreeMap::from([("HOME".to_owned(), home.display().to_string())]);
            for (name, folder) in more {
                own.insert((*name).to_owned(), folder.display().to_string());
            }
            own
        };
        let words = |line: &str| line.split(' ').skip(1).map(Word::known).collect::<Vec<_>>();
        let seen = |own: &BTreeMap<String, String>, line: &str, env: &[(&str, &str)]| {
            let files = settings_files(own);
            let worker: BTreeMap<_, SecretString> = env
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).into()))
                .collect();
            let program = line.split(' ').next().expect("a program");
            let found = withheld_files(program, &words(line), &files, &worker);
            let found = found.into_iter().map(|file| file.path.clone());
            found.collect::<Vec<_>>()
        };
        let registry = "registry = \"http://127.0.0.1:1/\"";
        for (line, file, variable) in [
            ("bunx x", ".bunfig.toml", "BUN_CONFIG_REGISTRY"),
            ("bunx x", ".npmrc", "npm_config_registry"),
            ("pnpm dlx x", ".config/pnpm/rc", "PNPM_CONFIG_REGISTRY"),
            (
                "pnpm dlx x",
                ".config/pnpm/config.yaml",
                "npm_config_registry",
            ),
            ("yarn dlx x", ".yarnrc.yml", "YARN_NPM_REGISTRY_SERVER"),
            ("pipx run x", ".config/pip/pip.conf", "PIP_INDEX_URL"),
        ] {
            let path = home.join(file);
            std::fs::create_dir_all(path.parent().expect("below")).expect("made");
            let text = match line.starts_with("pipx") {
                true => "[global]\nindex-url = http://127.0.0.1:1/simple",
                false => registry,
            };
            std::fs::write(&path, text).expect("written");
            let own = own(&[]);
            assert_eq!(
                seen(&own, line, &[("HOME", "/data")]),
                *std::slice::from_ref(&path),
                "{line}"
            );
            let none: [PathBuf; 0] = [];
            assert_eq!(seen(&own, line, &[(variable, "http://r/")]), none, "{line}");
            let home = home.display().to_string();
            assert_eq!(seen(&own, line, &[("HOME", &home)]), none, "{line}");
            assert_eq!(seen(&own, "node x.js", &[]), none);
            assert_eq!(seen(&own, "npx x", &[]), none);
            std::fs::write(&path, "# registry\n[run]\nbun = true\n").expect("written");
            assert_eq!(seen(&own, line, &[]), none, "{line}: nothing of packages");
            std::fs::remove_file(&path).expect("removed");
        }
        let elsewhere = host.path().join("xdg");
        std::fs::create_dir_all(&elsewhere).expect("made");
        let path = elsewhere.join(".bunfig.toml");
        std::fs::write(&path, "[install.scopes]\n").expect("written");
        let own = own(&[("XDG_CONFIG_HOME", &elsewhere)]);
        assert_eq!(seen(&own, "bunx x", &[]), [path]);
    }
}

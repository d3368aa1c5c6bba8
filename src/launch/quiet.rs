//! npm says less when it runs a command as written: from 12 on, it repeats the whole command line on stderr first,
//! arguments included.

use std::path::{Path, PathBuf};

use secrecy::ExposeSecret;

use super::sources::is_one_variable;
use super::spec::LaunchSpec;

/// The variable that says how much npm tells: what `-q` sets, which npm hands on to its program just so.
const LEVEL: &str = "npm_config_loglevel";
/// Warnings and errors, and no notices, as with `-q`.
const QUIET: &str = "warn";

/// Whether a program is npm.
pub(super) fn is_npm(program: &str) -> bool {
    matches!(program.rsplit('/').next(), Some("npx" | "npm"))
}

/// Has npm say no more than warnings, unless it is told how much to say. Flags on the line itself come first in any
/// case. Looks at a few files.
pub fn quieten(spec: &mut LaunchSpec) {
    let is_told = || spec.env.keys().any(|name| is_one_variable(name, LEVEL));
    if !is_npm(&spec.program) || is_told() || npmrcs(spec).iter().any(|file| sets_level(file)) {
        return;
    }
    spec.env.insert(LEVEL.to_owned(), QUIET.into());
}

/// Files that npm would be configured by: the user's, the host's, those in and above the working directory.
fn npmrcs(spec: &LaunchSpec) -> Vec<PathBuf> {
    let set = |variable: &str| {
        let found = spec
            .env
            .iter()
            .find(|(name, _)| is_one_variable(name, variable));
        found.map(|(_, value)| PathBuf::from(value.expose_secret()))
    };
    let user = set("npm_config_userconfig").or_else(|| Some(set("HOME")?.join(".npmrc")));
    let host = set("npm_config_globalconfig").or_else(|| host_config(spec));
    let beside = spec.cwd.ancestors().map(|folder| folder.join(".npmrc"));
    user.into_iter().chain(host).chain(beside).collect()
}

/// The host's: below the prefix, which is where node is installed.
fn host_config(spec: &LaunchSpec) -> Option<PathBuf> {
    let path = spec.env.get("PATH")?.expose_secret();
    let node = path.split(':').map(|folder| Path::new(folder).join("node"));
    let node = node.into_iter().find(|node| node.is_file())?;
    let node = node.canonicalize().unwrap_or(node);
    Some(node.parent()?.parent()?.join("etc/npmrc"))
}

fn sets_level(file: &Path) -> bool {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let mut names = text.lines().filter_map(|line| line.split_once('='));
    names.any(|(name, _)| name.trim() == "loglevel")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::spec::tests::spec;

    #[test]
    fn npm_is_told_to_say_less_unless_someone_has_told_it_how_much() {
        let home = tempfile::tempdir().expect("a folder");
        let level = |program: &str, more: &[(&str, &str)]| {
            let mut spec = spec(&["-y", "a"]);
            spec.program = program.to_owned();
            spec.cwd = home.path().to_owned();
            let home = home.path().display().to_string();
            spec.env.insert("HOME".to_owned(), home.into());
            for (name, value) in more {
                spec.env.insert((*name).to_owned(), (*value).into());
            }
            quieten(&mut spec);
            let level = spec.env.get(LEVEL);
            level.map(|level| level.expose_secret().to_owned())
        };
        assert_eq!(level("/usr/bin/npx", &[]).as_deref(), Some("warn"));
        assert_eq!(level("npm", &[]).as_deref(), Some("warn"));
        assert_eq!(level("node", &[]), None);
        assert_eq!(level("npx", &[("NPM_CONFIG_LOGLEVEL", "info")]), None);
        std::fs::write(home.path().join(".npmrc"), "fund=false\nloglevel = info\n")
            .expect("written");
        assert_eq!(level("npx", &[]), None);
    }
}

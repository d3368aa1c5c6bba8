//! What a launcher would run instead of a package because the host has something of that name.

use std::path::{Path, PathBuf};

use secrecy::ExposeSecret;
use serde_json::Value;

use super::launcher_settings;
use super::line::{PackageRun, Recipe};
use super::spec::LaunchSpec;

/// Why npm would not run the package from its cache, for a process with that environment and working
/// directory; `None` if it would. Looks at a few files.
pub fn takes_precedence(spec: &LaunchSpec, run: &PackageRun) -> Option<String> {
    if let Some(why) = launcher_settings::decides(&spec.env, &spec.cwd, run) {
        return Some(why);
    }
    let Recipe::Npm { specs, .. } = &run.recipe else {
        return None;
    };
    let cwd = Some(spec.cwd.as_path()).filter(|cwd| !cwd.as_os_str().is_empty());
    if let Some(project) = cwd.map(project) {
        let npmrc = project.join(".npmrc");
        let users = spec.env.get("npm_config_userconfig");
        let is_users = users.is_some_and(|path| Path::new(path.expose_secret()) == npmrc);
        if npmrc.is_file() && !is_users {
            return Some(format!("{} may configure npm", npmrc.display()));
        }
        let modules = project.join("node_modules");
        if let Some(own) = specs.iter().find(|spec| modules.join(spec.name()).exists()) {
            return Some(format!(
                "{} has a package `{}`",
                modules.display(),
                own.name()
            ));
        }
        if let Some(name) = &run.prefers
            && is_program_of(&project.join("package.json"), name)
        {
            return Some(format!(
                "{} is a package with a program `{name}`",
                project.display()
            ));
        }
    }
    let name = run.prefers.as_ref()?;
    let local = cwd.into_iter().flat_map(Path::ancestors);
    let local = local.map(|folder| folder.join("node_modules/.bin"));
    let path = spec
        .env
        .get("PATH")
        .map(|path| path.expose_secret())
        .unwrap_or_default();
    let found = local
        .chain(std::env::split_paths(path))
        .find(|bin| bin.join(name).is_file())?;
    Some(format!("{} has a program `{name}`", found.display()))
}

/// The folder that npm takes for the project: the nearest with a package.json or node_modules, else
/// the working directory itself.
fn project(cwd: &Path) -> PathBuf {
    let is_project = |folder: &&Path| {
        folder.join("package.json").is_file() || folder.join("node_modules").is_dir()
    };
    cwd.ancestors().find(is_project).unwrap_or(cwd).to_owned()
}

/// Whether a package has a program of that name.
fn is_program_of(manifest: &Path, name: &str) -> bool {
    let manifest = std::fs::read(manifest).ok();
    let manifest: Option<Value> = manifest.and_then(|text| serde_json::from_slice(&text).ok());
    let Some(manifest) = manifest else {
        return false;
    };
    match &manifest["bin"] {
        Value::String(_) => manifest["name"]
            .as_str()
            .is_some_and(|own| own.ends_with(name)),
        Value::Object(programs) => programs.contains_key(name),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::understand;
    use super::*;

    fn why(folder: &Path, line: &str) -> Option<String> {
        let args: Vec<_> = line.split(' ').map(Some).collect();
        let run = understand("npx", &args)
            .expect("a launcher")
            .expect("understood");
        let spec = LaunchSpec {
            tenant: None,
            secret_files: crate::launch::SecretFiles::default(),
            sourced: std::collections::BTreeMap::new(),
            program: "npx".into(),
            args: vec![],
            env: [(
                "PATH".to_owned(),
                folder.join("bin").display().to_string().into(),
            )]
            .into(),
            cwd: folder.join("project/deep"),
            scratch: None,
            roots: vec![],
            limits: Default::default(),
            may_gain_privileges: false,
            sandbox: None,
            folders: vec![],
            packages: Default::default(),
            writable: vec![],
            read_only: vec![],
            redactor: Default::default(),
            token: None,
        };
        takes_precedence(&spec, &run)
    }

    #[test]
    fn what_the_host_has_is_left_to_npm() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path();
        let made = |name: &str, text: &str| {
            let file = path.join(name);
            fs::create_dir_all(file.parent().expect("below")).expect("made");
            fs::write(file, text).expect("written");
        };
        made("bin/global", "");
        made(
            "project/package.json",
            r#"{"name": "mine", "bin": {"cli": "x.js"}}"#,
        );
        made("project/node_modules/local/package.json", "{}");
        made("project/node_modules/.bin/tool", "");
        for (line, has) in [
            ("other", None),
            ("global", Some("bin")),
            ("global@1", None),
            ("cli", Some("cli")),
            ("tool", Some(".bin")),
            ("local@1", Some("node_modules")),
            ("-p local x", Some("node_modules")),
        ] {
            let why = why(path, line);
            assert_eq!(why.is_some(), has.is_some(), "{line}: {why:?}");
            assert!(
                why.unwrap_or_default().contains(has.unwrap_or_default()),
                "{line}"
            );
        }
        made("project/.npmrc", "registry=x");
        assert!(
            why(path, "other")
                .expect("configures npm")
                .contains(".npmrc")
        );
    }
}

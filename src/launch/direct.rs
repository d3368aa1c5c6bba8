//! The launch of an installed program, in place of the command that would have run it.

use std::path::Path;

use secrecy::{ExposeSecret, SecretString};

use super::launcher_settings;
use super::line::PackageRun;
use super::packages::Installed;
use super::spec::LaunchSpec;

/// The launch of a package without its launcher: the program itself, in the private view of the package at `view`,
/// with the arguments that were meant for it. Environment and working directory stay, but for the PATH, where npx and uvx put the package's
/// own programs first too, and for node's compile cache.
///
/// The compile cache is in the process's own TMPDIR: compiled code is as good as code, so that no tenant may
/// write what another one runs.
pub fn direct(
    spec: &LaunchSpec,
    run: &PackageRun,
    installed: &Installed,
    view: &Path,
) -> LaunchSpec {
    let mut direct = spec.clone();
    direct.program = in_view(&installed.program, installed, view);
    let tail = run.tail.iter().filter_map(|at| spec.args.get(*at).cloned());
    direct.args = tail.collect();
    let bin = in_view(&installed.bin, installed, view);
    let path: SecretString = match spec.env.get("PATH") {
        Some(path) => format!("{bin}:{}", path.expose_secret()).into(),
        None => bin.into(),
    };
    direct.env.insert("PATH".to_owned(), path);
    if let Some((name, value)) = launcher_settings::makes(&spec.env, run) {
        direct.env.insert(name, value.into());
    }
    for downloaded in &installed.left.downloaded {
        // Downloads are in the entry: one for all tenants, and only to be read.
        let folder = installed.folder.join(&downloaded.folder);
        let variable = direct.env.entry(downloaded.variable.clone());
        variable.or_insert_with(|| folder.display().to_string().into());
    }
    if installed.has_compile_cache
        // Else the folder goes with the process: it would be filled for nobody.
        && spec.scratch.is_none()
        && let Some(tmp) = spec.env.get("TMPDIR")
    {
        let folder = format!(
            "{}/node-compile-cache/{}",
            tmp.expose_secret(),
            installed.entry
        );
        let variable = "NODE_COMPILE_CACHE".to_owned();
        direct.env.entry(variable).or_insert_with(|| folder.into());
    }
    direct
}

/// Where something of an entry is in a view of it.
fn in_view(path: &Path, installed: &Installed, view: &Path) -> String {
    let inside = path.strip_prefix(&installed.folder).unwrap_or(path);
    view.join(inside).display().to_string()
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::super::packages::Downloaded;
    use super::super::understand;
    use super::*;

    #[test]
    fn arguments_environment_and_folder_are_those_of_the_command() {
        let args = ["-y", "a@1.0.0", "--port", "hunter22"];
        let words: Vec<_> = args.iter().map(|arg| Some(*arg)).collect();
        let run = understand("npx", &words)
            .expect("a launcher")
            .expect("understood");
        let spec = LaunchSpec {
            tenant: None,
            secret_files: crate::launch::SecretFiles::default(),
            sourced: std::collections::BTreeMap::new(),
            program: "npx".into(),
            args: args.iter().map(|&arg| arg.into()).collect(),
            env: [("PATH", "/bin"), ("TMPDIR", "/t"), ("NODE_OPTIONS", "-x")]
                .map(|(name, value)| (name.to_owned(), value.into()))
                .into(),
            cwd: "/work".into(),
            scratch: None,
            roots: vec![],
            limits: Default::default(),
            may_gain_privileges: false,
            sandbox: None,
            folders: vec![],
            packages: "/v".into(),
            writable: vec![],
            read_only: vec![],
            redactor: Default::default(),
            token: None,
        };
        let mut installed = Installed {
            entry: "npm-1".into(),
            folder: "/c/npm-1".into(),
            package: "a".into(),
            version: "1.0.0".into(),
            program: "/c/npm-1/bin/a".into(),
            bin: "/c/npm-1/bin".into(),
            has_compile_cache: false,
            checked: SystemTime::UNIX_EPOCH,
            unscripted: None,
            left: Default::default(),
        };
        let started = direct(&spec, &run, &installed, Path::new("/v/3"));
        assert_eq!(started.program, "/v/3/bin/a");
        let args: Vec<_> = started.args.iter().map(|arg| arg.expose_secret()).collect();
        assert_eq!(args, ["--port", "hunter22"]);
        assert_eq!(started.cwd, spec.cwd);
        assert_eq!(started.env["PATH"].expose_secret(), "/v/3/bin:/bin");
        assert_eq!(started.env["NODE_OPTIONS"].expose_secret(), "-x");
        assert!(!started.env.contains_key("NODE_COMPILE_CACHE"));
        installed.has_compile_cache = true;
        installed.left.downloaded = vec![Downloaded {
            variable: "PLAYWRIGHT_BROWSERS_PATH".into(),
            folder: "downloads/playwright".into(),
            items: vec![],
            bytes: 0,
        }];
        let started = direct(&spec, &run, &installed, Path::new("/v/3"));
        let folder = started.env["NODE_COMPILE_CACHE"].expose_secret();
        assert_eq!(folder, "/t/node-compile-cache/npm-1", "in its own TMPDIR");
        let browsers = started.env["PLAYWRIGHT_BROWSERS_PATH"].expose_secret();
        assert_eq!(
            browsers, "/c/npm-1/downloads/playwright",
            "one for all tenants"
        );
    }
}

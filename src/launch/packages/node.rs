//! Packages of npm: resolved to a package-lock.json, installed from it by `npm ci`.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::command_error::CommandError;
use super::helper::Helper;
use super::install_error::InstallError;
use super::scripts::{Scripts, wanted};
use crate::folders;
use crate::launch::line::{Entry, NodeLauncher, NpmSpec};

/// The options that npm gets in any case: it prints nothing but errors, and asks nothing.
const QUIET: [&str; 4] = [
    "--no-audit",
    "--no-fund",
    "--no-progress",
    "--loglevel=error",
];
/// What npm is told in any case because a user's configuration may say otherwise, and the lock file would be missing or
/// another than is read here.
const PLAIN: [&str; 5] = [
    "--save",
    "--package-lock",
    "--lockfile-version=3",
    "--no-global",
    "--no-dry-run",
];
/// Name of the package that has those to install as its dependencies.
const ROOT: &str = "stdiopool-entry";

/// What npm does with dependencies that are repositories of git, which it builds with their own settings when it fetches them, also to
/// find out versions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Git {
    /// npm takes them, as its settings let it.
    Taken,
    /// npm refuses them.
    Refused,
}

/// Whether a lock file lacks an optional dependency that is a repository of git: npm leaves out without a word what it refuses.
pub(super) fn lacks_git(lock: &str) -> Result<bool, InstallError> {
    let lock = parse(lock)?;
    let Some(packages) = lock["packages"].as_object() else {
        return Ok(false);
    };
    let mut optional = packages.iter().flat_map(|(place, package)| {
        let wanted = package["optionalDependencies"].as_object().into_iter();
        wanted
            .flatten()
            .map(move |(name, spec)| (place, name, spec))
    });
    Ok(optional.any(|(place, name, spec)| {
        let spec = spec.as_str().unwrap_or_default();
        is_of_git(spec) && provider(packages, place, name).is_none()
    }))
}

/// Whether a dependency is meant to come from git, by what is written of it (npm-package-arg): a URL of git's, a host's short form, or `owner/name`.
fn is_of_git(spec: &str) -> bool {
    let before = |mark: char| spec.split_once(mark).map(|(before, _)| before);
    match before(':') {
        Some("github" | "gitlab" | "bitbucket" | "gist" | "git" | "ssh") => true,
        Some(scheme) if scheme.starts_with("git+") || scheme.starts_with("git@") => true,
        Some(_) => spec
            .split('#')
            .next()
            .is_some_and(|url| url.ends_with(".git")),
        None => {
            let is_path = spec.starts_with(['.', '/', '~', '@']);
            !is_path && before('/').is_some_and(|owner| !owner.contains(' '))
        }
    }
}

/// Finds out which versions are meant, of the packages and of all they need: the text of a
/// package-lock.json, with the digest of each.
///
/// # Errors
/// Why they cannot be had, or why the launcher would run something else.
pub(super) async fn resolve(
    helper: &Helper<'_>,
    specs: &[NpmSpec],
    launcher: NodeLauncher,
    git: Git,
) -> Result<String, InstallError> {
    match launcher {
        NodeLauncher::Npm => global_first(helper, specs).await?,
        NodeLauncher::Pnpm => is_like_npm(helper).await?,
        NodeLauncher::Bun => {}
    }
    let root = json!({ "name": ROOT, "version": "0.0.0", "private": true });
    write(helper, "package.json", &root.to_string())?;
    let specs_text: Vec<String> = specs.iter().map(ToString::to_string).collect();
    let mut args = vec!["install", "--package-lock-only", "--ignore-scripts"];
    args.extend(QUIET);
    args.extend(PLAIN);
    if specs.iter().all(NpmSpec::is_exact) {
        // What a version holds never changes: nothing has to be asked again.
        args.push("--prefer-offline");
    }
    if git == Git::Refused {
        args.push("--allow-git=none");
    }
    args.push("--");
    args.extend(specs_text.iter().map(String::as_str));
    helper
        .run("npm", &args)
        .await
        .map_err(InstallError::of_npm)?;
    // A build may have put something else in its place.
    let read = folders::read_plain(&helper.dir.join("package-lock.json"));
    let text = read.and_then(|text| String::from_utf8(text).map_err(io::Error::other));
    let lock = text.map_err(|source| InstallError::LeftNothing {
        command: "`npm install`",
        file: "package-lock.json",
        source,
    })?;
    if launcher != NodeLauncher::Npm {
        newest(helper, specs, &lock, launcher).await?;
    }
    Ok(lock)
}

/// npx runs a package that is installed globally, if it is one that was asked for; it is npm's to find out which.
async fn global_first(helper: &Helper<'_>, specs: &[NpmSpec]) -> Result<(), InstallError> {
    let root = PathBuf::from(helper.answer("npm", &["root", "--global"]).await?);
    for spec in specs {
        let manifest = root.join(spec.name()).join("package.json");
        let Ok(manifest) = std::fs::read(&manifest) else {
            continue;
        };
        let manifest: Value = serde_json::from_slice(&manifest).unwrap_or_default();
        let installed = manifest["version"].as_str().unwrap_or("unknown");
        if !spec.is_exact() || spec.to_string() == format!("{}@{installed}", spec.name()) {
            return Err(InstallError::InstalledGlobally {
                package: spec.name().to_owned(),
                version: installed.to_owned(),
            });
        }
    }
    Ok(())
}

/// Whether pnpm keeps rules that npm knows: since 11, pnpm takes nothing that was published less than a day ago, heeds npm's
/// configuration no more, and has node load a hook of its own before the program.
async fn is_like_npm(helper: &Helper<'_>) -> Result<(), InstallError> {
    let version = helper.answer("pnpm", &["--version"]).await?;
    let major = version.split('.').next().and_then(|it| it.parse().ok());
    let major: u32 = major.ok_or_else(|| CommandError::NoAnswer {
        command: "pnpm --version",
        printed: version.clone(),
    })?;
    if major < 11 {
        return Ok(());
    }
    Err(InstallError::PnpmOfItsOwn(version))
}

/// npm takes an older version where the newest does not declare to support this node; pnpm and bun do not.
///
/// # Errors
/// When that makes a difference.
async fn newest(
    helper: &Helper<'_>,
    specs: &[NpmSpec],
    lock: &str,
    launcher: NodeLauncher,
) -> Result<(), InstallError> {
    for spec in specs.iter().filter(|spec| !spec.is_exact()) {
        let text = spec.to_string();
        let args = ["view", "--json", "--prefer-offline", &*text, "version"];
        let shown = helper.answer("npm", &args).await?;
        let shown: Value = serde_json::from_str(&shown).unwrap_or_default();
        // Of a range, every version that fits, in order.
        let newest = match &shown {
            Value::Array(versions) => versions.last().and_then(Value::as_str),
            one => one.as_str(),
        };
        let taken = version(lock, spec)?;
        if newest.is_some_and(|newest| newest != taken) {
            return Err(InstallError::OtherVersion {
                taken,
                package: spec.to_string(),
                launcher: launcher.as_str(),
                newest: newest.unwrap_or_default().to_owned(),
            });
        }
    }
    Ok(())
}

/// What `npm ci` runs of packages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Run {
    /// Nothing, whatever they want.
    Nothing,
    /// Install scripts of the packages, as far as they are allowed.
    Scripts,
}

/// Installs what a lock file says, with `npm ci`, which checks the digests.
///
/// # Errors
/// Why npm did not, or what its launcher would do otherwise.
pub(super) async fn install(
    helper: &Helper<'_>,
    lock: &str,
    launcher: NodeLauncher,
    scripts: &Scripts,
    run: Run,
) -> Result<(), InstallError> {
    let parsed = parse(lock)?;
    if !launcher.runs_scripts()
        && let Some(package) = wanted(&parsed).first()
    {
        return Err(InstallError::InstallScript(package.clone()));
    }
    let dependencies = &parsed["packages"][""]["dependencies"];
    let root = json!({
        "name": ROOT, "version": "0.0.0", "private": true, "dependencies": dependencies,
        "allowScripts": scripts.policy(),
    });
    write(helper, "package.json", &root.to_string())?;
    let lock = without_missing(parsed).to_string();
    write(helper, "package-lock.json", &lock)?;
    let mut args = vec!["ci", "--prefer-offline"];
    args.extend(QUIET);
    args.extend(PLAIN);
    args.extend(match run {
        // A tarball may have scripts that the registry does not tell of.
        Run::Nothing => Some("--ignore-scripts"),
        Run::Scripts => scripts.flag(),
    });
    helper
        .run("npm", &args)
        .await
        .map(drop)
        .map_err(InstallError::of_npm)
}

/// The lock without the optional dependencies that it has no version of, because the registry has none: npm leaves them
/// out when it resolves, and `npm ci` refuses to go on without them.
fn without_missing(mut lock: Value) -> Value {
    let Some(packages) = lock["packages"].as_object() else {
        return lock;
    };
    let mut missing = Vec::new();
    for (place, package) in packages {
        let optional = package["optionalDependencies"].as_object();
        let names = optional.into_iter().flat_map(|optional| optional.keys());
        for name in names.filter(|name| provider(packages, place, name).is_none()) {
            missing.push((place.clone(), name.clone()));
        }
    }
    for (place, name) in missing {
        if let Some(optional) = lock["packages"][&place]["optionalDependencies"].as_object_mut() {
            optional.remove(&name);
        }
    }
    lock
}

/// Where a package at that place finds one of that name: below itself, or beside something that it is below.
pub(super) fn provider(
    packages: &serde_json::Map<String, Value>,
    place: &str,
    name: &str,
) -> Option<String> {
    let mut folder = Some(place);
    while let Some(at) = folder {
        let beside = match at {
            "" => format!("node_modules/{name}"),
            at => format!("{at}/node_modules/{name}"),
        };
        if packages.contains_key(&beside) {
            return Some(beside);
        }
        folder = match at.rfind("/node_modules/") {
            Some(end) => Some(&at[..end]),
            None if at.is_empty() => None,
            None => Some(""),
        };
    }
    None
}

pub(super) fn parse(lock: &str) -> Result<Value, InstallError> {
    serde_json::from_str(lock).map_err(|source| InstallError::NoJson {
        what: "its package-lock.json".to_owned(),
        source,
    })
}

fn write(helper: &Helper<'_>, name: &str, text: &str) -> Result<(), InstallError> {
    let failed = InstallError::file(helper.dir.join(name), "written");
    helper.write(name, text).map_err(failed)
}

/// The version that a package has in a lock file.
pub(super) fn version(lock: &str, spec: &NpmSpec) -> Result<String, InstallError> {
    let lock = parse(lock)?;
    let package = &lock["packages"][format!("node_modules/{}", spec.name())];
    let version = package["version"].as_str().map(ToOwned::to_owned);
    version.ok_or_else(|| InstallError::NoVersion {
        list: "package-lock.json has no version",
        package: spec.name().to_owned(),
    })
}

/// The program to start and the folder it is in, as npm exec finds it.
pub(super) fn program(
    dir: &Path,
    spec: &NpmSpec,
    entry: &Entry,
    launcher: NodeLauncher,
) -> Result<(PathBuf, PathBuf), InstallError> {
    let modules = dir.join("node_modules");
    let bin = modules.join(".bin");
    let name = match entry {
        Entry::Named(name) => name.clone(),
        Entry::OfPackage => {
            let path = modules.join(spec.name()).join("package.json");
            let manifest =
                std::fs::read(&path).map_err(InstallError::file(path.clone(), "read"))?;
            let manifest: Value =
                serde_json::from_slice(&manifest).map_err(|source| InstallError::NoJson {
                    what: path.display().to_string(),
                    source,
                })?;
            own_program(&manifest, spec, launcher)?
        }
    };
    let program = bin.join(&name);
    if !program.is_file() {
        return Err(InstallError::NoProgram {
            package: spec.to_string(),
            program: name,
        });
    }
    Ok((program, bin))
}

/// The program that a package is run by: its only one, else the one of its name (libnpmexec,
/// get-bin-from-manifest).
fn own_program(
    manifest: &Value,
    spec: &NpmSpec,
    launcher: NodeLauncher,
) -> Result<String, InstallError> {
    let own = spec.name().rsplit('/').next().unwrap_or_default();
    let is_plain = |name: &str| !name.is_empty() && !name.contains('/') && !name.starts_with('.');
    match &manifest["bin"] {
        Value::String(_) => return Ok(own.to_owned()),
        Value::Object(programs) => {
            let mut files = programs.values();
            let first = files.next();
            // pnpm counts the names, the others the files.
            let is_one = match launcher {
                NodeLauncher::Npm | NodeLauncher::Bun => {
                    first.is_some() && files.all(|file| Some(file) == first)
                }
                NodeLauncher::Pnpm => programs.len() == 1,
            };
            let name = if is_one {
                programs.keys().next().map(String::as_str)
            } else {
                None
            };
            let name = name.or_else(|| programs.contains_key(own).then_some(own));
            if let Some(name) = name.filter(|name| is_plain(name)) {
                return Ok(name.to_owned());
            }
        }
        _ => {}
    }
    Err(InstallError::WhichProgram(spec.to_string()))
}

/// The version of the node on the PATH: major and minor.
pub(super) async fn runtime(helper: &Helper<'_>) -> Result<(u32, u32), InstallError> {
    let said = helper.answer("node", &["--version"]).await?;
    let mut parts = said.trim_start_matches('v').split('.');
    let mut number = || parts.next()?.parse().ok();
    let version = number().and_then(|major| Some((major, number()?)));
    version.ok_or_else(|| {
        let (command, printed) = ("node --version", said.clone());
        CommandError::NoAnswer { command, printed }.into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_the_one_that_npm_would_run() {
        let spec = NpmSpec::parse("@a/tool").expect("a name");
        let by = |launcher, bin: Value| {
            own_program(&json!({ "bin": bin }), &spec, launcher).map_err(drop)
        };
        let own = |bin| by(NodeLauncher::Npm, bin);
        assert!(by(NodeLauncher::Pnpm, json!({ "a": "x.js", "b": "x.js" })).is_err());
        assert_eq!(
            by(NodeLauncher::Pnpm, json!({ "a": "x.js", "tool": "x.js" })),
            Ok("tool".to_owned())
        );
        assert_eq!(own(json!("x.js")), Ok("tool".to_owned()));
        assert_eq!(own(json!({ "other": "x.js" })), Ok("other".to_owned()));
        assert_eq!(own(json!({ "a": "x.js", "b": "x.js" })), Ok("a".to_owned()));
        assert_eq!(
            own(json!({ "a": "x.js", "tool": "y.js" })),
            Ok("tool".to_owned())
        );
        assert!(own(json!({ "a": "x.js", "b": "y.js" })).is_err());
        assert!(own(json!({ "../a": "x.js" })).is_err());
        assert!(own(json!({})).is_err());
        assert!(own(Value::Null).is_err());
    }

    #[test]
    fn a_lock_that_lacks_what_git_would_have_is_told() {
        for spec in [
            "git+https://x/y.git",
            "git+file:///srv/y",
            "git@x:y/z.git",
            "git://x/y",
            "github:a/b",
            "a/b#1234",
            "https://x/y.git#v1",
        ] {
            assert!(is_of_git(spec), "{spec}");
        }
        for spec in [
            "^1.0.0",
            "1.x || >=2.5.0",
            "npm:@a/b@1",
            "file:../x",
            "./x/y",
            "https://x/y.tgz",
            "latest",
            "*",
        ] {
            assert!(!is_of_git(spec), "{spec}");
        }
        let lacks = |more: &str| {
            let lock = format!(
                r#"{{"packages": {{"": {{}}, "node_modules/a": {{"optionalDependencies": {{"b": "x/b", "c": "1"}}}}{more}}}}}"#
            );
            lacks_git(&lock).expect("JSON")
        };
        assert!(lacks(""));
        assert!(!lacks(r#", "node_modules/b": {}"#));
    }

    #[test]
    fn optional_dependencies_that_no_registry_has_are_left_out_of_the_lock() {
        let lock = json!({ "packages": {
            "": { "dependencies": { "a": "1" } },
            "node_modules/a": { "optionalDependencies": { "there": "1", "gone": "1", "@x/own": "1" } },
            "node_modules/a/node_modules/@x/own": { "optionalDependencies": { "there": "1", "gone": "2" } },
            "node_modules/there": { "dependencies": { "gone": "3" } },
        } });
        let kept = &without_missing(lock)["packages"];
        let own = &kept["node_modules/a/node_modules/@x/own"];
        assert_eq!(
            kept["node_modules/a"]["optionalDependencies"],
            json!({ "there": "1", "@x/own": "1" })
        );
        assert_eq!(own["optionalDependencies"], json!({ "there": "1" }));
        assert_eq!(
            kept["node_modules/there"]["dependencies"],
            json!({ "gone": "3" }),
            "one that is needed is npm's to miss"
        );
    }

    #[test]
    fn a_lock_file_tells_versions_and_scripts() {
        let lock = r#"{"packages": {"": {}, "node_modules/@a/b": {"version": "1.2.3"},
            "node_modules/c": {"version": "2.0.0", "hasInstallScript": true}}}"#;
        let spec = NpmSpec::parse("@a/b@^1").expect("a name");
        assert_eq!(version(lock, &spec).expect("there"), "1.2.3");
        assert_eq!(wanted(&parse(lock).expect("JSON")), ["c@2.0.0"]);
        assert!(version("{}", &spec).is_err());
    }
}

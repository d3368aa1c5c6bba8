//! Packages of PyPI: resolved to a list with digests, installed from it into a virtual environment
//! by uv, bytecode included.

use std::io;
use std::path::{Path, PathBuf};

use super::command_error::CommandError;
use super::helper::Helper;
use super::install_error::InstallError;
use super::python_name::normalized;
use crate::folders;
use crate::launch::line::{Entry, PythonLauncher, Requirement};

/// Which Python is asked for; `None`: whichever uv takes.
///
/// # Errors
/// When pipx does not say which it would take.
pub(super) async fn asked_for(
    helper: &Helper<'_>,
    python: Option<&str>,
    launcher: PythonLauncher,
) -> Result<Option<String>, CommandError> {
    let preferred = match (python, launcher) {
        (Some(_), _) => None,
        (None, PythonLauncher::Uv) => helper.env.get("UV_PYTHON").cloned(),
        // pipx says itself which it takes: a variable's, or the one that it runs on.
        (None, PythonLauncher::Pipx) => {
            let asked = ["environment", "--value", "PIPX_DEFAULT_PYTHON"];
            Some(helper.answer("pipx", &asked).await?)
        }
    };
    let python = python.map(ToOwned::to_owned).or(preferred);
    Ok(python.filter(|python| !python.is_empty()))
}

/// The interpreter that is meant, as a path.
///
/// # Errors
/// When there is none, or no uv.
pub(super) async fn interpreter(
    helper: &Helper<'_>,
    python: Option<&str>,
) -> Result<String, CommandError> {
    // Not `--quiet`: since 0.13, uv then prints nothing at all, and succeeds.
    let mut find = vec!["python", "find", "--no-project"];
    find.extend(python);
    helper.answer("uv", &find).await
}

/// Installs an interpreter that is not there, as uvx does.
///
/// # Errors
/// When uv has none, or is missing.
pub(super) async fn install_interpreter(
    helper: &Helper<'_>,
    python: Option<&str>,
) -> Result<(), CommandError> {
    let mut install = vec!["python", "install", "--quiet"];
    install.extend(python);
    helper.run("uv", &install).await.map(drop)
}

/// Finds out which versions are meant, of the packages and of all they need.
pub(super) async fn resolve(
    helper: &Helper<'_>,
    requirements: &[Requirement],
    options: &[String],
    interpreter: &str,
) -> Result<String, InstallError> {
    let lines: String = requirements.iter().map(|one| format!("{one}\n")).collect();
    write(helper, "requirements.in", &lines)?;
    // Like uvx, it heeds the user's configuration and no project's: the search for one ends here.
    write(helper, "uv.toml", "")?;
    let mut args = vec![
        "pip",
        "compile",
        "--quiet",
        "--generate-hashes",
        "--no-header",
        "--no-annotate",
        "--python",
        interpreter,
        "requirements.in",
        "--output-file",
        "requirements.txt",
    ];
    args.extend(options.iter().map(String::as_str));
    helper.run("uv", &args).await?;
    // A build may have put something else in its place.
    let read = folders::read_plain(&helper.dir.join("requirements.txt"));
    let text = read.and_then(|text| String::from_utf8(text).map_err(io::Error::other));
    text.map_err(|source| InstallError::LeftNothing {
        command: "`uv pip compile`",
        file: "requirements.txt",
        source,
    })
}

fn write(helper: &Helper<'_>, name: &str, text: &str) -> Result<(), InstallError> {
    let failed = InstallError::file(helper.dir.join(name), "written");
    helper.write(name, text).map_err(failed)
}

/// Installs what a list says, and checks the digests.
pub(super) async fn install(
    helper: &Helper<'_>,
    lock: &str,
    options: &[String],
    interpreter: &str,
) -> Result<(), InstallError> {
    for (name, text) in [("requirements.txt", lock), ("uv.toml", "")] {
        write(helper, name, text)?;
    }
    let venv = [
        "venv",
        "--quiet",
        "--no-project",
        "--python",
        interpreter,
        "venv",
    ];
    helper.run("uv", &venv).await?;
    let mut args = vec![
        "pip",
        "install",
        "--quiet",
        "--python",
        "venv/bin/python",
        "--require-hashes",
        // What Python would compile at the first start, and could not keep in a read-only folder.
        "--compile-bytecode",
        "-r",
        "requirements.txt",
    ];
    args.extend(options.iter().map(String::as_str));
    helper.run("uv", &args).await?;
    Ok(())
}

/// The version that a package has in such a list.
pub(super) fn version(lock: &str, requirement: &Requirement) -> Result<String, InstallError> {
    let wanted = normalized(requirement.name());
    let versions = lock.lines().filter_map(|line| {
        let (name, version) = line.split_once("==")?;
        let name = name.split('[').next().unwrap_or_default();
        (normalized(name.trim()) == wanted).then(|| version.split([' ', ';', '\\']).next())?
    });
    let version = versions.map(ToOwned::to_owned).next();
    version.ok_or_else(|| InstallError::NoVersion {
        list: "list of versions has none",
        package: requirement.name().to_owned(),
    })
}

/// The program to start and the folder it is in.
pub(super) fn program(
    dir: &Path,
    requirement: &Requirement,
    entry: &Entry,
) -> Result<(PathBuf, PathBuf), InstallError> {
    let bin = dir.join("venv/bin");
    let name = match entry {
        Entry::Named(name) => name,
        Entry::OfPackage => requirement.name(),
    };
    let program = bin.join(name);
    if !program.is_file() {
        return Err(InstallError::NoProgram {
            package: requirement.to_string(),
            program: name.to_owned(),
        });
    }
    // The environment's interpreter may have been removed since.
    if !bin.join("python").exists() {
        return Err(InstallError::PythonGone(requirement.to_string()));
    }
    Ok((program, bin))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_a_package_is_found_under_any_of_its_names() {
        let lock = "anyio==4.1 \\\n    --hash=sha256:00\nmcp-server-time==2026.1 ; python_version >= '3' \\\n    --hash=sha256:11\n";
        let version = |name: &str| version(lock, &Requirement::parse(name).expect("a name"));
        assert_eq!(version("MCP_Server.time").expect("there"), "2026.1");
        assert_eq!(version("anyio").expect("there"), "4.1");
        assert!(version("other").is_err());
    }
}

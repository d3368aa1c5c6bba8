//! Why a package cannot be had.

use std::io;
use std::path::PathBuf;

use super::cache::CacheError;
use super::command_error::CommandError;
use super::manifest::ManifestError;
use crate::folders::OwnerError;

/// The variable that has npm take packages from git.
const ALLOWS_GIT: &str = "npm_config_allow_git";
/// The variable that has npm take packages from addresses.
const ALLOWS_REMOTE: &str = "npm_config_allow_remote";

/// Why the file beside pool.toml that pins packages cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PinsError {
    /// pool.lock is there, and cannot be read.
    #[error("{} cannot be read: {why}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said, or what is wrong in it.
        why: String,
    },
    /// pool.lock cannot be written.
    #[error("{} cannot be written: {source}", path.display())]
    NotWritten {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What is to be written cannot be written so.
    #[error(transparent)]
    Format(#[from] toml::ser::Error),
}

/// Why a package cannot be installed, or its launcher would do something else than what would be installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The package cache.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// `pool.lock`.
    #[error(transparent)]
    Pins(#[from] PinsError),
    /// A command failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// npm refused what it takes when a variable says so.
    #[error(
        "{failed}; npm takes none of them since 12, unless the server's `env` has {variable} = \"all\""
    )]
    Withheld {
        /// What npm said.
        failed: CommandError,
        /// The variable.
        variable: &'static str,
    },
    /// The entry is not as it was installed.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A recipe of nothing.
    #[error("no package is named")]
    NothingNamed,
    /// A file of an install.
    #[error("{} cannot be {act}: {source}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// `read`, `written` or `made`.
        act: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A file of an install that is no JSON.
    #[error("{what} is no JSON: {source}")]
    NoJson {
        /// The file.
        what: String,
        /// What is wrong in the file.
        source: serde_json::Error,
    },
    /// A command did not leave what it is run for.
    #[error("{command} left no {file}: {source}")]
    LeftNothing {
        /// The command, quoted.
        command: &'static str,
        /// The file.
        file: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The files of an install cannot be listed.
    #[error("its files cannot be listed: {0}")]
    NotListed(#[source] tokio::task::JoinError),
    /// The list of the files cannot be written.
    #[error("its list of files cannot be written: {0}")]
    ListNotWritten(#[source] io::Error),
    /// The files that install scripts have left cannot be put where such files are kept.
    #[error("what its scripts leave cannot be kept: {0}")]
    NotKept(#[source] io::Error),
    /// A folder cannot be given to the user of an install, or taken back.
    #[error(transparent)]
    NotGiven(OwnerError),
    /// A script has linked files of others into the package.
    #[error("{0} of the files that it installed have names elsewhere too")]
    NamedElsewhere(usize),
    /// A lock file has no version of a package.
    #[error("its {list} of `{package}`")]
    NoVersion {
        /// `package-lock.json has no version`, or `list of versions has none`.
        list: &'static str,
        /// The package.
        package: String,
    },
    /// A package has no program of that name.
    #[error("package `{package}` has no program `{program}`")]
    NoProgram {
        /// The package.
        package: String,
        /// The program.
        program: String,
    },
    /// A package has several programs, and none of its own name.
    #[error("package `{0}` does not say which program is run")]
    WhichProgram(String),
    /// The interpreter of a virtual environment was removed.
    #[error("the Python of package `{0}` is gone")]
    PythonGone(String),
    /// npx may run what is installed globally.
    #[error("`{package}` is installed globally, version {version}, which npx may run instead")]
    InstalledGlobally {
        /// The package.
        package: String,
        /// The version that is there.
        version: String,
    },
    /// pnpm has rules of its own since 11.
    #[error(
        "pnpm {0} chooses packages by their age and starts their programs with a hook of its own"
    )]
    PnpmOfItsOwn(String),
    /// npm and the launcher take different versions.
    #[error("npm takes version {taken} of `{package}` for this node, and {launcher} {newest}")]
    OtherVersion {
        /// What npm takes.
        taken: String,
        /// The package, as it was asked for.
        package: String,
        /// The launcher.
        launcher: &'static str,
        /// What that takes.
        newest: String,
    },
    /// A launcher that has rules of its own for install scripts.
    #[error("`{0}` has an install script, which its launcher may or may not run")]
    InstallScript(String),
}

impl InstallError {
    /// The error of a file or folder that cannot be `read`, `written` or `made`.
    pub(super) fn file(
        path: impl Into<PathBuf>,
        act: &'static str,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, act, source }
    }

    /// Whether npm has refused to take something from git.
    pub(super) fn is_of_git(&self) -> bool {
        matches!(self, Self::Withheld { variable, .. } if *variable == ALLOWS_GIT)
    }

    /// What npm has refused, with what to do about it, if that is known.
    pub(super) fn of_npm(failed: CommandError) -> Self {
        let why = failed.to_string();
        let variable = match () {
            () if why.contains("EALLOWGIT") => ALLOWS_GIT,
            () if why.contains("EALLOWREMOTE") => ALLOWS_REMOTE,
            () => return failed.into(),
        };
        Self::Withheld { failed, variable }
    }
}

#[cfg(test)]
mod tests {
    use std::process::ExitStatus;

    use super::*;

    #[test]
    fn an_install_that_npm_refuses_is_told_with_what_would_allow_it() {
        let told = |reason: &str| {
            let failed = CommandError::Ended {
                command: "`npm ci`".to_owned(),
                status: ExitStatus::default(),
                reason: reason.to_owned(),
            };
            InstallError::of_npm(failed).to_string()
        };
        let why = told("Fetching packages of type \"git\" have been disabled (EALLOWGIT)");
        assert!(why.contains("npm_config_allow_git = \"all\""), "{why}");
        assert!(told("404").ends_with(": 404"));
    }
}

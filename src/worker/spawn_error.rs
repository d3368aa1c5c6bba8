//! Why a worker could not be started, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use super::guardian::{IsolationUnavailable, LaunchError, SpawnFailure, Stage};
use crate::launch::{Inaccessible, LaunchSpec};

/// Why a worker could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// No such program.
    #[error(
        "command `{program}` not found in `{path}`; install it, or give its full path in `command`"
    )]
    CommandNotFound {
        /// The command as written.
        program: String,
        /// Where the program was looked for: the `PATH` of the worker, or the file itself.
        path: String,
    },
    /// The file is no program, or one that may not be run.
    #[error(
        "`{program}` is no program that can be executed: it is a folder, or lacks the permission (`chmod +x` it, or run it with its interpreter)"
    )]
    NotExecutable {
        /// The command as written.
        program: String,
    },
    /// The arguments and environment are more than the system takes (execve(2), E2BIG).
    #[error(
        "the arguments and environment of `{program}` are longer than the system takes (128 KiB each, and together a quarter of the stack limit, 2 MiB as a rule); shorten the config values that go into them"
    )]
    TooLong {
        /// The command as written.
        program: String,
    },
    /// The working directory is missing, or is no folder.
    #[error("working directory `{}` {}", cwd.display(), if *is_there { "is no folder; change `cwd`" } else { "does not exist; create it, or change `cwd`" })]
    NoSuchFolder {
        /// The directory.
        cwd: PathBuf,
        /// Something else is there.
        is_there: bool,
    },
    /// The working directory is closed to the user that the process runs as.
    #[error("working directory `{}` cannot be entered by the user that the server runs as: {error}; open it and those above it to others (`chmod o+x`), or change `cwd`", cwd.display())]
    ClosedFolder {
        /// The directory.
        cwd: PathBuf,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// The kernel did not come to execute it.
    #[error("`{program}` was not executed within {}; does the file system that holds it answer?", humantime::format_duration(*limit))]
    Late {
        /// The command as written.
        program: String,
        /// How long was waited.
        limit: std::time::Duration,
    },
    /// The process would not come to what it needs as the user that it is to run as.
    #[error(
        "{what}: {} is out of reach of the user that this tenant's servers run as ({user}): {why}. Put it where others may read it, such as /opt or /srv, open that to others (a folder by `chmod o+x`, a file by `chmod o+r`), or write `sandbox = \"none\"` for this server, which then runs as root beside all tenants' data", path.display()
    )]
    Inaccessible {
        /// The key that names it, if one does.
        key: Option<String>,
        /// The key, or what it is.
        what: String,
        /// The path.
        path: PathBuf,
        /// The user.
        user: u32,
        /// What closes the path to that user.
        why: Inaccessible,
    },
    /// No user is free for the process.
    #[error("no user of its own for it: {0}")]
    NoUser(String),
    /// The host cannot give the process the isolation that it is to have.
    #[error(
        "{key} cannot be had on this host: {why} (`stdiopool doctor` says what it takes); it is not started without"
    )]
    IsolationUnavailable {
        /// The key with its value.
        key: &'static str,
        /// What is missing.
        why: IsolationUnavailable,
    },
    /// The process would not see what it needs.
    #[error(
        "{what} {} is not there for a server with `sandbox = \"strict\"`: name it, or a folder above it, in `readable` or `writable`", path.display()
    )]
    Unseen {
        /// What the worker would not see.
        what: &'static str,
        /// Where that is.
        path: PathBuf,
    },
    /// A folder of it cannot be made its own.
    #[error("{0}")]
    Folder(String),
    /// The process that starts workers failed.
    #[error("{0}; workers cannot be started without the guardian")]
    Guardian(String),
    /// The system refused.
    #[error("cannot {what}: {error}")]
    Io {
        /// What was tried.
        what: String,
        /// Why the step failed.
        #[source]
        error: io::Error,
    },
}

impl SpawnError {
    pub(super) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |error| Self::Io { what, error }
    }
}

impl SpawnError {
    /// Whether the process could not be run in that working directory: its user does not come to it, or does not see it.
    pub(crate) fn is_of_folder(&self, cwd: &Path) -> bool {
        let is_it = |path: &Path| std::path::absolute(cwd).is_ok_and(|cwd| path == cwd);
        match self {
            Self::ClosedFolder { .. } => true,
            Self::Inaccessible { path, .. } | Self::Unseen { path, .. } => is_it(path),
            _ => false,
        }
    }
}

/// The error of a launch that did not come about, in the words of those who have configured it.
pub(super) fn explain(error: LaunchError, spec: &LaunchSpec) -> SpawnError {
    let program = spec.program.clone();
    match error {
        LaunchError::Failed(SpawnFailure {
            stage: Stage::Exec,
            errno: libc::EACCES | libc::ENOEXEC,
        }) => SpawnError::NotExecutable { program },
        LaunchError::Failed(SpawnFailure {
            stage: Stage::Folder,
            errno: errno @ (libc::EACCES | libc::EPERM),
        }) => SpawnError::ClosedFolder {
            cwd: spec.cwd.clone(),
            error: io::Error::from_raw_os_error(errno),
        },
        LaunchError::Failed(SpawnFailure {
            errno: libc::E2BIG, ..
        }) => SpawnError::TooLong { program },
        LaunchError::Failed(SpawnFailure { stage, errno }) => {
            let what = attempted(stage, errno, spec);
            SpawnError::io(what)(io::Error::from_raw_os_error(errno))
        }
        LaunchError::Unreached | LaunchError::Lost => {
            SpawnError::Guardian("the guardian process was lost twice".to_owned())
        }
        LaunchError::Late(limit) => SpawnError::Late { program, limit },
        LaunchError::Guardian(text) => SpawnError::Guardian(text),
        LaunchError::Io(error) => SpawnError::io("pass on the launch data")(error),
    }
}

/// What failed with that error at that stage, in words that go behind "cannot", and what to do about it.
fn attempted(stage: Stage, errno: i32, spec: &LaunchSpec) -> String {
    let program = &spec.program;
    match (stage, errno) {
        (_, libc::EAGAIN) => format!(
            "run `{program}`, as the limit on processes is reached (raise `ulimit -u`, TasksMax in systemd or the container's pids limit, or lower `pool.max_workers`)"
        ),
        (_, libc::EMFILE | libc::ENFILE) => format!(
            "run `{program}`, as the limit on open files is reached (raise `ulimit -n` or LimitNOFILE in systemd, or lower `pool.max_workers`)"
        ),
        (Stage::Init, _) => {
            format!("run `{program}`, as something killed the process that was to start it")
        }
        // The file was there a moment ago: the kernel misses what it names in `#!` or as loader.
        (Stage::Exec, libc::ENOENT) => {
            format!("run `{program}` (is the interpreter in its first line installed?)")
        }
        (Stage::Mounts, _) => {
            format!("hide from `{program}` what is not its own (see `stdiopool doctor`)")
        }
        (Stage::Namespaces, _) => {
            format!("make namespaces for `{program}` (see `stdiopool doctor`)")
        }
        (Stage::Root, _) => {
            format!("show `{program}` what it needs (see `stdiopool doctor`)")
        }
        (Stage::Groups, _) => {
            format!("put `{program}` into its control group")
        }
        (Stage::Network, _) => {
            format!("make the network of `{program}` (see `stdiopool doctor`)")
        }
        (Stage::Recording, libc::EBUSY) => {
            format!(
                "record `{program}`, as something records the system calls of stdiopool already (a container that intercepts some?)"
            )
        }
        (Stage::Recording, _) => {
            format!("record `{program}` (see `stdiopool doctor`)")
        }
        (Stage::Template, _) => {
            format!("start `{program}` as a primed worker")
        }
        (Stage::Filter, _) => {
            format!("filter the system calls of `{program}` (see `stdiopool doctor`)")
        }
        (Stage::Identity, _) => {
            format!("give `{program}` a user and domain of its own (see `stdiopool doctor`)")
        }
        (Stage::Folder, _) => {
            format!("run `{program}` in `{}`", spec.cwd.display())
        }
        (Stage::Exec, _) => format!("run `{program}`"),
        (Stage::Launch, _) => format!("hand `{program}` to the guardian"),
    }
}

//! Starts a worker: folders, program, pipes, then the guardian.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use secrecy::ExposeSecret;
use tokio::net::unix::pipe;
use tracing::Instrument;

use super::guardian::{Launch, LaunchError, SpawnFailure, Stage};
use super::life::{self, Pipes, Shared};
use super::stderr::StderrLog;
use super::{Guardian, Inbox, Options, Worker};
use crate::fair::Flow;
use crate::ids::WorkerId;
use crate::launch::LaunchSpec;

/// Where a command is looked up when the environment of the worker has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

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
        /// Where it was looked for: the `PATH` of the worker, or the file itself.
        path: String,
    },
    /// There is a file, but it is no program, or one that may not be run.
    #[error("`{program}` is not executable; `chmod +x` it, or run it with its interpreter")]
    NotExecutable {
        /// The command as written.
        program: String,
    },
    /// Its arguments and environment are more than the system takes (execve(2), E2BIG).
    #[error(
        "the arguments and environment of `{program}` are longer than the system takes (128 KiB each, and together a quarter of the stack limit, 2 MiB as a rule); shorten the config values that go into them"
    )]
    TooLong {
        /// The command as written.
        program: String,
    },
    /// The working directory is missing.
    #[error("working directory `{}` does not exist; create it, or change `cwd`", cwd.display())]
    NoSuchFolder {
        /// The directory.
        cwd: PathBuf,
    },
    /// The kernel did not come to execute it.
    #[error("`{program}` was not executed within {}; does the file system that holds it answer?", humantime::format_duration(*limit))]
    Late {
        /// The command as written.
        program: String,
        /// How long was waited.
        limit: std::time::Duration,
    },
    /// The process that starts workers failed.
    #[error("{0}; workers cannot be started without the guardian")]
    Guardian(String),
    /// The system refused.
    #[error("cannot {what}: {error}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        #[source]
        error: io::Error,
    },
}

impl SpawnError {
    fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |error| Self::Io { what, error }
    }
}

/// Starts the process `spec` describes and the tasks that serve it. Creates the folders of `spec`
/// first. `id` must not be in use by another worker of this guardian. What it says is worked on in the turns of `flow`.
///
/// Must be called within a tokio runtime. When the call is cancelled, what was started is killed.
///
/// # Errors
/// [`SpawnError`]; nothing of the worker is left then, and `inbox` is not called.
pub async fn spawn(
    guardian: &Guardian,
    id: WorkerId,
    spec: &LaunchSpec,
    options: &Options,
    (inbox, flow): (Arc<dyn Inbox>, Flow),
) -> Result<Worker, SpawnError> {
    let program = {
        let spec = spec.clone();
        let prepared = tokio::task::spawn_blocking(move || prepare(&spec)).await;
        prepared.map_err(|error| SpawnError::io("prepare the start")(error.into()))??
    };
    let (stdin, stdin_end) = pipe_in().map_err(SpawnError::io("create a pipe"))?;
    let (stdout, stdout_end) = pipe_out().map_err(SpawnError::io("create a pipe"))?;
    let (stderr, stderr_end) = pipe_out().map_err(SpawnError::io("create a pipe"))?;
    let launch = Launch::of(spec, program.into_os_string());
    let ends = [stdin_end, stdout_end, stderr_end];
    let launched = guardian
        .launch(id, &launch, ends)
        .await
        .map_err(|error| explain(error, spec))?;
    let log = StderrLog::new(id, options.stderr_lines, spec.redactor.clone());
    let shared = Arc::new(Shared::new(id, launched, options, log));
    let pipes = Pipes {
        stdin,
        stdout,
        stderr,
    };
    let life = life::run(shared.clone(), pipes, inbox, options.clone(), flow);
    tokio::spawn(life.in_current_span());
    Ok(Worker(shared))
}

/// What can be checked and done before the guardian is asked; the path of the program.
fn prepare(spec: &LaunchSpec) -> Result<PathBuf, SpawnError> {
    for folder in &spec.folders {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(SpawnError::io(format!(
                "create folder `{}`",
                folder.display()
            )))?;
    }
    spec.secret_files
        .write()
        .map_err(SpawnError::io("write the files of secrets"))?;
    if !spec.cwd.is_dir() {
        let cwd = spec.cwd.clone();
        return Err(SpawnError::NoSuchFolder { cwd });
    }
    let path = spec.env.get("PATH").map(|path| path.expose_secret());
    // The program is executed after the change into `cwd`: a relative path would be taken twice.
    let cwd = std::path::absolute(&spec.cwd).map_err(SpawnError::io("resolve `cwd`"))?;
    find_program(&spec.program, path.unwrap_or(DEFAULT_PATH), &cwd)
}

/// Finds `program` as execvp(3) would, seen from `cwd`.
///
/// # Errors
/// [`SpawnError::CommandNotFound`] or [`SpawnError::NotExecutable`].
pub fn find_program(program: &str, path: &str, cwd: &Path) -> Result<PathBuf, SpawnError> {
    let mut found_unusable = false;
    let candidates = if program.contains('/') {
        vec![cwd.join(program)]
    } else {
        std::env::split_paths(path)
            .map(|folder| cwd.join(folder).join(program))
            .collect()
    };
    for candidate in candidates {
        match candidate.metadata() {
            Ok(meta) if meta.is_file() && meta.permissions().mode() & 0o111 != 0 => {
                return Ok(candidate);
            }
            Ok(_) => found_unusable = true,
            Err(error) => found_unusable |= error.kind() == io::ErrorKind::PermissionDenied,
        }
    }
    let program = program.to_owned();
    Err(if found_unusable {
        SpawnError::NotExecutable { program }
    } else {
        let path = if program.contains('/') {
            cwd.join(&program).display().to_string()
        } else {
            path.to_owned()
        };
        SpawnError::CommandNotFound { program, path }
    })
}

fn explain(error: LaunchError, spec: &LaunchSpec) -> SpawnError {
    let program = spec.program.clone();
    match error {
        LaunchError::Failed(SpawnFailure {
            stage: Stage::Exec,
            errno: libc::EACCES | libc::ENOEXEC,
        }) => SpawnError::NotExecutable { program },
        LaunchError::Failed(SpawnFailure {
            errno: libc::E2BIG, ..
        }) => SpawnError::TooLong { program },
        LaunchError::Failed(SpawnFailure { stage, errno }) => {
            let what = match (stage, errno) {
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
                (Stage::Exec, _) => format!("run `{program}`"),
                (Stage::Launch, _) => format!("hand `{program}` to the guardian"),
            };
            SpawnError::io(what)(io::Error::from_raw_os_error(errno))
        }
        LaunchError::Unreached => {
            SpawnError::Guardian("the guardian process was lost twice".to_owned())
        }
        LaunchError::Late(limit) => SpawnError::Late { program, limit },
        LaunchError::Guardian(text) => SpawnError::Guardian(text),
        LaunchError::Io(error) => SpawnError::io("pass on the launch data")(error),
    }
}

/// Our end, non-blocking, and the worker's, blocking; both close-on-exec.
fn pipe_in() -> io::Result<(pipe::Sender, OwnedFd)> {
    let (reader, writer) = io::pipe()?;
    Ok((pipe::Sender::from_owned_fd(writer.into())?, reader.into()))
}

fn pipe_out() -> io::Result<(pipe::Receiver, OwnedFd)> {
    let (reader, writer) = io::pipe()?;
    Ok((pipe::Receiver::from_owned_fd(reader.into())?, writer.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(program: &str, path: &str) -> Result<PathBuf, String> {
        find_program(program, path, Path::new("/")).map_err(|error| error.to_string())
    }

    #[test]
    fn a_program_is_found_as_a_shell_would() {
        assert_eq!(find("sh", "/nowhere:/bin"), Ok("/bin/sh".into()));
        assert_eq!(find("bin/sh", "/nowhere"), Ok("/bin/sh".into()));
    }

    #[test]
    fn a_failure_says_what_to_do() {
        let error = find("nope", "/bin").expect_err("there is none");
        assert_eq!(
            error,
            "command `nope` not found in `/bin`; install it, or give its full path in `command`"
        );
        let error = find("/etc/passwd", "/bin").expect_err("not a program");
        assert!(error.contains("chmod +x"), "{error}");
    }
}

//! A command that stdiopool runs for itself, and what that starts: they end together, and with stdiopool.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::Command;
use tokio_process_stream::ProcessChunkStream;

use super::command_init::{self, CommandStart};
use super::confinement::Confinement;
use crate::process::hand_over;

/// The command line of a [`CommandGroup`].
#[derive(Debug)]
pub struct CommandLine<'a> {
    /// Name or path of the program, looked up in the `PATH` of `env`.
    pub program: &'a str,
    /// The command's arguments.
    pub args: Vec<&'a str>,
    /// The command's whole environment; `None` for stdiopool's own.
    pub env: Option<&'a BTreeMap<String, String>>,
    /// The command's working directory; `None` for stdiopool's own.
    pub dir: Option<&'a Path>,
    /// The command's standard input; `None` for one that is empty. Held open until everything the command started has ended.
    pub stdin: Option<File>,
    /// What the command is kept to; `None`: it does what stdiopool may.
    pub confinement: Option<&'a Confinement>,
}

/// A running command, which is killed with everything it started when this is dropped, and when stdiopool ends.
#[derive(Debug)]
pub struct CommandGroup {
    stream: ProcessChunkStream,
    /// A socket whose end tells the process above the command that nobody wants it. `None`: there is no such process.
    wanted: Option<UnixStream>,
}

impl CommandGroup {
    /// Starts a command.
    ///
    /// Where the program's `main` does not call [`run_command_if_asked`](super::run_command_if_asked), what it starts
    /// in a process group of its own, or when this program is killed, lives on.
    ///
    /// # Errors
    /// When it cannot be started; when it is to be confined, and this program's `main` does not call that.
    pub fn start(line: CommandLine<'_>) -> io::Result<Self> {
        if command_init::is_prepared() {
            Self::start_below_init(line)
        } else if line.confinement.is_some() {
            Err(io::ErrorKind::Unsupported.into())
        } else {
            Self::start_alone(line)
        }
    }

    fn start_below_init(line: CommandLine<'_>) -> io::Result<Self> {
        let program = find(&line)?;
        let stdin = match line.stdin {
            Some(file) => file,
            None => File::open("/dev/null")?,
        };
        let (ours, theirs) = UnixStream::pair()?;
        let mut command = Command::new("/proc/self/exe");
        command
            .arg0("sp-command")
            .arg(command_init::ARGUMENT)
            .env_clear()
            .stdin(Stdio::from(OwnedFd::from(theirs)));
        let start = CommandStart {
            program: program.into(),
            args: line.args.iter().map(Into::into).collect(),
            env: environment(line.env),
            dir: line.dir.map(Path::to_owned),
            confinement: line.confinement.cloned(),
        };
        // Sent before it runs: there is room for it, and no wait.
        hand_over(ours.as_fd(), &start, stdin.as_fd())?;
        let stream = ProcessChunkStream::try_from(command)?;
        Ok(Self {
            stream,
            wanted: Some(ours),
        })
    }

    fn start_alone(line: CommandLine<'_>) -> io::Result<Self> {
        let mut command = Command::new(line.program);
        command
            .args(&line.args)
            .stdin(line.stdin.map_or_else(Stdio::null, Stdio::from))
            .process_group(0)
            .kill_on_drop(true);
        if let Some(env) = line.env {
            command.env_clear().envs(env);
        }
        if let Some(dir) = line.dir {
            command.current_dir(dir);
        }
        let stream = ProcessChunkStream::try_from(command)?;
        Ok(Self {
            stream,
            wanted: None,
        })
    }

    /// The output of the command, and how it ends.
    pub fn output(&mut self) -> &mut ProcessChunkStream {
        &mut self.stream
    }
}

impl Drop for CommandGroup {
    fn drop(&mut self) {
        if self.wanted.is_some() {
            // Closing the socket is all: the process above must live until it has ended the rest.
            return;
        }
        // The child's pid is known only until it is reaped, so that this cannot hit another process.
        if let Some(pid) = self.stream.child().and_then(tokio::process::Child::id)
            && let Ok(pid) = i32::try_from(pid)
        {
            // The group may have ended a moment ago, which is what is wanted.
            let _gone = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

fn environment(env: Option<&BTreeMap<String, String>>) -> Vec<(OsString, OsString)> {
    match env {
        Some(env) => env
            .iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect(),
        None => std::env::vars_os().collect(),
    }
}

/// Finds the program as execvp(3) would, so that one that is not there is told at once.
fn find(line: &CommandLine<'_>) -> io::Result<PathBuf> {
    let dir = match line.dir {
        Some(dir) => std::path::absolute(dir)?,
        None => std::env::current_dir()?,
    };
    if line.program.contains('/') {
        return Ok(dir.join(line.program));
    }
    let path = match line.env {
        Some(env) => env.get("PATH").map(OsString::from),
        None => std::env::var_os("PATH"),
    };
    let path = path.unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    let candidates = std::env::split_paths(&path).map(|folder| dir.join(folder).join(line.program));
    let mut files = candidates.filter(|file| {
        nix::unistd::access(file, nix::unistd::AccessFlags::X_OK).is_ok() && file.is_file()
    });
    files
        .next()
        .ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))
}

//! The pipes of a process: its stdin, stdout and stderr.

use std::io;
use std::os::fd::OwnedFd;

use tokio::net::unix::pipe;

use super::spawn_error::SpawnError;

/// The supervisor's ends of the three pipes, non-blocking.
#[derive(Debug)]
pub(super) struct Pipes {
    pub(super) stdin: pipe::Sender,
    pub(super) stdout: pipe::Receiver,
    pub(super) stderr: pipe::Receiver,
}

impl Pipes {
    /// Makes three pipes, with the process's ends, blocking, of stdin, stdout and stderr in that order. All ends are close-on-exec.
    ///
    /// # Errors
    /// The supervisor may open no more files.
    pub(super) fn open() -> Result<(Self, [OwnedFd; 3]), SpawnError> {
        let failed = || SpawnError::io("create a pipe");
        let (stdin, stdin_end) = to_process().map_err(failed())?;
        let (stdout, stdout_end) = from_process().map_err(failed())?;
        let (stderr, stderr_end) = from_process().map_err(failed())?;
        let pipes = Self {
            stdin,
            stdout,
            stderr,
        };
        Ok((pipes, [stdin_end, stdout_end, stderr_end]))
    }
}

fn to_process() -> io::Result<(pipe::Sender, OwnedFd)> {
    let (reader, writer) = io::pipe()?;
    Ok((pipe::Sender::from_owned_fd(writer.into())?, reader.into()))
}

fn from_process() -> io::Result<(pipe::Receiver, OwnedFd)> {
    let (reader, writer) = io::pipe()?;
    Ok((pipe::Receiver::from_owned_fd(reader.into())?, writer.into()))
}

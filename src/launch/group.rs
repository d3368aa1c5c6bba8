//! A command that stdiopool runs for itself, and what that starts: they end together.

use std::io;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::Command;
use tokio_process_stream::ProcessChunkStream;

/// A running command in a process group of its own, which is killed when this is dropped.
#[derive(Debug)]
pub struct CommandGroup(ProcessChunkStream);

impl CommandGroup {
    /// Starts it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(mut command: Command) -> io::Result<Self> {
        command.process_group(0).kill_on_drop(true);
        ProcessChunkStream::try_from(command).map(Self)
    }

    /// What it prints, and how it ends.
    pub fn output(&mut self) -> &mut ProcessChunkStream {
        &mut self.0
    }
}

impl Drop for CommandGroup {
    fn drop(&mut self) {
        // Its pid is known only until it is reaped, so that this cannot hit another process.
        if let Some(pid) = self.0.child().and_then(tokio::process::Child::id)
            && let Ok(pid) = i32::try_from(pid)
        {
            // It may have ended a moment ago, which is what is wanted.
            let _gone = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

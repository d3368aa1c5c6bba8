//! Runs npm and uv.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt;
use tokio_process_stream::{Item, ProcessChunkStream};

use crate::launch::{CommandGroup, CommandLine};

/// How long one command may take: downloads on a slow line, and builds of native parts.
const PATIENCE: Duration = Duration::from_secs(600);
/// How much of what a command prints is kept, in bytes.
const MAX_OUTPUT: usize = 64 * 1024;
/// How much of a failed command's stderr is quoted, in bytes: its end.
const QUOTED: usize = 1024;

/// Where and how commands run.
#[derive(Debug)]
pub(super) struct Helper<'a> {
    /// The whole environment.
    pub(super) env: &'a BTreeMap<String, String>,
    /// The working directory.
    pub(super) dir: &'a Path,
    /// Held by the command too, as its stdin, so that what it protects stays protected should this
    /// process be killed meanwhile.
    pub(super) lock: &'a File,
}

impl Helper<'_> {
    /// Runs a command to its end and returns what it printed on stdout.
    ///
    /// # Errors
    /// Why it did not succeed, with the end of its stderr.
    ///
    /// # Cancel-Safety
    /// A dropped call kills the command and everything it started.
    pub(super) async fn run(&self, program: &str, args: &[&str]) -> Result<String, String> {
        let cannot = |error| format!("`{program}` cannot be run: {error}");
        let line = CommandLine {
            program,
            args: args.to_vec(),
            env: Some(self.env),
            dir: Some(self.dir),
            stdin: Some(self.lock.try_clone().map_err(cannot)?),
        };
        let mut running = CommandGroup::start(line).map_err(cannot)?;
        let shown = || format!("`{program} {}`", args.first().copied().unwrap_or_default());
        match tokio::time::timeout(PATIENCE, output(running.output())).await {
            Ok(printed) => printed.map_err(|why| format!("{} {why}", shown())),
            Err(_elapsed) => Err(format!(
                "{} did not end within {}",
                shown(),
                humantime::format_duration(PATIENCE)
            )),
        }
    }
}

async fn output(stream: &mut ProcessChunkStream) -> Result<String, String> {
    let (mut printed, mut complaint) = (Vec::new(), Vec::new());
    while let Some(item) = stream.next().await {
        match item {
            Item::Stdout(chunk) => {
                let room = MAX_OUTPUT - printed.len();
                printed.extend_from_slice(&chunk[..chunk.len().min(room)]);
            }
            Item::Stderr(chunk) => {
                complaint.extend_from_slice(&chunk);
                let excess = complaint.len().saturating_sub(QUOTED);
                complaint.drain(..excess);
            }
            Item::Done(Ok(status)) if status.success() => {
                return Ok(String::from_utf8_lossy(&printed).into_owned());
            }
            Item::Done(Ok(status)) => {
                let complaint = String::from_utf8_lossy(&complaint);
                return Err(format!("ended with {status}: {}", complaint.trim()));
            }
            Item::Done(Err(error)) => return Err(format!("could not be waited for: {error}")),
        }
    }
    Err("ended without a status".to_owned())
}

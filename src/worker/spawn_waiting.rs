//! Starts processes that wait, and puts the programs of these in place.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream as Socket;
use std::path::{Path, PathBuf};

use tokio::net::UnixStream;

use super::Guardian;
use super::guardian::Launch;
use super::pipes::Pipes;
use super::spawn::{Prepared, prepare};
use super::spawn_error::{SpawnError, explain};
use super::waiting::Waiting;
use crate::ids::WorkerId;
use crate::launch::LaunchSpec;

/// The program of a process that waits, for node.
const WAITING_PROGRAM: &str = include_str!("guardian/primed/waiting.cjs");
/// A program for node that finds out what may be imported before a process is anybody's.
const PROBE_PROGRAM: &str = include_str!("guardian/primed/probe.mjs");
/// The addon of [`WAITING_PROGRAM`].
const WAITING_ADDON: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/settle.node"));

/// Starts a process that waits, of a launch that is nobody's: its program is given settings by [`Waiting::ask`].
///
/// # Errors
/// As [`super::spawn`].
pub async fn spawn_waiting(
    guardian: &Guardian,
    id: WorkerId,
    spec: &LaunchSpec,
    arg0: &str,
) -> Result<Waiting, SpawnError> {
    let Prepared {
        program,
        user,
        files,
        ..
    } = prepare(spec).await?;
    let mut launch = Launch::of(spec, program.into_os_string(), user, files);
    launch.waits = true;
    launch.arg0 = arg0.into();
    let (pipes, ends) = Pipes::open()?;
    let (ours, theirs) = Socket::pair().map_err(SpawnError::io("create a socket"))?;
    ours.set_nonblocking(true)
        .map_err(SpawnError::io("set up a socket"))?;
    let socket = UnixStream::from_std(ours).map_err(SpawnError::io("set up a socket"))?;
    let launched = guardian
        .launch_waiting(id, &launch, ends, theirs.into())
        .await
        .map_err(|error| explain(error, spec))?;
    Ok(Waiting {
        id,
        launched,
        pipes,
        socket,
    })
}

/// Writes the programs of processes that wait, and of probes, into a folder, which is made.
///
/// # Errors
/// When the system refuses.
pub fn write_programs(folder: &Path) -> io::Result<Programs> {
    std::fs::create_dir_all(folder)?;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))?;
    let write = |name: &str, content: &[u8]| {
        let path = folder.join(name);
        if std::fs::read(&path).is_ok_and(|had| had == content) {
            return Ok(path);
        }
        let new = tempfile::NamedTempFile::new_in(folder)?;
        std::fs::write(new.path(), content)?;
        std::fs::set_permissions(new.path(), std::fs::Permissions::from_mode(0o444))?;
        new.persist(&path)?;
        Ok::<_, io::Error>(path)
    };
    Ok(Programs {
        waiting: write("waiting.cjs", WAITING_PROGRAM.as_bytes())?,
        probe: write("probe.mjs", PROBE_PROGRAM.as_bytes())?,
        addon: write("settle.node", WAITING_ADDON)?,
    })
}

/// Paths of the programs that [`write_programs`] wrote.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The program of a process that waits.
    pub waiting: PathBuf,
    /// The program that finds out what may be imported ahead.
    pub probe: PathBuf,
    /// The addon of the first.
    pub addon: PathBuf,
}

//! The lock of the state folder: one supervisor, or one command, at a time.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};

use super::state_error::{StateDirError, failed};

/// The file with the holder's process id.
const NOTE: &str = "lock";
/// Bytes of it that are read: a process id and a line end.
const MAX_NOTE: u64 = 32;

/// The lock, held as long as this value lives.
///
/// The folder itself is locked: whatever is deleted in it, or put in its place, the lock stays. The file that
/// says who holds it is locked too, as earlier versions of stdiopool know that one alone.
#[derive(Debug)]
pub(super) struct Lock {
    _folder: Option<Flock<File>>,
    _note: Option<Flock<File>>,
}

impl Lock {
    /// Takes the lock of that folder.
    ///
    /// # Errors
    /// [`StateDirError`] when another process holds it, or the system refuses.
    pub(super) fn take(dir: &Path) -> Result<Self, StateDirError> {
        let folder = File::open(dir).map_err(failed(dir, "open"))?;
        let folder = match lock(folder) {
            Ok(lock) => Some(lock),
            Err((_, Errno::EWOULDBLOCK)) => return Err(in_use(dir)),
            // Network file systems lock files that are open for writing only, which a folder never is.
            Err((_, Errno::EBADF | Errno::EINVAL | Errno::EOPNOTSUPP | Errno::ENOLCK)) => {
                tracing::warn!(
                    "the file system of the state folder {} locks no folders: as long as stdiopool runs, leave the file `{NOTE}` in it alone",
                    dir.display()
                );
                None
            }
            Err((_, errno)) => return Err(failed(dir, "lock")(errno.into())),
        };
        let note = match (Self::note(dir), &folder) {
            (Ok(note), _) => Some(note),
            (Err(NoteError::Locked), _) => return Err(in_use(dir)),
            (Err(NoteError::Io(error)), Some(_)) => {
                tracing::warn!(
                    "the file `{NOTE}` in the state folder {} cannot be written ({error}): others cannot say which process uses it",
                    dir.display()
                );
                None
            }
            (Err(NoteError::Io(error)), None) => return Err(failed(dir, "open its lock")(error)),
        };
        Ok(Self {
            _folder: folder,
            _note: note,
        })
    }

    fn note(dir: &Path) -> Result<Flock<File>, NoteError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            // A link would lead elsewhere, a pipe would wait for a reader.
            .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
            .open(dir.join(NOTE))?;
        let mut held = lock(file).map_err(|(_, errno)| match errno {
            Errno::EWOULDBLOCK => NoteError::Locked,
            errno => NoteError::Io(errno.into()),
        })?;
        held.set_len(0)?;
        writeln!(*held, "{}", std::process::id())?;
        Ok(held)
    }
}

enum NoteError {
    Locked,
    Io(io::Error),
}

impl From<io::Error> for NoteError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn lock(file: File) -> Result<Flock<File>, (File, Errno)> {
    Flock::lock(file, FlockArg::LockExclusiveNonblock)
}

/// The error that says who holds it, as far as that is known.
fn in_use(dir: &Path) -> StateDirError {
    let mut pid = String::new();
    let read = OpenOptions::new()
        .read(true)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
        .open(dir.join(NOTE))
        .and_then(|file| file.take(MAX_NOTE).read_to_string(&mut pid));
    let pid = pid.trim();
    let is_known = read.is_ok() && !pid.is_empty() && pid.bytes().all(|b| b.is_ascii_digit());
    StateDirError::InUse {
        dir: dir.to_owned(),
        pid: if is_known { pid } else { "unknown" }.to_owned(),
    }
}

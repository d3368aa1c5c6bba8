//! Where the stdiopool that uses a state folder can be asked: its configuration may have changed since it
//! started.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};

/// The file with the address of the admin listener.
const NOTE: &str = "admin-address";
/// Bytes of it that are read: an address with a scope and a line end.
const MAX_NOTE: u64 = 128;

/// Notes the address of the admin listener in that folder, which this process has locked.
///
/// # Errors
/// When the note cannot be written; commands then know the address of their configuration alone.
pub(super) fn note(dir: &Path, admin: SocketAddr) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
        .open(dir.join(NOTE))?;
    writeln!(file, "{admin}")
}

/// The address of the admin listener of the stdiopool that uses that folder; `None` if none does, or it is not
/// known.
pub fn admin_of_running(dir: &Path) -> Option<SocketAddr> {
    let folder = File::open(dir).ok()?;
    // Held for a moment if nobody has it: then there is nobody to ask.
    match Flock::lock(folder, FlockArg::LockSharedNonblock) {
        Err((_, Errno::EWOULDBLOCK)) => {}
        Ok(_) | Err(_) => return None,
    }
    let mut text = String::new();
    OpenOptions::new()
        .read(true)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
        .open(dir.join(NOTE))
        .and_then(|file| file.take(MAX_NOTE).read_to_string(&mut text))
        .ok()?;
    let address: SocketAddr = text.trim().parse().ok()?;
    Some(address)
}

#[cfg(test)]
mod tests {
    use super::super::StateDir;
    use super::*;

    #[test]
    fn the_address_is_known_as_long_as_the_folder_is_in_use() {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().join("state");
        assert_eq!(admin_of_running(&dir), None);
        let state = StateDir::open(&dir).expect("free");
        assert_eq!(admin_of_running(&dir), None, "nothing is noted");
        let address = "127.0.0.1:19411".parse().expect("an address");
        state.note_admin(address).expect("written");
        assert_eq!(admin_of_running(&dir), Some(address));
        drop(state);
        assert_eq!(admin_of_running(&dir), None, "it may be anyone's by now");
        StateDir::open(&dir).expect("free again");
    }
}

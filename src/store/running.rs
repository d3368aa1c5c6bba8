//! Where the stdiopool that uses a state folder can be asked: its configuration may have changed since it
//! started.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use procfs::process::{FDTarget, Process};

/// A listener of a stdiopool, as commands ask for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Door {
    /// The operator's, `admin.listen`.
    Admin,
    /// The clients', `http.listen`, where it speaks without TLS.
    Front,
}

impl Door {
    /// The file with the listener's address.
    fn note(self) -> &'static str {
        match self {
            Self::Admin => "admin-address",
            Self::Front => "http-address",
        }
    }
}

/// The file that `serve` reads where none is named.
const DEFAULT_FILE: &str = "pool.toml";
/// Bytes of it that are read: an address with a scope and a line end.
const MAX_NOTE: u64 = 128;

/// Notes the address of a listener in that folder, which this process has locked; `None` where it cannot be asked.
///
/// # Errors
/// When the note cannot be written; commands then know the address of their configuration alone.
pub(super) fn note(dir: &Path, door: Door, address: Option<SocketAddr>) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
        .open(dir.join(door.note()))?;
    match address {
        Some(address) => writeln!(file, "{address}"),
        None => Ok(()),
    }
}

/// The address of that listener of the stdiopool that uses that folder; `None` if none does, or it is not
/// known.
pub fn address_of_running(dir: &Path, door: Door) -> Option<SocketAddr> {
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
        .open(dir.join(door.note()))
        .and_then(|file| file.take(MAX_NOTE).read_to_string(&mut text))
        .ok()?;
    let address: SocketAddr = text.trim().parse().ok()?;
    Some(address)
}

/// The address of that listener of the stdiopool that serves that pool.toml, wherever its state folder is: the file
/// may name another by now. Only processes of this user, of root and of the file's owner are looked at, as others could
/// say what they like; `None` if there is none, or this process may not look into it.
pub fn address_of_serving(file: &Path, door: Door) -> Option<SocketAddr> {
    let file = file.canonicalize().ok()?;
    let owner = file.metadata().ok()?.uid();
    let trusted = [nix::unistd::geteuid().as_raw(), 0, owner];
    let processes = procfs::process::all_processes().ok()?;
    let processes = processes.filter_map(Result::ok);
    let mut serving = processes.filter(|process| {
        process.uid().is_ok_and(|uid| trusted.contains(&uid)) && serves(process, &file)
    });
    serving.find_map(|process| {
        let open = process.fd().ok()?.filter_map(Result::ok);
        let mut folders = open.filter_map(|open| match open.target {
            // Opening anything else might wait for somebody.
            FDTarget::Path(path) if path.is_dir() => Some(path),
            _ => None,
        });
        // The one that it has locked.
        folders.find_map(|folder| address_of_running(&folder, door))
    })
}

/// Whether that process is `serve` of that file.
fn serves(process: &Process, file: &Path) -> bool {
    let Ok(words) = process.cmdline() else {
        return false;
    };
    let Some(named) = served_file(&words) else {
        return false;
    };
    let named = process.cwd().map(|cwd| cwd.join(named));
    let named = named.ok().and_then(|path| path.canonicalize().ok());
    named.as_deref() == Some(file)
}

/// The file that a command line of `serve` names, its default included; `None` for any other, and for one command that
/// is hosted without a file.
fn served_file(words: &[String]) -> Option<&str> {
    let (_, rest) = words.split_first()?;
    let at = rest.iter().position(|word| word == "serve")?;
    let rest = &rest[at + 1..];
    if rest.iter().any(|word| word == "--") {
        return None;
    }
    let inline = rest.iter().find_map(|word| word.strip_prefix("--config="));
    let behind = rest.iter().position(|word| word == "--config");
    let behind = behind.and_then(|at| rest.get(at + 1)).map(String::as_str);
    Some(inline.or(behind).unwrap_or(DEFAULT_FILE))
}

#[cfg(test)]
mod tests {
    use super::super::StateDir;
    use super::*;

    #[test]
    fn a_command_line_of_serve_names_its_file() {
        let of = |line: &str| {
            let words: Vec<_> = line.split(' ').map(ToOwned::to_owned).collect();
            served_file(&words).map(ToOwned::to_owned)
        };
        assert_eq!(of("stdiopool serve").as_deref(), Some("pool.toml"));
        assert_eq!(
            of("/bin/stdiopool serve --http x --config a.toml").as_deref(),
            Some("a.toml")
        );
        assert_eq!(
            of("stdiopool serve --config=b/c.toml").as_deref(),
            Some("b/c.toml")
        );
        assert_eq!(of("stdiopool serve -- cat").as_deref(), None);
        assert_eq!(of("stdiopool reload --config a.toml").as_deref(), None);
        assert_eq!(of("serve").as_deref(), None);
    }

    #[test]
    fn the_address_is_known_as_long_as_the_folder_is_in_use() {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().join("state");
        let of = |door| address_of_running(&dir, door);
        assert_eq!(of(Door::Admin), None);
        let state = StateDir::open(&dir).expect("free");
        assert_eq!(of(Door::Admin), None, "nothing is noted");
        let address = "127.0.0.1:19411".parse().expect("an address");
        state
            .note_door(Door::Admin, Some(address))
            .expect("written");
        assert_eq!(of(Door::Admin), Some(address));
        assert_eq!(of(Door::Front), None);
        let front = "127.0.0.1:19412".parse().expect("an address");
        state.note_door(Door::Front, Some(front)).expect("written");
        assert_eq!(
            (of(Door::Admin), of(Door::Front)),
            (Some(address), Some(front))
        );
        state.note_door(Door::Front, None).expect("written");
        assert_eq!(of(Door::Front), None, "it cannot be asked");
        drop(state);
        assert_eq!(of(Door::Admin), None, "it may be anyone's by now");
        StateDir::open(&dir).expect("free again");
    }
}

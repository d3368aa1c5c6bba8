//! Reads a file that a server may have put in place of another.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Most that is read of such a file, in bytes.
const MAX_BYTES: u64 = 64 << 20;

/// The content of a plain file of 64 MiB at the most. A link is not followed, and neither a pipe nor a
/// device is waited for: the path is in a folder that a server writes.
///
/// # Errors
/// When it cannot be read, is no plain file or too long.
pub fn read_plain(path: &Path) -> io::Result<Vec<u8>> {
    let file = open_plain(path)?;
    let mut content = Vec::new();
    let read = file.take(MAX_BYTES + 1).read_to_end(&mut content)?;
    if read as u64 > MAX_BYTES {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(content)
}

fn open_plain(path: &Path) -> io::Result<File> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is no plain file",
        ));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_files_are_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("plain"), "x").expect("written");
        std::os::unix::fs::symlink(at("plain"), at("link")).expect("linked");
        let mode = nix::sys::stat::Mode::from_bits_truncate(0o600);
        nix::unistd::mkfifo(&at("pipe"), mode).expect("made");
        assert_eq!(read_plain(&at("plain")).expect("read"), b"x");
        for name in ["link", "pipe", "none", "."] {
            read_plain(&at(name)).expect_err(name);
        }
    }

    #[test]
    fn a_plain_file_is_not_read_when_it_is_too_long() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("long");
        let file = File::create(&path).expect("made");
        file.set_len(MAX_BYTES + 1).expect("a hole");
        let error = read_plain(&path).expect_err("too long");
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }
}

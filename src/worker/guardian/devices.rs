//! What a worker with a root of its own has of `/dev`.

use std::path::Path;

/// Names in `/dev` of devices that every program counts on.
pub(crate) const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
/// The folder of terminals.
pub(crate) const TERMINALS: &str = "/dev/pts";
/// Folders: `/dev` itself, that of terminals, and that of shared memory.
pub(super) const FOLDERS: [&str; 3] = ["/dev", TERMINALS, "/dev/shm"];
/// Links with what they lead to.
pub(super) const LINKS: [(&str, &str); 5] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/ptmx", "pts/ptmx"),
];

/// Whether a worker with a root of its own has that path below `/dev`, beside what it makes itself.
pub(crate) fn is_in_own_dev(path: &Path) -> bool {
    let is_device = || {
        let name = path.strip_prefix("/dev").ok();
        name.is_some_and(|name| DEVICES.iter().any(|it| name == Path::new(it)))
    };
    let is_link = |(link, _): &(&str, &str)| path == Path::new(link);
    path.starts_with(TERMINALS)
        || FOLDERS.iter().any(|it| path == Path::new(it))
        || LINKS.iter().any(is_link)
        || is_device()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_in_dev_is_known_and_nothing_else() {
        for path in [
            "/dev",
            "/dev/null",
            "/dev/tty",
            "/dev/pts/3",
            "/dev/shm",
            "/dev/ptmx",
            "/dev/stdin",
        ] {
            assert!(is_in_own_dev(Path::new(path)), "{path}");
        }
        for path in ["/dev/kmsg", "/dev/null/x", "/dev/shm/other", "/dev/mqueue"] {
            assert!(!is_in_own_dev(Path::new(path)), "{path}");
        }
    }
}

//! What a worker with `sandbox = "strict"` sees of the file system: what programs need of the system, what pool.toml names, and its own
//! folders. Everything else of the host is not there.

use std::path::{Path, PathBuf};

use secrecy::ExposeSecret;

use super::guardian::{Root, RootEntry};
use super::own_folders::own_folders;
use crate::launch::{LaunchSpec, Sandbox, Strict};

/// Folders of programs and libraries. Some are links into others.
const SYSTEM: [&str; 9] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/nix/store",
    "/gnu/store",
];
/// What programs read in `/etc`: names, addresses, certificates, libraries, fonts and formats of this host; nothing that
/// configures its services.
const SETTINGS: [&str; 33] = [
    "alternatives",
    "ca-certificates",
    "ca-certificates.conf",
    "crypto-policies",
    "dotnet",
    "fonts",
    "gai.conf",
    "gitconfig",
    "group",
    "host.conf",
    "hosts",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "locale.alias",
    "locale.conf",
    "localtime",
    "magic",
    "mime.types",
    "networks",
    "nsswitch.conf",
    "os-release",
    "passwd",
    "pki",
    "protocols",
    "python3",
    "resolv.conf",
    "rpc",
    "services",
    "ssl",
    "static",
    "timezone",
    "xdg",
];
/// What programs for fonts have worked out of them (fontconfig): without it each start does so anew.
const FONT_CACHE: &str = "/var/cache/fontconfig";
/// What is made anew: nothing of the host's is shown there, but for folders of a worker's own.
const MADE: [&str; 3] = ["/proc", "/dev", "/sys"];

/// The root of a launch whose program is at `program`. Looks at the paths that are to be seen.
pub(super) fn root_of(
    spec: &LaunchSpec,
    sandbox: &Sandbox,
    strict: &Strict,
    program: &Path,
) -> Root {
    let mut entries: Vec<RootEntry> = SYSTEM.iter().filter_map(|path| system(path)).collect();
    let settings = SETTINGS.iter().map(|name| Path::new("/etc").join(name));
    let named = sandbox.named.iter().map(|named| named.path.clone());
    let read = settings
        .chain([PathBuf::from(FONT_CACHE)])
        .chain(sandbox.shared.iter().cloned())
        .chain(named)
        .chain(strict.readable.iter().cloned());
    for path in read {
        entries.extend(read_at(&path));
    }
    entries.extend(spec.read_only.iter().cloned().map(read_only));
    for path in &strict.writable {
        let real = path.canonicalize().unwrap_or_else(|_| path.clone());
        if real != *path {
            let (path, real) = (path.clone(), real.clone());
            entries.push(RootEntry::Link(path.into(), real.into()));
        }
        entries.push(RootEntry::Writable(real.into()));
    }
    let own = own_folders(spec);
    entries.extend(own.into_iter().map(|path| RootEntry::Writable(path.into())));
    let hidden = sandbox.hidden.iter().cloned();
    entries.extend(hidden.map(|path| RootEntry::Empty(path.into())));
    let mut entries = without_needless(entries);
    if !is_seen(&entries, program) {
        entries.extend(read_at(program));
        entries = without_needless(entries);
    }
    let is_in_tmp = |entry: &RootEntry| {
        let path = path_of(entry);
        ["/tmp", "/var/tmp"].iter().any(|tmp| path.starts_with(tmp))
    };
    let tmp = spec.env.get("TMPDIR").map(|it| it.expose_secret());
    let tmp = tmp
        .map(PathBuf::from)
        .filter(|it| spec.folders.contains(it));
    // Folders would be made in it for what is to be seen below it.
    let tmp = tmp.filter(|_| !entries.iter().any(is_in_tmp));
    Root {
        entries,
        tmp: tmp.map(PathBuf::into_os_string),
        files: vec![],
    }
}

/// Whether a worker with that root sees what is at a path.
pub(super) fn shows(root: &Root, path: &Path) -> bool {
    is_seen(&root.entries, path)
}

/// What a worker with that root has of a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Sight {
    /// The worker does not see what is there.
    Nothing,
    /// The worker reads what is there.
    Readable,
    /// The worker reads what is there, and writes there.
    Writable,
}

/// What a worker with that root has of a path, beside what is made anew for it (`/proc`, `/dev`, folders for temporary files).
pub(super) fn sight(root: &Root, path: &Path) -> Sight {
    match nearest(&root.entries, path) {
        None | Some(RootEntry::Empty(_)) => Sight::Nothing,
        Some(RootEntry::ReadOnly(_) | RootEntry::Link(..)) => Sight::Readable,
        Some(RootEntry::Writable(_)) => Sight::Writable,
    }
}

fn is_seen(entries: &[RootEntry], path: &Path) -> bool {
    nearest(entries, path).is_some_and(|entry| !matches!(entry, RootEntry::Empty(_)))
}

/// What is read at a path, as far as it is there: a link stays one, as programs look for what they need beside what it leads to.
fn read_at(path: &Path) -> Vec<RootEntry> {
    if !is_shown(path) {
        return vec![];
    }
    let Ok(real) = path.canonicalize() else {
        return vec![];
    };
    let is_link = path.symlink_metadata().is_ok_and(|it| it.is_symlink());
    match is_link {
        true => vec![
            RootEntry::Link(path.into(), real.clone().into()),
            read_only(real),
        ],
        false => vec![read_only(path.to_owned()), read_only(real)],
    }
}

fn is_shown(path: &Path) -> bool {
    path.is_absolute() && path.parent().is_some() && !MADE.iter().any(|made| path.starts_with(made))
}

fn read_only(path: PathBuf) -> RootEntry {
    RootEntry::ReadOnly(path.into())
}

/// A folder of the system as it is: where `/bin` is a link to `/usr/bin`, it is one.
fn system(path: &str) -> Option<RootEntry> {
    let meta = Path::new(path).symlink_metadata().ok()?;
    let target = meta.is_symlink().then(|| std::fs::read_link(path).ok());
    match target.flatten().filter(|target| target.is_relative()) {
        Some(target) => Some(RootEntry::Link(path.into(), target.into())),
        None => Some(RootEntry::ReadOnly(path.into())),
    }
}

fn path_of(entry: &RootEntry) -> &Path {
    match entry {
        RootEntry::Link(path, _)
        | RootEntry::ReadOnly(path)
        | RootEntry::Writable(path)
        | RootEntry::Empty(path) => Path::new(path),
    }
}

/// The rank among several entries at one path: the last counts.
fn rank(entry: &RootEntry) -> u8 {
    match entry {
        RootEntry::Empty(_) => 0,
        RootEntry::ReadOnly(_) => 1,
        RootEntry::Link(..) => 2,
        RootEntry::Writable(_) => 3,
    }
}

/// The entry that a path is in, or is.
fn nearest<'p>(entries: &'p [RootEntry], path: &Path) -> Option<&'p RootEntry> {
    let above = entries.iter().filter(|it| path.starts_with(path_of(it)));
    above.max_by_key(|it| path_of(it).components().count())
}

/// Sorts entries, what is above first, and takes out what is seen so without.
fn without_needless(mut entries: Vec<RootEntry>) -> Vec<RootEntry> {
    let depth = |entry: &RootEntry| path_of(entry).components().count();
    entries.sort_by(|a, b| {
        let key = |it| (depth(it), path_of(it), rank(it));
        key(a).cmp(&key(b))
    });
    let mut kept: Vec<RootEntry> = Vec::new();
    for entry in entries {
        if kept.last().is_some_and(|it| path_of(it) == path_of(&entry)) {
            // A folder of a worker's own may be within one that is hidden, but is none that is.
            kept.pop();
        }
        let around = nearest(&kept, path_of(&entry));
        let is_needless = match (&entry, around) {
            (RootEntry::Empty(_), None | Some(RootEntry::Empty(_))) => true,
            (RootEntry::ReadOnly(_), Some(RootEntry::ReadOnly(_) | RootEntry::Link(..))) => true,
            (RootEntry::Writable(_), Some(RootEntry::Writable(_))) => true,
            // The link is there already.
            (RootEntry::Link(..), Some(around)) => !matches!(around, RootEntry::Empty(_)),
            _ => false,
        };
        if !is_needless {
            kept.push(entry);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &str) -> RootEntry {
        RootEntry::Writable(path.into())
    }
    fn read(path: &str) -> RootEntry {
        RootEntry::ReadOnly(path.into())
    }
    fn empty(path: &str) -> RootEntry {
        RootEntry::Empty(path.into())
    }
    fn link(path: &str, target: &str) -> RootEntry {
        RootEntry::Link(path.into(), target.into())
    }

    #[test]
    fn what_is_hidden_lies_over_what_is_read_and_own_folders_over_both() {
        let entries = without_needless(vec![
            write("/srv/pool/state/data/a"),
            empty("/srv/pool/state"),
            empty("/other/state"),
            read("/srv/pool"),
            read("/srv/pool/server.py"),
            read("/srv/pool/state/packages/x"),
        ]);
        assert_eq!(
            entries,
            [
                read("/srv/pool"),
                empty("/srv/pool/state"),
                write("/srv/pool/state/data/a"),
                read("/srv/pool/state/packages/x"),
            ]
        );
    }

    #[test]
    fn links_of_the_system_stay_links_and_what_may_be_written_may_be_written() {
        let entries = without_needless(vec![
            read("/bin"),
            link("/bin", "usr/bin"),
            read("/bin/sh"),
            read("/srv/docs"),
            write("/srv/docs"),
            write("/srv/docs/deep"),
            read("/srv/docs/fixed"),
        ]);
        assert_eq!(
            entries,
            [
                link("/bin", "usr/bin"),
                write("/srv/docs"),
                read("/srv/docs/fixed"),
            ]
        );
        let root = Root {
            entries,
            tmp: None,
            files: vec![],
        };
        assert!(shows(&root, Path::new("/srv/docs/x")));
        assert!(!shows(&root, Path::new("/srv")));
    }

    #[test]
    fn nothing_is_shown_of_the_root_itself_and_of_what_is_made_anew() {
        for (path, is) in [
            ("/", false),
            ("/proc/1", false),
            ("/dev", false),
            ("/opt/x", true),
        ] {
            assert_eq!(is_shown(Path::new(path)), is, "{path}");
        }
    }
}

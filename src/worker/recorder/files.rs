//! What a call on a path takes that a strict server would lack: looked up as the server sees it, and compared with what it would see.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

use super::acting::Acting;
use super::calls::Act;
use crate::launch::inaccessible;
use crate::profile::{Seen, Use};
use crate::worker::guardian::{Root, is_in_own_dev};
use crate::worker::strict::{Sight, sight};

/// Most paths in folders for temporary files that are known to be a server's own.
const MAX_MADE: usize = 4096;
/// How many interpreters lead to each other (`#!`), as the kernel has it.
const MAX_INTERPRETERS: usize = 4;
/// How much of a script says its interpreter (execve(2)).
const MAX_FIRST_LINE: u64 = 256;
/// What runtimes of languages read in `/sys` and do without: how many processors there are, limits of control groups, sizes of pages.
const OF_RUNTIMES: [&str; 5] = [
    "/sys/devices/system/cpu",
    "/sys/devices/system/node",
    "/sys/fs/cgroup",
    "/sys/kernel/mm/hugepages",
    "/sys/kernel/mm/transparent_hugepage",
];
/// Files by which container runtimes tell programs that they run in a container: these ask whether they are there, and go on either way.
const OF_CONTAINERS: [&str; 3] = [
    "/.dockerenv",
    "/run/.containerenv",
    "/run/systemd/container",
];
/// Folders for temporary files, which a strict server has of its own.
const TEMPORARY: [&str; 3] = ["/tmp", "/var/tmp", "/dev/shm"];

/// Paths of a worker.
#[derive(Debug)]
pub(super) struct Files {
    /// What a strict server would see.
    root: Root,
    /// The user that the worker runs as.
    user: u32,
    /// The root of the file system as the worker sees it.
    seen_root: Option<OwnedFd>,
    /// Paths that the worker has made in folders for temporary files.
    made: HashSet<PathBuf>,
}

/// A path that there is.
struct There {
    /// As the process named it, absolute.
    named: PathBuf,
    /// Where links lead.
    real: PathBuf,
    meta: std::fs::Metadata,
    at: OwnedFd,
}

impl Files {
    pub(super) fn new(root: Root, user: u32) -> Self {
        Self {
            root,
            user,
            seen_root: None,
            made: HashSet::new(),
        }
    }

    /// What a call on a path takes.
    pub(super) fn seen(&mut self, by: Acting, folder: i32, path: &[u8], act: Act) -> Vec<Seen> {
        if path.is_empty() {
            return vec![];
        }
        if self.seen_root.is_none() {
            let opened = File::open(format!("/proc/{}/root", by.0));
            self.seen_root = opened.ok().map(OwnedFd::from);
        }
        let path = PathBuf::from(std::ffi::OsString::from_vec(path.to_vec()));
        let named = match path.is_absolute() {
            true => path,
            false => match by.folder(folder) {
                Some(folder) => folder.join(path),
                None => return vec![],
            },
        };
        let Some(named) = self.plain(named) else {
            return vec![];
        };
        match act {
            Act::Look => self.look(&named, Use::Look, true),
            Act::Enter => self.look(&named, Use::Look, true),
            Act::LookAtLink => self.look(&named, Use::Look, false),
            Act::Open(flags) => self.open(&named, flags),
            Act::Make | Act::Remove => self.change_in(named.parent(), &named),
            Act::Change => self.change(&named),
            Act::Execute => self.execute(&named, MAX_INTERPRETERS),
        }
    }

    /// The path without `.` and `..`: of the latter, where they really lead.
    fn plain(&self, path: PathBuf) -> Option<PathBuf> {
        if !path.components().any(|it| it == Component::ParentDir) {
            return Some(path.components().collect());
        }
        if let Some(there) = self.there(&path, true) {
            return Some(there.real);
        }
        let folder = self.there(path.parent()?, true)?;
        Some(folder.real.join(path.file_name()?))
    }

    fn open(&mut self, named: &Path, flags: u64) -> Vec<Seen> {
        let has = |flag: libc::c_int| flags & u64::from(flag.cast_unsigned()) != 0;
        let mode = flags & u64::from(libc::O_ACCMODE.cast_unsigned());
        let writes = mode != u64::from(libc::O_RDONLY.cast_unsigned()) || has(libc::O_TRUNC);
        // Part of O_TMPFILE is O_DIRECTORY: it makes a file in the folder that is named.
        if flags & u64::from(libc::O_TMPFILE.cast_unsigned())
            == u64::from(libc::O_TMPFILE.cast_unsigned())
        {
            return self.change_in(Some(named), named);
        }
        match self.there(named, !has(libc::O_NOFOLLOW)) {
            Some(there) if writes && there.meta.is_file() => self.change(named),
            Some(_) if has(libc::O_CREAT) && has(libc::O_EXCL) => vec![],
            Some(there) if there.meta.is_dir() => {
                let usage = match has(libc::O_PATH) {
                    true => Use::Look,
                    false => Use::List,
                };
                self.taken(&there, usage, 0o5)
            }
            Some(there) if has(libc::O_PATH) => self.taken(&there, Use::Look, 0),
            Some(there) => self.taken(&there, Use::Read, if writes { 0o2 } else { 0o4 }),
            None if has(libc::O_CREAT) => self.change_in(named.parent(), named),
            None => vec![],
        }
    }

    fn look(&self, named: &Path, usage: Use, follows: bool) -> Vec<Seen> {
        let there = self.there(named, follows);
        there.map_or_else(Vec::new, |there| self.taken(&there, usage, 0))
    }

    fn execute(&self, named: &Path, interpreters: usize) -> Vec<Seen> {
        let Some(there) = self.there(named, true) else {
            return vec![];
        };
        if !there.meta.is_file() || !allows(&there.meta, self.user, 0o1) {
            return vec![];
        }
        let mut seen = self.taken(&there, Use::Read, 0o1);
        seen.push(Seen::Ran(there.real.clone()));
        if let Some(interpreter) = interpreter(&there.at).filter(|_| interpreters > 0) {
            let of_it = self.execute(&interpreter, interpreters - 1);
            seen.extend(of_it);
        }
        seen
    }

    /// What is there is changed: for a file, the folder that it is in has to be writable.
    fn change(&mut self, named: &Path) -> Vec<Seen> {
        let Some(there) = self.there(named, true) else {
            return vec![];
        };
        let place = match there.meta.is_dir() {
            true => Some(there.named.as_path()),
            false => there.named.parent(),
        };
        let Some(place) = place else { return vec![] };
        if !allows(&there.meta, self.user, 0o2) || self.is_closed(&there.real) {
            return self.denied(place, Use::Write);
        }
        self.written(place)
    }

    /// Something is made or removed in a folder.
    fn change_in(&mut self, folder: Option<&Path>, named: &Path) -> Vec<Seen> {
        let Some(there) = folder.and_then(|it| self.there(it, true)) else {
            return vec![];
        };
        if !there.meta.is_dir() {
            return vec![];
        }
        if !allows(&there.meta, self.user, 0o3) || self.is_closed(&there.real) {
            return self.denied(&there.named, Use::Write);
        }
        if is_temporary(named) && self.made.len() < MAX_MADE {
            self.made.insert(named.to_owned());
        }
        self.written(&there.named)
    }

    fn written(&self, folder: &Path) -> Vec<Seen> {
        match sight(&self.root, folder) {
            Sight::Writable => vec![],
            _ if self.is_own_temporary(folder) || is_made_anew(folder) => vec![],
            _ => vec![Seen::File {
                path: folder.to_owned(),
                usage: Use::Write,
                is_folder: true,
            }],
        }
    }

    /// What is there is read or looked at; `wanted` are the permissions that it takes.
    fn taken(&self, there: &There, usage: Use, wanted: u32) -> Vec<Seen> {
        let hidden = [&there.named, &there.real]
            .into_iter()
            .find(|path| sight(&self.root, path) == Sight::Nothing);
        let Some(path) = hidden else { return vec![] };
        if self.is_own_temporary(path) {
            return vec![];
        }
        let is_of_containers = OF_CONTAINERS.iter().any(|it| path == Path::new(it));
        if path.starts_with("/proc") || is_of_containers {
            return vec![];
        }
        if path.starts_with("/sys") {
            let is_of_runtimes = OF_RUNTIMES.iter().any(|it| path.starts_with(it));
            return match is_of_runtimes || usage == Use::Look {
                true => vec![],
                false => vec![Seen::Unavailable(path.display().to_string())],
            };
        }
        if path.starts_with("/dev") {
            return match is_in_own_dev(path) {
                true => vec![],
                false => vec![Seen::Unavailable(path.display().to_string())],
            };
        }
        if !allows(&there.meta, self.user, wanted) || self.is_closed(&there.real) {
            return self.denied(path, usage);
        }
        // A link that was only looked at leads on by itself.
        let is_link = there.meta.file_type().is_symlink();
        vec![Seen::File {
            path: path.clone(),
            usage,
            is_folder: there.meta.is_dir() || is_link,
        }]
    }

    /// Whether a strict server has that too, as it has folders for temporary files of its own: these themselves, and what it made in them.
    fn is_own_temporary(&self, path: &Path) -> bool {
        let is_one = |it: &&str| path == Path::new(it);
        TEMPORARY.iter().any(is_one) || self.made.iter().any(|it| path.starts_with(it))
    }

    fn denied(&self, path: &Path, usage: Use) -> Vec<Seen> {
        match usage {
            // Whether there is something is told whoever may pass the folders.
            Use::Look => vec![],
            _ if sight(&self.root, path) == Sight::Writable || is_made_anew(path) => vec![],
            _ => vec![Seen::Denied {
                path: path.to_owned(),
                usage,
            }],
        }
    }

    /// Whether a folder on the way lets the worker's user not pass. Of what it sees by mounts, the way is free.
    fn is_closed(&self, real: &Path) -> bool {
        self.user != 0
            && sight(&self.root, real) == Sight::Nothing
            && inaccessible(real, self.user).is_some()
    }

    /// What the worker sees at a path, if anything.
    fn there(&self, path: &Path, follows: bool) -> Option<There> {
        let root = self.seen_root.as_ref()?;
        let mut flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
        if !follows {
            flags |= OFlag::O_NOFOLLOW;
        }
        // Links lead to the worker's paths, not to this process's; those of /proc would be this process's own.
        let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        let at = openat2(root, path, OpenHow::new().flags(flags).resolve(resolve)).ok()?;
        let link = PathBuf::from(format!("/proc/self/fd/{}", at.as_raw_fd()));
        let real = std::fs::read_link(&link).ok()?;
        let meta = File::from(at.try_clone().ok()?).metadata().ok()?;
        Some(There {
            named: path.to_owned(),
            real,
            meta,
            at,
        })
    }
}

/// The program that executes a script, by its first line.
fn interpreter(at: &OwnedFd) -> Option<PathBuf> {
    let file = File::open(format!("/proc/self/fd/{}", at.as_raw_fd())).ok()?;
    if file.metadata().ok()?.file_type().is_fifo() {
        return None;
    }
    let mut line = Vec::new();
    file.take(MAX_FIRST_LINE).read_to_end(&mut line).ok()?;
    let line = line.strip_prefix(b"#!")?;
    let line = line.split(|byte| *byte == b'\n').next()?;
    let words = std::str::from_utf8(line).ok()?;
    let path = PathBuf::from(words.split_ascii_whitespace().next()?);
    path.is_absolute().then_some(path)
}

fn is_temporary(path: &Path) -> bool {
    TEMPORARY.iter().any(|it| path.starts_with(it))
}

/// Whether a strict server has another one at that path.
fn is_made_anew(path: &Path) -> bool {
    let is_device = path.starts_with("/dev") && !path.starts_with("/dev/shm");
    is_device || ["/proc", "/sys"].iter().any(|it| path.starts_with(it))
}

/// Whether a file's own mode gives a user these permissions (read 4, write 2, execute 1).
fn allows(meta: &std::fs::Metadata, user: u32, wanted: u32) -> bool {
    let shift = if meta.uid() == user {
        6
    } else if meta.gid() == user {
        3
    } else {
        0
    };
    let has_all = (meta.mode() >> shift) & wanted == wanted;
    user == 0 || has_all
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::worker::guardian::RootEntry;

    /// Files of this process, of which a strict server would see `seen`.
    fn files(seen: &Path) -> Files {
        Files::new(
            Root {
                entries: vec![RootEntry::ReadOnly(seen.into())],
                tmp: None,
                files: vec![],
            },
            nix::unistd::geteuid().as_raw(),
        )
    }

    fn this() -> Acting {
        Acting(std::process::id())
    }

    fn shown(seen: Vec<Seen>) -> Vec<(PathBuf, Use)> {
        let of = seen.into_iter().filter_map(|it| match it {
            Seen::File { path, usage, .. } => Some((path, usage)),
            _ => None,
        });
        of.collect()
    }

    /// A folder outside of those for temporary files.
    fn folder() -> tempfile::TempDir {
        tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("a folder")
    }

    #[test]
    fn what_is_outside_is_seen_and_what_is_not_there_is_not() {
        let base = folder();
        let at = |name: &str| base.path().join(name);
        std::fs::create_dir_all(at("inside")).expect("made");
        std::fs::create_dir_all(at("outside")).expect("made");
        std::fs::write(at("inside/a"), "a").expect("written");
        std::fs::write(at("outside/b"), "b").expect("written");
        std::os::unix::fs::symlink(at("outside/b"), at("inside/link")).expect("linked");
        let mut files = files(&at("inside"));
        let mut of = |name: &str, act| {
            let path = at(name).into_os_string().into_vec();
            shown(files.seen(this(), libc::AT_FDCWD, &path, act))
        };
        let flags = |it: libc::c_int| Act::Open(u64::from(it.cast_unsigned()));
        let read = flags(libc::O_RDONLY);
        let make = flags(libc::O_WRONLY | libc::O_CREAT);
        assert_eq!(of("inside/a", read), []);
        assert_eq!(of("outside/none", read), []);
        assert_eq!(of("outside/b", read), [(at("outside/b"), Use::Read)]);
        assert_eq!(
            of("outside/../outside/b", read),
            [(at("outside/b"), Use::Read)]
        );
        assert_eq!(of("inside/link", read), [(at("outside/b"), Use::Read)]);
        assert_eq!(of("outside", read), [(at("outside"), Use::List)]);
        assert_eq!(of("outside/new", make), [(at("outside"), Use::Write)]);
        assert_eq!(of("inside/new", make), [(at("inside"), Use::Write)]);
        assert_eq!(of("none/new", make), []);
        assert_eq!(of("outside/b", Act::Remove), [(at("outside"), Use::Write)]);
        assert_eq!(of("outside/b", Act::Change), [(at("outside"), Use::Write)]);
    }

    #[test]
    fn a_script_takes_its_interpreter_and_both_are_programs() {
        let base = folder();
        let (script, shell) = (base.path().join("script"), base.path().join("shell"));
        std::fs::write(&script, format!("#!{} -e\n", shell.display())).expect("written");
        std::fs::write(&shell, "\x7fELF").expect("written");
        for path in [&script, &shell] {
            let mode = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(path, mode).expect("set");
        }
        let mut files = files(Path::new("/usr"));
        let path = script.clone().into_os_string().into_vec();
        let seen = files.seen(this(), libc::AT_FDCWD, &path, Act::Execute);
        let ran: Vec<_> = seen
            .iter()
            .filter(|it| matches!(it, Seen::Ran(_)))
            .collect();
        assert_eq!(ran, [&Seen::Ran(script.clone()), &Seen::Ran(shell.clone())]);
        assert_eq!(shown(seen), [(script, Use::Read), (shell, Use::Read)]);
    }

    #[test]
    fn whether_it_runs_in_a_container_is_no_need() {
        let mut files = files(Path::new("/usr"));
        for path in OF_CONTAINERS {
            let path = path.as_bytes();
            for act in [Act::Look, Act::Open(0)] {
                let seen = files.seen(this(), libc::AT_FDCWD, path, act);
                assert_eq!(seen, []);
            }
        }
    }

    #[test]
    fn of_temporary_files_its_own_are_there_and_others_are_not() {
        let others = tempfile::NamedTempFile::new_in("/tmp").expect("a file");
        let own = tempfile::tempdir_in("/tmp").expect("a folder");
        let mut files = files(Path::new("/usr"));
        let mut of = |path: &Path, act| {
            let path = path.as_os_str().to_owned().into_vec();
            shown(files.seen(this(), libc::AT_FDCWD, &path, act))
        };
        let read = Act::Open(0);
        assert_eq!(
            of(others.path(), read),
            [(others.path().to_owned(), Use::Read)]
        );
        assert_eq!(of(own.path(), Act::Make), []);
        std::fs::write(own.path().join("x"), "x").expect("written");
        assert_eq!(of(&own.path().join("x"), read), []);
    }
}

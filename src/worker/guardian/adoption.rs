//! Makes the worker of a tenant of a process that waits: a node process that has imported a package's dependencies and was nobody's until
//! then (`primed/waiting.cjs`).
//!
//! Such a process has threads, so that it can enter no namespace any more. A namespace of users and one of mounts are made for it before its
//! program is executed. In the first it may change its user, and no user is there until this helper, a process of the guardian's own for
//! each such start, puts two there: the one that the process has, as 0, whose rights go with it, and its tenant's. The helper also replaces the files
//! that the process sees: it makes what an ordinary start of that launch would see, in a namespace of its own, and puts that tree in place of the process's root.
//!
//! ```text
//!  helper: its pipes, control groups; mounts; pivot_root(2) in its namespace; maps its users
//!         --the launch, as JSON--> process: changes its user, limits, folder, environment, arguments
//!         <--eight bytes----------          imports the program
//! ```
#![allow(
    unsafe_code,
    reason = "fork, open_tree, move_mount and pivot_root, in a process of one thread"
)]

use std::ffi::{CStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::chown;
use std::os::unix::net::UnixStream;

use nix::sched::{CloneFlags, setns};
use nix::sys::prctl::{set_name, set_pdeathsig};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::unistd::{ForkResult, Pid, fchdir, fork, getpid, getppid};

use super::init::{Event, leave, stage_of_number, tell};
use super::mounts::{self, Mounts};
use super::state::{Guardian, Origin, Worker};
use super::wire::{Launch, SpawnFailure, Stage};
use crate::process::{Process, close_all_but};

/// The descriptors by which a process that waits is made a worker.
#[derive(Debug)]
pub(super) struct AdoptionFds {
    /// The launch data.
    pub(super) launch: OwnedFd,
    /// The socket by which the process is spoken to.
    pub(super) socket: OwnedFd,
}

impl AdoptionFds {
    /// Takes the descriptors that were received, in the order of the fields.
    pub(super) fn of(fds: Vec<OwnedFd>) -> Option<Self> {
        let [launch, socket] = <[OwnedFd; 2]>::try_from(fds).ok()?;
        Some(Self { launch, socket })
    }
}

/// Forks the helper that makes worker `id` of the process `leader`, which is not reaped meanwhile, and says into `pipe` what comes of
/// it. Returns the helper's pid.
///
/// # Errors
/// When it cannot be forked.
pub(super) fn start(
    id: u64,
    leader: u32,
    fds: AdoptionFds,
    pipe: BorrowedFd<'_>,
) -> Result<u32, SpawnFailure> {
    let guardian = getpid();
    let pipe = pipe.as_raw_fd();
    // SAFETY: the guardian has one thread, so that the child may do whatever a process may.
    match unsafe { fork() } {
        Ok(ForkResult::Parent { child }) => Ok(child.as_raw().cast_unsigned()),
        Ok(ForkResult::Child) => leave(|| {
            let event = match adopt(guardian, leader, fds, pipe) {
                Ok(()) => Event::Started { leader },
                Err(failure) => Event::Failed(failure),
            };
            tell(pipe, id, event);
        }),
        Err(errno) => Err(failed(Stage::Template)(errno.into())),
    }
}

impl Guardian {
    /// Has a helper make worker `id` of the process that waits as `from`. The helper reports the outcome.
    pub(super) fn adopt(
        &mut self,
        from: u64,
        id: u64,
        fds: Vec<OwnedFd>,
    ) -> Result<(), SpawnFailure> {
        let failed = |errno| SpawnFailure {
            stage: Stage::Template,
            errno,
        };
        // Left out by the kernel where this process may open no more files.
        let fds = AdoptionFds::of(fds).ok_or_else(|| failed(libc::EMFILE))?;
        let waits = self.workers.get(&from).filter(|worker| {
            !worker.dying && !worker.exited && matches!(worker.origin, Origin::Init)
        });
        let leader = waits.and_then(|worker| worker.leader);
        let leader = leader.ok_or_else(|| failed(libc::ESRCH))?;
        if self.workers.contains_key(&id) {
            return Err(failed(libc::EEXIST));
        }
        let helper = start(id, leader, fds, self.reports.as_fd())?;
        if let Some(mut worker) = self.workers.remove(&from) {
            // The worker has no leader until the helper says that the program has begun.
            worker.leader = None;
            let helper = Some(helper);
            worker.origin = Origin::Waiting { helper };
            self.workers.insert(id, worker);
            self.renamed.insert(from, id);
        }
        Ok(())
    }

    /// Notes the end of a helper that makes a worker of a process; whether that process was one. A helper that ended without a report has failed.
    pub(super) fn adopter_ended(&mut self, pid: u32) -> bool {
        let is_its = |worker: &&mut Worker| matches!(&worker.origin, Origin::Waiting { helper } if *helper == Some(pid));
        let Some(worker) = self.workers.values_mut().find(is_its) else {
            return false;
        };
        worker.origin = Origin::Waiting { helper: None };
        if worker.leader.is_none() {
            let (stage, errno) = (Stage::Template, libc::ECHILD);
            worker.failure.get_or_insert(SpawnFailure { stage, errno });
            worker.dying = true;
            self.rounds = 0;
        }
        true
    }

    /// The child of this process is a helper that makes a worker of a process.
    pub(super) fn is_an_adopter(&self, child: &Process) -> bool {
        let is_its = |worker: &Worker| matches!(&worker.origin, Origin::Waiting { helper } if *helper == Some(child.pid));
        self.workers.values().any(is_its)
    }
}

fn failed(stage: Stage) -> impl Fn(io::Error) -> SpawnFailure {
    move |error| SpawnFailure {
        stage,
        errno: error.raw_os_error().unwrap_or(libc::EINVAL),
    }
}

fn adopt(guardian: Pid, leader: u32, fds: AdoptionFds, pipe: RawFd) -> Result<(), SpawnFailure> {
    let AdoptionFds { launch, socket } = fds;
    set_up(guardian, [pipe, launch.as_raw_fd(), socket.as_raw_fd()])
        .map_err(failed(Stage::Template))?;
    let launch = Launch::from_memfd(launch).map_err(failed(Stage::Launch))?;
    let user = user_of(&launch).map_err(failed(Stage::Launch))?;
    let told = Told::of(&launch, user).map_err(failed(Stage::Launch))?;
    let process = Waiting::open(leader).map_err(failed(Stage::Template))?;
    process.own_pipes(user).map_err(failed(Stage::Identity))?;
    for group in &launch.groups {
        std::fs::write(group, leader.to_string()).map_err(failed(Stage::Groups))?;
    }
    let maps = process.maps().map_err(failed(Stage::Identity))?;
    process.show(launch).map_err(failed(Stage::Mounts))?;
    for mut map in maps {
        map.write_all(process.users_of(user).as_bytes())
            .map_err(failed(Stage::Identity))?;
    }
    hand_over(socket, &told)
}

/// The user of a launch that a process which waits can be made of.
fn user_of(launch: &Launch) -> io::Result<u32> {
    let is_ordinary =
        !launch.mounts.is_empty() && launch.root.is_none() && launch.network.is_host();
    let user = launch.user.filter(|user| *user != 0 && is_ordinary);
    user.ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))
}

fn set_up(guardian: Pid, kept: [RawFd; 3]) -> io::Result<()> {
    set_name(c"sp-helper")?;
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    set_pdeathsig(Signal::SIGKILL)?;
    if getppid() != guardian {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    // Nothing of the guardian's: the other end of the socket above all.
    close_all_but(kept)
}

/// The launch as the process is told of it (`waiting.cjs`).
#[derive(serde::Serialize)]
struct Told<'a> {
    arg0: &'a str,
    program: String,
    args: Vec<String>,
    env: Vec<(String, String)>,
    cwd: String,
    user: u32,
    open_files: Option<u64>,
    cpu_seconds: Option<u64>,
    file_size: Option<u64>,
}

impl Told<'_> {
    fn of(launch: &Launch, user: u32) -> io::Result<String> {
        // Node decodes what is no UTF-8, so that nothing of it would come through.
        let text = |it: &OsString| {
            let text = it.to_str().map(str::to_owned);
            text.ok_or_else(|| io::Error::from_raw_os_error(libc::EILSEQ))
        };
        let env = launch.env.iter();
        let told = Told {
            arg0: super::WAITING_ARG0,
            program: text(&launch.program)?,
            args: launch.args.iter().map(text).collect::<io::Result<_>>()?,
            env: env
                .map(|(name, value)| Ok((text(name)?, text(value)?)))
                .collect::<io::Result<_>>()?,
            cwd: text(&launch.cwd)?,
            user,
            open_files: launch.open_files,
            cpu_seconds: launch.cpu_seconds,
            file_size: launch.file_size,
        };
        serde_json::to_string(&told).map_err(io::Error::from)
    }
}

/// The process that waits.
struct Waiting {
    /// The process's folder in `/proc`, which is no other's.
    folder: File,
    /// The user that it has had until now.
    user: u32,
}

impl Waiting {
    fn open(pid: u32) -> io::Result<Self> {
        let folder = File::open(format!("/proc/{pid}"))?;
        let mut process = Self { folder, user: 0 };
        let status = std::fs::read_to_string(process.file("status"))?;
        let refused = || io::Error::from_raw_os_error(libc::EPERM);
        process.user = only_user(&status).ok_or_else(refused)?;
        Ok(process)
    }

    fn file(&self, name: &str) -> String {
        format!("/proc/self/fd/{}/{name}", self.folder.as_raw_fd())
    }

    /// Lets it open its own stdin, stdout and stderr anew, as that user.
    fn own_pipes(&self, user: u32) -> io::Result<()> {
        (0..3).try_for_each(|fd| chown(self.file(&format!("fd/{fd}")), Some(user), Some(user)))
    }

    /// The maps of users and groups of its namespace of users, opened before `/proc` is another.
    fn maps(&self) -> io::Result<[File; 2]> {
        let open = |name| OpenOptions::new().write(true).open(self.file(name));
        Ok([open("uid_map")?, open("gid_map")?])
    }

    /// The users that there are in its namespace from now on. A process that gives up being 0 gives up its capabilities (capabilities(7)).
    fn users_of(&self, user: u32) -> String {
        format!("0 {} 1\n{user} {user} 1\n", self.user)
    }

    /// Has the process see what an ordinary start of that launch sees.
    fn show(&self, launch: Launch) -> io::Result<()> {
        let namespace = File::open(self.file("ns/mnt"))?;
        Mounts::new(launch.mounts, false)
            .with(launch.written)
            .apply()?;
        mounts::hide_processes();
        let tree = copy_of_root()?;
        setns(namespace, CloneFlags::CLONE_NEWNS)?;
        replace_root(&tree)
    }
}

/// The one user and group that a process is in every way, by its `/proc/PID/status`; `None` if they are several, or root, who would be in the
/// process's namespace then.
fn only_user(status: &str) -> Option<u32> {
    let ids = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let ids = line.split_whitespace().map(str::parse);
        ids.collect::<Result<Vec<u32>, _>>().ok()
    };
    let (users, groups) = (ids("Uid:")?, ids("Gid:")?);
    let user = *users.first()?;
    let is_only = users.iter().chain(&groups).all(|id| *id == user);
    (user != 0 && is_only).then_some(user)
}

/// A copy of all that is mounted here, which is mounted nowhere.
fn copy_of_root() -> io::Result<OwnedFd> {
    const OPEN_TREE_CLONE: libc::c_int = 1;
    let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC | libc::AT_RECURSIVE;
    // SAFETY: the string ends in a zero byte and lives for the call.
    let tree = unsafe {
        libc::syscall(
            libc::SYS_open_tree,
            libc::AT_FDCWD,
            c"/".as_ptr(),
            flags.cast_unsigned(),
        )
    };
    let tree = i32::try_from(tree).map_err(io::Error::other)?;
    match tree {
        // SAFETY: it was opened just now and is nobody else's.
        0.. => Ok(unsafe { OwnedFd::from_raw_fd(tree) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Makes that tree the root of this namespace of mounts, and of every process in it whose root was the one before (pivot_root(2)).
fn replace_root(tree: &OwnedFd) -> io::Result<()> {
    const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 4;
    // SAFETY: both strings end in a zero byte and live for the call.
    done(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            c"/".as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        )
    })?;
    fchdir(tree)?;
    let here: &CStr = c".";
    // SAFETY: the string ends in a zero byte and lives for the call.
    done(unsafe { libc::syscall(libc::SYS_pivot_root, here.as_ptr(), here.as_ptr()) })?;
    // The root before lies over the new one now.
    // SAFETY: as above.
    done(unsafe { libc::umount2(here.as_ptr(), libc::MNT_DETACH) }.into())
}

fn done(result: libc::c_long) -> io::Result<()> {
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Tells the process its launch, and waits until it is the worker.
fn hand_over(socket: OwnedFd, told: &str) -> Result<(), SpawnFailure> {
    let failure = failed(Stage::Template);
    let mut socket = UnixStream::from(socket);
    socket.set_nonblocking(false).map_err(&failure)?;
    socket.write_all(told.as_bytes()).map_err(&failure)?;
    socket.shutdown(Shutdown::Write).map_err(&failure)?;
    let mut answer = [0; 8];
    socket.read_exact(&mut answer).map_err(&failure)?;
    let (stage, errno) = answer.split_at(4);
    let number = |bytes: &[u8]| bytes.try_into().map_or(libc::EINVAL, i32::from_le_bytes);
    match number(errno) {
        0 => Ok(()),
        errno => Err(SpawnFailure {
            stage: stage_of_number(number(stage)),
            errno,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_and_processes_of_several_users_are_refused() {
        let status =
            |users: &str, groups: &str| format!("Name:\tnode\nUid:\t{users}\nGid:\t{groups}\n");
        assert_eq!(only_user(&status("7\t7\t7\t7", "7\t7\t7\t7")), Some(7));
        for (users, groups) in [
            ("0\t0\t0\t0", "0\t0\t0\t0"),
            ("7\t0\t7\t7", "7\t7\t7\t7"),
            ("7\t7\t7\t7", "7\t7\t0\t7"),
            ("7\t7\t7\t7", "8\t8\t8\t8"),
            ("", ""),
        ] {
            assert_eq!(only_user(&status(users, groups)), None, "{users} {groups}");
        }
        assert_eq!(only_user(""), None);
    }
}

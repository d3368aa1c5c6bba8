//! What supervisor and guardian say to each other: one JSON text per packet, at most [`MAX_PACKET`].
//!
//! The launch itself can be large and holds secrets, so it travels in an anonymous memory file.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IoSlice, Read, Seek, Write};
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::mounts::{FileContents, Mount};
use super::namespaces::Namespaces;
use super::network::OwnNetwork;
use super::recording::Recording;
use super::root::Root;
use crate::launch::LaunchSpec;
use crate::process::receive_packet;

/// Longest packet, in bytes. All fields are numbers or short names.
pub(super) const MAX_PACKET: usize = 512;
/// Descriptors that come with a `Spawn`.
#[derive(Debug)]
pub(super) struct SpawnFds {
    /// stdin, stdout and stderr.
    pub(super) pipes: [OwnedFd; 3],
    pub(super) launch: OwnedFd,
    /// The socket over which those of the worker's own network are handed out, if it is to have some; of a process that waits, the socket
    /// by which it is spoken to.
    pub(super) sockets: Option<OwnedFd>,
}

impl SpawnFds {
    /// Of what was received: in the order of the fields.
    pub(super) fn of(fds: Vec<OwnedFd>) -> Option<Self> {
        let mut fds = fds.into_iter();
        let pipes = [fds.next()?, fds.next()?, fds.next()?];
        let launch = fds.next()?;
        let sockets = fds.next();
        fds.next().is_none().then_some(Self {
            pipes,
            launch,
            sockets,
        })
    }
}

/// Largest launch data, in bytes; far above what execve(2) takes (128 KiB a string, 6 MiB in all).
const MAX_LAUNCH: u64 = 64 * 1024 * 1024;

/// Supervisor to guardian.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// Start a worker; [`SpawnFds`] come along.
    Spawn {
        id: u64,
        namespaces: Namespaces,
        origin: ForkedFrom,
    },
    /// Send `signal` to the process group of the worker's leader.
    Signal { id: u64, signal: i32 },
    /// Kill the worker's whole tree.
    KillTree { id: u64 },
    /// Say that you are there.
    Ping,
}

/// What the first process of a worker is forked from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ForkedFrom {
    /// An init process of the worker's own; then the program is executed.
    Init,
    /// The guardian itself: the worker is a template of others, and outlived by these.
    Guardian,
    /// The template of that id: the program has been imported already.
    Template(u64),
    /// Nothing: it is the process of that id, which has waited. The launch and the socket by which it is spoken to come along.
    Waiting(u64),
}

/// Guardian to supervisor. Of each worker: `Spawned`, `LeaderExited`, `Gone`, or else `SpawnFailed`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Report {
    /// The guardian runs; the first of all reports.
    Ready,
    /// The answer to a `Ping`.
    Pong,
    /// The program runs as `pid`; everything of the worker descends from its init process, `init`.
    Spawned { id: u64, pid: u32, init: u32 },
    /// The program could not be started, and nothing is left of the attempt.
    SpawnFailed { id: u64, failure: SpawnFailure },
    /// The first process ended; `status` as waitpid(2) gives it, after so many milliseconds of processor time, with what it and the init
    /// process have waited for. The rest is being killed.
    LeaderExited { id: u64, status: i32, used_ms: u64 },
    /// Nothing of the worker is left.
    Gone { id: u64 },
}

/// Why a start failed in the guardian.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SpawnFailure {
    /// What was being done.
    pub(crate) stage: Stage,
    /// The error number of it.
    pub(crate) errno: i32,
}

/// The stage of a start that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Stage {
    /// Reading the launch data.
    Launch,
    /// fork, limits, or exec.
    Exec,
    /// Hiding and showing folders.
    Mounts,
    /// Becoming its user, or entering its Landlock domain.
    Identity,
    /// Changing into the folder.
    Folder,
    /// The worker's init process was killed before it could start anything.
    Init,
    /// Making namespaces.
    Namespaces,
    /// Making a root of its own.
    Root,
    /// Entering the filter of system calls.
    Filter,
    /// Entering its control group.
    Groups,
    /// Making the network in which it reaches the hosts of its list.
    Network,
    /// Entering the filter by which it is recorded.
    Recording,
    /// Forking the worker from its template, or making it of the process that waits.
    Template,
}

/// The file system that a worker sees: the host's but for some mounts, or a root of its own.
#[derive(Default, Debug)]
pub(crate) struct Files {
    pub(crate) mounts: Vec<Mount>,
    pub(crate) root: Option<Root>,
    /// Files that are seen with these contents, where there is no root of its own.
    pub(crate) written: Vec<FileContents>,
}

/// The program to execute, as the guardian gets it. Holds secrets: no `Debug`.
#[derive(Serialize, Deserialize)]
pub(crate) struct Launch {
    /// Path of the program, resolved.
    pub(crate) program: OsString,
    /// The command as it was written; becomes `argv[0]`.
    pub(crate) arg0: OsString,
    pub(crate) args: Vec<OsString>,
    pub(crate) env: Vec<(OsString, OsString)>,
    pub(crate) cwd: OsString,
    pub(crate) open_files: Option<u64>,
    pub(crate) cpu_seconds: Option<u64>,
    /// Longest file, in bytes.
    pub(crate) file_size: Option<u64>,
    /// Files of control groups by which it enters them.
    pub(crate) groups: Vec<OsString>,
    pub(crate) may_gain_privileges: bool,
    /// What the worker sees of the file system otherwise, what is above first.
    pub(crate) mounts: Vec<Mount>,
    /// Files that it sees with contents of their own.
    pub(crate) written: Vec<FileContents>,
    /// Whether the worker is kept apart from the processes of others; `false` for `sandbox = "none"`.
    pub(crate) is_apart: bool,
    /// The user that it runs as, with the group of that number and no other; `None` for stdiopool's own.
    pub(crate) user: Option<u32>,
    /// What the worker sees instead of the host's file system, for `sandbox = "strict"`: then it is in namespaces of its own, behind a filter of
    /// system calls, and `mounts` are none.
    pub(crate) root: Option<Root>,
    /// The network that the worker is in.
    pub(crate) network: OwnNetwork,
    /// What of the worker is recorded, if anything.
    pub(crate) recording: Option<Recording>,
    /// Whether the process is to wait, with its user still to be changed, until it is made a worker (`adoption.rs`). The descriptor that would hand
    /// out sockets is the one by which it is spoken to.
    pub(crate) waits: bool,
}

impl Launch {
    /// The namespaces in which its init process is made.
    pub(super) fn namespaces(&self) -> Namespaces {
        Namespaces::of(self.root.is_some(), self.network.is_host())
    }

    /// The launch of `spec`, whose program was found at `program`, as `user` or stdiopool's own, who sees these files.
    pub(crate) fn of(
        spec: &LaunchSpec,
        program: OsString,
        user: Option<u32>,
        files: Files,
    ) -> Self {
        use secrecy::ExposeSecret;
        Self {
            program,
            arg0: spec.program.clone().into(),
            args: spec
                .args
                .iter()
                .map(|arg| arg.expose_secret().into())
                .collect(),
            env: spec
                .env
                .iter()
                .map(|(name, value)| (name.into(), value.expose_secret().into()))
                .collect(),
            cwd: spec.cwd.clone().into_os_string(),
            open_files: spec.limits.open_files,
            cpu_seconds: spec.limits.cpu_seconds,
            file_size: spec.limits.disk,
            groups: vec![],
            may_gain_privileges: spec.may_gain_privileges,
            mounts: files.mounts,
            written: files.written,
            is_apart: spec.sandbox.is_some(),
            user,
            root: files.root,
            network: OwnNetwork::of(spec),
            recording: None,
            waits: false,
        }
    }

    /// Writes it to an anonymous memory file.
    pub(super) fn to_memfd(&self) -> std::io::Result<OwnedFd> {
        let fd = memfd_create(c"stdiopool-launch", MFdFlags::MFD_CLOEXEC)?;
        let mut file = File::from(fd);
        file.write_all(&serde_json::to_vec(self)?)?;
        Ok(file.into())
    }

    /// Reads it back.
    pub(super) fn from_memfd(fd: OwnedFd) -> std::io::Result<Self> {
        let mut file = File::from(fd);
        // The offset is shared with the writer, who left it at the end.
        file.rewind()?;
        let mut text = Vec::new();
        file.take(MAX_LAUNCH).read_to_end(&mut text)?;
        Ok(serde_json::from_slice(&text)?)
    }
}

/// Sends one packet. With a non-blocking socket it fails with `EAGAIN` when the socket is full.
pub(super) fn send(socket: RawFd, message: &impl Serialize, fds: &[RawFd]) -> nix::Result<()> {
    let text = serde_json::to_vec(message).map_err(|_| nix::Error::EINVAL)?;
    debug_assert!(text.len() <= MAX_PACKET);
    let rights = [ControlMessage::ScmRights(fds)];
    let control = if fds.is_empty() { &[] } else { &rights[..] };
    let flags = MsgFlags::MSG_NOSIGNAL;
    sendmsg::<()>(socket, &[IoSlice::new(&text)], control, flags, None)?;
    Ok(())
}

/// A packet, or the end.
#[derive(Debug)]
pub(super) enum Received<T> {
    Message(T, Vec<OwnedFd>),
    /// Not one of ours; it is skipped.
    Garbage,
    /// The other side closed.
    End,
}

/// Receives one packet; descriptors in it are close-on-exec, and none where there is no room for all.
pub(super) fn receive<T: DeserializeOwned>(socket: BorrowedFd<'_>) -> io::Result<Received<T>> {
    let mut text = [0u8; MAX_PACKET];
    let (len, fds) = receive_packet(socket, &mut text)?;
    if len == 0 && fds.is_empty() {
        return Ok(Received::End);
    }
    Ok(match serde_json::from_slice(&text[..len]) {
        Ok(message) => Received::Message(message, fds),
        Err(_) => Received::Garbage,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::{AsFd, AsRawFd};

    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    fn pair() -> (OwnedFd, OwnedFd) {
        let flags = SockFlag::SOCK_CLOEXEC;
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).expect("socketpair")
    }

    #[test]
    fn a_launch_travels_whole() {
        let (ours, theirs) = pair();
        let launch = Launch {
            program: "/bin/sh".into(),
            arg0: "sh".into(),
            args: vec!["-c".into(), "x".repeat(100_000).into()],
            env: vec![("A".into(), "é".into())],
            cwd: "/".into(),
            open_files: Some(9),
            cpu_seconds: None,
            file_size: None,
            groups: vec![],
            may_gain_privileges: false,
            mounts: vec![Mount::ShowReadOnly("/x".into())],
            is_apart: true,
            user: Some(7),
            root: None,
            network: OwnNetwork::Host,
            recording: None,
            waits: false,
            written: vec![],
        };
        let memfd = launch.to_memfd().expect("memfd");
        send(
            ours.as_raw_fd(),
            &Request::Spawn {
                id: 7,
                namespaces: Namespaces::default(),
                origin: ForkedFrom::Init,
            },
            &[memfd.as_raw_fd()],
        )
        .expect("sends");
        let Received::Message(Request::Spawn { id: 7, .. }, mut fds) =
            receive(theirs.as_fd()).expect("receives")
        else {
            panic!("another message came");
        };
        let got = Launch::from_memfd(fds.remove(0)).expect("reads");
        assert_eq!((got.args, got.env), (launch.args, launch.env));
        assert_eq!((got.open_files, got.cpu_seconds), (Some(9), None));
    }

    #[test]
    fn every_message_fits_a_packet_and_a_close_is_the_end() {
        let (ours, theirs) = pair();
        let failure = SpawnFailure {
            stage: Stage::Launch,
            errno: i32::MIN,
        };
        let longest = Report::SpawnFailed {
            id: u64::MAX,
            failure,
        };
        assert!(serde_json::to_vec(&longest).expect("serialises").len() <= MAX_PACKET);
        drop(ours);
        let end = receive::<Report>(theirs.as_fd()).expect("receives");
        assert!(matches!(end, Received::End));
    }
}

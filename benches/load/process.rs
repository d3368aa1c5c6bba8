//! Processes under test, and what the kernel says they cost (proc_pid_stat(5), proc_pid_status(5),
//! proc_pid_clear_refs(5)).

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use procfs::process::{ClearRefs, Process as Proc};
use stdiopool::worker::memory::{SwapWeight, footprint, resident};

use super::Result;

/// A child that ends with this value.
#[derive(Debug)]
pub(crate) struct Process(pub(crate) Child);

impl Process {
    /// # Errors
    /// If the program cannot be run.
    #[allow(
        clippy::disallowed_methods,
        reason = "a benchmark starts what it measures"
    )]
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let started = command.spawn();
        let program = command.get_program().to_string_lossy();
        Ok(Self(
            started.map_err(|error| format!("{program}: {error}"))?,
        ))
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Resident memory, in bytes.
    pub(crate) fn memory(&self) -> u64 {
        resident(&[self.id()])
    }

    /// Reads its stderr until a line has each marker, in their order, and returns what follows
    /// them; the rest of stderr is thrown away as it comes.
    ///
    /// # Errors
    /// If stderr ends before; with what it said.
    pub(crate) fn announced<const N: usize>(&mut self, markers: [&str; N]) -> Result<[String; N]> {
        let stderr: ChildStderr = self.0.stderr.take().ok_or("its stderr is not piped")?;
        let mut lines = BufReader::new(stderr).lines();
        let mut said = String::new();
        let mut found = [const { String::new() }; N];
        for (marker, found) in markers.iter().zip(&mut found) {
            loop {
                let Some(line) = lines.next() else {
                    return Err(format!("it ended before it said `{marker}`: {said}").into());
                };
                let line = line?;
                if let Some((_, rest)) = line.split_once(marker) {
                    rest.trim().clone_into(found);
                    break;
                }
                said.push_str(&line);
                said.push('\n');
            }
        }
        std::thread::spawn(move || lines.for_each(drop));
        Ok(found)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// `--stdiopool`, if it was given.
static OTHER_BINARY: OnceLock<PathBuf> = OnceLock::new();

/// Measures that binary instead of the one that was built. Called once, before anything starts.
pub(crate) fn measure_binary(path: PathBuf) {
    OTHER_BINARY.get_or_init(|| path);
}

/// The binary under test.
pub(crate) fn stdiopool() -> Command {
    let built = || PathBuf::from(env!("CARGO_BIN_EXE_stdiopool"));
    let mut command = Command::new(OTHER_BINARY.get().cloned().unwrap_or_else(built));
    command.stdin(Stdio::null()).stderr(Stdio::piped());
    command
}

/// The binary under test in a session of its own, see [`in_session`].
pub(crate) fn stdiopool_in_session() -> Command {
    in_session(stdiopool().get_program())
}

/// A program in a session of its own, as a service manager starts it: where the kernel shares the processors by
/// sessions (sched(7)), this one's is not its client's too.
pub(crate) fn in_session(program: &OsStr) -> Command {
    let mut command = Command::new("setsid");
    command.arg(program);
    command.stdin(Stdio::null()).stderr(Stdio::piped());
    command
}

/// Raises the soft limit on open files to the hard one: every session has a connection.
///
/// # Errors
/// If the limit cannot be read or set.
pub(crate) fn raise_open_files() -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?)
}

/// Whether a shell would find that program.
pub(crate) fn is_on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// CPU time so far, user and system, in seconds.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cpu {
    /// Of the process itself.
    pub(crate) own: f64,
    /// Of it and everything descended from it, ended children included.
    pub(crate) tree: f64,
}

impl Cpu {
    /// # Errors
    /// If there is no such process.
    pub(crate) fn of(root: u32) -> Result<Self> {
        let tick = 1.0 / procfs::ticks_per_second() as f64;
        let own = stat(root)?;
        let mut tree = 0;
        for pid in tree_of(root)? {
            // One that has ended meanwhile is in its parent's figure, next time.
            if let Ok(stat) = stat(pid) {
                let ended = u64::try_from(stat.cutime + stat.cstime).unwrap_or(0);
                tree += stat.utime + stat.stime + ended;
            }
        }
        Ok(Self {
            own: (own.utime + own.stime) as f64 * tick,
            tree: tree as f64 * tick,
        })
    }

    /// Adds what was used between two looks.
    pub(crate) fn add(&mut self, before: Self, after: Self) {
        self.own += after.own - before.own;
        self.tree += after.tree - before.tree;
    }
}

/// Time that all threads of the process and of everything descended from it have run, as exact as the kernel has it
/// (Documentation/scheduler/sched-stats.rst). Those that have ended count nothing.
///
/// # Errors
/// If /proc cannot be read.
pub(crate) fn on_cpu(root: u32) -> Result<Duration> {
    let mut nanos = 0;
    for pid in tree_of(root)? {
        let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
            continue;
        };
        for task in tasks.flatten() {
            let text = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            let run = text.split(' ').next().and_then(|it| it.parse::<u64>().ok());
            nanos += run.unwrap_or(0);
        }
    }
    Ok(Duration::from_nanos(nanos))
}

fn open(pid: u32) -> Result<Proc> {
    let opened = Proc::new(i32::try_from(pid)?);
    Ok(opened.map_err(|error| format!("process {pid}: {error}"))?)
}

fn stat(pid: u32) -> Result<procfs::process::Stat> {
    Ok(open(pid)?.stat()?)
}

/// The process and everything descended from it.
///
/// # Errors
/// If /proc cannot be read.
pub(crate) fn tree_of(root: u32) -> Result<Vec<u32>> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for stat in procfs::process::all_processes()?.filter_map(|one| one.ok()?.stat().ok()) {
        if let (Ok(parent), Ok(pid)) = (u32::try_from(stat.ppid), u32::try_from(stat.pid)) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut tree = vec![root];
    let mut next = 0;
    while let Some(pid) = tree.get(next) {
        tree.extend(children.remove(pid).unwrap_or_default());
        next += 1;
    }
    Ok(tree)
}

/// MiB that the process and everything descended from it hold: the proportional share, or what is
/// resident of those whose share may not be read.
///
/// # Errors
/// If /proc cannot be read.
pub(crate) fn tree_memory(root: u32) -> Result<f64> {
    let swap = SwapWeight::now();
    let of_one = |pid: u32| footprint(&[pid]).map_or_else(|| resident(&[pid]), |it| it.held(swap));
    let bytes: u64 = tree_of(root)?.into_iter().map(of_one).sum();
    Ok(mib(bytes))
}

/// Sets the peak of a process's resident memory back to what it is now.
///
/// # Errors
/// If this user may not.
pub(crate) fn reset_peak(pid: u32) -> Result<()> {
    Ok(open(pid)?.clear_refs(ClearRefs::PeakRSS)?)
}

/// The peak of resident memory since then, in bytes.
///
/// # Errors
/// If the kernel does not say.
pub(crate) fn peak(pid: u32) -> Result<u64> {
    let kib = open(pid)?.status()?.vmhwm.ok_or("no VmHWM")?;
    Ok(kib * 1024)
}

pub(crate) fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

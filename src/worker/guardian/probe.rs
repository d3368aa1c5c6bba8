//! Whether this host lets workers have the isolation of `sandbox = "strict"`, and no network: tried once, for real, in a process
//! that does what a worker's init process and leader do, and ends.

use std::io;
use std::sync::OnceLock;

use nix::sys::prctl::set_no_new_privs;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{getegid, geteuid};

use super::domain::{self, FileRules};
use super::init::leave;
use super::namespaces::{Namespaces, fork_into, make_others, map_user};
use super::network::OwnNetwork;
use super::root::{Root, RootEntry};
use super::{filter, recording};
use crate::process::{ask_own_program, may_look_into_others};

/// First argument that makes this program try isolation; the second says which.
const ARGUMENT: &str = "__isolation";
/// The option that carries both arguments: programs other than this one refuse it.
const OF: &str = "--of";
const STRICT: &str = "strict";
const NETWORK: &str = "network";
const LIST: &str = "list";
const RECORD: &str = "record";

/// Why workers cannot be isolated here.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct IsolationUnavailable(String);

impl IsolationUnavailable {
    /// The reason that tenants have no users of their own, though stdiopool is root.
    pub(crate) fn users() -> Self {
        Self::new(
            "tenants' servers would run as root, as stdiopool has no users for them (`sandbox.uids`)",
        )
    }

    fn new(why: impl std::fmt::Display) -> Self {
        Self(why.to_string())
    }
}

/// Whether workers can be started with `sandbox = "strict"` here. The first call starts a process, and blocks until it has ended.
///
/// # Errors
/// [`IsolationUnavailable`] says which part is missing, and why.
pub fn can_be_strict() -> Result<(), IsolationUnavailable> {
    static FOUND: OnceLock<Result<(), IsolationUnavailable>> = OnceLock::new();
    FOUND.get_or_init(|| ask(STRICT)).clone()
}

/// Whether workers can be started without a network here. The first call starts a process, and blocks until it has ended.
///
/// # Errors
/// [`IsolationUnavailable`] says why not.
pub fn can_have_no_network() -> Result<(), IsolationUnavailable> {
    static FOUND: OnceLock<Result<(), IsolationUnavailable>> = OnceLock::new();
    FOUND.get_or_init(|| ask(NETWORK)).clone()
}

/// Whether workers can be started that reach the hosts of a list alone. The first call starts a process, and blocks until it has ended.
///
/// # Errors
/// [`IsolationUnavailable`] says why not.
pub fn can_have_list_of_hosts() -> Result<(), IsolationUnavailable> {
    static FOUND: OnceLock<Result<(), IsolationUnavailable>> = OnceLock::new();
    FOUND.get_or_init(|| ask(LIST)).clone()
}

/// Whether workers can be recorded here, as `stdiopool profile` and `sandbox = "observe"` do. With `has_users` they run as other users than
/// this process. The first call starts a process, and blocks until it has ended.
///
/// # Errors
/// [`IsolationUnavailable`] says why not, and what helps.
pub fn can_be_recorded(has_users: bool) -> Result<(), IsolationUnavailable> {
    static FOUND: OnceLock<Result<(), IsolationUnavailable>> = OnceLock::new();
    if has_users && !may_look_into_others() {
        return Err(IsolationUnavailable::new(
            "root lacks CAP_SYS_PTRACE here, without which it may not read what servers of other users ask for: give it that (`docker run --cap-add SYS_PTRACE`), or run as another user",
        ));
    }
    // Yama: 2 is for those with CAP_SYS_PTRACE alone, 3 for nobody.
    let scope = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope");
    let scope = scope.ok().and_then(|text| text.trim().parse::<u8>().ok());
    let most = if may_look_into_others() { 2 } else { 1 };
    if let Some(scope) = scope.filter(|scope| *scope > most) {
        return Err(IsolationUnavailable::new(format_args!(
            "kernel.yama.ptrace_scope is {scope}, so that no process may look into another: set it to {most} or less (sysctl)"
        )));
    }
    FOUND.get_or_init(|| ask(RECORD)).clone()
}

fn ask(what: &str) -> Result<(), IsolationUnavailable> {
    let answer = ask_own_program([ARGUMENT, OF, what])
        .map_err(|error| IsolationUnavailable::new(format_args!("not tried: {error}")))?;
    match answer.strip_prefix("no: ") {
        None if answer == "yes" => Ok(()),
        None => Err(IsolationUnavailable::new(
            "the process that tried it was killed",
        )),
        Some(why) => Err(IsolationUnavailable::new(why)),
    }
}

/// Tries isolation, says what came of it, and ends, if the program was started for that; else does nothing.
pub(super) fn try_if_asked() {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_none_or(|arg| arg != ARGUMENT) {
        return;
    }
    let what = args.nth(1).unwrap_or_default();
    let tried = match what.to_str() {
        Some(STRICT) => try_as_init(IsolationProbe::Strict),
        Some(LIST) => try_as_init(IsolationProbe::List),
        Some(RECORD) => try_to_record(),
        _ => try_as_init(IsolationProbe::NoNetwork),
    };
    match tried {
        Ok(()) => say("yes"),
        Err(why) => say(&format!("no: {why}")),
    }
    std::process::exit(0);
}

/// The isolation that is tried.
#[derive(Clone, Copy, PartialEq, Eq)]
enum IsolationProbe {
    Strict,
    NoNetwork,
    List,
}

#[allow(clippy::print_stdout, reason = "it is asked by this pipe")]
fn say(text: &str) {
    print!("{text}");
}

/// Names what was being done when it failed.
fn step<T>(what: &str, done: io::Result<T>) -> Result<T, IsolationUnavailable> {
    done.map_err(|error| IsolationUnavailable::new(format_args!("{what}: {error}")))
}

fn try_to_record() -> Result<(), IsolationUnavailable> {
    step(
        "privileges cannot be given up",
        set_no_new_privs().map_err(Into::into),
    )?;
    step(
        "system calls cannot be handed to another process (seccomp with user notification: Linux 5.5, and this process not behind such a filter already)",
        recording::try_out(),
    )
}

#[allow(unsafe_code, reason = "fork, in a process of one thread")]
fn try_as_init(probe: IsolationProbe) -> Result<(), IsolationUnavailable> {
    let is_strict = probe == IsolationProbe::Strict;
    let (uid, gid) = (geteuid(), getegid());
    let namespaces = Namespaces::of(is_strict, is_strict);
    let what = match namespaces.user {
        true => "namespaces of users and processes cannot be made",
        false => "namespaces of processes cannot be made",
    };
    // SAFETY: this process has started no thread.
    let child = step(what, unsafe { fork_into(namespaces) })?;
    let Some(child) = child else {
        leave(|| {
            let tried = match namespaces.user {
                true => step("a user cannot be mapped", map_user(uid, gid)),
                false => Ok(()),
            };
            if let Err(why) = tried.and_then(|()| try_as_leader(probe)) {
                say(&format!("no: {why}"));
                let _nobody_listens = io::Write::flush(&mut io::stdout());
                // The parent says nothing more then.
                std::process::exit(1);
            }
        });
    };
    match waitpid(child, None) {
        Ok(WaitStatus::Exited(_, 0)) => Ok(()),
        Ok(WaitStatus::Exited(_, _)) => std::process::exit(0),
        _ => Err(IsolationUnavailable::new(
            "the process that tried it was killed",
        )),
    }
}

fn try_as_leader(probe: IsolationProbe) -> Result<(), IsolationUnavailable> {
    let is_strict = probe == IsolationProbe::Strict;
    let made = make_others(is_strict, is_strict);
    if !is_strict {
        step("a namespace of the network cannot be made", made)?;
        return match probe {
            IsolationProbe::List => step(
                "addresses cannot be led to sockets of it (route, packet socket)",
                OwnNetwork::try_out(),
            ),
            IsolationProbe::Strict | IsolationProbe::NoNetwork => Ok(()),
        };
    }
    step(
        "namespaces of mounts, hostname and System V objects cannot be made",
        made,
    )?;
    let root = Root {
        entries: vec![RootEntry::ReadOnly("/usr".into())],
        tmp: None,
        files: vec![],
    };
    step(
        "a root of its own cannot be made (Linux before 5.12, or a container whose /proc is masked?)",
        root.enter(geteuid().is_root()),
    )?;
    step(
        "privileges cannot be given up",
        set_no_new_privs().map_err(Into::into),
    )?;
    step(
        "there is no Landlock (Linux before 5.19, or built or booted without)",
        domain::enter(&FileRules::writable(root.writable())),
    )?;
    step("system calls cannot be filtered (seccomp)", filter::apply())
}

//! What is looked at, one function each.

use std::time::Duration;

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use nix::unistd::geteuid;
use tokio::process::Command;

use super::check::Check;
use crate::config::{self, Config};
use crate::daemon::{install_sandbox, lacking_of_installs};
use crate::ids::ServerName;
use crate::process::{NoUsers, take_precedence};
use crate::tenancy::users_of_host;
use crate::worker::memory::{can_hibernate, has_zram, memory_pressure};
use crate::worker::{
    Domains, can_be_primed, can_be_recorded, can_be_strict, can_have_list_of_hosts,
    can_have_no_network, can_make_read_only, domains, groups,
};

/// How long a program may take to say its version.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);
/// Processes and descriptors that should do for a pool of a few hundred `npx` trees.
const ENOUGH_FILES: u64 = 4_096;
const ENOUGH_PROCESSES: u64 = 4_096;

pub(super) async fn checks() -> Vec<Check> {
    vec![
        hibernation(),
        pressure(),
        cgroup(),
        node().await,
        uv().await,
        strict(),
        primed_starts(),
        no_network(),
        list_of_hosts(),
        recording(),
        processes_apart(),
        goes_first(),
        open_files(),
        processes(),
    ]
}

fn hibernation() -> Check {
    let what = "hibernation";
    match can_hibernate() {
        Ok(()) if has_zram() => Check::ok(what, "swap in compressed memory (zram), CAP_SYS_NICE"),
        Ok(()) => Check::lacks(
            what,
            "works, with swap on a disk",
            "waking a worker takes as long as the disk; compressed memory takes 10 to 60 ms",
            "add zram with a higher priority: scripts/zram, or Debian's package zram-tools",
        ),
        Err(why) => Check::lacks(
            what,
            format!("off: {why}"),
            "idle workers keep all their memory until they are stopped, so that fewer fit",
            "swap in compressed memory: scripts/zram, or Debian's package zram-tools; run with CAP_SYS_NICE (systemd: AmbientCapabilities=CAP_SYS_NICE)",
        ),
    }
}

fn primed_starts() -> Check {
    let what = "primed starts";
    match can_be_primed() {
        Ok(()) => Check::ok(
            what,
            "workers of Python and node packages can begin with their libraries imported",
        ),
        Err(why) => Check::lacks(
            what,
            format!("off: {why}"),
            "each worker of a Python package imports its libraries for itself: 0.5 to 2 s and twice the memory",
            "run as root, on a host that lets its users make user namespaces",
        ),
    }
}

fn pressure() -> Check {
    let what = "memory pressure";
    match memory_pressure() {
        Some(percent) => Check::ok(
            what,
            format!("told by the kernel: {percent} % of the last 10 s"),
        ),
        None => Check::lacks(
            what,
            "not told by the kernel",
            "idle workers make room when `pool.max_memory` is reached, not when the host runs short for other reasons",
            "boot with psi=1",
        ),
    }
}

fn cgroup() -> Check {
    let what = "control groups";
    let found = groups();
    let all = [
        ("pids", &found.pids),
        ("memory", &found.memory),
        ("cpu", &found.cpu),
    ];
    let (has, lacks): (Vec<_>, Vec<_>) = all.iter().partition(|(_, base)| base.is_some());
    let names = |all: &[&(&str, &Option<std::path::PathBuf>)]| {
        all.iter()
            .map(|(name, _)| *name)
            .collect::<Vec<_>>()
            .join(", ")
    };
    let version = if found.is_unified { 2 } else { 1 };
    if lacks.is_empty() {
        return Check::ok(what, format!("version {version}, for {}", names(&has)));
    }
    let found = match has.is_empty() {
        true => "none that this user may make".to_owned(),
        false => format!(
            "version {version}, for {}, not for {}",
            names(&has),
            names(&lacks)
        ),
    };
    Check::lacks(
        what,
        found,
        "`limits.memory` is kept by looking once a second, `limits.pids` by counting processes every few seconds, `limits.cpu` and `limits.cpu_weight` not at all, and a tenant with many busy processes takes more of the processors than one with few",
        "run as root, or let systemd delegate them (Delegate=yes)",
    )
}

async fn node() -> Check {
    let what = "node, npx";
    let lost = "servers started with `npx` do not start";
    let (node, npx) = (version("node").await, version("npx").await);
    match (node, npx) {
        (Some(node), Some(npx)) => {
            let major = node.trim_start_matches('v').split('.').next();
            let is_old = major.and_then(|m| m.parse::<u32>().ok()).unwrap_or(0) < 22;
            let found = format!("node {node}, npx {npx}");
            if is_old {
                let lost = "node 22 starts the same server in two thirds of the time";
                let remedy = "a newer one: npm install --global node@22";
                return Check::old(what, found, lost, remedy);
            }
            Check::ok(what, found)
        }
        (Some(node), None) => Check::lacks(
            what,
            format!("node {node}, no npx"),
            lost,
            "apt-get install npm",
        ),
        (None, _) => Check::lacks(
            what,
            "not on the PATH",
            lost,
            "scripts/install node, or apt-get install nodejs npm",
        ),
    }
}

async fn uv() -> Check {
    let what = "uv, uvx";
    match version("uvx").await {
        Some(version) => Check::ok(what, version),
        None => Check::lacks(
            what,
            "not on the PATH",
            "servers started with `uvx` do not start",
            "scripts/install uv, or pip install uv",
        ),
    }
}

fn strict() -> Check {
    let what = "sandbox = \"strict\"";
    match can_be_strict() {
        Ok(()) => Check::ok(
            what,
            "namespaces, a root of its own, Landlock and a filter of system calls (bubblewrap is not needed)",
        ),
        Err(why) => Check::lacks(
            what,
            format!("cannot be had: {why}"),
            "servers with `sandbox = \"strict\"` are refused",
            "Linux 5.19 or later with Landlock and seccomp; run as root with CAP_SYS_ADMIN, or allow user namespaces (kernel.apparmor_restrict_unprivileged_userns = 0, user.max_user_namespaces > 0); in a container, a /proc without masked paths",
        ),
    }
}

fn no_network() -> Check {
    let what = "network = \"off\"";
    match can_have_no_network() {
        Ok(()) => Check::ok(
            what,
            "servers can have a network of their own, with nobody in it",
        ),
        Err(why) => Check::lacks(
            what,
            format!("cannot be had: {why}"),
            "servers with `network = \"off\"` are refused",
            "run as root with CAP_SYS_ADMIN, or allow user namespaces (kernel.apparmor_restrict_unprivileged_userns = 0, user.max_user_namespaces > 0)",
        ),
    }
}

fn list_of_hosts() -> Check {
    let what = "network = { allow = […] }";
    match can_have_list_of_hosts() {
        Ok(()) => Check::ok(
            what,
            "servers can have a network of their own that leads to the hosts of a list",
        ),
        Err(why) => Check::lacks(
            what,
            format!("cannot be had: {why}"),
            "servers whose `network` has a list are refused",
            "run as root with CAP_SYS_ADMIN, CAP_NET_ADMIN and CAP_NET_RAW, or allow user namespaces (kernel.apparmor_restrict_unprivileged_userns = 0, user.max_user_namespaces > 0)",
        ),
    }
}

fn recording() -> Check {
    let what = "stdiopool profile, sandbox = \"observe\"";
    match can_be_recorded(nix::unistd::geteuid().is_root()) {
        Ok(()) => Check::ok(what, "what servers do can be recorded"),
        Err(why) => Check::lacks(
            what,
            format!("cannot be had: {why}"),
            "servers with `sandbox = \"observe\"` are refused, and none can be profiled",
            "Linux 5.5 or later with seccomp; as root, CAP_SYS_PTRACE; kernel.yama.ptrace_scope of 0 or 1",
        ),
    }
}

/// Whether no worker of that file can write to what all tenants run.
pub(super) fn read_only_packages(config: Option<&Config>) -> Check {
    let what = "read-only packages";
    let open = config.map(|config| config.without_sandbox().map(ServerName::as_str));
    let open: Vec<_> = open.into_iter().flatten().collect();
    if !open.is_empty() && !geteuid().is_root() {
        return Check::lacks(
            what,
            format!("`sandbox` is \"none\" for {}", open.join(", ")),
            "these servers may write to the installed packages that all tenants run, and to what else is in the state folder; packages are compared with what was installed before each start from them",
            "run stdiopool as root, or take `sandbox = \"none\"` off",
        );
    }
    if can_make_read_only() {
        return Check::ok(
            what,
            "workers can have mount namespaces of their own, in which the state folder is hidden too",
        );
    }
    Check::lacks(
        what,
        "workers cannot have mount namespaces of their own",
        "only permissions keep a worker from changing the installed packages that all tenants run, and from what else is in the state folder",
        "run as root with CAP_SYS_ADMIN, or allow user namespaces (kernel.apparmor_restrict_unprivileged_userns = 0, user.max_user_namespaces > 0)",
    )
}

/// Whether each tenant's servers run as a user of their own.
pub(super) fn users(config: Option<&Config>) -> Check {
    let what = "users of tenants";
    let default = config::single_command(vec!["true".to_owned()]);
    let found = match (config, &default) {
        (Some(config), _) => users_of_host(config),
        (None, Ok(config)) => users_of_host(config),
        (None, Err(_)) => Err(NoUsers::NotRoot(None)),
    };
    match found {
        Err(NoUsers::NotRoot(None)) => Check::ok(
            what,
            "subordinate users, which `serve` takes: one for each tenant",
        ),
        Ok(range) => Check::ok(
            what,
            format!("{}-{}, one for each tenant", range.start(), range.end()),
        ),
        Err(why) => Check::lacks(
            what,
            format!("none of their own: {why}"),
            "all tenants' servers run as one Unix user: a server reads and writes what that user may, other tenants' data too where it has no mount namespace of its own",
            "give the user that stdiopool runs as subordinate users (/etc/subuid and /etc/subgid, 65536 of them, and Debian's uidmap); or run as root, with CAP_SETUID, CAP_SETGID, CAP_CHOWN, CAP_KILL, CAP_FOWNER and CAP_DAC_OVERRIDE; or run one stdiopool for each group of tenants who trust each other",
        ),
    }
}

/// What install scripts and builds of packages are kept apart with.
pub(super) fn installs(config: Option<&Config>) -> Check {
    let what = "sandbox of installs";
    let default = config::single_command(vec!["true".to_owned()]);
    let Some(config) = config.or(default.as_ref().ok()) else {
        return Check::lacks(what, "not looked at", "", "");
    };
    let sandbox = install_sandbox(config, vec![]);
    let lacking = lacking_of_installs(&sandbox);
    if lacking.is_empty() {
        let users = sandbox.users.map_or(String::new(), |users| {
            format!(
                ", as users of their own ({}-{})",
                users.start(),
                users.end()
            )
        });
        return Check::ok(
            what,
            format!(
                "install scripts and builds of packages write to the package's own folder alone and see nothing of the state folder{users}"
            ),
        );
    }
    let names: Vec<&str> = lacking.iter().map(|(name, _)| *name).collect();
    let may: Vec<String> = lacking
        .iter()
        .map(|(name, may)| format!("without {name} they may {may}"))
        .collect();
    Check::lacks(
        what,
        format!(
            "install scripts and builds of packages lack {}",
            names.join(", ")
        ),
        &may.join("; "),
        "run as root with what \"users of tenants\" and \"read-only packages\" name, on Linux 5.19 or later with Landlock; or install packages without scripts (npm_config_ignore_scripts = \"true\")",
    )
}

fn processes_apart() -> Check {
    let what = "Landlock";
    match domains() {
        Domains::Signals => Check::ok(
            what,
            "closes workers' memory, environment and descriptors to each other, signals and abstract sockets",
        ),
        Domains::Memory => Check::old(
            what,
            "closes workers' memory, environment and descriptors to each other",
            "workers can connect to each other's abstract sockets, and, where they run as one user, send each other signals",
            "Linux 6.12 or later",
        ),
        Domains::None => Check::lacks(
            what,
            "not there, or older than Linux 5.19",
            "where all workers run as one user, they read each other's memory and environment, secrets included, and signal each other",
            "a kernel with CONFIG_SECURITY_LANDLOCK, and landlock in its lsm= parameter",
        ),
    }
}

/// Whether the supervisor gets a processor before busy workers do.
fn goes_first() -> Check {
    let what = "precedence";
    match std::thread::spawn(take_precedence).join() {
        Ok(Ok(())) => Check::ok(
            what,
            "`serve` goes before its workers (niceness -10), unless it is started with another niceness",
        ),
        _ => Check::lacks(
            what,
            "`serve` has the niceness of its workers",
            "beside servers that keep the processors busy, calls of others wait longer",
            "run with CAP_SYS_NICE (systemd: AmbientCapabilities=CAP_SYS_NICE, or LimitNICE=-10)",
        ),
    }
}

fn open_files() -> Check {
    let what = "open files";
    let hard = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(_, hard)| hard);
    let found = if hard == RLIM_INFINITY {
        "no limit".to_owned()
    } else {
        format!("up to {hard}, 4 for each worker and 1 for each connection")
    };
    if hard >= ENOUGH_FILES {
        return Check::ok(what, found);
    }
    Check::lacks(
        what,
        found,
        "beyond that neither workers nor connections can be opened",
        "ulimit -Hn 65536, or LimitNOFILE=65536 in systemd",
    )
}

fn processes() -> Check {
    let what = "processes";
    let number = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse().ok();
    let of_host = number("/proc/sys/kernel/pid_max").unwrap_or(u64::MAX);
    let of_user = getrlimit(Resource::RLIMIT_NPROC).map_or(u64::MAX, |(soft, _)| soft);
    let most = of_host.min(of_user);
    let found = format!("up to {most}; a node server has about 10 threads, `npx` triples that");
    if most >= ENOUGH_PROCESSES {
        return Check::ok(what, found);
    }
    Check::lacks(
        what,
        found,
        "beyond that no worker can be started",
        "ulimit -u 65536, or TasksMax=infinity in systemd",
    )
}

/// The first line that a program says to `--version`; `None` if it is not there or fails.
async fn version(program: &str) -> Option<String> {
    let output = Command::new(program)
        .arg("--version")
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PROBE_TIMEOUT, output)
        .await
        .ok()?
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let line = text.lines().next()?.trim().to_owned();
    (output.status.success() && !line.is_empty()).then_some(line)
}

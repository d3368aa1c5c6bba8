//! What is looked at, one function each.

use std::path::Path;
use std::time::Duration;

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use tokio::process::Command;

use super::Check;
use crate::worker::can_make_read_only;
use crate::worker::memory::{can_hibernate, has_zram, memory_pressure};

/// How long a program may take to say its version.
const PATIENCE: Duration = Duration::from_secs(10);
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
        bubblewrap().await,
        read_only_packages(),
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
    let what = "cgroup v2";
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        return Check::ok(what, "mounted (this version does not use it)");
    }
    Check::lacks(
        what,
        "not mounted at /sys/fs/cgroup",
        "nothing in this version: `limits.memory` is kept by looking once a second",
        "boot with systemd.unified_cgroup_hierarchy=1",
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

async fn bubblewrap() -> Check {
    let what = "bubblewrap";
    match version("bwrap").await {
        Some(version) => Check::ok(what, format!("{version} (this version does not use it)")),
        None => Check::lacks(
            what,
            "not on the PATH",
            "nothing in this version: `sandbox` does not need it yet",
            "apt-get install bubblewrap",
        ),
    }
}

fn read_only_packages() -> Check {
    let what = "read-only packages";
    if can_make_read_only() {
        return Check::ok(what, "workers can have mount namespaces of their own");
    }
    Check::lacks(
        what,
        "workers cannot have mount namespaces of their own",
        "only permissions keep a worker from changing the installed packages that all tenants run",
        "run as root with CAP_SYS_ADMIN, or allow user namespaces (kernel.apparmor_restrict_unprivileged_userns = 0, user.max_user_namespaces > 0)",
    )
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
    let output = tokio::time::timeout(PATIENCE, output).await.ok()?.ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let line = text.lines().next()?.trim().to_owned();
    (output.status.success() && !line.is_empty()).then_some(line)
}

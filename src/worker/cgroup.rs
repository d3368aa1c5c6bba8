//! A control group for each worker whose server has limits that only the kernel can keep: processes, memory, processor time
//! (cgroups(7)).
//!
//! Version 2 is used where it has the controllers, else version 1, each where stdiopool may make groups: as root, or where
//! a service manager has delegated its own. A worker's leader enters the group before it is anything else, so that all it starts is in there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::ids::WorkerId;
use crate::launch::ProcessLimits;

/// What the groups of this program begin with; its pid follows.
const PREFIX: &str = "stdiopool-";
/// Where this program and its guardian move to in a delegated group, of which only the leaves may have processes.
const SUPERVISOR: &str = "stdiopool.supervisor";
/// Microseconds in which a share of processor time is used up.
const PERIOD: u64 = 100_000;

/// Where groups are made, by controller. `None`: they cannot be.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Groups {
    /// `limits.pids`.
    pub pids: Option<PathBuf>,
    /// `limits.memory`.
    pub memory: Option<PathBuf>,
    /// `limits.cpu`.
    pub cpu: Option<PathBuf>,
    /// The groups are of version 2.
    pub is_unified: bool,
}

/// Where groups are made on this host. The first call looks, and removes what runs before have left.
pub fn groups() -> &'static Groups {
    static FOUND: OnceLock<Groups> = OnceLock::new();
    FOUND.get_or_init(|| {
        let groups = Groups::find().unwrap_or_default();
        for base in groups.bases() {
            remove_left(base);
        }
        groups
    })
}

impl Groups {
    fn find() -> io::Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let own = fs::read_to_string("/proc/self/cgroup")?;
        let unified = unified_folder(&mounts, &own);
        if let Some(base) = unified.filter(|base| has_controllers(base)) {
            let has = |name| enabled(&base, name).then(|| base.clone());
            return Ok(Self {
                pids: has("pids"),
                memory: has("memory"),
                cpu: has("cpu"),
                is_unified: true,
            });
        }
        let of = |name| folder_of(&mounts, &own, name).filter(|base| can_make(base));
        Ok(Self {
            pids: of("pids"),
            memory: of("memory"),
            cpu: of("cpu"),
            is_unified: false,
        })
    }

    fn bases(&self) -> Vec<&Path> {
        let all = [&self.pids, &self.memory, &self.cpu];
        let mut all: Vec<_> = all.into_iter().flatten().map(PathBuf::as_path).collect();
        all.dedup();
        all
    }
}

/// The folder of this process in the hierarchy of a controller, of version 1.
fn folder_of(mounts: &str, own: &str, controller: &str) -> Option<PathBuf> {
    let own = own.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let names = fields.next()?;
        names
            .split(',')
            .any(|it| it == controller)
            .then_some(fields.next()?)
    })?;
    group_folder(mounts, own, |kind, options| {
        kind == "cgroup" && options.split(',').any(|it| it == controller)
    })
}

/// The folder of this process in the one hierarchy of version 2.
fn unified_folder(mounts: &str, own: &str) -> Option<PathBuf> {
    let own = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    group_folder(mounts, own, |kind, _| kind == "cgroup2")
}

/// Where a group is mounted. `mounts` as in proc_pid_mountinfo(5).
fn group_folder(mounts: &str, own: &str, is_it: impl Fn(&str, &str) -> bool) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (mounted, of) = line.split_once(" - ")?;
        let mut of = of.split(' ');
        let (kind, options) = (of.next()?, of.nth(1)?);
        let mut mounted = mounted.split(' ').skip(3);
        let (root, at) = (mounted.next()?, mounted.next()?);
        if !is_it(kind, options) {
            return None;
        }
        // In a container only what is below its own group is mounted, or named.
        let below = Path::new(own).strip_prefix(root).unwrap_or(Path::new(""));
        let below = below.strip_prefix("/").unwrap_or(below);
        let folder = Path::new(at).join(below);
        Some(if folder.is_dir() { folder } else { at.into() })
    })
}

fn has_controllers(base: &Path) -> bool {
    let has = fs::read_to_string(base.join("cgroup.controllers")).unwrap_or_default();
    has.split_whitespace()
        .any(|it| it == "pids" || it == "memory")
        && can_make(base)
}

/// Whether groups can be made in one.
fn can_make(base: &Path) -> bool {
    let tried = base.join(format!("{PREFIX}{}-tried", std::process::id()));
    let made = fs::create_dir(&tried).is_ok();
    made && fs::remove_dir(&tried).is_ok()
}

/// Gives groups below one a controller.
fn enabled(base: &Path, controller: &str) -> bool {
    let file = base.join("cgroup.subtree_control");
    let is_there = || {
        let text = fs::read_to_string(&file).unwrap_or_default();
        text.split_whitespace().any(|it| it == controller)
    };
    let enable = || fs::write(&file, format!("+{controller}"));
    if is_there() || enable().is_ok() {
        return true;
    }
    // The base has processes, which only leaves may.
    move_to_leaf(base).is_ok() && enable().is_ok()
}

/// Moves this process, and those it has started, from a group into one below.
fn move_to_leaf(base: &Path) -> io::Result<()> {
    let leaf = base.join(SUPERVISOR);
    fs::create_dir_all(&leaf)?;
    for pid in fs::read_to_string(base.join("cgroup.procs"))?.lines() {
        // One that has ended meanwhile is not there.
        let _ended = fs::write(leaf.join("cgroup.procs"), pid);
    }
    Ok(())
}

/// Removes groups of runs that were killed.
fn remove_left(base: &Path) {
    for item in fs::read_dir(base).into_iter().flatten().flatten() {
        let name = item.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        let Some(pid) = pid.and_then(|pid| pid.parse::<u32>().ok()) else {
            continue;
        };
        if !Path::new("/proc").join(pid.to_string()).exists() {
            remove(&item.path());
        }
    }
}

/// Removes a group with those below; one with processes stays.
fn remove(group: &Path) {
    for item in fs::read_dir(group).into_iter().flatten().flatten() {
        if item.file_type().is_ok_and(|kind| kind.is_dir()) {
            let _has_processes = fs::remove_dir(item.path());
        }
    }
    let _has_others = fs::remove_dir(group);
}

/// The control group of one worker; goes when it is dropped.
#[derive(Debug)]
pub(crate) struct Group {
    /// One in each hierarchy.
    folders: Vec<PathBuf>,
    pids: Option<PathBuf>,
    memory: Option<PathBuf>,
}

/// How often a worker was kept from something.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Breaches {
    /// The worker could start no further process or thread.
    pub pids: u64,
    /// The kernel killed a process of it for memory.
    pub memory: u64,
}

impl Group {
    /// Makes the group that these limits need; `None` where they need none, or there can be none.
    ///
    /// # Errors
    /// When the kernel refuses it; nothing of it is left then.
    pub(crate) fn make(worker: WorkerId, limits: &ProcessLimits) -> io::Result<Option<Self>> {
        Self::make_named(&worker.to_string(), limits)
    }

    /// Makes one of that name, which no other of this process has.
    ///
    /// # Errors
    /// As [`Group::make`].
    pub(super) fn make_named(name: &str, limits: &ProcessLimits) -> io::Result<Option<Self>> {
        let wants = [
            limits.pids.is_some(),
            limits.memory.is_some(),
            limits.cpu_millis.is_some(),
        ];
        if wants == [false; 3] {
            return Ok(None);
        }
        let found = groups();
        let mut group = Self {
            folders: vec![],
            pids: None,
            memory: None,
        };
        let mut folder = |base: &Option<PathBuf>| -> io::Result<Option<PathBuf>> {
            let Some(base) = base else { return Ok(None) };
            let run = base.join(format!("{PREFIX}{}", std::process::id()));
            if !run.is_dir() {
                fs::create_dir_all(&run)?;
                if found.is_unified {
                    let all = [
                        ("pids", &found.pids),
                        ("memory", &found.memory),
                        ("cpu", &found.cpu),
                    ];
                    for (name, _) in all.iter().filter(|(_, base)| base.is_some()) {
                        fs::write(run.join("cgroup.subtree_control"), format!("+{name}"))?;
                    }
                }
            }
            let folder = run.join(name);
            fs::create_dir_all(&folder)?;
            if !group.folders.contains(&folder) {
                group.folders.push(folder.clone());
            }
            Ok(Some(folder))
        };
        let pids = match limits.pids {
            Some(limit) => folder(&found.pids)?.map(|it| (it, limit)),
            None => None,
        };
        let memory = match limits.memory {
            Some(limit) => folder(&found.memory)?.map(|it| (it, limit)),
            None => None,
        };
        let cpu = match limits.cpu_millis {
            Some(limit) => folder(&found.cpu)?.map(|it| (it, limit)),
            None => None,
        };
        if let Some((folder, limit)) = pids {
            fs::write(folder.join("pids.max"), limit.to_string())?;
            group.pids = Some(folder);
        }
        if let Some((folder, limit)) = memory {
            limit_memory(&folder, limit, found.is_unified)?;
            group.memory = Some(folder);
        }
        if let Some((folder, millis)) = cpu {
            limit_cpu(&folder, millis, found.is_unified)?;
        }
        Ok((!group.folders.is_empty()).then_some(group))
    }

    /// Files by which a process enters it, by writing 0.
    pub(super) fn procs_files(&self) -> Vec<PathBuf> {
        let folders = self.folders.iter();
        folders.map(|folder| folder.join("cgroup.procs")).collect()
    }

    /// How often its limits were reached so far.
    pub(crate) fn breaches(&self) -> Breaches {
        let events = |folder: &Option<PathBuf>, files: [&str; 2], key: &str| {
            let folder = folder.as_ref()?;
            let text = files
                .iter()
                .find_map(|file| fs::read_to_string(folder.join(file)).ok())?;
            counted(&text, key)
        };
        let pids = events(&self.pids, ["pids.events", "pids.events"], "max ");
        let memory = events(
            &self.memory,
            ["memory.events", "memory.oom_control"],
            "oom_kill ",
        );
        Breaches {
            pids: pids.unwrap_or_default(),
            memory: memory.unwrap_or_default(),
        }
    }

    /// Nothing of the worker is left: removes it.
    pub(super) fn remove(&self) {
        for folder in &self.folders {
            let _gone_or_tried_again = fs::remove_dir(folder);
            if let Some(run) = folder.parent() {
                // The last one takes it along.
                let _has_others = fs::remove_dir(run);
            }
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.remove();
    }
}

/// `key N` in a file of such lines.
fn counted(text: &str, key: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(key)?.trim().parse().ok())
}

/// An eighth above the limit, since the kernel counts files that were read too, before it gives those back: within the limit
/// it is kept by looking, which tells what the worker holds.
fn limit_memory(folder: &Path, limit: u64, is_unified: bool) -> io::Result<()> {
    let most = limit.saturating_add(limit / 8).to_string();
    if is_unified {
        fs::write(folder.join("memory.max"), most)?;
        // The rest of a tree of processes of which one was killed does not work.
        return fs::write(folder.join("memory.oom.group"), "1");
    }
    fs::write(folder.join("memory.limit_in_bytes"), most)
}

fn limit_cpu(folder: &Path, millis: u64, is_unified: bool) -> io::Result<()> {
    let quota = millis.saturating_mul(PERIOD) / 1000;
    if is_unified {
        return fs::write(folder.join("cpu.max"), format!("{quota} {PERIOD}"));
    }
    fs::write(folder.join("cpu.cfs_period_us"), PERIOD.to_string())?;
    fs::write(folder.join("cpu.cfs_quota_us"), quota.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "30 25 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n31 30 0:27 / /nowhere/pids rw - cgroup cgroup rw,pids\n32 30 0:28 /docker/x /nowhere/cpu rw - cgroup cgroup rw,cpu,cpuacct\n33 30 0:29 / /nowhere/unified rw - cgroup2 cgroup2 rw\n";

    #[test]
    fn the_own_group_is_found_in_each_hierarchy() {
        let own = "3:cpu,cpuacct:/docker/x\n2:pids:/a\n0::/b\n";
        // Folders that are not there: where the hierarchy is mounted.
        let at = |path: &str| Some(PathBuf::from(path));
        assert_eq!(folder_of(MOUNTS, own, "pids"), at("/nowhere/pids"));
        assert_eq!(folder_of(MOUNTS, own, "cpu"), at("/nowhere/cpu"));
        assert_eq!(folder_of(MOUNTS, own, "memory"), None);
        assert_eq!(unified_folder(MOUNTS, own), at("/nowhere/unified"));
        let here = tempfile::tempdir().expect("a folder");
        fs::create_dir(here.path().join("b")).expect("made");
        let mounts = MOUNTS.replace("/nowhere/unified", &here.path().display().to_string());
        assert_eq!(unified_folder(&mounts, own), Some(here.path().join("b")));
    }

    #[test]
    fn events_are_counted_by_their_name() {
        assert_eq!(
            counted("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", "oom_kill "),
            Some(3)
        );
        assert_eq!(
            counted("low 0\nhigh 0\nmax 7\noom 0\noom_kill 2\n", "oom_kill "),
            Some(2)
        );
        assert_eq!(counted("max 4\n", "max "), Some(4));
    }

    #[test]
    fn limits_of_version_2_are_written_as_the_kernel_takes_them() {
        let here = tempfile::tempdir().expect("a folder");
        limit_memory(here.path(), 800, true).expect("written");
        limit_cpu(here.path(), 1500, true).expect("written");
        let read = |name: &str| fs::read_to_string(here.path().join(name)).expect("there");
        assert_eq!(read("memory.max"), "900");
        assert_eq!(read("memory.oom.group"), "1");
        assert_eq!(read("cpu.max"), "150000 100000");
    }
}

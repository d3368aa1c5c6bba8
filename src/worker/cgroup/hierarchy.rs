//! Where control groups are made on this host (cgroups(7)), and what runs that were killed have left there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// What the groups of this program begin with; its pid follows, then what the group is for.
pub(super) const PREFIX: &str = "stdiopool-";
/// Where this program and its guardian move to in a delegated group, of which only the leaves may have processes.
const SUPERVISOR: &str = "stdiopool.supervisor";
/// Of a group of version 2, beside 100 of each tenant's: what a niceness of -10 is to a thread.
const SUPERVISOR_WEIGHT: &str = "932";

/// Where groups are made, by controller. `None`: they cannot be.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Groups {
    /// `limits.pids`.
    pub pids: Option<PathBuf>,
    /// `limits.memory`.
    pub memory: Option<PathBuf>,
    /// `limits.cpu`, `limits.cpu_weight`, and the same share for every tenant.
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
            let found = Self {
                pids: has("pids"),
                memory: has("memory"),
                cpu: has("cpu"),
                is_unified: true,
            };
            weigh_supervisor(&base);
            return Ok(found);
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

/// Lets the supervisor's own group go before those of tenants.
fn weigh_supervisor(base: &Path) {
    // Without that file this process is in a group of somebody else's, whose weight is theirs to choose.
    let _not_ours = fs::write(base.join(SUPERVISOR).join("cpu.weight"), SUPERVISOR_WEIGHT);
}

/// Removes groups of runs that were killed.
fn remove_left(base: &Path) {
    remove_groups(base, |pid| {
        !Path::new("/proc").join(pid.to_string()).exists()
    });
}

/// Removes what a supervisor that was killed has left of its groups, when its guardian has ended all workers.
pub(in crate::worker) fn remove_groups_of(supervisor: u32) {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let controllers = ["pids", "memory", "cpu"];
    let bases = controllers
        .iter()
        .map(|name| folder_of(&mounts, &own, name));
    // The guardian may be in the leaf.
    let unified = unified_folder(&mounts, &own).map(|base| match base.ends_with(SUPERVISOR) {
        true => base.parent().map_or_else(|| base.clone(), Path::to_owned),
        false => base,
    });
    for base in bases.chain([unified]).flatten() {
        remove_groups(&base, |pid| pid == supervisor);
    }
}

/// Removes groups of runs by their pid.
fn remove_groups(base: &Path, is_meant: impl Fn(u32) -> bool) {
    for item in fs::read_dir(base).into_iter().flatten().flatten() {
        let name = item.file_name();
        if name.to_str().and_then(pid_of).is_some_and(&is_meant) {
            remove(&item.path());
        }
    }
}

/// The pid in the name of a group.
fn pid_of(name: &str) -> Option<u32> {
    let rest = name.strip_prefix(PREFIX)?;
    let pid = rest.split(|it: char| !it.is_ascii_digit()).next()?;
    pid.parse().ok()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_told_by_the_pid_in_its_name() {
        for (name, pid) in [
            ("stdiopool-12", Some(12)),
            ("stdiopool-12-acme", Some(12)),
            ("stdiopool-12.7", Some(12)),
            ("stdiopool-12-34", Some(12)),
            ("stdiopool.supervisor", None),
            ("stdiopool-acme", None),
            ("other-12", None),
        ] {
            assert_eq!(pid_of(name), pid, "{name}");
        }
    }

    #[test]
    fn groups_of_another_run_stay() {
        let base = tempfile::tempdir().expect("a folder");
        for name in [
            "stdiopool-12-acme/3",
            "stdiopool-12.4/4",
            "stdiopool-123/5",
            "other",
        ] {
            fs::create_dir_all(base.path().join(name)).expect("made");
        }
        remove_groups(base.path(), |pid| pid == 12);
        let left = fs::read_dir(base.path()).expect("there");
        let mut left: Vec<_> = left
            .map(|item| item.expect("readable").file_name())
            .collect();
        left.sort();
        assert_eq!(left, ["other", "stdiopool-123"]);
    }

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
}

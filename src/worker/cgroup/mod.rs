//! Control groups of workers (cgroups(7)): limits that only the kernel can keep, of processes, memory and processor time, and
//! a share of the processors that is the same for every tenant.
//!
//! Version 2 is used where it has the controllers, else version 1, each where stdiopool may make groups: as root, or where
//! a service manager has delegated its own. The groups of a tenant's workers are below one of the tenant, which has a weight
//! of its own: however many processes and sessions a tenant's servers make, they are one beside another tenant's. A
//! worker's leader enters its group before it is anything else, so that all it starts is in there.

mod hierarchy;
mod processor;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use crate::ids::{TenantId, WorkerId};
use crate::launch::ProcessLimits;

use hierarchy::PREFIX;
pub(super) use hierarchy::remove_groups_of;
pub use hierarchy::{Groups, groups};
pub use processor::TenantGroup;

/// Held while groups are made and removed: a tenant's goes with its last worker, and comes with its first.
static MAKING: Mutex<()> = Mutex::new(());

/// The control group of one worker; goes when it is dropped.
#[derive(Debug)]
pub(crate) struct Group {
    /// The group's folder in each hierarchy.
    folders: Vec<PathBuf>,
    pids: Option<PathBuf>,
    memory: Option<PathBuf>,
    tenant: Option<TenantGroup>,
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
    /// Makes the groups that a worker's limits need, and its place among those of its tenant; `None` where there can be
    /// none. A worker without a tenant, a spare, is beside others as a tenant is.
    ///
    /// # Errors
    /// When the kernel refuses one; nothing of it is left then.
    pub(crate) fn make(
        worker: WorkerId,
        tenant: Option<&TenantId>,
        limits: &ProcessLimits,
    ) -> io::Result<Option<Self>> {
        match tenant {
            Some(tenant) => Self::make_below(&format!("-{tenant}"), &worker.to_string(), limits),
            None => Self::make_alone(&worker.to_string(), limits),
        }
    }

    /// Makes one of that name, which no other of this process has, for what is of no tenant.
    ///
    /// # Errors
    /// As [`Group::make`].
    pub(super) fn make_alone(name: &str, limits: &ProcessLimits) -> io::Result<Option<Self>> {
        Self::make_below(&format!(".{name}"), name, limits)
    }

    /// Makes one of that name below the one that `whose` tells from others of this process.
    fn make_below(whose: &str, name: &str, limits: &ProcessLimits) -> io::Result<Option<Self>> {
        let found = groups();
        let of_tenant = format!("{PREFIX}{}{whose}", std::process::id());
        let mut group = Self {
            folders: vec![],
            pids: None,
            memory: None,
            tenant: None,
        };
        let mut folder = |base: &Option<PathBuf>| -> io::Result<Option<PathBuf>> {
            let Some(base) = base else { return Ok(None) };
            let folder = make_folders(found, &base.join(&of_tenant), name)?;
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
        let cpu = folder(&found.cpu)?;
        if let Some((folder, limit)) = pids {
            fs::write(folder.join("pids.max"), limit.to_string())?;
            group.pids = Some(folder);
        }
        if let Some((folder, limit)) = memory {
            limit_memory(&folder, limit, found.is_unified)?;
            group.memory = Some(folder);
        }
        if let Some(folder) = cpu {
            if let Some(millis) = limits.cpu_millis {
                processor::limit(&folder, millis, found.is_unified)?;
            }
            if let Some(weight) = limits.cpu_weight {
                processor::weigh(&folder, weight, found.is_unified)?;
            }
            let of_tenant = folder.parent().map(Path::to_owned);
            group.tenant = of_tenant.map(|it| TenantGroup::new(it, found.is_unified));
        }
        Ok((!group.folders.is_empty()).then_some(group))
    }

    /// The group of its tenant, where tenants have a share of the processors each.
    pub(crate) fn tenant(&self) -> Option<&TenantGroup> {
        self.tenant.as_ref()
    }

    /// Files by which a process enters it, by writing 0.
    pub(super) fn procs_files(&self) -> Vec<PathBuf> {
        let folders = self.folders.iter();
        folders.map(|folder| folder.join("cgroup.procs")).collect()
    }

    /// Whether the memory of all that is in it is limited.
    pub(super) fn counts_memory(&self) -> bool {
        self.memory.is_some()
    }

    /// How often limits of the group were reached so far.
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
        let _making = MAKING.lock();
        for folder in &self.folders {
            let _gone_or_tried_again = fs::remove_dir(folder);
            if let Some(of_tenant) = folder.parent() {
                // The last one takes it along.
                let _has_others = fs::remove_dir(of_tenant);
            }
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Makes the group of a worker below that of its tenant; its folder.
fn make_folders(found: &Groups, of_tenant: &Path, name: &str) -> io::Result<PathBuf> {
    let _making = MAKING.lock();
    if !of_tenant.is_dir() {
        fs::create_dir_all(of_tenant)?;
        if found.is_unified {
            let all = [
                ("pids", &found.pids),
                ("memory", &found.memory),
                ("cpu", &found.cpu),
            ];
            for (name, _) in all.iter().filter(|(_, base)| base.is_some()) {
                fs::write(of_tenant.join("cgroup.subtree_control"), format!("+{name}"))?;
            }
        }
    }
    let folder = of_tenant.join(name);
    fs::create_dir_all(&folder)?;
    Ok(folder)
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

#[cfg(test)]
mod tests {
    use super::*;

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
        let read = |name: &str| fs::read_to_string(here.path().join(name)).expect("there");
        assert_eq!(read("memory.max"), "900");
        assert_eq!(read("memory.oom.group"), "1");
    }
}

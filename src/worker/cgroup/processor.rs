//! How control groups share the processors: weights and quotas (sched-design-CFS.rst, cgroup-v2.rst "CPU").

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::worker::Precedence;

/// Microseconds in which a share of processor time is used up.
const PERIOD: u64 = 100_000;
/// `cpu.weight` of a group of which nobody has said another.
const USUAL: u64 = 100;
/// `cpu.weight` of a tenant whose workers go behind others: a ninth, as of a session (`process::set_background`).
const BEHIND: u64 = 11;
/// `cpu.shares` of version 1 is 1024 where `cpu.weight` is 100.
const USUAL_SHARES: u64 = 1024;

/// The control group that has all workers of one tenant.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct TenantGroup {
    folder: Arc<Path>,
    is_unified: bool,
}

impl TenantGroup {
    pub(super) fn new(folder: PathBuf, is_unified: bool) -> Self {
        Self {
            folder: folder.into(),
            is_unified,
        }
    }

    /// Lets all processes of the tenant go behind those of others, or as usual again. A group that went with its last
    /// worker is passed over.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn set_precedence(&self, precedence: Precedence) -> io::Result<()> {
        let weight = match precedence {
            Precedence::Usual => USUAL,
            Precedence::Behind => BEHIND,
        };
        match weigh(&self.folder, weight, self.is_unified) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }
}

/// Gives a group its weight beside its siblings, 1 to 10,000.
pub(super) fn weigh(folder: &Path, weight: u64, is_unified: bool) -> io::Result<()> {
    if is_unified {
        return write(&folder.join("cpu.weight"), &weight.to_string());
    }
    let shares = weight * USUAL_SHARES / USUAL;
    write(&folder.join("cpu.shares"), &shares.to_string())
}

/// Lets a group have so many thousandths of a processor.
pub(super) fn limit(folder: &Path, millis: u64, is_unified: bool) -> io::Result<()> {
    let quota = millis.saturating_mul(PERIOD) / 1000;
    if is_unified {
        return write(&folder.join("cpu.max"), &format!("{quota} {PERIOD}"));
    }
    write(&folder.join("cpu.cfs_period_us"), &PERIOD.to_string())?;
    write(&folder.join("cpu.cfs_quota_us"), &quota.to_string())
}

/// Writes to a file that the kernel has made with the group.
fn write(file: &Path, text: &str) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).truncate(true).open(file)?;
    io::Write::write_all(&mut file, text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with the files that a group of either version has.
    fn group() -> tempfile::TempDir {
        let here = tempfile::tempdir().expect("a folder");
        for name in [
            "cpu.weight",
            "cpu.max",
            "cpu.shares",
            "cpu.cfs_period_us",
            "cpu.cfs_quota_us",
        ] {
            fs::write(here.path().join(name), "").expect("written");
        }
        here
    }

    #[test]
    fn weights_and_quotas_are_written_as_each_version_takes_them() {
        let here = group();
        let read = |name: &str| fs::read_to_string(here.path().join(name)).expect("there");
        for is_unified in [true, false] {
            weigh(here.path(), 200, is_unified).expect("written");
            limit(here.path(), 1500, is_unified).expect("written");
        }
        assert_eq!(read("cpu.weight"), "200");
        assert_eq!(read("cpu.max"), "150000 100000");
        assert_eq!(read("cpu.shares"), "2048");
        assert_eq!(
            (read("cpu.cfs_period_us"), read("cpu.cfs_quota_us")),
            ("100000".to_owned(), "150000".to_owned())
        );
        weigh(here.path(), 1, false).expect("written");
        assert_eq!(read("cpu.shares"), "10");
    }

    #[test]
    fn a_tenant_goes_behind_and_as_usual_again() {
        let here = group();
        let group = TenantGroup::new(here.path().to_owned(), false);
        let shares = || fs::read_to_string(here.path().join("cpu.shares")).expect("there");
        group.set_precedence(Precedence::Behind).expect("written");
        assert_eq!(shares(), "112");
        group.set_precedence(Precedence::Usual).expect("written");
        assert_eq!(shares(), "1024");
        let gone = TenantGroup::new(here.path().join("gone"), true);
        gone.set_precedence(Precedence::Behind)
            .expect("passed over");
    }
}

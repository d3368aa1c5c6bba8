//! What the host offers: memory, swap, and the right to page other processes out.

use std::fs;

use procfs::Current;

use crate::process::may_look_into_others;

/// The part of a swapped-out byte that stays in memory: 0 with a disk, about a third with zram.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct SwapWeight(pub f64);

/// The compression that zram is taken to reach while it is empty: what pages of node and python servers come to.
const USUAL_ZRAM: f64 = 0.3;

impl SwapWeight {
    /// What the kernel says of its swap devices now: that of zram by its `mm_stat` (the kernel's
    /// admin-guide/blockdev/zram), each device by what is in it.
    pub fn now() -> Self {
        let devices = swap_devices();
        let used: u64 = devices.iter().map(|device| device.used).sum();
        if used == 0 {
            return Self(if has_zram() { USUAL_ZRAM } else { 0.0 });
        }
        let weighed = devices.iter().map(|device| {
            let ratio = device
                .zram()
                .map_or(0.0, |name| zram_ratio(name).unwrap_or(USUAL_ZRAM));
            ratio * device.used as f64
        });
        Self(weighed.sum::<f64>() / used as f64)
    }
}

struct SwapDevice {
    path: String,
    /// Pages in use, in any unit: only their ratios matter.
    used: u64,
}

impl SwapDevice {
    fn zram(&self) -> Option<&str> {
        let name = self.path.rsplit('/').next()?;
        name.starts_with("zram").then_some(name)
    }
}

/// `/proc/swaps` (proc_swaps(5)): path, type, size, used, priority, below a header.
fn swap_devices() -> Vec<SwapDevice> {
    let table = fs::read_to_string("/proc/swaps").unwrap_or_default();
    let row = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let path = fields.next()?.to_owned();
        let used = fields.nth(2)?.parse().ok()?;
        Some(SwapDevice { path, used })
    };
    table.lines().skip(1).filter_map(row).collect()
}

/// Compressed bytes per byte stored in a zram device.
fn zram_ratio(name: &str) -> Option<f64> {
    let stat = fs::read_to_string(format!("/sys/block/{name}/mm_stat")).ok()?;
    let mut fields = stat
        .split_ascii_whitespace()
        .map(|text| text.parse::<f64>().ok());
    let stored = fields.next()??;
    let taken = fields.nth(1)??;
    (stored > 0.0).then(|| (taken / stored).min(1.0))
}

/// Why idle workers cannot be paged out here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HibernationError {
    /// The host has nowhere to page out to.
    #[error("there is no swap space (zram is advised: scripts/zram)")]
    NoSwap,
    /// process_madvise(2) needs it for other processes than one's own.
    #[error("the capability CAP_SYS_NICE is missing (AmbientCapabilities=CAP_SYS_NICE in systemd)")]
    NoCapability,
    /// process_madvise(2) needs it for processes of other users.
    #[error(
        "the capability CAP_SYS_PTRACE is missing, without which root pages out none of the processes of tenants' users"
    )]
    NoPtrace,
}

/// Whether idle workers can be paged out.
///
/// # Errors
/// What is missing.
pub fn can_hibernate() -> Result<(), HibernationError> {
    /// The capability's number in capabilities(7).
    const CAP_SYS_NICE: u32 = 23;
    if swap_devices().is_empty() {
        return Err(HibernationError::NoSwap);
    }
    let status = procfs::process::Process::myself().and_then(|me| me.status());
    let has_it = status.is_ok_and(|status| status.capeff & (1 << CAP_SYS_NICE) != 0);
    if !has_it {
        return Err(HibernationError::NoCapability);
    }
    if nix::unistd::geteuid().is_root() && !may_look_into_others() {
        return Err(HibernationError::NoPtrace);
    }
    Ok(())
}

/// Whether some of the swap space is compressed memory.
pub fn has_zram() -> bool {
    swap_devices().iter().any(|device| device.zram().is_some())
}

/// Bytes of memory that the host has; `None` if it does not say.
pub fn host_memory() -> Option<u64> {
    procfs::Meminfo::current().ok().map(|info| info.mem_total)
}

/// Percent of the last ten seconds in which some task waited for memory (the kernel's
/// accounting/psi); `None` where the kernel does not say.
pub fn memory_pressure() -> Option<f32> {
    procfs::MemoryPressure::current()
        .ok()
        .map(|pressure| pressure.some.avg10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_has_memory_and_swap_weighs_between_nothing_and_all() {
        assert!(host_memory().expect("said") > 64 << 20);
        let SwapWeight(weight) = SwapWeight::now();
        assert!((0.0..=1.0).contains(&weight));
    }
}

//! What processes hold.

use procfs::ProcError;
use procfs::process::Process;

use super::SwapWeight;
use crate::process::share_memory;

/// The memory that some processes hold together.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Footprint {
    /// Bytes in memory; pages shared by several processes count in parts.
    pub resident: u64,
    /// Bytes swapped out, before compression.
    pub swapped: u64,
}

impl Footprint {
    /// Bytes of memory that would be free without them.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an estimate between 0 and what was swapped"
    )]
    pub fn held(self, swap: SwapWeight) -> u64 {
        self.resident + (self.swapped as f64 * swap.0) as u64
    }
}

/// Measures processes. Walks their page tables: about a millisecond for 100 MiB, so not for the
/// hot path. `None` when none of them could be read. Memory that processes have together counts once.
pub fn footprint(pids: &[u32]) -> Option<Footprint> {
    let of_one = |pid: &u32| {
        let process = Process::new(i32::try_from(*pid).ok()?).ok()?;
        let rollup = match process.smaps_rollup() {
            Ok(rollup) => rollup.memory_map_rollup,
            // Without CAP_SYS_PTRACE, as in many containers, of a process of another user.
            Err(ProcError::PermissionDenied(_)) => return of_status(&process),
            Err(_) => return None,
        };
        let map = &rollup.0.first()?.extension.map;
        let bytes = |name: &str| map.get(name).copied().unwrap_or(0);
        Some((bytes("Pss"), bytes("SwapPss")))
    };
    let known: Vec<_> = own_memories(pids).iter().filter_map(of_one).collect();
    (!known.is_empty()).then(|| Footprint {
        resident: known.iter().map(|(resident, _)| resident).sum(),
        swapped: known.iter().map(|(_, swapped)| swapped).sum(),
    })
}

/// The processes that have no memory in common: a child of vfork(2) would count with all of its parent's. Only
/// processes of one size are compared.
fn own_memories(pids: &[u32]) -> Vec<u32> {
    let size = |pid: u32| {
        let statm = Process::new(i32::try_from(pid).ok()?).ok()?.statm().ok()?;
        Some(statm.size)
    };
    let mut own: Vec<(u32, Option<u64>)> = Vec::with_capacity(pids.len());
    for &pid in pids {
        let size = size(pid);
        let is_counted =
            |(other, its): &(u32, Option<u64>)| *its == size && share_memory(*other, pid);
        if !own.iter().any(is_counted) {
            own.push((pid, size));
        }
    }
    own.into_iter().map(|(pid, _)| pid).collect()
}

/// What everybody may know of a process: what it holds, and what it has swapped out. Pages of files, which others share as a
/// rule, are left out.
fn of_status(process: &Process) -> Option<(u64, u64)> {
    let status = process.status().ok()?;
    let bytes = |kib: Option<u64>| kib.unwrap_or(0) << 10;
    let own = bytes(status.rssanon) + bytes(status.rssshmem);
    Some((own, bytes(status.vmswap)))
}

/// Resident bytes of processes, shared pages counted in each: cheap, and changes when the
/// footprint does. Processes that are gone count nothing.
pub fn resident(pids: &[u32]) -> u64 {
    let of_one = |pid: &u32| {
        let statm = Process::new(i32::try_from(*pid).ok()?).ok()?.statm().ok()?;
        Some(statm.resident * procfs::page_size())
    };
    pids.iter().filter_map(of_one).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_process_touches_is_held() {
        let me = [std::process::id()];
        let before = footprint(&me).expect("read").resident;
        let touched = vec![1_u8; 32 << 20];
        let after = footprint(&me).expect("read").resident;
        assert!(after > before + (24 << 20), "{before} to {after}");
        assert!(resident(&me) >= 32 << 20);
        drop(touched);
        assert_eq!(footprint(&[u32::MAX - 1]), None);
        assert_eq!(resident(&[u32::MAX - 1]), 0);
    }

    #[test]
    fn memory_that_processes_share_counts_once() {
        // A thread has one with its process, as a child of vfork(2) has.
        let tid = std::thread::spawn(|| {
            let tid = nix::unistd::gettid().as_raw().cast_unsigned();
            let me = std::process::id();
            (
                share_memory(me, tid),
                own_memories(&[me, tid]) == [me],
                share_memory(me, 1),
            )
        });
        match tid.join().expect("no panic") {
            (true, counts_once, with_init) => assert!(counts_once && !with_init),
            (false, ..) => eprintln!("SKIPPED: this kernel has no kcmp(2)"),
        }
    }

    #[test]
    fn what_is_swapped_out_weighs_what_its_compressed_form_takes() {
        let footprint = Footprint {
            resident: 100,
            swapped: 1000,
        };
        assert_eq!(footprint.held(SwapWeight(0.0)), 100);
        assert_eq!(footprint.held(SwapWeight(0.25)), 350);
    }
}

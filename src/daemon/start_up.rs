//! Lets go of what only the start-up needed.
//!
//! Reading pool.toml, compiling schemas, opening the database and looking after it for the first time touch
//! much of the program that serving never does, and with each page of it that is touched the kernel maps its
//! neighbours. Taken back once, what serving needs comes again by itself, from the page cache.

use std::ptr::NonNull;
use std::time::Duration;

use nix::sys::mman::{MmapAdvise, madvise};
use procfs::process::{MMPermissions, MMapPath, MemoryMap, Process};
use tokio_util::sync::CancellationToken;

/// When what is done at intervals has been done for the first time.
const SETTLED: Duration = Duration::from_secs(3);

/// Lets go of it when the start-up is over.
pub(super) async fn settle(stop: CancellationToken) {
    // The kernel takes a while to say what is mapped. A panic was logged where it happened.
    let Ok(before) = tokio::task::spawn_blocking(mapped).await else {
        return;
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = tokio::time::sleep(SETTLED) => {
            let _done = tokio::task::spawn_blocking(move || let_go(&before)).await;
        }
    }
}

/// A mapping of a file.
type Mapping = (MMapPath, (u64, u64));

/// What is mapped from files, the program's own and those of libraries, and differs in nothing from them.
fn mapped() -> Vec<Mapping> {
    let maps = match Process::myself().and_then(|own| own.smaps()) {
        Ok(maps) => maps.into_iter(),
        Err(error) => {
            tracing::debug!(%error, "what the start-up needed of the program stays in memory");
            return vec![];
        }
    };
    let unchanged =
        maps.filter(|map| matches!(map.pathname, MMapPath::Path(_)) && is_unchanged(map));
    unchanged.map(|map| (map.pathname, map.address)).collect()
}

/// Whether no page of it has been changed, or can be. Some of what is only read was written to once, by the dynamic
/// linker.
fn is_unchanged(map: &MemoryMap) -> bool {
    let can_differ = MMPermissions::WRITE | MMPermissions::SHARED;
    let own_bytes = map.extension.map.get("Anonymous");
    !map.perms.intersects(can_differ) && own_bytes == Some(&0)
}

/// Takes what was mapped then and still is out of this process's memory: code, constants and what the dynamic
/// linker read; it stays in the page cache.
fn let_go(before: &[Mapping]) {
    for mapping in mapped().iter().filter(|mapping| before.contains(mapping)) {
        let (_, (start, end)) = mapping;
        drop_mapping(*start, end - start);
    }
}

#[allow(unsafe_code, reason = "madvise has no safe wrapper in nix")]
fn drop_mapping(start: u64, len: u64) {
    let (Ok(start), Ok(len)) = (usize::try_from(start), usize::try_from(len)) else {
        return;
    };
    let Some(address) = NonNull::new(std::ptr::with_exposed_provenance_mut(start)) else {
        return;
    };
    // SAFETY: The range is a mapping of a file that was there before and still is (what is being loaded at
    // the moment is not), private and not writable, and no page of it differs from the file (`Anonymous`,
    // proc_pid_smaps(5)); after this call each page is read from the file again (madvise(2), MADV_DONTNEED).
    let dropped = unsafe { madvise(address, len, MmapAdvise::MADV_DONTNEED) };
    if let Err(error) = dropped {
        tracing::debug!(%error, "what the start-up needed of the program stays in memory");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_goes_on_with_less_of_it_in_memory() {
        let resident = || -> u64 {
            let own = Process::myself().expect("it lives");
            let maps = own.smaps().expect("told").into_iter();
            let unchanged = maps.filter(is_unchanged);
            unchanged.map(|map| map.extension.map["Rss"]).sum()
        };

        let schema = serde_json::json!({ "type": "object", "patternProperties": { "^a+$": { "format": "uri" } } });
        jsonschema::validator_for(&schema).expect("a schema");
        let mappings = mapped();
        let before = resident();
        let_go(&mappings);
        let after = resident();
        assert!(after < before, "{after} of {before} bytes");
    }
}

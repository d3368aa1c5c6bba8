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
    tokio::select! {
        () = stop.cancelled() => {}
        () = tokio::time::sleep(SETTLED) => {
            // The kernel takes a while to say what is mapped. A panic was logged where it happened.
            let _done = tokio::task::spawn_blocking(let_go_of_program).await;
        }
    }
}

/// Takes what is mapped from the program's own file out of this process's memory: its code, its constants
/// and what the dynamic linker read; it stays in the page cache.
fn let_go_of_program() {
    let own = Process::myself().and_then(|own| Ok((own.exe()?, own.smaps()?)));
    let (program, maps) = match own {
        Ok(own) => own,
        Err(error) => {
            tracing::debug!(%error, "what the start-up needed of the program stays in memory");
            return;
        }
    };
    let program = MMapPath::Path(program);
    for map in maps.into_iter().filter(|map| map.pathname == program) {
        if is_as_in_its_file(&map) {
            let (start, end) = map.address;
            drop_mapping(start, end - start);
        }
    }
}

/// Whether no page of it has been changed, or can be. Some of what is only read was written to once, by the dynamic
/// linker.
fn is_as_in_its_file(map: &MemoryMap) -> bool {
    let can_differ = MMPermissions::WRITE | MMPermissions::SHARED;
    let own_bytes = map.extension.map.get("Anonymous");
    !map.perms.intersects(can_differ) && own_bytes == Some(&0)
}

#[allow(unsafe_code, reason = "madvise has no safe wrapper in nix")]
fn drop_mapping(start: u64, len: u64) {
    let (Ok(start), Ok(len)) = (usize::try_from(start), usize::try_from(len)) else {
        return;
    };
    let Some(address) = NonNull::new(std::ptr::with_exposed_provenance_mut(start)) else {
        return;
    };
    // SAFETY: The range is a mapping of the program's own file that nothing replaces while it runs, private
    // and not writable, and no page of it differs from the file (`Anonymous`, proc_pid_smaps(5)); after
    // this call each reads as the same again (madvise(2), MADV_DONTNEED).
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
            let program = MMapPath::Path(own.exe().expect("told"));
            let maps = own.smaps().expect("told").into_iter();
            let own = maps.filter(|map| map.pathname == program && is_as_in_its_file(map));
            own.map(|map| map.extension.map["Rss"]).sum()
        };

        let schema = serde_json::json!({ "type": "object", "patternProperties": { "^a+$": { "format": "uri" } } });
        jsonschema::validator_for(&schema).expect("a schema");
        let before = resident();
        let_go_of_program();
        let after = resident();
        assert!(after < before, "{after} of {before} bytes");
    }
}

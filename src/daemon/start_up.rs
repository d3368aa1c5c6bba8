//! Lets go of what only the start-up needed.
//!
//! Reading pool.toml, compiling schemas and opening the database touch much of the program that serving
//! never does, and with each page of it that is touched the kernel maps its neighbours. Taken back once,
//! what serving needs comes again by itself, from the page cache.

use std::ptr::NonNull;

use nix::sys::mman::{MmapAdvise, madvise};
use procfs::process::{MMPermissions, MMapPath, Process};

/// Takes the program's own code out of this process's memory; it stays in the page cache.
pub(super) fn let_go_of_code() {
    let own = Process::myself().and_then(|own| Ok((own.exe()?, own.maps()?)));
    let (program, maps) = match own {
        Ok(own) => own,
        Err(error) => {
            tracing::debug!(%error, "the code of the start-up stays in memory");
            return;
        }
    };
    let code = MMPermissions::READ | MMPermissions::EXECUTE | MMPermissions::PRIVATE;
    for map in maps {
        if map.perms != code || map.pathname != MMapPath::Path(program.clone()) {
            continue;
        }
        let (start, end) = map.address;
        drop_mapping(start, end - start);
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
    // SAFETY: The range is a mapping of the program's own file, private and never writable, so that no
    // page of it differs from the file; after this call each reads as the same again
    // (madvise(2), MADV_DONTNEED).
    let dropped = unsafe { madvise(address, len, MmapAdvise::MADV_DONTNEED) };
    if let Err(error) = dropped {
        tracing::debug!(%error, "the code of the start-up stays in memory");
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
            let code = own.smaps().expect("told").into_iter();
            let code = code.filter(|map| map.pathname == program);
            let code = code.filter(|map| map.perms.contains(MMPermissions::EXECUTE));
            code.map(|map| map.extension.map["Rss"]).sum()
        };

        let schema = serde_json::json!({ "type": "object", "patternProperties": { "^a+$": { "format": "uri" } } });
        jsonschema::validator_for(&schema).expect("a schema");
        let before = resident();
        let_go_of_code();
        let after = resident();
        assert!(after < before, "{after} of {before} bytes");
    }
}

//! Whether an entry is as it was when it was last compared with its manifest, at the price of looking at each file's
//! times: where a worker may write to entries, that is asked before each start from one.
//!
//! A file's change time (`ctime`) is the kernel's: no process without privileges sets it, and whatever is written, given
//! other permissions or put in place of a file moves it. So an entry of which nothing has moved has not been written to.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use sha2::{Digest, Sha256};

use super::manifest::{Manifest, ManifestError};

/// The state of an entry when it was found to be as installed.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Seal {
    stamp: [u8; 32],
    /// SHA-256 of its manifest, which stands beside what it lists and could be written anew with it.
    manifest: [u8; 32],
}

/// The entries that were compared, by their names. Bounded by how many there are.
#[derive(Default)]
pub(super) struct Seals {
    of: Mutex<FxHashMap<String, Seal>>,
}

impl Seals {
    /// Finds out whether the entry of that name is as it was installed: by its files' times, and where one of them has
    /// moved, by what they hold. Blocks.
    ///
    /// # Errors
    /// [`ManifestError`] when the entry is not, or cannot be compared. The entry is forgotten then.
    pub(super) fn check(&self, name: &str, entry: &Path) -> Result<(), ManifestError> {
        let known = self.of.lock().get(name).copied();
        // Before the files are read: what is written meanwhile moves a time behind it.
        let stamp = stamp(entry).map_err(|source| ManifestError::Unreadable {
            path: entry.to_owned(),
            source,
        });
        let checked = stamp.and_then(|stamp| match known {
            Some(known) if known.stamp == stamp => Ok(known),
            _ => {
                let manifest = Manifest::read(entry)?;
                let now = Seal {
                    stamp,
                    manifest: manifest.own_digest()?,
                };
                if known.is_some_and(|known| known.manifest != now.manifest) {
                    return Err(ManifestError::Rewritten);
                }
                manifest.verify(entry)?;
                Ok(now)
            }
        });
        let mut of = self.of.lock();
        match checked {
            Ok(seal) => {
                of.insert(name.to_owned(), seal);
                Ok(())
            }
            Err(error) => {
                of.remove(name);
                Err(error)
            }
        }
    }

    /// Forgets an entry that was installed anew.
    pub(super) fn forget(&self, name: &str) {
        self.of.lock().remove(name);
    }
}

/// A digest of the names, numbers, modes, sizes and change times of all that is below a folder.
fn stamp(root: &Path) -> io::Result<[u8; 32]> {
    let mut hash = Sha256::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let items: io::Result<Vec<_>> = std::fs::read_dir(&folder)?.collect();
        let mut items = items?;
        items.sort_by_key(std::fs::DirEntry::file_name);
        for item in items {
            // Of a link itself.
            let meta = item.metadata()?;
            let name = item.file_name();
            hash.update((name.len() as u64).to_le_bytes());
            hash.update(name.as_bytes());
            for number in [meta.ino(), u64::from(meta.mode()), meta.len()] {
                hash.update(number.to_le_bytes());
            }
            for number in [meta.ctime(), meta.ctime_nsec()] {
                hash.update(number.to_le_bytes());
            }
            if meta.is_dir() {
                folders.push(item.path());
            }
        }
    }
    Ok(hash.finalize().into())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::manifest::ABOUT;
    use super::*;

    /// An entry with one file, and a list of its files.
    fn install(entry: &Path, text: &str) {
        fs::create_dir_all(entry.join("node_modules")).expect("made");
        fs::write(entry.join("node_modules/x.js"), text).expect("written");
        let manifest = Manifest::of(entry).expect("readable");
        let about = serde_json::json!({ "manifest": manifest.write(entry).expect("written") });
        fs::write(entry.join(ABOUT), about.to_string()).expect("written");
    }

    #[test]
    fn what_was_written_to_an_entry_is_noticed_before_a_start_though_its_list_was_written_too() {
        let folder = tempfile::tempdir().expect("a folder");
        let entry = folder.path();
        let file = entry.join("node_modules/x.js");
        install(entry, "sound");
        let seals = Seals::default();
        let check = || seals.check("e", entry);
        check().expect("as installed");
        check().expect("nothing has moved");
        // Another text of equal length, with the time that the file had.
        let before = fs::metadata(&file).and_then(|meta| meta.modified());
        fs::write(&file, "wrong").expect("written");
        let opened = fs::File::options().write(true).open(&file).expect("opened");
        opened.set_modified(before.expect("a time")).expect("set");
        assert!(matches!(check(), Err(ManifestError::Differs { .. })));
        // Touched, and as it was.
        fs::write(&file, "sound").expect("written");
        check().expect("as installed");
        // With a list that fits.
        install(entry, "wrong");
        assert!(matches!(check(), Err(ManifestError::Rewritten)));
        // Unless it was installed anew.
        install(entry, "sound");
        check().expect("as installed");
        install(entry, "newer");
        seals.forget("e");
        check().expect("as installed");
    }
}

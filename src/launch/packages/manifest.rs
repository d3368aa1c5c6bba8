//! What an entry of the package cache consists of: every file with its digest, so that one that was
//! changed is noticed.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Name of the manifest in an entry.
pub(super) const MANIFEST: &str = "manifest.json";
/// Name of the file that makes an entry whole.
pub(super) const ABOUT: &str = "entry.json";
/// Differences that are named when an entry is damaged; how many there are is said of all.
const NAMED: usize = 3;
/// How much of a file is hashed at a time, in bytes.
const CHUNK: usize = 64 * 1024;

/// A file, folder or link of an entry.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Item {
    /// A folder.
    Folder,
    /// A symbolic link, and what is in it.
    Link(String),
    /// A regular file.
    File {
        /// Length, in bytes.
        size: u64,
        /// Permission bits without those to write: an entry is read-only.
        mode: u32,
        /// SHA-256 of its content, in hexadecimal digits.
        sha256: String,
    },
}

/// Everything in an entry, by its path from the entry's folder; parents come before what is in them.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub(super) struct Manifest {
    items: BTreeMap<String, Item>,
}

/// Why a manifest cannot be made, or says that its entry is damaged.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Something of the entry cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The entry has what is neither file, folder nor link: a socket or a device.
    #[error("{} is neither a file nor a folder nor a link", path.display())]
    Special {
        /// The socket or device.
        path: PathBuf,
    },
    /// A list of files cannot have a name that is no UTF-8.
    #[error("the name of {} is no UTF-8", path.display())]
    Name {
        /// The file or folder.
        path: PathBuf,
    },
    /// The entry's files are not known.
    #[error("it has no list of its files that is whole")]
    NoList,
    /// The list of its files is another than when they were last compared with it.
    #[error("the list of its files was written anew")]
    Rewritten,
    /// A file was changed.
    #[error("{count} of its files are not as installed: {named}")]
    Differs {
        /// How many.
        count: usize,
        /// Names of some of these files.
        named: String,
    },
}

fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> ManifestError {
    let path = path.to_owned();
    move |source| ManifestError::Unreadable { path, source }
}

impl Manifest {
    /// Lists what is in a folder, but for the manifest itself and what makes an entry whole. Blocks.
    ///
    /// # Errors
    /// [`ManifestError`] when something in it cannot be read, or is no part of a package.
    pub(super) fn of(root: &Path) -> Result<Self, ManifestError> {
        let mut items = BTreeMap::new();
        let mut folders = vec![String::new()];
        while let Some(folder) = folders.pop() {
            let path = root.join(&folder);
            for found in std::fs::read_dir(&path).map_err(unreadable(&path))? {
                let found = found.map_err(unreadable(&path))?;
                let path = found.path();
                let name = found.file_name();
                let name = name
                    .to_str()
                    .ok_or_else(|| ManifestError::Name { path: path.clone() })?;
                if folder.is_empty() && [MANIFEST, ABOUT].contains(&name) {
                    continue;
                }
                let below = if folder.is_empty() {
                    name.to_owned()
                } else {
                    format!("{folder}/{name}")
                };
                let item = item(&path)?;
                if item == Item::Folder {
                    folders.push(below.clone());
                }
                items.insert(below, item);
            }
        }
        Ok(Self { items })
    }

    /// Reads the one of an entry, if it has the digest that was noted when the entry became whole.
    ///
    /// # Errors
    /// [`ManifestError::NoList`] when there is none that is whole.
    pub(super) fn read(entry: &Path) -> Result<Self, ManifestError> {
        let read = || {
            let about = std::fs::read(entry.join(ABOUT)).ok()?;
            let about: serde_json::Value = serde_json::from_slice(&about).ok()?;
            let text = std::fs::read(entry.join(MANIFEST)).ok()?;
            let is_it = about["manifest"].as_str() == Some(&hex(&Sha256::digest(&text)));
            is_it.then(|| serde_json::from_slice(&text).ok()).flatten()
        };
        read().ok_or(ManifestError::NoList)
    }

    /// Writes it into an entry and returns its digest, which goes into the file that makes the entry whole.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn write(&self, entry: &Path) -> io::Result<String> {
        let text = serde_json::to_vec(self)?;
        write_anew(&entry.join(MANIFEST), &text)?;
        Ok(hex(&Sha256::digest(&text)))
    }

    /// SHA-256 of it as it is written.
    ///
    /// # Errors
    /// [`ManifestError::NoList`] when it cannot be written.
    pub(super) fn own_digest(&self) -> Result<[u8; 32], ManifestError> {
        let text = serde_json::to_vec(self).map_err(|_| ManifestError::NoList)?;
        Ok(Sha256::digest(&text).into())
    }

    /// Everything, parents first.
    pub(super) fn items(&self) -> impl Iterator<Item = (&str, &Item)> {
        self.items.iter().map(|(path, item)| (path.as_str(), item))
    }

    /// The item at that path.
    pub(super) fn item(&self, path: &str) -> Option<&Item> {
        self.items.get(path)
    }

    /// Compares it with what an entry consists of now. Blocks: reads every file.
    ///
    /// # Errors
    /// [`ManifestError::Differs`] when a file was changed, removed or added; others when it cannot be told.
    pub(super) fn verify(&self, entry: &Path) -> Result<(), ManifestError> {
        let now = Self::of(entry)?;
        let changed = self
            .items
            .iter()
            .filter(|(path, item)| !now.items.get(*path).is_some_and(|now| is_same(now, item)));
        let added = now
            .items
            .keys()
            .filter(|path| !self.items.contains_key(*path));
        let differing: Vec<&str> = changed
            .map(|(path, _)| path)
            .chain(added)
            .map(String::as_str)
            .collect();
        if differing.is_empty() {
            return Ok(());
        }
        Err(ManifestError::Differs {
            count: differing.len(),
            named: differing[..differing.len().min(NAMED)].join(", "),
        })
    }
}

/// Writes a file into an entry, in place of what its scripts may have put there.
///
/// # Errors
/// When it cannot be written.
pub(super) fn write_anew(path: &Path, text: &[u8]) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // Follows no link, and takes nothing for its own.
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).open(path)?;
    file.write_all(text)
}

/// Whether a file or folder is as it was listed. Read permissions are no part of that: entries are opened to workers' users
/// when they are finished.
fn is_same(now: &Item, listed: &Item) -> bool {
    let as_program = |item: &Item| match item.clone() {
        Item::File { size, mode, sha256 } => Item::File {
            size,
            mode: mode & 0o100,
            sha256,
        },
        other => other,
    };
    as_program(now) == as_program(listed)
}

fn item(path: &Path) -> Result<Item, ManifestError> {
    let kind = path.symlink_metadata().map_err(unreadable(path))?;
    if kind.is_dir() {
        return Ok(Item::Folder);
    }
    if kind.is_symlink() {
        let target = std::fs::read_link(path).map_err(unreadable(path))?;
        let target = target.into_os_string().into_string();
        return target.map(Item::Link).map_err(|_| ManifestError::Name {
            path: path.to_owned(),
        });
    }
    if !kind.is_file() {
        return Err(ManifestError::Special {
            path: path.to_owned(),
        });
    }
    let file = File::open(path).map_err(unreadable(path))?;
    Ok(Item::File {
        size: kind.len(),
        mode: kind.permissions().mode() & 0o555,
        sha256: digest(file).map_err(unreadable(path))?,
    })
}

/// SHA-256 of what a file holds, in hexadecimal digits. Blocks.
pub(super) fn digest(mut file: File) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(hex(&hash.finalize())),
            read => hash.update(&chunk[..read]),
        }
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn whatever_changes_in_an_entry_is_noticed() {
        let folder = tempfile::tempdir().expect("a folder");
        let entry = folder.path();
        fs::create_dir_all(entry.join("node_modules/a")).expect("made");
        fs::write(entry.join("node_modules/a/x.js"), "1").expect("written");
        std::os::unix::fs::symlink("a/x.js", entry.join("node_modules/x")).expect("linked");
        let manifest = Manifest::of(entry).expect("readable");
        let about = serde_json::json!({ "manifest": manifest.write(entry).expect("written") });
        fs::write(entry.join(ABOUT), about.to_string()).expect("written");
        assert_eq!(Manifest::read(entry).expect("whole"), manifest);
        manifest.verify(entry).expect("as installed");

        let differs = |what: &str| {
            let error = manifest.verify(entry).expect_err("it was changed");
            assert!(error.to_string().contains(what), "{error}");
        };
        fs::write(entry.join("node_modules/a/x.js"), "2").expect("written");
        differs("1 of its files are not as installed: node_modules/a/x.js");
        fs::write(entry.join("node_modules/a/x.js"), "1").expect("written");
        fs::write(entry.join("node_modules/y.js"), "").expect("written");
        differs("node_modules/y.js");
        fs::remove_file(entry.join("node_modules/y.js")).expect("removed");
        fs::remove_file(entry.join("node_modules/x")).expect("removed");
        differs("node_modules/x");
        fs::write(entry.join(MANIFEST), "{\"items\":{}}").expect("written");
        assert!(matches!(Manifest::read(entry), Err(ManifestError::NoList)));
    }
}

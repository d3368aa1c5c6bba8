//! `pool.lock`: what servers with `pin = true` were resolved to, lock files and all, so that every
//! host installs equal bytes.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::install_error::PinsError;

const HEAD: &str = "# Written by stdiopool for servers with `pin = true`. Keep it beside pool.toml, under version control;\n# remove a package from it, or the file, to have newer versions resolved at the next start.\n\n";

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Pinned {
    id: String,
    version: String,
    lock: String,
}

#[derive(Default, Serialize, Deserialize)]
struct Document {
    #[serde(default)]
    package: Vec<Pinned>,
}

/// The lock file beside pool.toml.
#[derive(Debug)]
pub struct Pins {
    path: PathBuf,
    /// One writer of pool.lock at a time within this process.
    writing: Mutex<()>,
}

impl Pins {
    /// The one in the folder of pool.toml.
    pub fn beside(folder: &Path) -> Self {
        Self {
            path: folder.join("pool.lock"),
            writing: Mutex::default(),
        }
    }

    /// The lock file that a recipe is pinned to. Blocks.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub(super) fn get(&self, id: &str) -> Result<Option<String>, PinsError> {
        let document = self.read()?;
        let found = document.package.into_iter().find(|pinned| pinned.id == id);
        Ok(found.map(|pinned| pinned.lock))
    }

    /// Pins a recipe. Blocks.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub(super) fn set(&self, id: &str, version: &str, lock: &str) -> Result<(), PinsError> {
        let _guard = self.writing.lock();
        let mut document = self.read()?;
        document.package.retain(|pinned| pinned.id != id);
        document.package.push(Pinned {
            id: id.to_owned(),
            version: version.to_owned(),
            lock: lock.to_owned(),
        });
        document.package.sort_by(|a, b| a.id.cmp(&b.id));
        let text = toml::to_string_pretty(&document)?;
        let write = || -> io::Result<()> {
            let folder = self.path.parent().unwrap_or(Path::new("."));
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            file.write_all(HEAD.as_bytes())?;
            file.write_all(text.as_bytes())?;
            file.persist(&self.path)?;
            Ok(())
        };
        write().map_err(|source| PinsError::NotWritten {
            path: self.path.clone(),
            source,
        })
    }

    fn read(&self) -> Result<Document, PinsError> {
        let unreadable = |why: String| PinsError::Unreadable {
            path: self.path.clone(),
            why,
        };
        match std::fs::read_to_string(&self.path) {
            Ok(text) => toml::from_str(&text).map_err(|error| unreadable(error.to_string())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Document::default()),
            Err(error) => Err(unreadable(error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_pinned_is_found_again_and_garbage_is_not_overwritten() {
        let folder = tempfile::tempdir().expect("a folder");
        let pins = Pins::beside(folder.path());
        assert_eq!(pins.get("npm b").expect("read"), None);
        let lock = "{\n  \"a\": \"it's '''so'''\"\n}\n";
        pins.set("npm b", "1.0.0", "old").expect("written");
        pins.set("npm a", "2.0.0", "x").expect("written");
        pins.set("npm b", "1.0.1", lock).expect("written");
        assert_eq!(pins.get("npm b").expect("read").as_deref(), Some(lock));
        assert_eq!(pins.get("npm a").expect("read").as_deref(), Some("x"));
        let path = folder.path().join("pool.lock");
        std::fs::write(&path, "not = [").expect("written");
        assert!(pins.set("npm c", "1", "x").is_err());
        assert_eq!(std::fs::read_to_string(&path).expect("there"), "not = [");
    }
}

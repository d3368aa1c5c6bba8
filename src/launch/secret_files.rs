//! Secrets that a process reads from files instead of its arguments or environment.
//!
//! The worker is not known yet when the arguments are made: the path in them has a
//! place-holder where the worker's own folder will stand.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, chown, fchown};
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};

use crate::ids::WorkerId;

/// Stands in paths for the folder of a worker. A value that has it in it names the worker's own
/// folder too, and nothing else.
const PLACEHOLDER: &str = ":worker:";

/// The files of one launch.
#[derive(Clone, Default)]
pub struct SecretFiles {
    root: PathBuf,
    files: BTreeMap<String, SecretString>,
    /// Where the files are to be written, once that is known.
    folder: Option<PathBuf>,
}

impl fmt::Debug for SecretFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.files.keys()).finish()
    }
}

impl SecretFiles {
    /// Secrets by name, each in a file below `root`, which is private to this process.
    pub fn new(root: PathBuf, files: BTreeMap<String, SecretString>) -> Self {
        Self {
            root,
            files,
            folder: None,
        }
    }

    /// The path of a secret's file, as it stands in arguments before the worker is known.
    pub fn path_of(root: &Path, name: &str) -> String {
        root.join(PLACEHOLDER).join(name).display().to_string()
    }

    /// The folder that worker's files are in; none where there are none.
    pub fn folder_of(&self, worker: WorkerId) -> Option<PathBuf> {
        (!self.files.is_empty()).then(|| self.root.join(worker.to_string()))
    }

    /// The files as that worker has them, in its own folder.
    pub(super) fn for_worker(&self, worker: WorkerId) -> Self {
        Self {
            folder: self.folder_of(worker),
            ..self.clone()
        }
    }

    /// The text with the worker's folder in it, if it names a file of these.
    pub(super) fn placed(&self, text: &SecretString, worker: WorkerId) -> Option<SecretString> {
        let placeholder = self.root.join(PLACEHOLDER).display().to_string();
        let text = text.expose_secret();
        let folder = self.folder_of(worker)?.display().to_string();
        let is_there = text.contains(&placeholder);
        is_there.then(|| text.replace(&placeholder, &folder).into())
    }

    /// Names and values, for a digest.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&str, &SecretString)> {
        self.files
            .iter()
            .map(|(name, value)| (name.as_str(), value))
    }

    /// Where the files are written, once that is known; none where there are none.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// Writes them, readable by that user only; by stdiopool's own without one.
    ///
    /// # Errors
    /// When a file cannot be made. The files go with the worker.
    pub fn write(&self, user: Option<u32>) -> io::Result<()> {
        let Some(folder) = &self.folder else {
            return Ok(());
        };
        DirBuilder::new().mode(0o700).create(folder)?;
        for (name, value) in &self.files {
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(folder.join(name))?;
            file.write_all(value.expose_secret().as_bytes())?;
            if user.is_some() {
                fchown(&file, user, user)?;
            }
        }
        if user.is_some() {
            // Last: until then nobody else comes to them.
            chown(folder, user, user)?;
        }
        Ok(())
    }
}

//! Keeps npm and uv to their own folders where they find out versions and fetch packages, and run no code of these.
//!
//! They run as stdiopool's own user, with the operator's settings and the cache that all installs share. They see nothing else of the state
//! folder, and write to that cache, to HOME of installs, to a TMPDIR of this install and to the folder that is installed into: a mistake of theirs, or
//! a package that gets them to do something, ends there. What runs code of packages has a place of its own (`place`).

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::cache::{Cache, CacheError, failed};
use super::helper::Helper;
use super::place::shared;
use super::workspace::Workspace;
use crate::launch::{Confinement, InstallGroup};

/// Installers whose downloads are kept.
const FOLDERS: [&str; 2] = ["npm", "uv"];

/// What fetches for one install.
#[derive(Debug)]
pub(super) struct Fetching {
    cache: Cache,
    tmp: Workspace,
    env: BTreeMap<String, String>,
    group: Option<Arc<dyn InstallGroup>>,
}

impl Fetching {
    /// For an install into that cache, whose commands have that environment but for TMPDIR, and are in that control group.
    ///
    /// # Errors
    /// [`CacheError`] when the system refuses a folder.
    pub(super) fn new(
        cache: &Cache,
        env: &BTreeMap<String, String>,
        group: Option<Arc<dyn InstallGroup>>,
    ) -> Result<Self, CacheError> {
        let tmp = cache.workspace()?;
        // What is not there yet cannot be made by who may write to it alone.
        for folder in FOLDERS.map(|installer| cache.downloads(installer)) {
            let made = DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&folder);
            made.map_err(failed(&folder, "create"))?;
        }
        let mut env = env.clone();
        env.insert("TMPDIR".to_owned(), tmp.path().display().to_string());
        Ok(Self {
            cache: cache.clone(),
            tmp,
            env,
            group,
        })
    }

    /// How a command is run that works in the folder `dir` and writes to the folders `own` too.
    pub(super) fn helper<'a>(
        &'a self,
        dir: &'a Path,
        own: &[PathBuf],
        lock: &'a File,
    ) -> Helper<'a> {
        let confinement = self.cache.sandbox().map(|sandbox| {
            let folders = [
                self.tmp.path().to_owned(),
                dir.to_owned(),
                self.cache.home(),
            ];
            let caches = FOLDERS.map(|installer| self.cache.downloads(installer));
            let groups = self.group.iter();
            Confinement {
                user: None,
                hidden: sandbox.hidden.clone(),
                own: [&folders[..], &caches, own].concat(),
                shared: shared(&self.env, &sandbox.hidden),
                can_mount: sandbox.can_mount,
                max_processes: sandbox.max_processes,
                max_memory: sandbox.max_memory_beside(self.group.as_deref()),
                groups: groups.flat_map(|group| group.procs_files()).collect(),
            }
        });
        Helper {
            env: &self.env,
            dir,
            lock,
            timeout: self.cache.timeout(),
            confinement,
            group: self.group.as_deref(),
        }
    }
}

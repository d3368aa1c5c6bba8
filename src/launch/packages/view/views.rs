//! Gives the view of a package that workers are started from: the one that is there, or a new one.

use std::fs::DirBuilder;
use std::hash::BuildHasher;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use nix::fcntl::FlockArg;
use parking_lot::Mutex;
use rustc_hash::{FxBuildHasher, FxHashMap};

use super::carry;
use super::error::ViewError;
use super::hold::{View, is_in_use, lock};
use super::layout::{ABOUT, SHARED, list, shipped};
use super::make::{PASSED, give, make, set_mode};
use super::successor::remove_old;
use super::wanted::Wanted;

/// What is done about workers that still run from the view of another version, and have written into it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StillRunning {
    /// [`ViewError::InUse`]: their files may be half written.
    Refuse,
    /// Files that these workers have written are taken over as they are; those they write from now on are kept beside the views.
    GoOn,
}

/// Makes private views, one at a time below one folder.
#[derive(Debug)]
pub struct Views {
    locks: [Mutex<()>; LOCKS],
    in_use: Mutex<FxHashMap<PathBuf, Weak<View>>>,
}

impl Default for Views {
    fn default() -> Self {
        Self {
            locks: std::array::from_fn(|_| Mutex::default()),
            in_use: Mutex::default(),
        }
    }
}

/// Views that are made at once, as far as their folders differ.
const LOCKS: usize = 64;

impl Views {
    /// The view below `root`, made now if there is none of this entry. Blocks.
    ///
    /// # Errors
    /// [`ViewError`]; there is nothing to start from then.
    pub fn prepare(
        &self,
        root: &Path,
        wanted: &Wanted<'_>,
        still_running: StillRunning,
    ) -> Result<Arc<View>, ViewError> {
        let shard = FxBuildHasher.hash_one(root) % (LOCKS as u64);
        let shard = usize::try_from(shard).unwrap_or_default();
        let _guard = self.locks[shard].lock();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(root)
            .map_err(ViewError::io("make", root))?;
        if wanted.user.is_some() {
            // Passed, and neither listed nor opened, so that no server holds a lock that stdiopool waits for.
            set_mode(root, PASSED).map_err(ViewError::io("open", root))?;
        }
        // Other processes may make views here where one command is hosted.
        let _alone = lock(root, FlockArg::LockExclusive).map_err(ViewError::io("lock", root))?;
        let mut views = list(root)?;
        let newest = views
            .iter()
            .rposition(|view| view.about.package == wanted.package);
        let current = newest.map(|at| views.remove(at));
        if let Some(current) = &current {
            let home = root.join(current.number.to_string());
            let is_it = current.about.entry == wanted.entry
                && current.about.home == home
                && current.about.writable == wanted.writable
                && std::fs::read_link(home.join(SHARED)).is_ok_and(|to| to == wanted.entry);
            if is_it {
                give(&home, wanted.user)?;
                let view = self.take(&home)?;
                remove_old(root, wanted, &views);
                return Ok(view);
            }
            if still_running == StillRunning::Refuse && is_in_use(&home) && is_written_to(&home) {
                let version = current.about.version.clone();
                return Err(ViewError::InUse { version });
            }
        }
        let home = make(root, wanted, current.as_ref())?;
        let view = self.take(&home)?;
        views.extend(current);
        remove_old(root, wanted, &views);
        Ok(view)
    }

    /// Holds a view, by the one lock that this process has for it.
    fn take(&self, home: &Path) -> Result<Arc<View>, ViewError> {
        let mut in_use = self.in_use.lock();
        if let Some(view) = in_use.get(home).and_then(Weak::upgrade) {
            return Ok(view);
        }
        let lock = lock(home, FlockArg::LockShared).map_err(ViewError::io("lock", home))?;
        let view = Arc::new(View {
            folder: home.to_owned(),
            _lock: lock,
        });
        in_use.retain(|_, view| view.strong_count() > 0);
        in_use.insert(home.to_owned(), Arc::downgrade(&view));
        Ok(view)
    }
}

/// Whether a server may have written into a view, as far as names and times of files tell. Blocks.
fn is_written_to(view: &Path) -> bool {
    let made = view
        .join(ABOUT)
        .metadata()
        .and_then(|about| about.modified());
    // What cannot be told is taken for written to: that costs a wait, and no file.
    made.map_or(true, |made| {
        carry::is_written_to(view, &shipped(view), made)
    })
}

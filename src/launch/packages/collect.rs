//! What goes of the package cache: references that were not used for long, and entries that none names.

use std::fs::File;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use nix::fcntl::{Flock, FlockArg};

use super::cache::{Cache, CacheError, ENTRIES, failed, remove};
use crate::folders;

/// How long an entry that no reference names is kept: another process may be about to name it.
const ORPHAN_AGE: Duration = Duration::from_secs(3600);

impl Cache {
    /// Removes references that were not used for `keep`, and entries that none names and no worker
    /// runs (`is_running`). Returns how many entries went. Blocks.
    ///
    /// # Errors
    /// [`CacheError`] when the system refuses.
    pub fn collect(
        &self,
        keep: Duration,
        now: SystemTime,
        is_running: impl Fn(&str) -> bool,
    ) -> Result<usize, CacheError> {
        let mut named = std::collections::HashSet::new();
        for (name, age) in self.list("refs", now)? {
            let Some(request) = name.strip_suffix(".json") else {
                continue;
            };
            let reference = self.reference(request);
            match reference {
                Some(reference) if age < keep || is_running(&reference.entry) => {
                    named.insert(reference.entry);
                }
                _ => {
                    let path = self.reference_path(request);
                    std::fs::remove_file(&path).map_err(failed(&path, "remove"))?;
                }
            }
        }
        let mut removed = 0;
        for (path, entry, age) in self.entries(now)? {
            // Earlier versions had those of npm elsewhere.
            let is_named = named.contains(&entry) && path == self.entry(&entry);
            if is_named || is_running(&entry) || age < ORPHAN_AGE {
                continue;
            }
            // Whoever holds it makes use of it just now.
            let lock = self.root.join("locks").join(&entry);
            let held =
                File::create(&lock).map(|file| Flock::lock(file, FlockArg::LockExclusiveNonblock));
            if let Ok(Ok(_lock)) = held {
                remove(&path)?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Entries: where each is, its name, and how long ago it was changed.
    fn entries(&self, now: SystemTime) -> Result<Vec<(PathBuf, String, Duration)>, CacheError> {
        let mut all = Vec::new();
        for folder in ENTRIES {
            let found = self.list(folder, now)?.into_iter();
            all.extend(found.map(|(name, age)| (self.root.join(folder).join(&name), name, age)));
        }
        Ok(all)
    }

    /// Names in one of the folders, and how long ago each was changed.
    fn list(&self, folder: &str, now: SystemTime) -> Result<Vec<(String, Duration)>, CacheError> {
        let path = self.root.join(folder);
        let read = || {
            let mut found = Vec::new();
            for item in std::fs::read_dir(&path)? {
                let item = item?;
                let changed = item.metadata()?.modified()?;
                if let Ok(name) = item.file_name().into_string()
                    && !folders::is_trash(&name)
                {
                    found.push((name, now.duration_since(changed).unwrap_or_default()));
                }
            }
            Ok(found)
        };
        read().map_err(failed(&path, "list"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::cache_fixture::{cache, entry, reference};
    use super::*;

    #[test]
    fn what_nobody_uses_is_collected_and_what_runs_is_not() {
        let (cache, _folder) = cache();
        for name in ["npm-used", "npm-old", "npm-runs", "npm-orphan"] {
            entry(&cache, name);
        }
        for (request, entry) in [("a", "npm-used"), ("b", "npm-old"), ("c", "npm-runs")] {
            cache
                .set_reference(request, &reference(entry))
                .expect("written");
        }
        let day = Duration::from_secs(86_400);
        let later = SystemTime::now() + 40 * day;
        let used = File::options().append(true).open(cache.reference_path("a"));
        used.and_then(|file| file.set_modified(later - day))
            .expect("touched");
        let runs = |entry: &str| entry == "npm-runs";
        let too_soon = cache.collect(30 * day, SystemTime::now(), runs);
        assert_eq!(too_soon.expect("collects"), 0, "an orphan may be new");
        assert_eq!(cache.collect(30 * day, later, runs).expect("collects"), 2);
        assert!(cache.is_whole("npm-used") && cache.is_whole("npm-runs"));
        assert!(!cache.is_whole("npm-old") && !cache.is_whole("npm-orphan"));
    }
}

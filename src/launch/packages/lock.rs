//! Locks of the package cache, which processes that share it hold one at a time.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::cache::{Cache, CacheError, failed};

/// How often a lock that another process holds is tried again.
const LOCK_PERIOD: Duration = Duration::from_millis(200);

/// How long such a lock is waited for: longer than an install takes.
const LOCK_TIMEOUT: Duration = Duration::from_secs(1800);

impl Cache {
    /// Waits until nobody else holds the lock of that name, and holds it. The lock is given up when the value is
    /// dropped and every command that was given it has ended.
    ///
    /// # Errors
    /// [`CacheError`] when the system refuses, or another process does not let go of it.
    ///
    /// # Cancel-Safety
    /// Cancel-safe.
    pub(super) async fn lock(&self, name: &str) -> Result<Flock<File>, CacheError> {
        let since = tokio::time::Instant::now();
        loop {
            if let Some(lock) = self.try_lock(name)? {
                return Ok(lock);
            }
            if since.elapsed() > LOCK_TIMEOUT {
                let held = io::Error::from(io::ErrorKind::WouldBlock);
                let what = "another process holds a lock for too long";
                return Err(failed(&self.lock_file(name), what)(held));
            }
            tokio::time::sleep(LOCK_PERIOD).await;
        }
    }

    /// Holds the lock of that name, unless somebody else does; given up as by [`lock`](Self::lock).
    ///
    /// # Errors
    /// [`CacheError`] when the system refuses.
    pub(super) fn try_lock(&self, name: &str) -> Result<Option<Flock<File>>, CacheError> {
        let path = self.lock_file(name);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed(&path, "open a lock"))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Some(lock)),
            Err((_, Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, errno)) => Err(failed(&path, "lock")(errno.into())),
        }
    }

    fn lock_file(&self, name: &str) -> PathBuf {
        self.root.join("locks").join(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache() -> (Cache, tempfile::TempDir) {
        let folder = tempfile::tempdir().expect("a folder");
        (
            Cache::open(&folder.path().join("packages")).expect("opens"),
            folder,
        )
    }

    #[tokio::test]
    async fn one_holds_a_lock_at_a_time() {
        let (cache, _folder) = cache();
        let held = cache.lock("x").await.expect("locked");
        let second = cache.lock("x");
        tokio::pin!(second);
        let waited = tokio::time::timeout(2 * LOCK_PERIOD, &mut second).await;
        assert!(waited.is_err(), "it is held");
        drop(held);
        second.await.expect("locked");
    }
}

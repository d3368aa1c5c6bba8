//! The state folder, and the lock that keeps a second supervisor out of it.

use std::fs::{DirBuilder, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use parking_lot::Mutex;

use super::running::{self, Door};
use super::state_error::{StateDirError, failed};
use super::state_lock::Lock;
use crate::folders::{self, Temporary};
use crate::ids::{ServerName, TenantId};

/// What the folder of secrets' files begins with.
const SECRETS_PREFIX: &str = "stdiopool-secrets-";
/// The file that says where it is.
const SECRETS_NOTE: &str = "secrets-folder";

/// The state folder. The lock goes with this value.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    /// Folder of the files with secrets; made when first asked for.
    secrets: OnceLock<Temporary>,
    making_secrets: Mutex<()>,
    // Released before the folder, if temporary, is removed: fields drop in order.
    _lock: Lock,
    _temporary: Option<Temporary>,
}

impl StateDir {
    /// Opens or makes the folder, locks it, and puts its temporary part aside, to be removed in the background.
    ///
    /// # Errors
    /// [`StateDirError`] when another supervisor holds it or the system refuses.
    pub fn open(dir: &Path) -> Result<Self, StateDirError> {
        Self::lock(dir, None)
    }

    /// Makes a folder below `base` that goes when this value does.
    ///
    /// # Errors
    /// [`StateDirError::Io`] when it cannot be made.
    pub fn temporary(base: &Path) -> Result<Self, StateDirError> {
        // Random name, mode 0700: nobody else on the host can have prepared it.
        let folder = tempfile::Builder::new()
            .prefix("stdiopool-")
            .tempdir_in(base)
            .map_err(failed(base, "create a folder in it"))?;
        let path = folder.path().to_owned();
        Self::lock(&path, Some(Temporary::new(folder)))
    }

    fn lock(dir: &Path, temporary: Option<Temporary>) -> Result<Self, StateDirError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(failed(dir, "create"))?;
        let path = dir.canonicalize().map_err(failed(dir, "resolve"))?;
        // One that was there before may be open to others, and tenants' data will be in it.
        std::fs::set_permissions(&path, Permissions::from_mode(0o700))
            .map_err(failed(dir, "make private"))?;
        let lock = Lock::take(&path)?;
        remove_stale_secrets(&path);
        // What workers left may be without permissions, deep, and much: nothing in it stops a start.
        let tmp = path.join("tmp");
        folders::empty(&tmp);
        folders::empty_trash_in_background(vec![path.clone(), tmp]);
        Ok(Self {
            path,
            secrets: OnceLock::new(),
            making_secrets: Mutex::default(),
            _lock: lock,
            _temporary: temporary,
        })
    }

    /// Notes for commands where a listener is; `None`: they cannot ask it.
    ///
    /// # Errors
    /// When the note cannot be written.
    pub fn note_door(&self, door: Door, address: Option<SocketAddr>) -> io::Result<()> {
        running::note(&self.path, door, address)
    }

    /// The folder's absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A private folder in memory below which workers have files with their secrets; it goes with this
    /// value, or at the next start if this process is killed.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn secret_root(&self) -> io::Result<&Path> {
        if let Some(folder) = self.secrets.get() {
            return Ok(folder.path());
        }
        // One at a time: the note names the one that is used.
        let _turn = self.making_secrets.lock();
        if let Some(folder) = self.secrets.get() {
            return Ok(folder.path());
        }
        // Random name, mode 0700: nobody else on the host can have prepared it, or look into it.
        let folder = tempfile::Builder::new()
            .prefix(SECRETS_PREFIX)
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(memory_dir())?;
        // Noted before anything is in it.
        let folder = Temporary::new(folder);
        let noted = folder.path().as_os_str().as_encoded_bytes();
        std::fs::write(self.path.join(SECRETS_NOTE), noted)?;
        Ok(self.secrets.get_or_init(|| folder).path())
    }

    /// The folder for what a tenant's workers of a server keep. May not exist yet.
    pub fn data_dir(&self, tenant: &TenantId, server: &ServerName) -> PathBuf {
        data_dir(&self.path, tenant, server)
    }

    /// The folder for what they need for a while. May not exist yet.
    pub fn tmp_dir(&self, tenant: &TenantId, server: &ServerName) -> PathBuf {
        self.of("tmp", tenant, server)
    }

    /// The folder for the private views of packages and the caches of launchers that they run. May not exist yet. Not
    /// within [`Self::data_dir`]: who may write files there through a server's tools must not write its code.
    pub fn packages_dir(&self, tenant: &TenantId, server: &ServerName) -> PathBuf {
        // No server's name starts with a dot.
        self.path
            .join("data")
            .join(tenant.as_str())
            .join(".packages")
            .join(server.as_str())
    }

    /// The folder below which each process of a server that is nobody's at first has its own. May
    /// not exist yet; emptied when stdiopool starts.
    pub fn scratch_dir(&self, server: &ServerName) -> PathBuf {
        // No tenant's name starts with a dot.
        self.path.join("tmp").join(".scratch").join(server.as_str())
    }

    fn of(&self, part: &str, tenant: &TenantId, server: &ServerName) -> PathBuf {
        self.path
            .join(part)
            .join(tenant.as_str())
            .join(server.as_str())
    }
}

/// The folder, in that state folder, for what a tenant's workers of a server keep. May not exist yet.
pub fn data_dir(state: &Path, tenant: &TenantId, server: &ServerName) -> PathBuf {
    state
        .join("data")
        .join(tenant.as_str())
        .join(server.as_str())
}

/// Where files are in memory and not on a disk: systemd's or the user's runtime folder, else
/// what the kernel offers.
fn memory_dir() -> PathBuf {
    let given = ["RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR"]
        .into_iter()
        .filter_map(std::env::var_os)
        // systemd names several with colons between them (systemd.exec(5)).
        .flat_map(|dirs| std::env::split_paths(&dirs).collect::<Vec<_>>());
    let shm = PathBuf::from("/dev/shm");
    let mut all = given.chain([shm]);
    all.find(|dir| dir.is_dir()).unwrap_or_else(|| {
        let dir = std::env::temp_dir();
        tracing::warn!(
            "no folder in memory was found (RUNTIME_DIRECTORY, XDG_RUNTIME_DIR, /dev/shm): files with secrets are in {}, which may be a disk",
            dir.display()
        );
        dir
    })
}

/// Removes what a process that was killed has left there.
fn remove_stale_secrets(dir: &Path) {
    let note = dir.join(SECRETS_NOTE);
    let Ok(stale) = std::fs::read_to_string(&note) else {
        return;
    };
    let stale = Path::new(&stale);
    let name = stale.file_name().and_then(|name| name.to_str());
    // The note is in a private folder; even so, nothing else is removed on its word.
    if name.is_some_and(|name| name.starts_with(SECRETS_PREFIX))
        && let Err(error) = folders::remove(stale)
    {
        tracing::warn!("files with secrets of the last run stay for now: {error}");
        return;
    }
    // Removed again at the next start, if not now.
    let _removed = std::fs::remove_file(note);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_supervisor_per_folder() {
        let base = tempfile::tempdir().expect("a folder");
        let dir = base.path().join("a/b");
        let first = StateDir::open(&dir).expect("free");
        let error = StateDir::open(&dir).expect_err("held");
        let text = error.to_string();
        assert!(
            text.contains(&format!("pid {}", std::process::id())),
            "{text}"
        );
        drop(first);
        StateDir::open(&dir).expect("free again");
    }

    #[test]
    fn whatever_is_deleted_in_it_the_folder_stays_locked() {
        let base = tempfile::tempdir().expect("a folder");
        let dir = base.path().join("state");
        let first = StateDir::open(&dir).expect("free");
        for entry in std::fs::read_dir(&dir).expect("there") {
            folders::remove(&entry.expect("an entry").path()).expect("removed");
        }
        let error = StateDir::open(&dir).expect_err("held");
        assert!(matches!(error, StateDirError::InUse { .. }), "{error}");
        drop(first);
        // Nor does what is in place of the file with the process id keep anyone out.
        folders::remove(&dir.join("lock")).expect("removed");
        std::fs::create_dir(dir.join("lock")).expect("made");
        StateDir::open(&dir).expect("free again");
    }

    #[test]
    fn it_is_private_and_its_temporary_part_is_emptied() {
        let base = tempfile::tempdir().expect("a folder");
        let dir = base.path().join("state");
        std::fs::create_dir(&dir).expect("made");
        std::fs::set_permissions(&dir, Permissions::from_mode(0o755)).expect("set");
        let (tenant, server) = (TenantId::new("acme"), ServerName::new("files"));
        let state = StateDir::open(&dir).expect("opens");
        let mode = std::fs::metadata(&dir).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        let (data, tmp) = (
            state.data_dir(&tenant, &server),
            state.tmp_dir(&tenant, &server),
        );
        std::fs::create_dir_all(&data).expect("made");
        std::fs::create_dir_all(&tmp).expect("made");
        drop(state);
        let _again = StateDir::open(&dir).expect("opens");
        assert!(data.exists());
        assert!(!tmp.exists());
    }

    #[test]
    fn nobody_else_looks_into_the_folder_of_secrets_and_it_goes_with_its_value() {
        let base = tempfile::tempdir().expect("a folder");
        let state = StateDir::open(&base.path().join("state")).expect("opens");
        let root = state.secret_root().expect("made").to_owned();
        let mode = std::fs::metadata(&root)
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o700);
        drop(state);
        assert!(!root.exists());
    }

    #[test]
    fn a_temporary_one_goes_with_its_value() {
        let base = tempfile::tempdir().expect("a folder");
        let state = StateDir::temporary(base.path()).expect("made");
        let path = state.path().to_owned();
        assert!(path.exists());
        drop(state);
        assert!(!path.exists());
    }
}

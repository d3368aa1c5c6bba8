//! A copy of the database while it is in use, and the way back.

use std::path::Path;
use std::time::Duration;

use rusqlite::backup::Backup;
use rusqlite::{Connection, OpenFlags};

use super::database::{self, DatabaseError, open_to_read as open, told};
use super::state_dir::StateDir;

/// Pages that are copied without a pause, so that writers get the lock in between.
const PAGES_AT_ONCE: i32 = 256;
/// How long the copying pauses between two groups of pages.
const PAUSE: Duration = Duration::from_millis(5);

/// Copies the database of a state folder to a new file, as it is at one moment. The database may be in use.
///
/// # Errors
/// When there is none, the file exists, or either cannot be used; no half-made file is left.
pub fn backup(dir: &Path, to: &Path) -> Result<(), DatabaseError> {
    let from = dir.join(database::FILE);
    let source = open(&from)?;
    // Private from the first byte, and never in place of something else.
    let made = std::os::unix::fs::OpenOptionsExt::mode(
        std::fs::OpenOptions::new().write(true).create_new(true),
        0o600,
    )
    .open(to);
    made.map_err(|source| {
        let path = to.to_owned();
        match source.kind() {
            std::io::ErrorKind::AlreadyExists => DatabaseError::Exists { path },
            _ => DatabaseError::Copy { path, source },
        }
    })?;
    let copied = copy(&source, to);
    if copied.is_err() {
        // A half-made file is no backup; the error says why.
        let _removed = std::fs::remove_file(to);
    }
    copied
}

fn copy(source: &Connection, to: &Path) -> Result<(), DatabaseError> {
    let copy = || -> rusqlite::Result<()> {
        let mut target = Connection::open(to)?;
        let backup = Backup::new(source, &mut target)?;
        backup.run_to_completion(PAGES_AT_ONCE, PAUSE, None)?;
        drop(backup);
        // One file, complete in itself.
        target.pragma_update(None, "journal_mode", "DELETE")
    };
    copy().map_err(|error| told(to, error))
}

/// Puts a backup in place of the database of a state folder, whose own is kept beside it as
/// `state.db.before-restore`.
///
/// # Errors
/// When the backup is damaged or newer, or the files cannot be moved; then nothing has changed.
pub fn restore(dir: &StateDir, from: &Path) -> Result<(), DatabaseError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| DatabaseError::Copy { path, source }
    };
    let (file, new) = (
        dir.path().join(database::FILE),
        dir.path().join("state.db.restoring"),
    );
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(failed(&new)(error));
        }
        Ok(()) | Err(_) => {}
    }
    let copied = open(from).and_then(|backup| copy(&backup, &new));
    let mut checked = copied
        .and_then(|()| database::check(&new))
        .map_err(|error| not_restored(from, &error));
    // The journal belongs to the old file: what is in it goes there first.
    if checked.is_ok() && file.exists() {
        checked = database::fold_journal(&file);
    }
    if let Err(error) = checked {
        let _removed = std::fs::remove_file(&new);
        return Err(error);
    }
    if file.exists() {
        // A second name for it, so that there is a database at every moment.
        let kept = dir.path().join("state.db.before-restore");
        match std::fs::remove_file(&kept) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed(&kept)(error));
            }
            Ok(()) | Err(_) => {}
        }
        std::fs::hard_link(&file, &kept).map_err(failed(&kept))?;
    }
    std::fs::rename(&new, &file).map_err(failed(&file))
}

/// What was found in the copy of a backup, said of the backup.
fn not_restored(backup: &Path, error: &DatabaseError) -> DatabaseError {
    let why = match error {
        DatabaseError::Damaged { why, .. } => format!("it is damaged ({why})"),
        DatabaseError::Newer { found, known, .. } => format!(
            "it was written by a later version of stdiopool, which has to restore it (its version is {found}, this one knows {known})"
        ),
        DatabaseError::Foreign { .. } => "it is no backup of stdiopool".to_owned(),
        DatabaseError::Sqlite { source, .. } => source.to_string(),
        other => other.to_string(),
    };
    let path = backup.to_owned();
    DatabaseError::NotRestored { path, why }
}

/// Names of the tenants in a state folder, which may be in use. None where it cannot be read: whoever
/// opens it says why.
pub fn tenant_names(dir: &Path) -> Vec<String> {
    let read = || -> rusqlite::Result<Vec<String>> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
        let db = Connection::open_with_flags(dir.join(database::FILE), flags)?;
        let mut names = db.prepare("SELECT name FROM tenants")?;
        names.query_map([], |row| row.get(0))?.collect()
    };
    read().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{OpenedState, TenantRow, now};

    fn tenant(name: &str) -> TenantRow {
        TenantRow {
            name: name.to_owned(),
            settings: "{}".to_owned(),
            created: now(),
        }
    }

    #[tokio::test]
    async fn a_backup_is_the_state_of_one_moment_and_comes_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = StateDir::open(&folder.path().join("state")).expect("opens");
        let copy = folder.path().join("copy.db");
        let opened = OpenedState::open(&state).expect("opens");
        opened
            .accounts
            .put_tenant(tenant("acme"))
            .await
            .expect("kept");
        backup(state.path(), &copy).expect("copied while it is open");
        opened
            .accounts
            .put_tenant(tenant("later"))
            .await
            .expect("kept");
        let again = backup(state.path(), &copy).expect_err("not in place of another");
        assert!(again.to_string().contains("copy.db exists"), "{again}");
        drop(opened);

        restore(&state, &copy).expect("restored");
        let names = |state| {
            let rows = OpenedState::open(state)
                .expect("opens")
                .account_rows
                .tenants;
            rows.into_iter().map(|row| row.name).collect::<Vec<_>>()
        };
        assert_eq!(names(&state), ["acme"]);
        let before = state.path().join("state.db.before-restore");
        restore(&state, &before).expect("and back");
        assert_eq!(names(&state), ["acme", "later"]);

        let reader = Connection::open(state.path().join(database::FILE)).expect("opens");
        let held = reader.query_row("SELECT count(*) FROM tenants", [], |row| {
            row.get::<_, u32>(0)
        });
        assert_eq!(held.expect("read"), 2);
        let busy = restore(&state, &before).expect_err("it is in use");
        assert!(busy.to_string().contains("has it open"), "{busy}");
        drop(reader);
        assert_eq!(names(&state), ["acme", "later"], "and is as it was");

        let damaged = folder.path().join("damaged.db");
        std::fs::write(&damaged, "no database at all, but long enough\n".repeat(99))
            .expect("written");
        let error = restore(&state, &damaged).expect_err("refused");
        let said = error.to_string();
        assert!(
            said.contains("damaged.db cannot be restored: it is damaged"),
            "{said}"
        );
        let foreign = folder.path().join("foreign.db");
        let other = Connection::open(&foreign).expect("made");
        for (version, why) in [
            (0, "no backup of stdiopool"),
            (1, "no backup of stdiopool"),
            (99, "a later version"),
        ] {
            let made = other.pragma_update(None, "user_version", version);
            made.expect("set");
            let error = restore(&state, &foreign).expect_err("refused");
            assert!(error.to_string().contains(why), "{version}: {error}");
        }
        assert!(!state.path().join("state.db.restoring").exists());
        assert_eq!(names(&state), ["acme", "later"]);
    }
}

//! The embedded database: one writer thread, statements in groups.
//!
//! Whoever waits for a write is answered after the commit. The journal is a write-ahead log with
//! `synchronous = NORMAL`: what was committed survives the death of the process at any point, and a
//! power cut at worst takes the last moments (<https://sqlite.org/pragma.html#pragma_synchronous>).

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction};
use tokio::sync::{mpsc, oneshot};

use super::schema::MIGRATIONS;

/// The file's name in the state folder.
pub(super) const FILE: &str = "state.db";
/// Writes that may wait. One more is refused: the disk does not keep up.
const MAX_WAITING: usize = 8_192;
/// How long a change waits for another program that has the database.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long those that come after one that has waited in vain.
const LOCKED_TIMEOUT: Duration = Duration::from_millis(100);
/// How often another connection to a file is looked for that is to be moved.
const FOLD_TRIES: u32 = 200;
/// How long between two looks.
const FOLD_PAUSE: Duration = Duration::from_millis(10);
/// Most writes in one transaction.
const MAX_GROUP: usize = 256;

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The file was written by a later version of stdiopool.
    #[error("{} was written by a later version of stdiopool (its version is {found}, this one knows {known}); use that one, or another `state.dir`", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// The file's version.
        found: u32,
        /// The latest this program knows.
        known: u32,
    },
    /// The file is not what this program wrote.
    #[error("{} is damaged: {why}; nothing was changed (restore it from a backup, or move it away to begin anew: sessions end)", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        why: String,
    },
    /// The file is a database, but not one of this program's.
    #[error("{} is no state of stdiopool; nothing was changed", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A backup cannot be put in place of the state.
    #[error("{} cannot be restored: {why}; nothing was changed", path.display())]
    NotRestored {
        /// The file.
        path: PathBuf,
        /// What is wrong with the backup.
        why: String,
    },
    /// A backup is never put in place of something else.
    #[error("{} exists already; give a backup a name of its own", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// SQLite or the system refuses.
    #[error("{} cannot be used: {source}", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite or the system says.
        source: rusqlite::Error,
    },
    /// A file beside it cannot be made or moved.
    #[error("{}: {source}", path.display())]
    Copy {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The thread that writes could not be started.
    #[error("the state could not be written: {0}")]
    NoWriter(#[source] std::io::Error),
    /// The thread that writes has ended.
    #[error("the state could not be written: its writer has ended")]
    WriterEnded,
    /// The database has refused it.
    #[error("the state could not be written: {0}")]
    NotWritten(#[source] rusqlite::Error),
}

/// A change; applied in one transaction with its neighbours.
pub(super) type Change = Box<dyn Fn(&Transaction<'_>) -> rusqlite::Result<()> + Send>;

struct Job {
    change: Change,
    done: Option<oneshot::Sender<rusqlite::Result<()>>>,
}

/// The open database. Cheap to clone; the last clone's end ends the writer.
#[derive(Clone, Debug)]
pub(super) struct Database {
    jobs: mpsc::Sender<Job>,
}

impl Database {
    /// Opens or makes the file in that folder, and reads what `load` wants of it.
    pub(super) fn open<T>(
        dir: &Path,
        load: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<(Self, T), DatabaseError> {
        let path = dir.join(FILE);
        let mut connection = connect(&path).map_err(|error| told(&path, error))?;
        migrate(&path, &mut connection)?;
        let loaded = load(&connection).map_err(|error| told(&path, error))?;
        let (jobs, waiting) = mpsc::channel(MAX_WAITING);
        let spawned = std::thread::Builder::new()
            .name("state writer".to_owned())
            .spawn(move || write(connection, waiting));
        spawned.map_err(DatabaseError::NoWriter)?;
        Ok((Self { jobs }, loaded))
    }

    /// Applies a change and waits until it is committed.
    pub(super) async fn apply(&self, change: Change) -> Result<(), DatabaseError> {
        let (done, answer) = oneshot::channel();
        let job = Job {
            change,
            done: Some(done),
        };
        let sent = self.jobs.send(job).await;
        sent.map_err(|_| DatabaseError::WriterEnded)?;
        let written = answer.await.map_err(|_| DatabaseError::WriterEnded)?;
        written.map_err(DatabaseError::NotWritten)
    }

    /// Applies a change some time soon; false if it cannot be, which is logged.
    pub(super) fn apply_later(&self, change: Change) -> bool {
        let job = Job { change, done: None };
        let taken = self.jobs.try_send(job);
        if let Err(error) = &taken {
            tracing::warn!(%error, "a change of state is not saved: it is lost at the next restart");
        }
        taken.is_ok()
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    check_health(&connection)?;
    Ok(connection)
}

/// Whether this program could open that file, which is left as it is.
pub(super) fn check(path: &Path) -> Result<(), DatabaseError> {
    let told = |error| told(path, error);
    let connection = Connection::open(path).map_err(told)?;
    check_health(&connection).map_err(told)?;
    let found = version(&connection).map_err(told)?;
    let known = MIGRATIONS.len().try_into().unwrap_or(u32::MAX);
    if found > known {
        let path = path.to_owned();
        return Err(DatabaseError::Newer { path, found, known });
    }
    // Other programs count their versions in `user_version` too.
    let sessions = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'sessions'";
    let is_ours = connection.query_row(sessions, [], |row| row.get::<_, u32>(0));
    if found == 0 || is_ours.map_err(told)? == 0 {
        let path = path.to_owned();
        return Err(DatabaseError::Foreign { path });
    }
    Ok(())
}

/// Opens a database that another process may have, to read it alone.
pub(super) fn open_to_read(path: &Path) -> Result<Connection, DatabaseError> {
    let told = |error| told(path, error);
    let opened = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY);
    let opened = opened.map_err(told)?;
    opened.busy_timeout(BUSY_TIMEOUT).map_err(told)?;
    Ok(opened)
}

/// Puts what is in its journal into the file, and removes the journal. Nobody else may use it; who is
/// about to close it is waited for.
pub(super) fn fold_journal(path: &Path) -> Result<(), DatabaseError> {
    let told = |error| told(path, error);
    let connection = Connection::open(path).map_err(told)?;
    let mut tries = FOLD_TRIES;
    loop {
        // With another connection it stays what it is, and says so, or is busy.
        let mode = connection.query_row("PRAGMA journal_mode = DELETE", [], |row| {
            row.get::<_, String>(0)
        });
        let why = match mode {
            Ok(mode) if mode == "delete" => return Ok(()),
            Ok(_) => None,
            Err(error) if is_busy(&error) => None,
            Err(error) => Some(error),
        };
        if let Some(error) = why {
            return Err(told(error));
        }
        tries -= 1;
        if tries == 0 {
            return Err(told(busy("another process or thread has it open")));
        }
        std::thread::sleep(FOLD_PAUSE);
    }
}

fn version(connection: &Connection) -> rusqlite::Result<u32> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

fn check_health(connection: &Connection) -> rusqlite::Result<()> {
    let health: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if health != "ok" {
        let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
        return Err(rusqlite::Error::SqliteFailure(code, Some(health)));
    }
    Ok(())
}

fn migrate(path: &Path, connection: &mut Connection) -> Result<(), DatabaseError> {
    let told = |error| told(path, error);
    let found = version(connection).map_err(told)?;
    let steps = (1_u32..).zip(MIGRATIONS);
    let known = steps.clone().count().try_into().unwrap_or(u32::MAX);
    if found > known {
        let path = path.to_owned();
        return Err(DatabaseError::Newer { path, found, known });
    }
    for (version, step) in steps.filter(|(version, _)| *version > found) {
        let transaction = connection.transaction().map_err(told)?;
        transaction
            .execute_batch(step)
            .and_then(|()| transaction.pragma_update(None, "user_version", version))
            .and_then(|()| transaction.commit())
            .map_err(told)?;
    }
    Ok(())
}

pub(super) fn told(path: &Path, source: rusqlite::Error) -> DatabaseError {
    let path = path.to_owned();
    match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => DatabaseError::Damaged {
            path,
            why: source.to_string(),
        },
        _ => DatabaseError::Sqlite { path, source },
    }
}

fn write(mut connection: Connection, mut waiting: mpsc::Receiver<Job>) {
    let mut group = Vec::new();
    let mut is_locked = false;
    while waiting.blocking_recv_many(&mut group, MAX_GROUP) > 0 {
        let all = commit(&mut connection, &group);
        let was_locked = std::mem::replace(&mut is_locked, all.as_ref().is_err_and(is_busy));
        if is_locked != was_locked {
            // The program that has the file was waited for: the changes that follow do not wait as long each.
            let timeout = if is_locked {
                LOCKED_TIMEOUT
            } else {
                BUSY_TIMEOUT
            };
            if let Err(error) = connection.busy_timeout(timeout) {
                tracing::warn!(%error, "the state is waited for as before");
            }
        }
        for job in group.drain(..) {
            // One bad change must not take its neighbours with it. Where all have to wait, none is tried alone.
            let outcome = match &all {
                Ok(()) => Ok(()),
                Err(_) if is_locked => Err(busy("database is locked by another program")),
                Err(_) => commit(&mut connection, std::slice::from_ref(&job)),
            };
            if let Err(error) = &outcome {
                tracing::warn!(%error, "a change of state could not be saved");
            }
            let Job { change, done } = job;
            // The change's charges are given back before anyone is told that it is written.
            drop(change);
            if let Some(done) = done {
                // Whoever waited may have gone.
                let _gone = done.send(outcome);
            }
        }
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
}

fn busy(why: &str) -> rusqlite::Error {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
    rusqlite::Error::SqliteFailure(code, Some(why.to_owned()))
}

fn commit(connection: &mut Connection, group: &[Job]) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    for job in group {
        (job.change)(&transaction)?;
    }
    transaction.commit()
}

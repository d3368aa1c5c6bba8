//! The state folder's database, opened whole: every table's store, and what was in it.

use std::time::SystemTime;

use rusqlite::{Connection, params};
use secrecy::SecretBox;

use super::accounts::{self, AccountRows, AccountStore};
use super::database::{Database, DatabaseError, FILE};
use super::eras::{self, EraRow, EraStore};
use super::handles::{self, HandleRow, HandleStore};
use super::installation;
use super::sessions::{self, SessionRow, SessionStore};
use super::state_dir::StateDir;
use super::times::seconds;
use super::usage::{self, UsageStore};
use crate::ids::TenantId;
use crate::usage::MonthSum;

/// The state folder's database, open, and what was in it.
#[derive(Debug)]
pub struct OpenedState {
    /// Where sessions are kept.
    pub sessions: SessionStore,
    /// Sessions that were open when stdiopool last ended.
    pub session_rows: Vec<SessionRow>,
    /// Where the eras that programs speak are kept.
    pub eras: EraStore,
    /// What was known.
    pub era_rows: Vec<EraRow>,
    /// Where tenants, tokens and secrets are kept.
    pub accounts: AccountStore,
    /// Tenants, tokens and secrets that were kept.
    pub account_rows: AccountRows,
    /// The key of this installation's digests in the audit log.
    pub digest_key: SecretBox<[u8; 32]>,
    /// Where stored configs are kept.
    pub handles: HandleStore,
    /// Stored configs that were kept.
    pub handle_rows: Vec<HandleRow>,
    /// Where what was used is kept.
    pub usage: UsageStore,
    /// What tenants have used in the month of now.
    pub used_in_month: Vec<(TenantId, MonthSum)>,
}

impl OpenedState {
    /// Opens the database in that folder.
    ///
    /// # Errors
    /// [`DatabaseError`] when the file is damaged, newer, or cannot be used. The file is left as it is.
    pub fn open(dir: &StateDir) -> Result<Self, DatabaseError> {
        let load = |db: &Connection| {
            put_right(db);
            let accounts = (accounts::load(db)?, installation::digest_key(db)?);
            let used = usage::load_month(db, SystemTime::now())?;
            Ok((
                sessions::load(db)?,
                eras::load(db)?,
                handles::load(db)?,
                (accounts, used),
            ))
        };
        let (database, rows) = Database::open(dir.path(), load)?;
        let (session_rows, era_rows, handle_rows, (accounts, used_in_month)) = rows;
        let (account_rows, digest_key) = accounts;
        let handles = HandleStore {
            database: database.clone(),
        };
        let eras = EraStore {
            database: database.clone(),
        };
        let usage = UsageStore {
            database: database.clone(),
            path: dir.path().join(FILE),
        };
        Ok(Self {
            accounts: AccountStore {
                database: database.clone(),
            },
            account_rows,
            digest_key: SecretBox::new(Box::new(digest_key)),
            sessions: SessionStore::new(database),
            session_rows,
            eras,
            era_rows,
            handles,
            handle_rows,
            usage,
            used_in_month,
        })
    }
}

/// Longer than any config is stored for, in seconds.
const LONGEST: i64 = 10 * 365 * 24 * 3600;

/// Takes times for now that are yet to come: they were written while the clock was ahead, and what has them would
/// outlive its time by as much. A config lives on as long as it was given.
fn put_right(db: &Connection) {
    let now = seconds(SystemTime::now());
    let sessions = "UPDATE sessions SET created = min(created, ?1), last_used = min(last_used, ?1)
        WHERE created > ?1 OR last_used > ?1";
    let handles =
        "UPDATE handles SET created = ?1, expires = ?1 + min(max(expires - created, 0), ?2)
        WHERE created > ?1";
    let all = db
        .execute(sessions, params![now])
        .and_then(|_| db.execute(handles, params![now, LONGEST]))
        .and_then(|_| usage::put_right(db, now));
    if let Err(error) = all {
        tracing::warn!(%error, "times that are yet to come are left as they are");
    }
}

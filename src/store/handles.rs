//! Configs that callers have stored under a handle. Those with secrets in them are not kept here:
//! nothing in this file is encrypted.
//!
//! A handle is a credential, so only its hash is kept.

use std::time::SystemTime;

use rusqlite::{Connection, params};

use super::database::{Database, DatabaseError};
use super::sessions::IdHash;
use super::times::{seconds, time};

/// What is kept of a handle.
#[derive(Clone, PartialEq, Debug)]
pub struct HandleRow {
    /// Names it.
    pub id: IdHash,
    /// Whose it is.
    pub tenant: String,
    /// The user of it.
    pub subject: Option<String>,
    /// The server it is for.
    pub server: String,
    /// The values, as JSON.
    pub config: String,
    /// When it was made.
    pub created: SystemTime,
    /// When it ends.
    pub expires: SystemTime,
}

/// The handles on disk. Cheap to clone.
#[derive(Clone, Debug)]
pub struct HandleStore {
    pub(super) database: Database,
}

impl HandleStore {
    /// Keeps a new handle; returns when it is safe from the death of this process.
    ///
    /// # Errors
    /// When it could not be written.
    ///
    /// # Cancel-Safety
    /// A dropped call may or may not have kept it.
    pub async fn insert(&self, row: HandleRow) -> Result<(), DatabaseError> {
        let change = move |db: &rusqlite::Transaction<'_>| {
            db.prepare_cached("INSERT INTO handles VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?
                .execute(params![
                    row.id.bytes(),
                    row.tenant,
                    row.subject,
                    row.server,
                    row.config,
                    seconds(row.created),
                    seconds(row.expires),
                ])
                .map(drop)
        };
        self.database.apply(Box::new(change)).await
    }

    /// Forgets a handle; returns when that is safe from the death of this process.
    ///
    /// # Errors
    /// When it could not be written.
    ///
    /// # Cancel-Safety
    /// A dropped call may or may not have forgotten it.
    pub async fn remove(&self, id: IdHash) -> Result<(), DatabaseError> {
        let change = move |db: &rusqlite::Transaction<'_>| {
            db.prepare_cached("DELETE FROM handles WHERE id_hash = ?1")?
                .execute(params![id.bytes()])
                .map(drop)
        };
        self.database.apply(Box::new(change)).await
    }

    /// Forgets the handles that had ended by then.
    pub fn remove_expired(&self, now: SystemTime) {
        self.database.apply_later(Box::new(move |db| {
            db.prepare_cached("DELETE FROM handles WHERE expires <= ?1")?
                .execute(params![seconds(now)])
                .map(drop)
        }));
    }
}

pub(super) fn load(db: &Connection) -> rusqlite::Result<Vec<HandleRow>> {
    let columns = "id_hash, tenant, subject, server, config, created, expires";
    let mut statement = db.prepare(&format!("SELECT {columns} FROM handles"))?;
    let rows = statement.query_map([], |row| {
        Ok(HandleRow {
            id: IdHash::from_bytes(row.get(0)?),
            tenant: row.get(1)?,
            subject: row.get(2)?,
            server: row.get(3)?,
            config: row.get(4)?,
            created: time(row.get(5)?),
            expires: time(row.get(6)?),
        })
    })?;
    rows.collect()
}

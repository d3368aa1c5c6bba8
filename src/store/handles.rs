//! Configs that callers have stored under a handle. Of those with secrets in them, only what
//! [`super::Vault`] made of them is kept.
//!
//! A handle is a credential, so only its hash is kept.

use std::time::SystemTime;

use rusqlite::{Connection, params};

use super::database::{Database, DatabaseError};
use super::id_hash::IdHash;
use super::installation::put_key_check;
use super::times::{seconds, time};

/// The stored row of a handle.
#[derive(Clone, PartialEq, Debug)]
pub struct HandleRow {
    /// SHA-256 of the handle.
    pub id: IdHash,
    /// The tenant whose caller stored the config.
    pub tenant: String,
    /// The user of it.
    pub subject: Option<String>,
    /// The server it is for; `*` for several.
    pub server: String,
    /// The values, as JSON; of several servers, by server. Nothing (`{}`) if it is sealed.
    pub config: String,
    /// The values and secrets, sealed, if they may not be written otherwise.
    pub sealed: Option<Vec<u8>>,
    /// When the config was stored.
    pub created: SystemTime,
    /// When the handle ends.
    pub expires: SystemTime,
}

/// The handles on disk. Cheap to clone.
#[derive(Clone, Debug)]
pub struct HandleStore {
    pub(super) database: Database,
}

impl HandleStore {
    /// Keeps a new handle, and, if it is sealed, what its key is told by; returns when it is safe from
    /// the death of this process.
    ///
    /// # Errors
    /// When it could not be written.
    ///
    /// # Cancel-Safety
    /// A dropped call may or may not have kept it.
    pub async fn insert(
        &self,
        row: HandleRow,
        key_check: Option<Vec<u8>>,
    ) -> Result<(), DatabaseError> {
        let change = move |db: &rusqlite::Transaction<'_>| {
            if let Some(check) = &key_check {
                put_key_check(db, check)?;
            }
            db.prepare_cached("INSERT INTO handles VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?
                .execute(params![
                    row.id.bytes(),
                    row.tenant,
                    row.subject,
                    row.server,
                    row.config,
                    seconds(row.created),
                    seconds(row.expires),
                    row.sealed,
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

    /// Forgets handles, some time soon.
    pub fn remove_later(&self, ids: Vec<IdHash>) {
        self.database.apply_later(Box::new(move |db| {
            let mut statement = db.prepare_cached("DELETE FROM handles WHERE id_hash = ?1")?;
            for id in &ids {
                statement.execute(params![id.bytes()])?;
            }
            Ok(())
        }));
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
    let columns = "id_hash, tenant, subject, server, config, created, expires, sealed";
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
            sealed: row.get(7)?,
        })
    })?;
    rows.collect()
}

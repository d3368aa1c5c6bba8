//! The eras that programs speak, so that they are not found out again at every start.

use rusqlite::{Connection, params};

use super::database::Database;
use crate::ids::ProgramId;

/// The stored row of a program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EraRow {
    /// Names the program.
    pub id: ProgramId,
    /// Whether the program takes `initialize`; `None`: not found out yet.
    pub initialize: Option<bool>,
    /// Whether the program takes `server/discover`; `None`: not found out yet.
    pub stateless: Option<bool>,
    /// `serverInfo`, as raw JSON.
    pub program: Option<String>,
}

/// The programs on disk. Cheap to clone.
#[derive(Clone, Debug)]
pub struct EraStore {
    pub(super) database: Database,
}

impl EraStore {
    /// Keeps what is known of a program now.
    pub fn put(&self, row: EraRow) {
        self.database.apply_later(Box::new(move |db| {
            db.prepare_cached("INSERT OR REPLACE INTO eras VALUES (?1, ?2, ?3, ?4)")?
                .execute(params![
                    row.id.0,
                    row.initialize,
                    row.stateless,
                    row.program
                ])
                .map(drop)
        }));
    }
}

pub(super) fn load(connection: &Connection) -> rusqlite::Result<Vec<EraRow>> {
    let columns = "program, initialize, stateless, server_info";
    let mut statement = connection.prepare(&format!("SELECT {columns} FROM eras"))?;
    let rows = statement.query_map([], |row| {
        Ok(EraRow {
            id: ProgramId(row.get(0)?),
            initialize: row.get(1)?,
            stateless: row.get(2)?,
            program: row.get(3)?,
        })
    })?;
    rows.collect()
}

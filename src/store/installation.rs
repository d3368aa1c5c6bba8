//! What the database keeps of the installation itself: by what the key of all that is sealed is told, and the key of the
//! audit log's digests.

use rusqlite::{Connection, OptionalExtension, params};

/// Under which name the text sealed with the key of the secrets is kept, to tell another key.
pub(super) const KEY_CHECK: &str = "key check";

/// Under which name the key of the audit log's digests is kept.
const DIGEST_KEY: &str = "digest key";

/// Keeps what the key of all that is sealed is told by.
pub(super) fn put_key_check(db: &Connection, check: &[u8]) -> rusqlite::Result<usize> {
    put(db, KEY_CHECK, check)
}

fn put(db: &Connection, name: &str, value: &[u8]) -> rusqlite::Result<usize> {
    db.prepare_cached("INSERT OR REPLACE INTO installation VALUES (?1, ?2)")?
        .execute(params![name, value])
}

pub(super) fn get(db: &Connection, name: &str) -> rusqlite::Result<Option<Vec<u8>>> {
    db.query_row(
        "SELECT value FROM installation WHERE name = ?1",
        [name],
        |row| row.get(0),
    )
    .optional()
}

/// The key of this installation's digests; made the first time.
pub(super) fn digest_key(db: &Connection) -> rusqlite::Result<[u8; 32]> {
    if let Some(key) = get(db, DIGEST_KEY)?
        && let Ok(key) = key.try_into()
    {
        return Ok(key);
    }
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(|error| {
        rusqlite::Error::ToSqlConversionFailure(format!("no random numbers: {error}").into())
    })?;
    put(db, DIGEST_KEY, &key)?;
    Ok(key)
}

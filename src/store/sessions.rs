//! Sessions that outlive the supervisor.
//!
//! A session id is a credential, so only its hash is kept: a session is found again when its client
//! presents the id.

use std::time::SystemTime;

use rusqlite::{Connection, Row, params};
use secrecy::SecretBox;
use sha2::{Digest, Sha256};

use super::accounts::{self, AccountRows, AccountStore};
use super::database::{Database, DatabaseError};
use super::eras::{self, EraRow, EraStore};
use super::handles::{self, HandleRow, HandleStore};
use super::state_dir::StateDir;
use super::times::{seconds, time};

/// SHA-256 of a session id, or of another credential that names something.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct IdHash([u8; 32]);

impl IdHash {
    /// The hash of that id.
    pub fn of(id: &str) -> Self {
        Self(Sha256::digest(id.as_bytes()).into())
    }

    /// Names what the id names, without giving the credential away.
    pub fn fingerprint(self) -> String {
        data_encoding::HEXLOWER.encode(&self.0[..6])
    }

    pub(super) fn bytes(self) -> [u8; 32] {
        self.0
    }

    pub(super) fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

/// What is kept of a session.
#[derive(Clone, PartialEq, Debug)]
pub struct SessionRow {
    /// Names it.
    pub id: IdHash,
    /// Whose it is.
    pub tenant: String,
    /// The user of it.
    pub subject: Option<String>,
    /// The server it talks to.
    pub server: String,
    /// The revision agreed.
    pub revision: String,
    /// What the client said in `initialize`, as JSON.
    pub client: String,
    /// Its log level.
    pub level: Option<String>,
    /// The resources it subscribes to.
    pub subscriptions: Vec<String>,
    /// When it began.
    pub created: SystemTime,
    /// When it was last used, to within half a minute.
    pub last_used: SystemTime,
}

/// The sessions on disk. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SessionStore {
    database: Database,
}

/// The state folder's database, open, and what was in it.
#[derive(Debug)]
pub struct Opened {
    /// Where sessions are kept.
    pub sessions: SessionStore,
    /// Those that were.
    pub session_rows: Vec<SessionRow>,
    /// Where it is kept which era programs speak.
    pub eras: EraStore,
    /// What was known.
    pub era_rows: Vec<EraRow>,
    /// Where tenants, tokens and secrets are kept.
    pub accounts: AccountStore,
    /// Those that were.
    pub account_rows: AccountRows,
    /// The key of this installation's digests in the audit log.
    pub digest_key: SecretBox<[u8; 32]>,
    /// Where stored configs are kept.
    pub handles: HandleStore,
    /// Those that were.
    pub handle_rows: Vec<HandleRow>,
}

impl Opened {
    /// Opens the database in that folder.
    ///
    /// # Errors
    /// [`DatabaseError`] when the file is damaged, newer, or cannot be used. It is left as it is.
    pub fn open(dir: &StateDir) -> Result<Self, DatabaseError> {
        let load = |db: &Connection| {
            let accounts = (accounts::load(db)?, accounts::digest_key(db)?);
            Ok((load(db)?, eras::load(db)?, handles::load(db)?, accounts))
        };
        let (database, rows) = Database::open(dir.path(), load)?;
        let (session_rows, era_rows, handle_rows, (account_rows, digest_key)) = rows;
        let handles = HandleStore {
            database: database.clone(),
        };
        let eras = EraStore {
            database: database.clone(),
        };
        Ok(Self {
            accounts: AccountStore {
                database: database.clone(),
            },
            account_rows,
            digest_key: SecretBox::new(Box::new(digest_key)),
            sessions: SessionStore { database },
            session_rows,
            eras,
            era_rows,
            handles,
            handle_rows,
        })
    }
}

impl SessionStore {
    /// Keeps a new session; returns when it is safe from the death of this process.
    ///
    /// # Errors
    /// When it could not be written.
    ///
    /// # Cancel-Safety
    /// A dropped call may or may not have kept it.
    pub async fn insert(&self, row: SessionRow) -> Result<(), DatabaseError> {
        let change = move |db: &rusqlite::Transaction<'_>| {
            db.prepare_cached(
                "INSERT OR REPLACE INTO sessions VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            )?
            .execute(params![
                row.id.0,
                row.tenant,
                row.subject,
                row.server,
                row.revision,
                row.client,
                row.level,
                as_json(&row.subscriptions),
                seconds(row.created),
                seconds(row.last_used),
            ])
            .map(drop)
        };
        self.database.apply(Box::new(change)).await
    }

    /// Notes its log level and subscriptions.
    pub fn set_standing(&self, id: IdHash, level: Option<String>, subscriptions: &[String]) {
        let subscriptions = as_json(subscriptions);
        self.database.apply_later(Box::new(move |db| {
            db.prepare_cached(
                "UPDATE sessions SET level = ?2, subscriptions = ?3 WHERE id_hash = ?1",
            )?
            .execute(params![id.0, level, subscriptions])
            .map(drop)
        }));
    }

    /// Notes when sessions were last used; returns when that and everything before is committed.
    ///
    /// # Errors
    /// When it could not be written.
    ///
    /// # Cancel-Safety
    /// A dropped call may or may not have noted it.
    pub async fn touch(&self, used: Vec<(IdHash, SystemTime)>) -> Result<(), DatabaseError> {
        let change = move |db: &rusqlite::Transaction<'_>| {
            let mut statement =
                db.prepare_cached("UPDATE sessions SET last_used = ?2 WHERE id_hash = ?1")?;
            for (id, at) in &used {
                statement.execute(params![id.0, seconds(*at)])?;
            }
            Ok(())
        };
        self.database.apply(Box::new(change)).await
    }

    /// Forgets a session.
    pub fn remove(&self, id: IdHash) {
        self.database.apply_later(Box::new(move |db| {
            db.prepare_cached("DELETE FROM sessions WHERE id_hash = ?1")?
                .execute(params![id.0])
                .map(drop)
        }));
    }
}

fn load(connection: &Connection) -> rusqlite::Result<Vec<SessionRow>> {
    let columns = "id_hash, tenant, subject, server, revision, client, level, subscriptions, created, last_used";
    let mut statement = connection.prepare(&format!("SELECT {columns} FROM sessions"))?;
    let rows = statement.query_map([], read)?;
    rows.collect()
}

fn read(row: &Row<'_>) -> rusqlite::Result<SessionRow> {
    let subscriptions: String = row.get(7)?;
    Ok(SessionRow {
        id: IdHash(row.get(0)?),
        tenant: row.get(1)?,
        subject: row.get(2)?,
        server: row.get(3)?,
        revision: row.get(4)?,
        client: row.get(5)?,
        level: row.get(6)?,
        // Written by this program; if it is not, the session has none.
        subscriptions: serde_json::from_str(&subscriptions).unwrap_or_default(),
        created: time(row.get(8)?),
        last_used: time(row.get(9)?),
    })
}

fn as_json(texts: &[String]) -> String {
    serde_json::json!(texts).to_string()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::store::DatabaseError;

    fn row(id: &str) -> SessionRow {
        let at = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        SessionRow {
            id: IdHash::of(id),
            tenant: "acme".to_owned(),
            subject: None,
            server: "demo".to_owned(),
            revision: "2025-11-25".to_owned(),
            client: "{}".to_owned(),
            level: None,
            subscriptions: vec![],
            created: at,
            last_used: at,
        }
    }

    fn folder() -> (tempfile::TempDir, StateDir) {
        let dir = tempfile::tempdir().expect("a folder");
        let state = StateDir::open(dir.path()).expect("opens");
        (dir, state)
    }

    #[tokio::test]
    async fn what_was_kept_is_there_again() {
        let (_dir, state) = folder();
        let opened = Opened::open(&state).expect("opens");
        let (store, rows) = (opened.sessions, opened.session_rows);
        assert_eq!(rows, []);
        store.insert(row("a")).await.expect("kept");
        store.insert(row("b")).await.expect("kept");
        store.set_standing(
            IdHash::of("a"),
            Some("debug".to_owned()),
            &["x://y".to_owned()],
        );
        store.remove(IdHash::of("b"));
        let later = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let touched = store.touch(vec![(IdHash::of("a"), later), (IdHash::of("b"), later)]);
        touched.await.expect("noted");

        let rows = Opened::open(&state).expect("opens again").session_rows;
        let mut expected = row("a");
        expected.level = Some("debug".to_owned());
        expected.subscriptions = vec!["x://y".to_owned()];
        expected.last_used = later;
        assert_eq!(rows, [expected]);
        let file = std::fs::read(state.path().join("state.db-wal")).unwrap_or_default();
        assert!(memchr::memmem::find(&file, b"acme").is_some());
    }

    #[test]
    fn a_file_of_an_earlier_version_is_brought_up_to_date() {
        let (_dir, state) = folder();
        let connection = Connection::open(state.path().join("state.db")).expect("made");
        // Before stored configs could be sealed.
        for step in &super::super::database::MIGRATIONS[..4] {
            connection.execute_batch(step).expect("a step");
        }
        connection
            .pragma_update(None, "user_version", 4)
            .expect("set");
        let row = "INSERT INTO handles VALUES (zeroblob(32), 'acme', NULL, 's', '{\"a\":1}', 1, 2)";
        connection.execute(row, []).expect("kept");
        drop(connection);
        let rows = Opened::open(&state).expect("opens").handle_rows;
        let expected = HandleRow {
            id: IdHash::from_bytes([0; 32]),
            tenant: "acme".to_owned(),
            subject: None,
            server: "s".to_owned(),
            config: "{\"a\":1}".to_owned(),
            sealed: None,
            created: time(1),
            expires: time(2),
        };
        assert_eq!(rows, [expected]);
    }

    #[test]
    fn a_damaged_or_newer_file_is_refused_and_left_alone() {
        let (_dir, state) = folder();
        let path = state.path().join("state.db");
        std::fs::write(
            &path,
            "not a database, but long enough to be taken for one\n".repeat(99),
        )
        .expect("written");
        let before = std::fs::read(&path).expect("read");
        let error = Opened::open(&state).expect_err("refused");
        assert!(matches!(error, DatabaseError::Damaged { .. }), "{error}");
        assert_eq!(std::fs::read(&path).expect("read"), before);

        std::fs::remove_file(&path).expect("removed");
        let connection = Connection::open(&path).expect("made");
        connection
            .pragma_update(None, "user_version", 99)
            .expect("set");
        drop(connection);
        let error = Opened::open(&state).expect_err("refused");
        let text = error.to_string();
        assert!(
            text.contains("later version") && text.contains("99"),
            "{text}"
        );
    }
}

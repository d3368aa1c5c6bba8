//! Sessions that outlive the supervisor.
//!
//! A session id is a credential, so only its hash is kept: a session is found again when its client
//! presents the id.

use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use rusqlite::{Connection, Row, params};
use rustc_hash::FxHashMap;

use super::database::{Database, DatabaseError};
use super::id_hash::IdHash;
use super::times::{seconds, time};
use crate::held::Charge;

/// The stored row of a session.
#[derive(Clone, PartialEq, Debug)]
pub struct SessionRow {
    /// SHA-256 of the session's id.
    pub id: IdHash,
    /// The tenant whose session this is.
    pub tenant: String,
    /// The user of it.
    pub subject: Option<String>,
    /// The server it talks to.
    pub server: String,
    /// The revision agreed.
    pub revision: String,
    /// What the client said in `initialize`, as JSON.
    pub client: String,
    /// The session's log level.
    pub level: Option<String>,
    /// The resources it subscribes to.
    pub subscriptions: Vec<String>,
    /// When the session began.
    pub created: SystemTime,
    /// When the session was last used, to within half a minute.
    pub last_used: SystemTime,
}

impl SessionRow {
    /// What the row takes in memory, in bytes, about.
    pub fn weight(&self) -> usize {
        let subject = self.subject.as_ref().map_or(0, String::len);
        let uris = self.subscriptions.iter();
        let uris: usize = uris.map(|uri| size_of::<String>() + uri.len()).sum();
        size_of::<Self>() + self.tenant.len() + subject + self.client.len() + uris
    }
}

/// The settings of a session; asked when it is written down.
pub trait SessionSettings: Send + Sync {
    /// The session's log level, and the resources that it subscribes to.
    fn settings(&self) -> (Option<String>, Vec<String>);
}

/// The sessions on disk. Cheap to clone.
#[derive(Clone)]
pub struct SessionStore {
    database: Database,
    unwritten: Arc<Mutex<Unwritten>>,
}

/// Sessions that have set something since it was last written down. All of them take one place in the
/// database's queue.
#[derive(Default)]
struct Unwritten {
    sessions: FxHashMap<IdHash, Arc<dyn SessionSettings>>,
    is_queued: bool,
}

impl std::fmt::Debug for SessionStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionStore").finish_non_exhaustive()
    }
}

impl SessionStore {
    pub(super) fn new(database: Database) -> Self {
        Self {
            database,
            unwritten: Arc::default(),
        }
    }

    /// Keeps a new session; returns when it is safe from the death of this process. The charge for the row is given
    /// back then.
    ///
    /// # Errors
    /// When it could not be written.
    ///
    /// # Cancel-Safety
    /// A dropped call may or may not have kept it.
    pub async fn insert(&self, row: SessionRow, charge: Charge) -> Result<(), DatabaseError> {
        let change = move |db: &rusqlite::Transaction<'_>| {
            let _held_until_written = &charge;
            db.prepare_cached(
                "INSERT OR REPLACE INTO sessions VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            )?
            .execute(params![
                row.id.bytes(),
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

    /// Notes what a session has set: as it is when it is written, so that there is one write under way for all
    /// sessions, however many set something meanwhile, and how often.
    pub fn note_settings(&self, id: IdHash, session: Arc<dyn SessionSettings>) {
        {
            let mut unwritten = self.unwritten.lock();
            unwritten.sessions.insert(id, session);
            if std::mem::replace(&mut unwritten.is_queued, true) {
                return;
            }
        }
        let unwritten = Arc::clone(&self.unwritten);
        // Kept for another try, should another change of the transaction fail.
        let taken = Mutex::new(Vec::new());
        let change = move |db: &rusqlite::Transaction<'_>| {
            let mut taken = taken.lock();
            {
                // Before they are asked: what is set from here on is written by the next.
                let mut unwritten = unwritten.lock();
                unwritten.is_queued = false;
                taken.extend(std::mem::take(&mut unwritten.sessions));
            }
            let mut statement = db.prepare_cached(
                "UPDATE sessions SET level = ?2, subscriptions = ?3 WHERE id_hash = ?1",
            )?;
            for (id, session) in taken.iter() {
                let (level, subscriptions) = session.settings();
                statement.execute(params![id.bytes(), level, as_json(&subscriptions)])?;
            }
            Ok(())
        };
        if !self.database.apply_later(Box::new(change)) {
            // Whoever sets something next tries again, for all.
            self.unwritten.lock().is_queued = false;
        }
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
                statement.execute(params![id.bytes(), seconds(*at)])?;
            }
            Ok(())
        };
        self.database.apply(Box::new(change)).await
    }

    /// Forgets a session.
    pub fn remove(&self, id: IdHash) {
        self.database.apply_later(Box::new(move |db| {
            db.prepare_cached("DELETE FROM sessions WHERE id_hash = ?1")?
                .execute(params![id.bytes()])
                .map(drop)
        }));
    }
}

pub(super) fn load(connection: &Connection) -> rusqlite::Result<Vec<SessionRow>> {
    let columns = "id_hash, tenant, subject, server, revision, client, level, subscriptions, created, last_used";
    let mut statement = connection.prepare(&format!("SELECT {columns} FROM sessions"))?;
    let rows = statement.query_map([], read)?;
    rows.collect()
}

fn read(row: &Row<'_>) -> rusqlite::Result<SessionRow> {
    let subscriptions: String = row.get(7)?;
    Ok(SessionRow {
        id: IdHash::from_bytes(row.get(0)?),
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
    use crate::held::{Kind, Ledger};
    use crate::ids::TenantId;
    use crate::store::{HandleRow, OpenedState, StateDir};

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

    #[tokio::test]
    async fn what_a_clock_wrote_that_was_ahead_ends_in_its_time() {
        let (dir, state) = folder();
        let opened = OpenedState::open(&state).expect("opens");
        drop(opened);
        let db = Connection::open(dir.path().join("state.db")).expect("opens");
        let now = seconds(SystemTime::now());
        let (ahead, hour) = (now + 1_000_000, 3_600);
        db.execute_batch(&format!(
            "INSERT INTO sessions VALUES (x'{zeros}01', 't', NULL, 's', '2025-11-25', '{{}}', NULL, '[]', {now} - 9, {ahead});
             INSERT INTO sessions VALUES (x'{zeros}02', 't', NULL, 's', '2025-11-25', '{{}}', NULL, '[]', {max}, {max});
             INSERT INTO sessions VALUES (x'{zeros}03', 't', NULL, 's', '2025-11-25', '{{}}', NULL, '[]', -9, {min});
             INSERT INTO handles VALUES (x'{zeros}01', 't', NULL, 's', '{{}}', {ahead}, {ahead} + {hour}, NULL);
             INSERT INTO handles VALUES (x'{zeros}02', 't', NULL, 's', '{{}}', {max}, {min}, NULL);
             INSERT INTO handles VALUES (x'{zeros}03', 't', NULL, 's', '{{}}', {now} - 9, {now} + {hour}, NULL);",
            zeros = "00".repeat(31),
            max = i64::MAX,
            min = i64::MIN,
        ))
        .expect("written");
        drop(db);
        for _ in 0..2 {
            let opened = OpenedState::open(&state).expect("opens");
            let latest = SystemTime::now();
            assert_eq!(opened.session_rows.len(), 3);
            for row in &opened.session_rows {
                assert!(row.created <= latest && row.last_used <= latest, "{row:?}");
            }
            assert_eq!(opened.handle_rows.len(), 3);
            for row in &opened.handle_rows {
                let until = latest + Duration::from_secs(3_600);
                assert!(row.created <= latest && row.expires <= until, "{row:?}");
            }
            let last = opened.handle_rows.last().expect("three");
            assert_eq!(seconds(last.expires), now + hour, "as it was");
        }
    }

    fn folder() -> (tempfile::TempDir, StateDir) {
        let dir = tempfile::tempdir().expect("a folder");
        let state = StateDir::open(dir.path()).expect("opens");
        (dir, state)
    }

    struct Debugging;

    impl SessionSettings for Debugging {
        fn settings(&self) -> (Option<String>, Vec<String>) {
            (Some("debug".to_owned()), vec!["x://y".to_owned()])
        }
    }

    /// Says which value it is asked for, and how often.
    #[derive(Default)]
    struct Counting {
        set: std::sync::atomic::AtomicUsize,
        asked: std::sync::atomic::AtomicUsize,
    }

    impl SessionSettings for Counting {
        fn settings(&self) -> (Option<String>, Vec<String>) {
            use std::sync::atomic::Ordering;
            self.asked.fetch_add(1, Ordering::SeqCst);
            let set = self.set.load(Ordering::SeqCst);
            (None, vec![set.to_string()])
        }
    }

    #[tokio::test]
    async fn what_is_set_often_takes_one_place_in_the_queue_and_the_last_of_it_is_kept() {
        use std::sync::atomic::Ordering;
        let (_dir, state) = folder();
        let store = OpenedState::open(&state).expect("opens").sessions;
        let account = Ledger::unlimited().account(&TenantId::new("acme"));
        let charge = account.charge(Kind::Store, 1).expect("room");
        store.insert(row("a"), charge).await.expect("kept");
        let session = Arc::new(Counting::default());
        // More than the queue has places.
        for n in 1..=20_000 {
            session.set.store(n, Ordering::SeqCst);
            store.note_settings(
                IdHash::of("a"),
                Arc::clone(&session) as Arc<dyn SessionSettings>,
            );
        }
        store.touch(vec![]).await.expect("all before is written");
        assert!(session.asked.load(Ordering::SeqCst) < 20_000);
        let rows = OpenedState::open(&state).expect("opens again").session_rows;
        assert_eq!(rows[0].subscriptions, ["20000"]);
        assert!(store.unwritten.lock().sessions.is_empty());
    }

    #[tokio::test]
    async fn what_was_kept_is_there_again() {
        let (_dir, state) = folder();
        let opened = OpenedState::open(&state).expect("opens");
        let (store, rows) = (opened.sessions, opened.session_rows);
        assert_eq!(rows, []);
        let account = Ledger::unlimited().account(&TenantId::new("acme"));
        let charge = || account.charge(Kind::Store, 1).expect("room");
        store.insert(row("a"), charge()).await.expect("kept");
        store.insert(row("b"), charge()).await.expect("kept");
        assert_eq!(account.held(), 0, "they are written");
        store.note_settings(IdHash::of("a"), Arc::new(Debugging));
        store.remove(IdHash::of("b"));
        let later = UNIX_EPOCH + Duration::from_secs(1_700_000_600);
        let touched = store.touch(vec![(IdHash::of("a"), later), (IdHash::of("b"), later)]);
        touched.await.expect("noted");

        let rows = OpenedState::open(&state).expect("opens again").session_rows;
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
        for step in &crate::store::schema::MIGRATIONS[..4] {
            connection.execute_batch(step).expect("a step");
        }
        connection
            .pragma_update(None, "user_version", 4)
            .expect("set");
        let row = "INSERT INTO handles VALUES (zeroblob(32), 'acme', NULL, 's', '{\"a\":1}', 1, 2)";
        connection.execute(row, []).expect("kept");
        drop(connection);
        let rows = OpenedState::open(&state).expect("opens").handle_rows;
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
        let error = OpenedState::open(&state).expect_err("refused");
        assert!(matches!(error, DatabaseError::Damaged { .. }), "{error}");
        assert_eq!(std::fs::read(&path).expect("read"), before);

        std::fs::remove_file(&path).expect("removed");
        let connection = Connection::open(&path).expect("made");
        connection
            .pragma_update(None, "user_version", 99)
            .expect("set");
        drop(connection);
        let error = OpenedState::open(&state).expect_err("refused");
        let text = error.to_string();
        assert!(
            text.contains("later version") && text.contains("99"),
            "{text}"
        );
    }
}

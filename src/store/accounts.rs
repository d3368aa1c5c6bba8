//! Tenants, their tokens and their secrets, as they are kept beside those of pool.toml.
//!
//! Of a token only its hash is kept; of a secret only what [`super::Vault`] made of it.

use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, Row, Transaction, params};

use super::database::{Database, DatabaseError};
use super::id_hash::IdHash;
use super::installation::{self, put_key_check};
use super::times::{seconds, time};

/// The stored row of a tenant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TenantRow {
    /// The tenant's name.
    pub name: String,
    /// The tenant's settings, as JSON.
    pub settings: String,
    /// When the tenant was added.
    pub created: SystemTime,
}

/// The stored row of a token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TokenRow {
    /// The tenant whose token this is.
    pub tenant: String,
    /// The token's name, within the tenant.
    pub name: String,
    /// SHA-256 of it.
    pub hash: [u8; 32],
    /// The user it stands for.
    pub subject: Option<String>,
    /// Scopes that a caller with the token has.
    pub scopes: Vec<String>,
    /// When the token was made.
    pub created: SystemTime,
    /// When the token stops being valid; `None`: never.
    pub expires: Option<SystemTime>,
    /// When the token was last used, to within a minute.
    pub last_used: Option<SystemTime>,
}

/// The stored row of a secret.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SecretRow {
    /// The tenant whose secret this is.
    pub tenant: String,
    /// The name by which templates refer to the secret.
    pub name: String,
    /// The value, sealed.
    pub sealed: Vec<u8>,
    /// When the secret was last set.
    pub changed: SystemTime,
}

/// Names of secrets that are authorisations upstream begin with it, as no tenant's own can.
const GRANT: &str = "oauth:";

impl SecretRow {
    /// What the tenant's authorisation of that server is kept as.
    pub fn name_of_grant(server: &str) -> String {
        format!("{GRANT}{server}")
    }

    /// The server, if it is an authorisation upstream and no secret of the tenant's own.
    pub fn of_grant(&self) -> Option<&str> {
        self.name.strip_prefix(GRANT)
    }
}

/// Everything that is kept of accounts.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct AccountRows {
    /// The tenants.
    pub tenants: Vec<TenantRow>,
    /// The tokens of these and of pool.toml's tenants.
    pub tokens: Vec<TokenRow>,
    /// The secrets of these and of pool.toml's tenants.
    pub secrets: Vec<SecretRow>,
    /// A text sealed with the key that the secrets are sealed with; none before the first.
    pub key_check: Option<Vec<u8>>,
}

/// Everything that is sealed, with another key.
#[derive(Clone, Debug)]
pub struct Resealed {
    /// The secrets.
    pub secrets: Vec<SecretRow>,
    /// The stored configs that are sealed.
    pub configs: Vec<(IdHash, Vec<u8>)>,
    /// Stored configs that could not be opened: they are forgotten.
    pub lost_configs: Vec<IdHash>,
    /// A text sealed with that key.
    pub key_check: Vec<u8>,
}

/// The accounts on disk. Cheap to clone.
///
/// Every change is one transaction: it is there whole or not at all, and who waited for it has
/// it on disk.
#[derive(Clone, Debug)]
pub struct AccountStore {
    pub(super) database: Database,
}

impl AccountStore {
    /// Keeps a tenant, in place of one of that name.
    ///
    /// # Errors
    /// When it could not be written.
    ///
    /// # Cancel-Safety
    /// A dropped call may or may not have kept it; so it is with the others here.
    pub async fn put_tenant(&self, row: TenantRow) -> Result<(), DatabaseError> {
        self.apply(move |db| {
            db.prepare_cached("INSERT OR REPLACE INTO tenants VALUES (?1, ?2, ?3)")?
                .execute(params![row.name, row.settings, seconds(row.created)])
        })
        .await
    }

    /// Forgets a tenant with its tokens, secrets and stored configs.
    ///
    /// # Errors
    /// When it could not be written.
    pub async fn remove_tenant(&self, name: String) -> Result<(), DatabaseError> {
        self.apply(move |db| {
            for sql in [
                "DELETE FROM tenants WHERE name = ?1",
                "DELETE FROM tokens WHERE tenant = ?1",
                "DELETE FROM secrets WHERE tenant = ?1",
                "DELETE FROM handles WHERE tenant = ?1",
            ] {
                db.prepare_cached(sql)?.execute([&name])?;
            }
            Ok(0)
        })
        .await
    }

    /// Keeps a new token.
    ///
    /// # Errors
    /// When it could not be written, or the tenant has one of that name.
    pub async fn insert_token(&self, row: TokenRow) -> Result<(), DatabaseError> {
        self.apply(move |db| {
            db.prepare_cached("INSERT INTO tokens VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?
                .execute(params![
                    row.tenant,
                    row.name,
                    row.hash,
                    row.subject,
                    serde_json::json!(row.scopes).to_string(),
                    seconds(row.created),
                    row.expires.map(seconds),
                    row.last_used.map(seconds),
                ])
        })
        .await
    }

    /// Forgets a token.
    ///
    /// # Errors
    /// When it could not be written.
    pub async fn remove_token(&self, tenant: String, name: String) -> Result<(), DatabaseError> {
        self.apply(move |db| {
            db.prepare_cached("DELETE FROM tokens WHERE tenant = ?1 AND name = ?2")?
                .execute([&tenant, &name])
        })
        .await
    }

    /// Notes when tokens were last used.
    pub fn note_uses(&self, uses: Vec<([u8; 32], SystemTime)>) {
        self.database.apply_later(Box::new(move |db| {
            let mut statement =
                db.prepare_cached("UPDATE tokens SET last_used = ?2 WHERE hash = ?1")?;
            for (hash, at) in &uses {
                statement.execute(params![hash, seconds(*at)])?;
            }
            Ok(())
        }));
    }

    /// Keeps secrets, in place of those of equal names, and the check of the key that seals them.
    ///
    /// # Errors
    /// When they could not be written; then none was.
    pub async fn put_secrets(
        &self,
        rows: Vec<SecretRow>,
        key_check: Vec<u8>,
    ) -> Result<(), DatabaseError> {
        self.apply(move |db| {
            put_secrets(db, &rows)?;
            put_key_check(db, &key_check)
        })
        .await
    }

    /// Keeps everything that is sealed as another key has sealed it, and what that is told by.
    ///
    /// # Errors
    /// When it could not be written; then all is as it was.
    pub async fn put_resealed(&self, all: Resealed) -> Result<(), DatabaseError> {
        self.apply(move |db| {
            put_secrets(db, &all.secrets)?;
            let mut statement =
                db.prepare_cached("UPDATE handles SET sealed = ?2 WHERE id_hash = ?1")?;
            for (id, sealed) in &all.configs {
                statement.execute(params![id.bytes(), sealed])?;
            }
            let mut statement = db.prepare_cached("DELETE FROM handles WHERE id_hash = ?1")?;
            for id in &all.lost_configs {
                statement.execute(params![id.bytes()])?;
            }
            put_key_check(db, &all.key_check)
        })
        .await
    }

    /// Forgets a secret.
    ///
    /// # Errors
    /// When it could not be written.
    pub async fn remove_secret(&self, tenant: String, name: String) -> Result<(), DatabaseError> {
        self.apply(move |db| {
            db.prepare_cached("DELETE FROM secrets WHERE tenant = ?1 AND name = ?2")?
                .execute([&tenant, &name])
        })
        .await
    }

    async fn apply(
        &self,
        change: impl Fn(&Transaction<'_>) -> rusqlite::Result<usize> + Send + 'static,
    ) -> Result<(), DatabaseError> {
        let change = move |db: &Transaction<'_>| change(db).map(drop);
        self.database.apply(Box::new(change)).await
    }
}

fn put_secrets(db: &Connection, rows: &[SecretRow]) -> rusqlite::Result<()> {
    let mut statement =
        db.prepare_cached("INSERT OR REPLACE INTO secrets VALUES (?1, ?2, ?3, ?4)")?;
    for row in rows {
        let changed = seconds(row.changed);
        statement.execute(params![row.tenant, row.name, row.sealed, changed])?;
    }
    Ok(())
}

pub(super) fn load(db: &Connection) -> rusqlite::Result<AccountRows> {
    fn all<T>(
        db: &Connection,
        sql: &str,
        read: fn(&Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Vec<T>> {
        db.prepare(sql)?.query_map([], read)?.collect()
    }
    Ok(AccountRows {
        tenants: all(
            db,
            "SELECT name, settings, created FROM tenants",
            read_tenant,
        )?,
        tokens: all(
            db,
            "SELECT tenant, name, hash, subject, scopes, created, expires, last_used FROM tokens",
            read_token,
        )?,
        secrets: all(
            db,
            "SELECT tenant, name, sealed, changed FROM secrets",
            read_secret,
        )?,
        key_check: installation::get(db, installation::KEY_CHECK)?,
    })
}

fn read_tenant(row: &Row<'_>) -> rusqlite::Result<TenantRow> {
    Ok(TenantRow {
        name: row.get(0)?,
        settings: row.get(1)?,
        created: time(row.get(2)?),
    })
}

fn read_token(row: &Row<'_>) -> rusqlite::Result<TokenRow> {
    let scopes: String = row.get(4)?;
    Ok(TokenRow {
        tenant: row.get(0)?,
        name: row.get(1)?,
        hash: row.get(2)?,
        subject: row.get(3)?,
        // Written by this program; if it is not, the token is good for nothing that takes a scope.
        scopes: serde_json::from_str(&scopes).unwrap_or_default(),
        created: time(row.get(5)?),
        expires: row.get::<_, Option<i64>>(6)?.map(time),
        last_used: row.get::<_, Option<i64>>(7)?.map(time),
    })
}

fn read_secret(row: &Row<'_>) -> rusqlite::Result<SecretRow> {
    Ok(SecretRow {
        tenant: row.get(0)?,
        name: row.get(1)?,
        sealed: row.get(2)?,
        changed: time(row.get(3)?),
    })
}

/// Now, as the store keeps times: in whole seconds.
pub fn now() -> SystemTime {
    time(seconds(SystemTime::now().max(UNIX_EPOCH)))
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;
    use crate::store::{HandleRow, OpenedState, StateDir};

    fn token(name: &str, hash: u8) -> TokenRow {
        TokenRow {
            tenant: "acme".to_owned(),
            name: name.to_owned(),
            hash: [hash; 32],
            subject: Some("anna".to_owned()),
            scopes: vec!["read".to_owned()],
            created: now(),
            expires: Some(time(4_000_000_000)),
            last_used: None,
        }
    }

    #[tokio::test]
    async fn accounts_are_kept_and_a_tenant_goes_whole() {
        let dir = tempfile::tempdir().expect("a folder");
        let state = StateDir::open(dir.path()).expect("opens");
        let opened = OpenedState::open(&state).expect("opens");
        assert_eq!(opened.account_rows, AccountRows::default());
        let OpenedState {
            accounts: store,
            digest_key,
            ..
        } = opened;
        let tenant = TenantRow {
            name: "acme".to_owned(),
            settings: "{}".to_owned(),
            created: now(),
        };
        store.put_tenant(tenant.clone()).await.expect("kept");
        store.insert_token(token("ci", 1)).await.expect("kept");
        for (name, hash) in [("ci", 2), ("other", 1)] {
            let again = store.insert_token(token(name, hash)).await;
            again.expect_err("names and hashes are unique");
        }
        // Written before what is waited for next.
        store.note_uses(vec![([1; 32], time(1_700_000_000))]);
        let secret = SecretRow {
            tenant: "acme".to_owned(),
            name: "key".to_owned(),
            sealed: vec![1, 2, 3],
            changed: now(),
        };
        let kept = store.put_secrets(vec![secret.clone()], vec![9]);
        kept.await.expect("kept");
        drop(store);

        let opened = OpenedState::open(&state).expect("opens again");
        assert_eq!(
            opened.digest_key.expose_secret(),
            digest_key.expose_secret(),
            "the installation keeps its key"
        );
        let used = Some(time(1_700_000_000));
        let mut expected = AccountRows {
            tenants: vec![tenant],
            tokens: vec![TokenRow {
                last_used: used,
                ..token("ci", 1)
            }],
            secrets: vec![secret],
            key_check: Some(vec![9]),
        };
        expected.tokens[0].created = opened.account_rows.tokens[0].created;
        assert_eq!(opened.account_rows, expected);
        let removed = opened.accounts.remove_tenant("acme".to_owned());
        removed.await.expect("removed");
        let left = OpenedState::open(&state).expect("opens").account_rows;
        assert_eq!((left.tenants, left.tokens), (vec![], vec![]));
        assert_eq!(left.secrets, []);
    }

    /// However much of the journal reached the disk when the process died: what is read is the
    /// state after one of the changes, whole.
    #[tokio::test]
    async fn a_death_at_any_point_of_a_change_leaves_it_whole_or_undone() {
        let dir = tempfile::tempdir().expect("a folder");
        let state = StateDir::open(&dir.path().join("state")).expect("opens");
        let opened = OpenedState::open(&state).expect("opens");
        let store = &opened.accounts;
        let secret = |name: &str, byte| SecretRow {
            tenant: "acme".to_owned(),
            name: name.to_owned(),
            // Over more than one page.
            sealed: vec![byte; 9000],
            changed: time(1),
        };
        let tenant = TenantRow {
            name: "acme".to_owned(),
            settings: "{}".to_owned(),
            created: time(1),
        };
        let token = TokenRow {
            created: time(1),
            ..token("ci", 1)
        };
        let config = |byte| HandleRow {
            id: IdHash::of("cfg_1"),
            tenant: "acme".to_owned(),
            subject: None,
            server: "s".to_owned(),
            config: "{}".to_owned(),
            sealed: Some(vec![byte; 9000]),
            created: time(1),
            expires: time(2),
        };
        // Accounts, and the configs that callers have stored.
        let mut states = vec![(AccountRows::default(), vec![])];
        let mut now = AccountRows {
            tenants: vec![tenant.clone()],
            ..AccountRows::default()
        };
        store.put_tenant(tenant).await.expect("kept");
        states.push((now.clone(), vec![]));
        store.insert_token(token.clone()).await.expect("kept");
        now.tokens.push(token);
        states.push((now.clone(), vec![]));
        let both = vec![secret("a", 1), secret("b", 2)];
        store
            .put_secrets(both.clone(), vec![9])
            .await
            .expect("kept");
        (now.secrets, now.key_check) = (both, Some(vec![9]));
        states.push((now.clone(), vec![]));
        let stored = opened.handles.insert(config(1), Some(vec![7]));
        stored.await.expect("kept");
        now.key_check = Some(vec![7]);
        states.push((now.clone(), vec![config(1)]));
        // All sealed anew: never one with the old key and one with the new.
        let both = vec![secret("a", 3), secret("b", 4)];
        let resealed = Resealed {
            secrets: both.clone(),
            configs: vec![(IdHash::of("cfg_1"), vec![2; 9000])],
            lost_configs: vec![],
            key_check: vec![8],
        };
        store.put_resealed(resealed).await.expect("kept");
        (now.secrets, now.key_check) = (both, Some(vec![8]));
        states.push((now.clone(), vec![config(2)]));
        store.remove_tenant("acme".to_owned()).await.expect("gone");
        let left = AccountRows {
            key_check: Some(vec![8]),
            ..AccountRows::default()
        };
        states.push((left, vec![]));

        let file = |name| std::fs::read(state.path().join(name)).expect("there");
        let (base, journal) = (file("state.db"), file("state.db-wal"));
        let mut furthest = 0;
        let mut cuts: Vec<_> = (0..journal.len()).step_by(509).collect();
        cuts.push(journal.len());
        for cut in cuts {
            // A folder of its own: closing one tidies up in it, later.
            let copy = StateDir::open(&dir.path().join(cut.to_string())).expect("opens");
            let put = |name: &str, bytes: &[u8]| {
                std::fs::write(copy.path().join(name), bytes).expect("written");
            };
            put("state.db", &base);
            put("state.db-wal", &journal[..cut]);
            let opened = OpenedState::open(&copy).expect("opens");
            let rows = (opened.account_rows, opened.handle_rows);
            let found = states.iter().position(|state| *state == rows);
            let found =
                found.unwrap_or_else(|| panic!("half a change after {cut} bytes: {rows:?}"));
            assert!(
                found >= furthest,
                "more of the journal, and less of the state"
            );
            furthest = found;
        }
        assert_eq!(
            furthest,
            states.len() - 1,
            "the whole journal is everything"
        );
    }
}

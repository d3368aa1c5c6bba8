//! What is kept of one tenant, read beside a stdiopool that may have the state folder.

use std::path::Path;

use super::accounts::{self, AccountRows};
use super::database::{self, DatabaseError};

/// What the state folder at `dir` has of a tenant: its settings, if it is one of the store, and its secrets, sealed. Tokens are left out, and what
/// it has authorised upstream: whoever else refreshes that may make it void. Nothing where nothing is kept yet.
///
/// # Errors
/// [`DatabaseError`] when the database is damaged, newer, or cannot be read.
pub fn tenant_rows(dir: &Path, tenant: &str) -> Result<AccountRows, DatabaseError> {
    let path = dir.join(database::FILE);
    if !path.exists() {
        return Ok(AccountRows::default());
    }
    let db = database::open_to_read(&path)?;
    let mut rows = accounts::load(&db).map_err(|error| database::told(&path, error))?;
    rows.tenants.retain(|row| row.name == tenant);
    rows.tokens.clear();
    rows.secrets
        .retain(|row| row.tenant == tenant && row.of_grant().is_none());
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{OpenedState, SecretRow, StateDir, TenantRow, now};

    #[tokio::test]
    async fn a_tenants_own_rows_are_read_while_the_folder_is_in_use() {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().join("state");
        let none = tenant_rows(&dir, "acme").expect("nothing is kept yet");
        assert_eq!(none, AccountRows::default());
        let state = StateDir::open(&dir).expect("opens");
        let opened = OpenedState::open(&state).expect("opens");
        for name in ["acme", "globex"] {
            let row = TenantRow {
                name: name.to_owned(),
                settings: "{}".to_owned(),
                created: now(),
            };
            opened.accounts.put_tenant(row).await.expect("kept");
            for secret in ["key".to_owned(), SecretRow::name_of_grant("github")] {
                let row = SecretRow {
                    tenant: name.to_owned(),
                    name: secret,
                    sealed: vec![7],
                    changed: now(),
                };
                opened
                    .accounts
                    .put_secrets(vec![row], vec![1])
                    .await
                    .expect("kept");
            }
        }
        let rows = tenant_rows(&dir, "acme").expect("read");
        let tenants: Vec<_> = rows.tenants.iter().map(|row| row.name.as_str()).collect();
        assert_eq!(tenants, ["acme"]);
        let secrets = rows.secrets.iter();
        let secrets: Vec<_> = secrets
            .map(|row| (row.tenant.as_str(), row.name.as_str()))
            .collect();
        assert_eq!(secrets, [("acme", "key")]);
        assert_eq!(rows.key_check, Some(vec![1]));
        let of_others = tenant_rows(&dir, "nobody").expect("read");
        assert!(of_others.tenants.is_empty() && of_others.secrets.is_empty());
    }
}

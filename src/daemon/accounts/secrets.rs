//! Secrets of tenants: set, listed, removed, and sealed anew with another key. A secret is read by nobody but the start that needs it.

use secrecy::{ExposeSecret, SecretString};

use super::audit::folder_act;
use super::{Accounts, MAX_PER_TENANT, Outcome, check_name, done, no_tenant, not_kept};
use crate::admin::{AccountError, SecretDetails, seconds};
use crate::config::Config;
use crate::store::{HandleRow, Resealed, SecretRow, Vault, VaultError, now};

/// Largest secret, in bytes.
const MAX_SECRET: usize = 64 * 1024;

impl Accounts {
    pub(super) fn secrets(&self, tenant: Option<&str>) -> Vec<SecretDetails> {
        let rows = self.rows.lock();
        let of_tenant = rows
            .secrets
            .iter()
            .filter(|row| tenant.is_none_or(|tenant| row.tenant == tenant))
            .filter(|row| row.of_grant().is_none());
        let mut all: Vec<_> = of_tenant
            .map(|row| SecretDetails {
                tenant: row.tenant.clone(),
                name: row.name.clone(),
                changed: seconds(row.changed),
            })
            .collect();
        all.sort_by(|a, b| (&a.tenant, &a.name).cmp(&(&b.tenant, &b.name)));
        all
    }

    pub(super) async fn set_secret(
        &self,
        file: &Config,
        tenant: String,
        name: String,
        value: &SecretString,
    ) -> Outcome {
        if !self.has_tenant(file, &tenant) {
            return Err(no_tenant(&tenant));
        }
        check_name("secret", &name)?;
        let of_file = file.tenants.get(tenant.as_str());
        if of_file.is_some_and(|tenant| tenant.secrets.contains_key(&name)) {
            let why =
                format!("`tenants.{tenant}.secrets.{name}` is in pool.toml; it is changed there");
            return Err(AccountError::Exists(why));
        }
        let len = value.expose_secret().len();
        if !(1..=MAX_SECRET).contains(&len) {
            let why = format!("a secret has 1 to {MAX_SECRET} bytes, not {len}");
            return Err(AccountError::Invalid(why));
        }
        let of_tenant = self.secrets(Some(&tenant)).len();
        if of_tenant >= MAX_PER_TENANT {
            let why = format!("tenant `{tenant}` has {MAX_PER_TENANT} secrets, which is the most");
            return Err(AccountError::Invalid(why));
        }
        let unavailable = |error: VaultError| AccountError::Unavailable(error.to_string());
        let sealed = self.vault.seal(&tenant, &name, value);
        let row = SecretRow {
            sealed: sealed.map_err(unavailable)?,
            tenant: tenant.clone(),
            name: name.clone(),
            changed: now(),
        };
        let check = self.vault.key_check().map_err(unavailable)?;
        let put = self.store.put_secrets(vec![row.clone()], check.clone());
        put.await.map_err(not_kept)?;
        let mut rows = self.rows.lock();
        rows.key_check = Some(check);
        rows.secrets
            .retain(|row| !(row.tenant == tenant && row.name == name));
        rows.secrets.push(row);
        drop(rows);
        done(format!("secret {name} of tenant {tenant} set"))
    }

    pub(super) async fn remove_secret(&self, tenant: String, name: String) -> Outcome {
        let is_it = |row: &SecretRow| row.tenant == tenant && row.name == name;
        if !self.rows.lock().secrets.iter().any(is_it) {
            let why = format!(
                "tenant `{tenant}` has no secret `{name}` in the state store (`stdiopool secret list`)"
            );
            return Err(AccountError::NotFound(why));
        }
        let removed = self.store.remove_secret(tenant.clone(), name.clone());
        removed.await.map_err(not_kept)?;
        self.rows.lock().secrets.retain(|row| !is_it(row));
        done(format!("secret {name} of tenant {tenant} removed"))
    }

    /// Seals every secret, and every config that is stored with secrets, anew with another key, in one
    /// transaction, and writes that down. Returns how many of each. A config that does not open is
    /// forgotten, as it would be at the next start.
    ///
    /// # Errors
    /// When a secret does not open, there is no key, or they cannot be written; then all are as they
    /// were.
    pub async fn rekey(
        &self,
        file: &Config,
        key: &SecretString,
        handles: &[HandleRow],
    ) -> Result<(usize, usize), AccountError> {
        let outcome = self.seal_anew(key, handles).await;
        folder_act(file, "secret rekey", None, outcome.is_ok());
        outcome
    }

    async fn seal_anew(
        &self,
        key: &SecretString,
        handles: &[HandleRow],
    ) -> Result<(usize, usize), AccountError> {
        let unavailable = |error: VaultError| AccountError::Unavailable(error.to_string());
        let new = Vault::new(key).map_err(unavailable)?;
        let mut rows = self.rows.lock().secrets.clone();
        for row in &mut rows {
            let opened = self.vault.open(&row.tenant, &row.name, &row.sealed);
            let opened = opened.map_err(|error| {
                let why = format!("secret `{}` of tenant `{}`: {error}", row.name, row.tenant);
                AccountError::Unavailable(why)
            })?;
            let sealed = new.seal(&row.tenant, &row.name, &opened);
            row.sealed = sealed.map_err(unavailable)?;
        }
        let (mut configs, mut lost_configs) = (vec![], vec![]);
        for row in handles {
            let Some(sealed) = &row.sealed else {
                continue;
            };
            match self.vault.open_config(&row.tenant, row.id, sealed) {
                Ok(opened) => {
                    let sealed = new.seal_config(&row.tenant, row.id, &opened);
                    configs.push((row.id, sealed.map_err(unavailable)?));
                }
                Err(VaultError::DoesNotOpen) => {
                    let handle = row.id.fingerprint();
                    tracing::warn!(handle, "a stored config does not open: it is dropped");
                    lost_configs.push(row.id);
                }
                Err(error) => return Err(unavailable(error)),
            }
        }
        let counts = (rows.len(), configs.len());
        let all = Resealed {
            secrets: rows,
            configs,
            lost_configs,
            key_check: new.key_check().map_err(unavailable)?,
        };
        self.store.put_resealed(all).await.map_err(not_kept)?;
        Ok(counts)
    }
}

//! Carries out what is asked of tenants, tokens and secrets: on disk first, then in memory.
//!
//! Invariant: what is in memory is on the disk. Callers see to it that whoever asks may do so, and that there is one act at a time.
//! Not here: what tenants have authorised upstream (`grants`), and what becomes of sessions when something is taken away.

mod audit;
mod secrets;
mod tokens;
mod vault;

use std::sync::Arc;

use parking_lot::Mutex;

pub use self::audit::folder_act;
pub(super) use self::audit::record_of;
use self::audit::write_down;
use self::vault::vault;
use super::assemble::ServeError;
use crate::admin::{AccountError, Act, Reply, TenantDetails, seconds};
use crate::config::Config;
use crate::ids::{MAX_NAME_LEN, TenantId, is_valid_name};
use crate::store::{
    AccountRows, AccountStore, DatabaseError, HandleRow, OpenedState, SecretRow, TenantRow, Vault,
    now,
};
use crate::tenancy::oauth::Grants;
use crate::tenancy::{MergeError, TenantSettings, merged};

/// Tenants in the state store.
const MAX_TENANTS: usize = 100_000;
/// Tokens, and secrets, of one tenant.
const MAX_PER_TENANT: usize = 1_000;

/// The accounts of a state folder.
#[derive(Debug)]
pub struct Accounts {
    store: AccountStore,
    vault: Arc<Vault>,
    rows: Mutex<AccountRows>,
    pub(super) grants: Arc<Grants>,
}

pub(super) type Outcome = Result<Reply, AccountError>;

impl Accounts {
    /// The accounts of an open state folder.
    ///
    /// # Errors
    /// When the key of the secrets is not to be had, or another than they were sealed with.
    pub async fn open(opened: &OpenedState, config: &Config) -> Result<Self, ServeError> {
        let rows = opened.account_rows.clone();
        let vault = vault(config.state.key.as_ref()).await?;
        let today = now();
        let is_sealed = |row: &HandleRow| row.sealed.is_some() && row.expires > today;
        let has_sealed = !rows.secrets.is_empty() || opened.handle_rows.iter().any(is_sealed);
        if let Some(check) = rows.key_check.as_ref().filter(|_| has_sealed) {
            if !vault.has_key() {
                let secrets = rows.secrets.len();
                tracing::warn!(
                    secrets,
                    "there is no key for the secrets in the state folder (`state.key`): servers that need them cannot start"
                );
            } else if !vault.fits(check) {
                return Err(ServeError::OtherKey);
            }
        }
        let vault = Arc::new(vault);
        let store = opened.accounts.clone();
        let grants = Grants::new(Arc::clone(&vault), store, &rows.secrets);
        Ok(Self {
            grants: Arc::new(grants),
            store: opened.accounts.clone(),
            vault,
            rows: Mutex::new(rows),
        })
    }

    /// The vault that seals the secrets.
    pub fn vault(&self) -> &Arc<Vault> {
        &self.vault
    }

    /// pool.toml's config with these accounts in it.
    ///
    /// # Errors
    /// What does not go together.
    pub fn merge_into(&self, file: &Config) -> Result<Config, MergeError> {
        merged(file, &self.rows.lock())
    }

    /// Writes down when tokens were last used.
    pub fn note_uses(&self, uses: Vec<([u8; 32], std::time::SystemTime)>) {
        if uses.is_empty() {
            return;
        }
        {
            let mut rows = self.rows.lock();
            for token in &mut rows.tokens {
                if let Some((_, at)) = uses.iter().find(|(hash, _)| *hash == token.hash) {
                    token.last_used = Some(*at);
                }
            }
        }
        self.store.note_uses(uses);
    }

    /// Carries it out on the folder of a stdiopool that does not run, and writes it down.
    ///
    /// # Errors
    /// Why not; nothing has changed then.
    pub async fn act_offline(&self, file: &Config, act: Act) -> Outcome {
        let record = record_of(&act);
        let outcome = if matches!(act, Act::LinkGrant(..)) {
            let why = "no stdiopool runs on this folder: the provider sends the browser back to it (stdiopool serve)";
            Err(AccountError::Unavailable(why.to_owned()))
        } else {
            self.act(file, act).await
        };
        if let Some(record) = record {
            write_down(file, record, outcome.is_ok());
        }
        outcome
    }

    /// Carries it out, beside the tenants of pool.toml. One at a time, which the caller sees to.
    ///
    /// # Errors
    /// Why not; nothing has changed then.
    ///
    /// # Cancel-Safety
    /// A dropped call may have changed the disk and not the memory: do not drop it.
    pub async fn act(&self, file: &Config, act: Act) -> Outcome {
        match act {
            Act::ListTenants => Ok(Reply::Tenants(self.tenants(file))),
            Act::ShowTenant(name) => {
                let found = self.tenants(file).into_iter().find(|row| row.name == name);
                let found = found.ok_or_else(|| no_tenant(&name))?;
                Ok(Reply::Tenant(Box::new(found)))
            }
            Act::AddTenant(name, settings) => self.add_tenant(file, name, settings).await,
            Act::SetTenant(name, settings) => self.set_tenant(file, name, settings).await,
            Act::RemoveTenant(name) => self.remove_tenant(file, name).await,
            Act::ListTokens(tenant) => {
                let rows = self.tokens(tenant.as_deref());
                self.rows_of(file, tenant, rows).map(Reply::Tokens)
            }
            Act::CreateToken(tenant, token) => self.create_token(file, tenant, token).await,
            Act::RevokeToken(tenant, name) => self.revoke_token(tenant, name).await,
            Act::ListSecrets(tenant) => {
                let rows = self.secrets(tenant.as_deref());
                self.rows_of(file, tenant, rows).map(Reply::Secrets)
            }
            Act::SetSecret(tenant, name, value) => {
                self.set_secret(file, tenant, name, &value).await
            }
            Act::RemoveSecret(tenant, name) => self.remove_secret(tenant, name).await,
            Act::ListGrants(tenant) => {
                let rows = self.grants(tenant.as_deref());
                self.rows_of(file, tenant, rows).map(Reply::Grants)
            }
            Act::LinkGrant(tenant, server) => self.link_grant(file, &tenant, &server),
            Act::RevokeGrant(tenant, server) => self.revoke_grant(file, &tenant, &server).await,
        }
    }

    fn tenants(&self, file: &Config) -> Vec<TenantDetails> {
        let rows = self.rows.lock();
        let details = |name: &str, stored: Option<&TenantRow>| {
            let of_file = file.tenants.get(name);
            let tokens = rows.tokens.iter().filter(|row| row.tenant == name).count();
            let own = |row: &&SecretRow| row.tenant == name && row.of_grant().is_none();
            let secrets = rows.secrets.iter().filter(own).count();
            TenantDetails {
                name: name.to_owned(),
                source: if stored.is_some() {
                    "store"
                } else {
                    "pool.toml"
                }
                .to_owned(),
                settings: stored.and_then(|row| serde_json::from_str(&row.settings).ok()),
                tokens: tokens + of_file.map_or(0, |tenant| tenant.tokens.len()),
                secrets: secrets + of_file.map_or(0, |tenant| tenant.secrets.len()),
                created: stored.map(|row| seconds(row.created)),
            }
        };
        let of_file = file.tenants.keys().map(|name| details(name.as_str(), None));
        let stored = rows.tenants.iter().map(|row| details(&row.name, Some(row)));
        let mut all: Vec<_> = of_file.chain(stored).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    pub(super) fn has_tenant(&self, file: &Config, name: &str) -> bool {
        file.tenants.contains_key(name)
            || self.rows.lock().tenants.iter().any(|row| row.name == name)
    }

    async fn add_tenant(&self, file: &Config, name: String, settings: TenantSettings) -> Outcome {
        check_name("tenant", &name)?;
        let checked = settings.check(file);
        checked.map_err(|why| AccountError::Invalid(why.to_string()))?;
        if file.tenants.contains_key(name.as_str()) {
            let why = format!("tenant `{name}` is in pool.toml already; it is changed there");
            return Err(AccountError::Exists(why));
        }
        if self.has_tenant(file, &name) {
            let why =
                format!("there is a tenant `{name}` already (`stdiopool tenant set` changes it)");
            return Err(AccountError::Exists(why));
        }
        if self.rows.lock().tenants.len() >= MAX_TENANTS {
            let why =
                format!("there are {MAX_TENANTS} tenants in the state store, which is the most");
            return Err(AccountError::Invalid(why));
        }
        let row = tenant_row(&name, &settings, now())?;
        self.store.put_tenant(row.clone()).await.map_err(not_kept)?;
        self.rows.lock().tenants.push(row);
        done(format!("tenant {name} added"))
    }

    async fn set_tenant(&self, file: &Config, name: String, settings: TenantSettings) -> Outcome {
        if file.tenants.contains_key(name.as_str()) {
            let why = format!("tenant `{name}` is in pool.toml; it is changed there");
            return Err(AccountError::Invalid(why));
        }
        let before = {
            let rows = self.rows.lock();
            rows.tenants.iter().find(|row| row.name == name).cloned()
        };
        let before = before.ok_or_else(|| no_tenant(&name))?;
        let old: TenantSettings = serde_json::from_str(&before.settings)
            .map_err(|error| AccountError::Failed(format!("its settings are damaged: {error}")))?;
        let settings = old.with(settings);
        let checked = settings.check(file);
        checked.map_err(|why| AccountError::Invalid(why.to_string()))?;
        let row = tenant_row(&name, &settings, before.created)?;
        self.store.put_tenant(row.clone()).await.map_err(not_kept)?;
        let mut rows = self.rows.lock();
        for old in rows.tenants.iter_mut().filter(|row| row.name == name) {
            *old = row.clone();
        }
        drop(rows);
        done(format!("tenant {name} changed"))
    }

    async fn remove_tenant(&self, file: &Config, name: String) -> Outcome {
        let is_stored = self.rows.lock().tenants.iter().any(|row| row.name == name);
        if !is_stored {
            let is_in_file = file.tenants.contains_key(name.as_str());
            return Err(if is_in_file {
                let why = format!("tenant `{name}` is in pool.toml; remove it there");
                AccountError::Invalid(why)
            } else {
                no_tenant(&name)
            });
        }
        self.store
            .remove_tenant(name.clone())
            .await
            .map_err(not_kept)?;
        let mut rows = self.rows.lock();
        rows.tenants.retain(|row| row.name != name);
        rows.tokens.retain(|row| row.tenant != name);
        rows.secrets.retain(|row| row.tenant != name);
        drop(rows);
        self.grants.forget_tenant(&TenantId::new(name.as_str()));
        done(format!(
            "tenant {name} removed, with its tokens, secrets and stored configs"
        ))
    }

    /// Rows of one tenant, or of all: no rows of a tenant that is not there are a mistake in its name, not an empty list.
    fn rows_of<T>(
        &self,
        file: &Config,
        tenant: Option<String>,
        rows: Vec<T>,
    ) -> Result<Vec<T>, AccountError> {
        match tenant {
            Some(tenant) if rows.is_empty() && !self.has_tenant(file, &tenant) => {
                Err(no_tenant(&tenant))
            }
            _ => Ok(rows),
        }
    }
}

fn tenant_row(
    name: &str,
    settings: &TenantSettings,
    created: std::time::SystemTime,
) -> Result<TenantRow, AccountError> {
    let settings = serde_json::to_string(settings);
    Ok(TenantRow {
        name: name.to_owned(),
        settings: settings.map_err(|error| AccountError::Failed(error.to_string()))?,
        created,
    })
}

pub(super) fn done(message: String) -> Outcome {
    Ok(Reply::Done { message })
}

fn check_name(what: &str, name: &str) -> Result<(), AccountError> {
    if is_valid_name(name) {
        return Ok(());
    }
    Err(AccountError::Invalid(format!(
        "`{name}` cannot be the name of a {what}: it has 1 to {MAX_NAME_LEN} of A-Z a-z 0-9 . _ - and begins with a letter or digit"
    )))
}

pub(super) fn no_tenant(name: &str) -> AccountError {
    AccountError::NotFound(format!(
        "there is no tenant `{name}` (`stdiopool tenant list` shows them)"
    ))
}

fn not_kept(error: DatabaseError) -> AccountError {
    AccountError::Failed(error.to_string())
}

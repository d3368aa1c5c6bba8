//! Carries out what is asked of tenants, tokens and secrets: on disk first, then in memory.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use std::sync::Arc;

use super::assemble::ServeError;
use crate::admin::{
    AccountError, Act, MadeToken, NewToken, Reply, SecretDetails, TenantDetails, TokenDetails,
    seconds,
};
use crate::config::{Config, SecretSource};
use crate::ids::{MAX_NAME_LEN, TenantId, is_valid_name};
use crate::preflight;
use crate::store::{
    AccountRows, AccountStore, DatabaseError, HandleRow, OpenedState, Resealed, SecretRow,
    TenantRow, TokenRow, Vault, VaultError, now,
};
use crate::telemetry::audit::{AuditKind, AuditRecord, append_record};
use crate::tenancy::oauth::Grants;
use crate::tenancy::{MergeError, Secrets, TenantSettings, merged};

/// Tenants in the state store.
const MAX_TENANTS: usize = 100_000;
/// Tokens, and secrets, of one tenant.
const MAX_PER_TENANT: usize = 1_000;
/// Largest secret, in bytes.
const MAX_SECRET: usize = 64 * 1024;
/// The prefix of tokens, so that scanners of source code recognise them.
const TOKEN_PREFIX: &str = "spt_";
/// The credential of systemd that holds the key of the secrets.
const CREDENTIAL: &str = "stdiopool-key";

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

    fn tokens(&self, tenant: Option<&str>) -> Vec<TokenDetails> {
        let rows = self.rows.lock();
        let of_tenant = rows
            .tokens
            .iter()
            .filter(|row| tenant.is_none_or(|tenant| row.tenant == tenant));
        let mut all: Vec<_> = of_tenant
            .map(|row| TokenDetails {
                tenant: row.tenant.clone(),
                name: row.name.clone(),
                subject: row.subject.clone(),
                scopes: row.scopes.clone(),
                created: seconds(row.created),
                expires: row.expires.map(seconds),
                last_used: row.last_used.map(seconds),
            })
            .collect();
        all.sort_by(|a, b| (&a.tenant, &a.name).cmp(&(&b.tenant, &b.name)));
        all
    }

    async fn create_token(&self, file: &Config, tenant: String, token: NewToken) -> Outcome {
        if !self.has_tenant(file, &tenant) {
            return Err(no_tenant(&tenant));
        }
        check_name("token", &token.name)?;
        let (of_tenant, is_there) = {
            let rows = self.rows.lock();
            let of_tenant = rows.tokens.iter().filter(|row| row.tenant == tenant);
            let is_there = of_tenant.clone().any(|row| row.name == token.name);
            (of_tenant.count(), is_there)
        };
        if is_there {
            let why = format!(
                "tenant `{tenant}` has a token `{}` already (`stdiopool token revoke {tenant} {}` revokes it)",
                token.name, token.name
            );
            return Err(AccountError::Exists(why));
        }
        if of_tenant >= MAX_PER_TENANT {
            let why = format!("tenant `{tenant}` has {MAX_PER_TENANT} tokens, which is the most");
            return Err(AccountError::Invalid(why));
        }
        let mut random = [0; 32];
        getrandom::fill(&mut random)
            .map_err(|error| AccountError::Failed(format!("no random numbers: {error}")))?;
        let text = format!("{TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode(random));
        let created = now();
        let valid = token.expires_in_seconds.map(Duration::from_secs);
        let expires = valid.map(|valid| {
            let too_long = || AccountError::Invalid("the token would be valid too long".to_owned());
            created.checked_add(valid).ok_or_else(too_long)
        });
        let row = TokenRow {
            tenant: tenant.clone(),
            name: token.name.clone(),
            hash: Sha256::digest(text.as_bytes()).into(),
            subject: token.subject,
            scopes: token.scopes,
            created,
            expires: expires.transpose()?,
            last_used: None,
        };
        self.store
            .insert_token(row.clone())
            .await
            .map_err(not_kept)?;
        let expires = row.expires.map(seconds);
        self.rows.lock().tokens.push(row);
        Ok(Reply::Made(MadeToken {
            token: text,
            tenant,
            name: token.name,
            expires,
        }))
    }

    async fn revoke_token(&self, tenant: String, name: String) -> Outcome {
        let is_it = |row: &TokenRow| row.tenant == tenant && row.name == name;
        if !self.rows.lock().tokens.iter().any(is_it) {
            let why = format!(
                "tenant `{tenant}` has no token `{name}` in the state store (`stdiopool token list`; those of pool.toml are removed there)"
            );
            return Err(AccountError::NotFound(why));
        }
        let removed = self.store.remove_token(tenant.clone(), name.clone());
        removed.await.map_err(not_kept)?;
        self.rows.lock().tokens.retain(|row| !is_it(row));
        done(format!(
            "token {name} of tenant {tenant} is revoked: it is refused from now on"
        ))
    }

    fn secrets(&self, tenant: Option<&str>) -> Vec<SecretDetails> {
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

    async fn set_secret(
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

    async fn remove_secret(&self, tenant: String, name: String) -> Outcome {
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

/// What the audit log is told of it; nothing of one that only looks.
pub(super) fn record_of(act: &Act) -> Option<AuditRecord> {
    (!act.only_looks()).then(|| AuditRecord {
        kind: AuditKind::Act,
        tenant: act.tenant().map(str::to_owned),
        server: act.server().map(str::to_owned),
        method: Some(act.name().to_owned()),
        object: act.object().map(str::to_owned),
        ..AuditRecord::default()
    })
}

/// Writes down an act on the state folder as a whole, such as `backup`, and the file it was about.
pub fn folder_act(file: &Config, method: &str, object: Option<&std::path::Path>, is_ok: bool) {
    let record = AuditRecord {
        kind: AuditKind::Act,
        object: object.map(|path| path.display().to_string()),
        method: Some(method.to_owned()),
        ..AuditRecord::default()
    };
    write_down(file, record, is_ok);
}

/// Writes down an act that no running stdiopool carried out, if there is to be an audit log. A
/// stdiopool that runs meanwhile writes to that file too, line by line.
fn write_down(file: &Config, mut record: AuditRecord, is_ok: bool) {
    record.outcome = Some(if is_ok { "ok" } else { "failed" }.to_owned());
    if let Some(options) = super::assemble::audit_options(file)
        && let Err(error) = append_record(&options, record)
    {
        tracing::error!(%error, file = %options.file.display(), "the audit log cannot be written");
    }
}

async fn vault(source: Option<&SecretSource>) -> Result<Vault, ServeError> {
    let credential = || {
        let dir = std::env::var_os("CREDENTIALS_DIRECTORY")?;
        let file = std::path::Path::new(&dir).join(CREDENTIAL);
        file.exists().then_some(SecretSource::File(file))
    };
    let Some(source) = source.cloned().or_else(credential) else {
        return Ok(Vault::without_key());
    };
    if let Some(why) = preflight::state_key(&source) {
        return Err(ServeError::NoKey(why));
    }
    let key = Secrets::of_operator(&source).await;
    let key = key.map_err(|why| ServeError::NoKey(why.to_string()))?;
    Vault::new(&key).map_err(|error| ServeError::NoKey(error.to_string()))
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

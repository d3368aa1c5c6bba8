//! Tokens of tenants: made, listed, revoked. Of a token only its hash is kept.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use super::{Accounts, MAX_PER_TENANT, Outcome, check_name, done, no_tenant, not_kept};
use crate::admin::{AccountError, MadeToken, NewToken, Reply, TokenDetails, seconds};
use crate::config::Config;
use crate::store::{TokenRow, now};

/// The prefix of tokens, so that scanners of source code recognise them.
const TOKEN_PREFIX: &str = "spt_";

impl Accounts {
    pub(super) fn tokens(&self, tenant: Option<&str>) -> Vec<TokenDetails> {
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

    pub(super) async fn create_token(
        &self,
        file: &Config,
        tenant: String,
        token: NewToken,
    ) -> Outcome {
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

    pub(super) async fn revoke_token(&self, tenant: String, name: String) -> Outcome {
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
}

//! Authorisations are given and ended: links, callbacks, revocation.

use std::sync::Arc;
use std::time::SystemTime;

use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;

use super::answer::{self, TokenRefusal};
use super::grants::{Finished, Grant, GrantEvent, Grants, NotKept};
use super::pending::{self, LINK_LIFETIME, Link, LinkError, OpenedLink, Pending, UnknownLink};
use super::provider::NotTold;
use super::refresh::lifetime;
use super::request::{self, Form};
use super::schedule::Schedule;
use super::stored_grant::StoredGrant;
use crate::config::OAuth;
use crate::ids::{ServerName, TenantId};
use crate::telemetry::{RequestSpan, in_request};

impl Grants {
    /// Ends an authorisation: the provider is told if `oauth` says where, then it is forgotten. What
    /// the provider said, if it was told and did not take it; `None` if there is none.
    ///
    /// # Cancel-Safety
    /// A dropped call goes on.
    pub async fn revoke(
        self: &Arc<Self>,
        tenant: &TenantId,
        server: &ServerName,
        oauth: Option<&Arc<OAuth>>,
    ) -> Option<Result<(), NotTold>> {
        let (this, oauth) = (Arc::clone(self), oauth.cloned());
        let key = (tenant.clone(), server.clone());
        let revoked = self.tasks.spawn(async move {
            this.links.lock().forget(&key.0, Some(&key.1));
            let _guard = this.lock(&key).await;
            let kept = this.with(&key, |grant| grant.kept.clone())?;
            let told = match oauth.as_ref().map(|it| (it, it.revocation_url.as_ref())) {
                Some((oauth, Some(url))) => {
                    // RFC 7009, 2.1: with the refresh token go its access tokens.
                    let token = match (&kept.refresh, &kept.access) {
                        (Some(token), _) => Some((token, "refresh_token")),
                        (None, Some(token)) => Some((token, "access_token")),
                        (None, None) => None,
                    };
                    match token {
                        Some((token, hint)) => {
                            let form = Form::revocation(token, hint);
                            this.provider.revoke(url, oauth, form).await
                        }
                        None => Ok(()),
                    }
                }
                Some((_, None)) => Err(NotTold::NoAddress),
                None => Err(NotTold::NoProvider),
            };
            this.forget(&key).await;
            this.tell(&key, &GrantEvent::Revoked);
            Some(told)
        });
        revoked.await.unwrap_or_else(|error| {
            tracing::error!(%error, "a revocation did not finish");
            None
        })
    }

    /// A link with which a user authorises the server for the tenant.
    ///
    /// # Errors
    /// [`LinkError`].
    pub fn link(
        &self,
        tenant: &TenantId,
        server: &ServerName,
        oauth: &Arc<OAuth>,
        subject: Option<String>,
    ) -> Result<Link, LinkError> {
        let vault = self
            .vault
            .as_ref()
            .ok_or_else(|| LinkError::NotKept(NotKept::NoFile.to_string()))?;
        // Better said now than after the user has been asked.
        let sealed = vault.key_check();
        sealed.map_err(|error| LinkError::NotKept(error.to_string()))?;
        let base = self.base.get().ok_or(LinkError::NoAddress)?;
        let random = || request::random().map_err(|_| LinkError::NoRandom);
        let (state, verifier) = (random()?, random()?);
        let redirect_uri = format!("{base}/oauth/callback");
        let provider = request::authorization_url(oauth, &redirect_uri, &state, &verifier);
        let now = Instant::now();
        let pending = Pending {
            tenant: tenant.clone(),
            server: server.clone(),
            subject,
            oauth: Arc::clone(oauth),
            verifier,
            redirect_uri,
            provider,
            browser: None,
            ends: now + LINK_LIFETIME,
        };
        self.links.lock().add(now, &state, pending)?;
        Ok(Link {
            url: format!("{base}/oauth/authorize/{}", state.expose_secret()).into(),
            expires: SystemTime::now() + LINK_LIFETIME,
        })
    }

    /// A browser opens a link; `None` if it is not one, or not any more.
    pub fn open(&self, state: &str) -> Option<OpenedLink> {
        let browser = request::random().ok()?;
        let base = self.base.get()?;
        let path = url::Url::parse(base)
            .ok()?
            .path()
            .trim_end_matches('/')
            .to_owned();
        let mut links = self.links.lock();
        let pending = links.open(Instant::now(), state, &browser)?;
        Some(OpenedLink {
            tenant: pending.tenant.clone(),
            server: pending.server.clone(),
            provider: pending.provider.clone(),
            cookie: (pending::cookie_name(state), browser),
            cookie_path: format!("{path}/oauth/callback"),
            is_secure: base.starts_with("https://"),
        })
    }

    /// The provider has sent a browser back (RFC 6749, 4.1.2; RFC 9207). `may` says whether the
    /// tenant may still have that server.
    ///
    /// # Cancel-Safety
    /// A dropped call goes on.
    pub async fn finish(
        self: &Arc<Self>,
        query: Vec<(String, String)>,
        cookie: impl Fn(&str) -> Option<String>,
        may: impl Fn(&TenantId, &ServerName) -> bool,
    ) -> Finished {
        let first = |name: &str| {
            let found = query.iter().find(|(key, _)| key == name);
            found.map(|(_, value)| value.as_str())
        };
        let state = first("state").unwrap_or_default();
        let browser = cookie(&pending::cookie_name(state));
        let taken = self
            .links
            .lock()
            .take(Instant::now(), state, browser.as_deref());
        let pending = match taken {
            Ok(pending) => pending,
            Err(unknown) => return Finished::Failed(unknown_link_text(unknown).to_owned()),
        };
        let key = (pending.tenant.clone(), pending.server.clone());
        let no = |why: String| {
            self.tell(&key, &GrantEvent::NotAuthorised(why.clone()));
            Finished::Failed(why)
        };
        if !may(&key.0, &key.1) {
            return no("the server is not there any more".to_owned());
        }
        if let (Some(expected), Some(iss)) = (&pending.oauth.issuer, first("iss"))
            && expected != iss
        {
            return no("the answer is from another issuer than `issuer` in pool.toml".to_owned());
        }
        if let Some(error) = first("error") {
            let code = if answer::is_code(error) {
                error
            } else {
                "(not readable)"
            };
            return no(format!("the provider says `{code}`"));
        }
        let Some(code) = first("code").filter(|code| !code.is_empty()) else {
            return no("the provider has sent no code".to_owned());
        };
        let code = SecretString::from(code);
        let this = Arc::clone(self);
        let exchanged = async move {
            let exchanged = this.exchange(&pending, &code).await;
            if let Err(why) = &exchanged {
                let key = (pending.tenant, pending.server);
                this.tell(&key, &GrantEvent::NotAuthorised(why.to_string()));
            }
            exchanged
        };
        let exchanged = in_request(RequestSpan::current(), exchanged);
        let exchanged = self.tasks.spawn(exchanged);
        let exchanged = exchanged.await.unwrap_or_else(|error| {
            tracing::error!(%error, "an exchange did not finish");
            Err(NoExchange::NotFinished)
        });
        match exchanged {
            // Tenant or server were removed meanwhile.
            Ok(()) if !may(&key.0, &key.1) => {
                let _guard = self.lock(&key).await;
                self.forget(&key).await;
                Finished::Failed("the server is not there any more".to_owned())
            }
            Ok(()) => Finished::Authorised(key.0, key.1),
            Err(why) => Finished::Failed(why.to_string()),
        }
    }

    async fn exchange(&self, pending: &Pending, code: &SecretString) -> Result<(), NoExchange> {
        let key = (pending.tenant.clone(), pending.server.clone());
        let form = Form::code(code, &pending.verifier, &pending.redirect_uri);
        let asked = Instant::now();
        let tokens = self.provider.tokens(&pending.oauth, form).await;
        let tokens = tokens.map_err(NoExchange::Refused)?;
        let _guard = self.lock(&key).await;
        let kept = StoredGrant::new(&tokens, pending.subject.clone(), SystemTime::now());
        self.keep(&key, &kept).await.map_err(|why| {
            tracing::error!(tenant = %key.0, server = %key.1, "an authorisation cannot be kept: {why}");
            NoExchange::NotKept
        })?;
        let can_refresh = kept.refresh.is_some();
        let mut schedule = Schedule::new(can_refresh);
        schedule.obtained(
            asked,
            lifetime(&tokens, &pending.oauth, can_refresh),
            can_refresh,
        );
        let grant = Grant {
            kept,
            schedule,
            access: Some(tokens.access),
            serial: self.next_serial(),
            number: self.next_serial(),
            is_unsaved: false,
        };
        let mut table = self.table.lock();
        let of_tenant = table.entry(key.0.clone()).or_default();
        of_tenant.insert(key.1.clone(), grant);
        drop(table);
        self.tell(&key, &GrantEvent::Authorised(pending.subject.clone()));
        self.note_change(&key);
        Ok(())
    }
}

/// Why a code did not become an authorisation.
#[derive(Debug, thiserror::Error)]
enum NoExchange {
    #[error(transparent)]
    Refused(TokenRefusal),
    #[error("it cannot be kept (the operator finds the cause in the log)")]
    NotKept,
    #[error("it did not finish")]
    NotFinished,
}

fn unknown_link_text(unknown: UnknownLink) -> &'static str {
    match unknown {
        UnknownLink::Unknown => "this link is not valid: it was used, or is older than ten minutes",
        UnknownLink::OtherBrowser => {
            "the link was not opened in this browser; ask for another, and open it where you are signed in at the provider"
        }
    }
}

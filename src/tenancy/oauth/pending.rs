//! Authorisations that were begun: what a callback must fit to.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use url::Url;

use crate::config::OAuth;
use crate::ids::{ServerName, TenantId};

/// How long a link can be used.
pub const LINK_LIFETIME: Duration = Duration::from_secs(600);
/// Links of one tenant that can be used at once.
const MAX_OF_TENANT: usize = 32;
/// Links of all tenants.
const MAX_IN_ALL: usize = 10_000;

/// A link to begin with, for a browser: it needs no credentials, so that it is one.
#[derive(Debug)]
pub struct Link {
    /// The address.
    pub url: SecretString,
    /// Until when.
    pub expires: SystemTime,
}

/// Why there is no link.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LinkError {
    /// What is authorised could not be kept.
    #[error("authorisations cannot be kept: {0}")]
    NotKept(String),
    /// The provider could not send the browser back.
    #[error("the address of the callback is not known: set `http.public_url`")]
    NoAddress,
    /// Too many are open.
    #[error("there are {MAX_OF_TENANT} open links of this tenant, or {MAX_IN_ALL} in all; each ends {} minutes after it was made", LINK_LIFETIME.as_secs() / 60)]
    TooMany(Duration),
    /// No random numbers.
    #[error("the system gives no random numbers")]
    NoRandom,
}

/// What a browser that opened a link is shown and given.
#[derive(Debug)]
pub struct OpenedLink {
    /// The tenant that authorises.
    pub tenant: TenantId,
    /// What.
    pub server: ServerName,
    /// The address of the provider at which the authorisation goes on.
    pub provider: Url,
    /// Tells this browser from others at the callback: name and value of a cookie.
    pub cookie: (String, SecretString),
    /// The path under which the browser sends it.
    pub cookie_path: String,
    /// Whether the cookie goes over TLS only.
    pub is_secure: bool,
}

/// An authorisation that was begun.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) tenant: TenantId,
    pub(super) server: ServerName,
    /// The user who asked for the link.
    pub(super) subject: Option<String>,
    pub(super) oauth: Arc<OAuth>,
    pub(super) verifier: SecretString,
    pub(super) redirect_uri: String,
    /// Where the browser is sent.
    pub(super) provider: Url,
    /// The browser that opened it last.
    pub(super) browser: Option<[u8; 32]>,
    pub(super) ends: Instant,
}

/// Why a callback fits to nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum UnknownLink {
    Unknown,
    OtherBrowser,
}

/// All of them, by a digest of their `state`: how long a look-up takes says nothing of it.
#[derive(Debug, Default)]
pub(super) struct Table(HashMap<[u8; 32], Pending>);

pub(super) fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

/// Of that link: two in one browser do not get in each other's way.
pub(super) fn cookie_name(state: &str) -> String {
    let digest = digest(state);
    let hex = data_encoding::HEXLOWER.encode(&digest[..8]);
    format!("stdiopool_oauth_{hex}")
}

impl Table {
    /// Takes one in.
    ///
    /// # Errors
    /// [`LinkError::TooMany`].
    pub(super) fn add(
        &mut self,
        now: Instant,
        state: &SecretString,
        pending: Pending,
    ) -> Result<(), LinkError> {
        self.0.retain(|_, pending| pending.ends > now);
        let of_tenant = self.0.values().filter(|it| it.tenant == pending.tenant);
        let is_full = self.0.len() >= MAX_IN_ALL;
        if is_full || of_tenant.clone().count() >= MAX_OF_TENANT {
            let in_the_way: Vec<_> = if is_full {
                self.0.values().map(|it| it.ends).collect()
            } else {
                of_tenant.map(|it| it.ends).collect()
            };
            let first = in_the_way.into_iter().min().unwrap_or(now);
            return Err(LinkError::TooMany(first.saturating_duration_since(now)));
        }
        self.0.insert(digest(state.expose_secret()), pending);
        Ok(())
    }

    /// A browser opens a link; it may again, in another browser too.
    pub(super) fn open(
        &mut self,
        now: Instant,
        state: &str,
        browser: &SecretString,
    ) -> Option<&Pending> {
        let pending = self.0.get_mut(&digest(state))?;
        if pending.ends <= now {
            return None;
        }
        pending.browser = Some(digest(browser.expose_secret()));
        Some(pending)
    }

    /// A callback comes. A `state` is good for one, whatever becomes of it.
    pub(super) fn take(
        &mut self,
        now: Instant,
        state: &str,
        browser: Option<&str>,
    ) -> Result<Pending, UnknownLink> {
        let pending = self.0.remove(&digest(state)).ok_or(UnknownLink::Unknown)?;
        if pending.ends <= now {
            return Err(UnknownLink::Unknown);
        }
        let browser = browser.map(digest);
        if browser.is_none() || browser != pending.browser {
            return Err(UnknownLink::OtherBrowser);
        }
        Ok(pending)
    }

    /// Whoever authorises it afterwards must begin anew.
    pub(super) fn forget(&mut self, tenant: &TenantId, server: Option<&ServerName>) {
        self.0.retain(|_, it| {
            it.tenant != *tenant || server.is_some_and(|server| it.server != *server)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::request::tests::oauth;
    use super::*;

    fn pending(tenant: &str, server: &str, now: Instant) -> Pending {
        Pending {
            tenant: TenantId::new(tenant),
            server: ServerName::new(server),
            subject: None,
            oauth: Arc::new(oauth("https://id.example.com/token")),
            verifier: "v".into(),
            redirect_uri: String::new(),
            provider: Url::parse("https://id.example.com/").expect("valid"),
            browser: None,
            ends: now + LINK_LIFETIME,
        }
    }

    #[test]
    fn a_state_is_good_once_for_ten_minutes_in_the_browser_that_opened_it() {
        let (mut table, now) = (Table::default(), Instant::now());
        let add = |table: &mut Table, state: &str| {
            let added = table.add(now, &state.into(), pending("acme", "hub", now));
            added.expect("room");
        };
        let taken = |table: &mut Table, at, state: &str, browser: Option<&str>| {
            table.take(at, state, browser).map(|it| it.tenant)
        };
        add(&mut table, "a");
        assert_eq!(
            taken(&mut table, now, "b", Some("x")),
            Err(UnknownLink::Unknown)
        );
        assert!(table.open(now, "a", &"x".into()).is_some());
        let acme = Ok(TenantId::new("acme"));
        assert_eq!(taken(&mut table, now, "a", Some("x")), acme);
        assert_eq!(
            taken(&mut table, now, "a", Some("x")),
            Err(UnknownLink::Unknown),
            "replayed"
        );

        for browser in [None, Some("y")] {
            add(&mut table, "a");
            assert!(table.open(now, "a", &"x".into()).is_some());
            assert_eq!(
                taken(&mut table, now, "a", browser),
                Err(UnknownLink::OtherBrowser)
            );
            assert_eq!(
                taken(&mut table, now, "a", Some("x")),
                Err(UnknownLink::Unknown)
            );
        }
        // Never opened.
        add(&mut table, "a");
        assert_eq!(
            taken(&mut table, now, "a", None),
            Err(UnknownLink::OtherBrowser)
        );

        add(&mut table, "a");
        assert!(table.open(now, "a", &"x".into()).is_some());
        let late = now + LINK_LIFETIME;
        assert!(table.open(late, "a", &"x".into()).is_none());
        assert_eq!(
            taken(&mut table, late, "a", Some("x")),
            Err(UnknownLink::Unknown)
        );
    }

    #[test]
    fn links_have_a_bound_for_each_tenant_and_are_forgotten() {
        let (mut table, now) = (Table::default(), Instant::now());
        let mut add = |tenant: &str, n: usize, at| {
            table.add(
                at,
                &format!("{tenant}{n}").into(),
                pending(tenant, "hub", at),
            )
        };
        for n in 0..MAX_OF_TENANT {
            add("acme", n, now).expect("room");
        }
        let soon = now + Duration::from_secs(60);
        let wait = LINK_LIFETIME - Duration::from_secs(60);
        assert_eq!(add("acme", 99, soon), Err(LinkError::TooMany(wait)));
        add("globex", 0, soon).expect("its own room");
        add("acme", 99, now + LINK_LIFETIME).expect("the old ones have ended");
        table.forget(&TenantId::new("globex"), Some(&ServerName::new("other")));
        assert!(table.open(soon, "globex0", &"x".into()).is_some());
        table.forget(&TenantId::new("globex"), None);
        assert!(table.open(soon, "globex0", &"x".into()).is_none());
    }
}

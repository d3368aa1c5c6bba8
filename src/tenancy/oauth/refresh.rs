//! Fetches access tokens: on demand, and ahead of need.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::answer::{TokenRefusal, Tokens};
use super::grants::{GrantEvent, Grants, Key};
use super::request::{self, Form};
use super::schedule::{Demand, Step};
use crate::config::OAuth;
use crate::ids::{ServerName, TenantId};

/// Refreshes ahead of need at once. A request that needs a token now does not wait for one of these permits.
static RENEWALS: Semaphore = Semaphore::const_new(16);

impl Grants {
    /// Fetches another access token, unless someone has since `seen`. Not to be dropped.
    pub(super) async fn refresh(&self, key: &Key, oauth: &OAuth, seen: u64) {
        let _guard = self.lock(key).await;
        let wanted = self.with(key, |grant| {
            let is_due = grant.schedule.demand(Instant::now()) == Demand::Refresh;
            (grant.serial == seen && is_due).then(|| grant.kept.refresh.clone())
        });
        if let Some(refresh) = wanted.flatten().flatten() {
            let asked = Instant::now();
            let answered = self.provider.tokens(oauth, Form::refresh(&refresh)).await;
            match answered {
                Ok(tokens) => self.take_refreshed(key, oauth, &tokens, asked).await,
                Err(refusal) => self.take_refusal(key, refusal).await,
            }
        }
        self.with(key, |grant| grant.schedule.set_busy(false));
        self.wake.notify_one();
    }

    async fn take_refreshed(&self, key: &Key, oauth: &OAuth, tokens: &Tokens, asked: Instant) {
        let taken = self.with(key, |grant| {
            let mut kept = grant.kept.clone();
            let must_be_kept = kept.take(tokens, SystemTime::now()) || grant.is_unsaved;
            (kept, must_be_kept)
        });
        let Some((kept, must_be_kept)) = taken else {
            return;
        };
        // On disk before the old one is forgotten. If that cannot be, the new one is still the one
        // that is valid: it is used, and written with the next.
        let mut is_unsaved = false;
        if must_be_kept && let Err(why) = self.keep(key, &kept).await {
            tracing::error!(tenant = %key.0, server = %key.1, "a refresh token could not be kept, and is lost at the next restart: {why}");
            is_unsaved = true;
        }
        let serial = self.next_serial();
        let lifetime = lifetime(tokens, oauth, kept.refresh.is_some());
        let taken = self.with(key, |grant| {
            grant
                .schedule
                .obtained(asked, lifetime, kept.refresh.is_some());
            grant.access = Some(tokens.access.clone());
            grant.kept = kept;
            grant.serial = serial;
            grant.is_unsaved = is_unsaved;
        });
        if taken.is_none() {
            // The tenant was removed meanwhile: what was just written goes too.
            self.forget(key).await;
            return;
        }
        self.tell(key, &GrantEvent::Refreshed);
        self.note_change(key);
    }

    async fn take_refusal(&self, key: &Key, refusal: TokenRefusal) {
        if refusal == TokenRefusal::InvalidGrant {
            self.forget(key).await;
            self.tell(key, &GrantEvent::Ended(refusal.to_string()));
            return;
        }
        let jitter = request::jitter();
        self.with(key, |grant| grant.schedule.failed(Instant::now(), jitter));
        self.tell(key, &GrantEvent::RefreshFailed(refusal.to_string()));
    }

    /// The authorisations whose token has changed since the last time: workers with another one are outdated.
    pub fn take_changed(&self) -> Vec<(TenantId, ServerName)> {
        std::mem::take(&mut *self.changed.lock())
            .into_iter()
            .collect()
    }

    /// Does what is due, and says when something is next. `uses` tells whether a worker has the
    /// tenant's token of a server, `of` how that is refreshed.
    pub async fn look_after(
        self: &Arc<Self>,
        uses: impl Fn(&TenantId, &ServerName) -> bool,
        of: impl Fn(&ServerName) -> Option<Arc<OAuth>>,
    ) -> Option<Instant> {
        let (mut due, mut next) = (Vec::new(), None::<Instant>);
        let now = Instant::now();
        for (tenant, grants) in &mut *self.table.lock() {
            for (server, grant) in grants {
                match grant.schedule.next(now) {
                    Step::Sleep(None) => {}
                    Step::Sleep(Some(at)) => next = Some(next.map_or(at, |next| next.min(at))),
                    step @ (Step::Renew | Step::LetGo | Step::End) => {
                        due.push(((tenant.clone(), server.clone()), step, grant.serial));
                    }
                }
            }
        }
        for (key, step, serial) in due {
            let oauth = of(&key.1).filter(|_| step == Step::Renew && uses(&key.0, &key.1));
            match (step, oauth) {
                (Step::Renew, Some(oauth)) => {
                    self.with(&key, |grant| grant.schedule.set_busy(true));
                    let this = Arc::clone(self);
                    self.tasks.spawn(async move {
                        // The semaphore is never closed.
                        let _permit = RENEWALS.acquire().await;
                        this.refresh(&key, &oauth, serial).await;
                    });
                }
                (Step::End, _) => {
                    let _guard = self.lock(&key).await;
                    if self.is_over(&key) {
                        self.forget(&key).await;
                        let why = "the access token has expired, and there is no refresh token";
                        self.tell(&key, &GrantEvent::Ended(why.to_owned()));
                    }
                }
                _ => self.let_go(&key, serial),
            }
        }
        next
    }

    fn is_over(&self, key: &Key) -> bool {
        let over = self.with(key, |grant| {
            grant.schedule.next(Instant::now()) == Step::End
        });
        over == Some(true)
    }

    /// The token is forgotten; whoever needs one fetches another.
    fn let_go(&self, key: &Key, seen: u64) {
        let serial = self.next_serial();
        let is_gone = self.with(key, |grant| {
            let is_it = grant.serial == seen;
            if is_it {
                grant.schedule.let_go();
                grant.access = None;
                grant.serial = serial;
            }
            is_it
        });
        if is_gone == Some(true) {
            self.note_change(key);
        }
    }
}

/// What is assumed where the provider does not say.
pub(super) fn lifetime(tokens: &Tokens, oauth: &OAuth, can_refresh: bool) -> Option<Duration> {
    let assumed = can_refresh.then_some(oauth.default_lifetime);
    tokens.lifetime.or(assumed)
}

//! Authorisations upstream: what the operator asks of them, and what is told of them.

use std::sync::Arc;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::accounts::{Accounts, Outcome, done, no_tenant};
use super::events::Events;
use super::reload::Reloader;
use crate::admin::{AccountError, EventKind, GrantDetails, LinkDetails, Reply, seconds};
use crate::config::{Config, OAuth};
use crate::ids::{ServerName, TenantId, is_valid_name};
use crate::pool::StopReason;
use crate::telemetry::Metrics;
use crate::telemetry::audit::{Audit, AuditKind, AuditRecord};
use crate::telemetry::labels::RefreshOutcome;
use crate::tenancy::oauth::{GrantEvent, GrantEventSink, Grants, LinkError};

impl Accounts {
    pub(super) fn grants(&self, tenant: Option<&str>) -> Vec<GrantDetails> {
        let details = self.grants.list(tenant).into_iter();
        let details = details.map(|grant| GrantDetails {
            tenant: grant.tenant.to_string(),
            server: grant.server.to_string(),
            subject: grant.subject,
            scope: grant.scope,
            authorised: seconds(grant.authorised),
        });
        details.collect()
    }

    pub(super) fn link_grant(&self, file: &Config, tenant: &str, server: &str) -> Outcome {
        let is_nameless = file.auth.is_open() && is_valid_name(tenant);
        if !is_nameless && !self.has_tenant(file, tenant) {
            return Err(no_tenant(tenant));
        }
        let (name, oauth) = upstream(file, server)?;
        let made = self
            .grants
            .link(&TenantId::new(tenant), &name, &oauth, None);
        let link = made.map_err(|error| match error {
            LinkError::NotKept(_) | LinkError::NoAddress | LinkError::TooMany(_) => {
                AccountError::Unavailable(error.to_string())
            }
            LinkError::NoRandom => AccountError::Failed(error.to_string()),
        })?;
        use secrecy::ExposeSecret;
        Ok(Reply::Link(LinkDetails {
            authorize_url: link.url.expose_secret().to_owned(),
            expires: seconds(link.expires),
        }))
    }

    pub(super) async fn revoke_grant(&self, file: &Config, tenant: &str, server: &str) -> Outcome {
        let (id, name) = (TenantId::new(tenant), ServerName::new(server));
        let oauth = upstream(file, server).ok().map(|(_, oauth)| oauth);
        let revoked = self.grants.revoke(&id, &name, oauth.as_ref()).await;
        match revoked {
            None => Err(AccountError::NotFound(format!(
                "tenant `{tenant}` has not authorised server `{server}` (`stdiopool oauth list` shows what is)"
            ))),
            Some(Ok(())) => done(format!(
                "the authorisation of server {server} by tenant {tenant} is revoked"
            )),
            Some(Err(why)) => done(format!(
                "the authorisation of server {server} by tenant {tenant} is forgotten; the provider was not told: {why}"
            )),
        }
    }
}

/// A server that is authorised upstream.
fn upstream(file: &Config, server: &str) -> Result<(ServerName, Arc<OAuth>), AccountError> {
    let name = file.server_name(server).ok_or_else(|| {
        let why = format!("there is no server `{server}` in pool.toml");
        AccountError::NotFound(why)
    })?;
    let oauth = file.servers.get(&name).and_then(|it| it.oauth.clone());
    let oauth = oauth.ok_or_else(|| {
        let why = format!("`servers.{server}.oauth` is not set: there is nothing to authorise");
        AccountError::Invalid(why)
    })?;
    Ok((name, oauth))
}

/// Counts, writes down and tells what happens to authorisations.
#[derive(Debug)]
pub(super) struct GrantEvents {
    pub(super) audit: Option<Arc<Audit>>,
    pub(super) events: Events,
    pub(super) metrics: Arc<Metrics>,
}

impl GrantEventSink for GrantEvents {
    fn told(&self, tenant: &TenantId, server: &ServerName, event: &GrantEvent) {
        let count = |outcome| self.metrics.server(server).token_refresh(outcome);
        let tell = |kind, message: String| self.events.of_grant(kind, server, tenant, message);
        let write = |method: &str, outcome: &str, subject: Option<String>| {
            if let Some(audit) = &self.audit {
                audit.record(AuditRecord {
                    kind: AuditKind::Act,
                    tenant: Some(tenant.to_string()),
                    server: Some(server.to_string()),
                    method: Some(method.to_owned()),
                    outcome: Some(outcome.to_owned()),
                    subject,
                    ..AuditRecord::default()
                });
            }
        };
        match event {
            GrantEvent::Authorised(subject) => {
                tell(EventKind::OauthAuthorised, "authorised".to_owned());
                write("oauth authorise", "ok", subject.clone());
            }
            GrantEvent::NotAuthorised(why) => {
                tell(EventKind::OauthFailed, format!("not authorised: {why}"));
                write("oauth authorise", "failed", None);
            }
            GrantEvent::Refreshed => count(RefreshOutcome::Refreshed),
            GrantEvent::RefreshFailed(why) => {
                count(RefreshOutcome::Failed);
                tell(EventKind::OauthFailed, format!("no access token: {why}"));
                write("oauth refresh", "failed", None);
            }
            GrantEvent::Ended(why) => {
                count(RefreshOutcome::Ended);
                tell(EventKind::OauthEnded, why.clone());
                write("oauth end", "ok", None);
            }
            // The audit log has it from the request that revoked.
            GrantEvent::Revoked => tell(EventKind::OauthEnded, "revoked".to_owned()),
        }
    }
}

/// Refreshes tokens ahead of need, and retires the workers that have an earlier one, until told to
/// stop.
pub(super) async fn look_after(
    grants: Arc<Grants>,
    reloader: Arc<Reloader>,
    stop: CancellationToken,
) {
    loop {
        for (tenant, server) in grants.take_changed() {
            retire_outdated(&reloader, &tenant, &server);
        }
        let runtime = reloader.gateway.runtime_config();
        let uses = |tenant: &TenantId, server: &ServerName| {
            let connections = reloader.gateway.workers().connections();
            connections.iter().any(|connection| {
                let plan = connection.plan();
                plan.spec.token.is_some()
                    && plan.server == *server
                    && plan.tenant.as_ref() == Some(tenant)
            })
        };
        let of = |server: &ServerName| runtime.config.servers.get(server)?.oauth.clone();
        let next = grants.look_after(uses, of).await;
        tokio::select! {
            () = stop.cancelled() => return,
            () = grants.woken() => {}
            () = until(next) => {}
        }
    }
}

async fn until(next: Option<Instant>) {
    match next {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Workers that were started with another token than the one in force serve what they have in flight
/// and stop; sessions go on.
fn retire_outdated(reloader: &Reloader, tenant: &TenantId, server: &ServerName) {
    let runtime = reloader.gateway.runtime_config();
    let is_outdated = |worker: &crate::pool::WorkerView| {
        worker.tenant == *tenant
            && worker.server == *server
            && reloader
                .gateway
                .workers()
                .connection(worker.id)
                .is_some_and(|connection| {
                    let spec = &connection.plan().spec;
                    !runtime.resolver.has_fresh_token(tenant, server, spec)
                })
    };
    let pool = reloader.gateway.workers().pool();
    let retired = pool.retire_where(is_outdated, StopReason::Config);
    if retired > 0 {
        tracing::info!(%tenant, %server, retired, "workers with an earlier access token are replaced");
    }
}

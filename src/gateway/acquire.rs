//! How a session gets a worker: its route, and a slot there.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::state::Gateway;
use crate::config::Share;
use crate::ids::{PoolKey, WorkerId};
use crate::pool::{AcquireRequest, Claim, Lease};
use crate::protocol::{Failure, Reason};
use crate::routing::{KnownRoots, Room, Route, RouteRequest};
use crate::session::Session;
use crate::telemetry::RequestSpan;
use crate::tenancy::{ClientConfig, of_part};
use crate::upstream::{WorkerLauncher, refused};
use crate::usage::Meter;

impl Gateway {
    /// A worker for the session. One that refuses to be spoken to in the way of its client's era is
    /// replaced by one of the other era, one whose configuration has changed while it started by one of the new, and one
    /// that does not start beside another of its server is started after that, once. One that died before it answered is
    /// followed by another of its plan, and so is one that was primed and did not come to serve.
    pub(crate) async fn lease(
        &self,
        session: &Arc<Session>,
        config: Option<&Arc<ClientConfig>>,
        waited: &mut Duration,
    ) -> Result<(Arc<Route>, Lease<WorkerLauncher>), Failure> {
        self.lease_near(session, config, None, waited).await
    }

    /// A worker for the session as [`Gateway::lease`] finds one: the one that knows something of the request, if that has a free
    /// slot.
    pub(crate) async fn lease_near(
        &self,
        session: &Arc<Session>,
        config: Option<&Arc<ClientConfig>>,
        prefers: Option<WorkerId>,
        waited: &mut Duration,
    ) -> Result<(Arc<Route>, Lease<WorkerLauncher>), Failure> {
        let first = self.route(session, config).await?;
        let failed_before = self.state.workers.failed_primed_starts();
        let mut leased = self.lease_on(session, first.clone(), prefers, waited).await;
        let (program, era) = (first.plan.program, first.era());
        if leased
            .as_ref()
            .is_err_and(|it| it.reason == Reason::StartFailed)
            && (self.state.knowledge.dialects.is_asked_again(program, era)
                || self.state.workers.failed_primed_starts() != failed_before)
        {
            // What died before it answered said nothing. A version whose primed start has failed is not primed any more: the second start is
            // an ordinary one. Where the primed start was another server's, an ordinary start is repeated in vain; once a version.
            leased = self.lease_on(session, first.clone(), prefers, waited).await;
        }
        let refused = match leased {
            Ok(lease) => return Ok((first, lease)),
            Err(failure) if matches!(failure.reason, Reason::StartFailed | Reason::Starting) => {
                failure
            }
            Err(failure) => return Err(failure),
        };
        let second = self.route(session, config).await?;
        let follows_now = second.facts.one_of_siblings && !first.facts.one_of_siblings;
        if second.key == first.key && !follows_now {
            return Err(refused);
        }
        match self.lease_on(session, second.clone(), None, waited).await {
            Ok(lease) => Ok((second, lease)),
            // Of two eras in vain, the one that nearly every server speaks says more.
            Err(_) if first.era().says_more_than(second.era()) => Err(refused),
            Err(failure) => Err(failure),
        }
    }

    async fn lease_on(
        &self,
        session: &Arc<Session>,
        route: Arc<Route>,
        prefers: Option<WorkerId>,
        waited: &mut Duration,
    ) -> Result<Lease<WorkerLauncher>, Failure> {
        if let Some(slot) = self.missing(&route) {
            let since = Instant::now();
            let installed = self.installed(&slot).await;
            *waited += since.elapsed();
            installed?;
        }
        let (key, facts) = match route.share {
            // A process of its own for every request: so is its key.
            Share::Request => (one_off(route.key), Arc::clone(&route.facts)),
            Share::Tenant | Share::Session => (route.key, Arc::clone(&route.facts)),
        };
        let request = AcquireRequest {
            key,
            facts,
            claim: Claim {
                owner: if session.is_stateless() {
                    next_owner()
                } else {
                    session.no.0
                },
                session: session.no.0,
                prefers,
            },
            spec: Arc::clone(&route.plan),
        };
        let (lease, took) = self.state.pool().acquire(request).await;
        *waited += took;
        if !took.is_zero() {
            let principal = &session.principal;
            let server = &route.plan.server;
            let usage = &self.state.usage;
            Meter::new(usage, &principal.tenant, principal.user(), server).waited(took);
            // Of one that is refused a worker, too.
            RequestSpan::with_current(|request| request.progress().waited(*waited));
        }
        lease.map_err(|refusal| {
            let failure = refused(&refusal);
            match failure.reason {
                Reason::Starting => self.with_what_it_says(key, failure),
                _ => failure,
            }
        })
    }

    /// Adds to the failure of a start that goes on what its process has said so far.
    fn with_what_it_says(&self, key: PoolKey, mut failure: Failure) -> Failure {
        let connections = self.state.connections();
        let starting = connections
            .iter()
            .find(|connection| connection.is_starting_for(key));
        if let Some(connection) = starting {
            let waited = self.state.pool().limits().queue_timeout;
            failure.message = format!(
                "server `{}` has not answered `{}` for {}; {} (raise `pool.queue_timeout` if it needs longer)",
                connection.plan().server,
                connection.plan().first_question(),
                humantime::format_duration(waited),
                connection.stderr_so_far()
            );
        }
        failure
    }

    /// The route of a session's requests under the pool.toml in force: of those that set nothing
    /// themselves, or of those that set `config`.
    pub(crate) async fn route(
        &self,
        session: &Arc<Session>,
        config: Option<&Arc<ClientConfig>>,
    ) -> Result<Arc<Route>, Failure> {
        let runtime = self.state.runtime_config();
        let fingerprint = config.map(|config| config.fingerprint());
        let known = match &fingerprint {
            None => session.routes.own(),
            Some(fingerprint) => session.routes.other(fingerprint),
        };
        if let Some(route) = known
            && route.generation == runtime.generation
            && route.edition == self.state.knowledge.edition()
            && !route.is_reconsidered()
            && route.has_fresh_token(&runtime, session.tenant(), &session.server)
        {
            return Ok(route);
        }
        let config = config.or(session.config.as_ref());
        let make = || self.state.sessions.end_oldest_caller(session.tenant());
        let room = Room {
            ledger: &self.state.ledger,
            make: &make,
        };
        let metrics = &self.state.metrics;
        // Boxed, because it is rare, and what every request has room for is to be small.
        let session_fingerprint = session.id.fingerprint();
        let known_roots = session.roots().map(|roots| move || roots.known());
        let request = RouteRequest {
            principal: &session.principal,
            server: &session.server,
            session_id: session.id.as_str(),
            session_fingerprint: &session_fingerprint,
            client: &session.client,
            is_stateless: session.is_stateless(),
            known_roots: known_roots.as_ref().map(|known| known as KnownRoots<'_>),
            config,
        };
        let knowledge = &self.state.knowledge;
        let found = Box::pin(Route::find(&runtime, &request, knowledge, metrics, room)).await;
        // Where all servers are offered as one, configs are given by server.
        let told = |failure| match session.alias() {
            Some(_) => of_part(failure, &session.server),
            None => failure,
        };
        let route = Arc::new(found.map_err(told)?);
        match fingerprint {
            None => session.routes.set_own(Arc::clone(&route)),
            Some(fingerprint) => {
                let forgotten = session.routes.set_other(fingerprint, Arc::clone(&route));
                if let Some(old) = forgotten.filter(|old| old.key != route.key) {
                    self.state.sessions.leave_behind(&old);
                }
            }
        }
        let keys = session.routes.all().iter().map(|route| route.key).collect();
        self.state.sessions.directory.set_keys(session.no, keys);
        Ok(route)
    }
}

/// A key that no other request has.
fn one_off(key: PoolKey) -> PoolKey {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    crate::tenancy::derived_key(key, number)
}

/// Owners of leases on workers that serve one call at a time. Sessions count from the other end.
fn next_owner() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1 << 63);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

//! A session's way to a worker: its route, and a slot there.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::callers;
use super::launchpad::Launchpad;
use super::record::Session;
use super::route::{Order, Room, Route};
use super::service::Sessions;
use crate::bridge::Era;
use crate::config::Share;
use crate::ids::{PoolKey, WorkerId};
use crate::pool::{Claim, Lease, Want};
use crate::protocol::{Failure, Reason};
use crate::tenancy::{ClientConfig, of_part};

impl Sessions {
    /// A worker for the session. One that refuses to be spoken to in the way of its client's era is
    /// replaced by one of the other era, one whose configuration has changed while it started by one of the new, and one
    /// that does not start beside another of its server is started after that, once. One that died before it answered is
    /// followed by another of the same.
    pub(super) async fn lease(
        &self,
        session: &Arc<Session>,
        config: Option<&Arc<ClientConfig>>,
        waited: &mut Duration,
    ) -> Result<(Arc<Route>, Lease<Launchpad>), Failure> {
        self.lease_near(session, config, None, waited).await
    }

    /// The same, of the worker that knows something of the request if that has a free slot.
    pub(super) async fn lease_near(
        &self,
        session: &Arc<Session>,
        config: Option<&Arc<ClientConfig>>,
        prefers: Option<WorkerId>,
        waited: &mut Duration,
    ) -> Result<(Arc<Route>, Lease<Launchpad>), Failure> {
        let first = self.route(session, config).await?;
        let mut leased = self.lease_on(session, first.clone(), prefers, waited).await;
        let (program, era) = (first.order.program, first.era());
        if leased
            .as_ref()
            .is_err_and(|it| it.reason == Reason::StartFailed)
            && self.shared.eras.is_asked_again(program, era)
        {
            // What died before it answered said nothing.
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
        let is_other_era = second.era() != first.era();
        match self.lease_on(session, second.clone(), None, waited).await {
            Ok(lease) => Ok((second, lease)),
            // Of two eras in vain, the one that nearly every server speaks says more.
            Err(_) if is_other_era && first.era() == Era::Initialize => Err(refused),
            Err(failure) => Err(failure),
        }
    }

    async fn lease_on(
        &self,
        session: &Arc<Session>,
        route: Arc<Route>,
        prefers: Option<WorkerId>,
        waited: &mut Duration,
    ) -> Result<Lease<Launchpad>, Failure> {
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
        let want = Want {
            key,
            facts,
            claim: Claim {
                owner: if session.is_stateless {
                    callers::next_owner()
                } else {
                    session.no.0
                },
                session: session.no.0,
                prefers,
            },
            spec: Arc::clone(&route.order),
        };
        let (lease, took) = self.shared.pool().acquire(want).await;
        *waited += took;
        lease.map_err(|failure| match failure.reason {
            Reason::Starting => self.with_what_it_says(key, failure),
            _ => failure,
        })
    }

    /// Adds to the failure of a start that goes on what its process has said so far.
    fn with_what_it_says(&self, key: PoolKey, mut failure: Failure) -> Failure {
        let links = self.links();
        let starting = links.iter().find(|link| link.is_starting_for(key));
        if let Some(link) = starting {
            let waited = self.shared.pool().limits().queue_timeout;
            failure.message = format!(
                "server `{}` has not answered `{}` for {}; {} (raise `pool.queue_timeout` if it needs longer)",
                link.order().server,
                link.order().first_question(),
                humantime::format_duration(waited),
                link.stderr_so_far()
            );
        }
        failure
    }

    /// Has the ways that are `meant`, by their pool key and what would be started, worked out again
    /// with the next request that goes them, those of callers without sessions included.
    pub fn reconsider_routes(&self, is_meant: impl Fn(PoolKey, &Order) -> bool) {
        for session in self.all().into_iter().chain(self.shared.callers.all()) {
            for route in session.routes() {
                if is_meant(route.key, &route.order) {
                    route.reconsider();
                }
            }
        }
    }

    /// The way of a session's requests under the pool.toml in force: of those that set nothing
    /// themselves, or of those that set `config`.
    pub(super) async fn route(
        &self,
        session: &Arc<Session>,
        config: Option<&Arc<ClientConfig>>,
    ) -> Result<Arc<Route>, Failure> {
        let setup = self.shared.setup();
        let fingerprint = config.map(|config| config.fingerprint());
        let known = match &fingerprint {
            None => session.route(),
            Some(fingerprint) => session.other_route(fingerprint),
        };
        if let Some(route) = known
            && route.generation == setup.generation
            && route.edition == self.shared.edition()
            && !route.is_reconsidered()
            && route.has_fresh_token(&setup, session)
        {
            return Ok(route);
        }
        let config = config.or(session.config.as_ref());
        let known = (&self.shared.eras, &self.shared.roots, &self.shared.alone);
        let make = || self.shared.end_oldest_caller(session.tenant());
        let room = Room {
            ledger: &self.shared.ledger,
            make: &make,
        };
        let accounts = (&*self.shared.metrics, room);
        // Boxed, because it is rare, and what every request has room for is to be small.
        let found = Box::pin(Route::find(&setup, session, config, known, accounts)).await;
        // Where all servers are offered as one, configs are given by server.
        let told = |failure| match session.alias() {
            Some(_) => of_part(failure, &session.server),
            None => failure,
        };
        let route = Arc::new(found.map_err(told)?);
        match fingerprint {
            None => session.set_route(Arc::clone(&route)),
            Some(fingerprint) => {
                let forgotten = session.set_other_route(fingerprint, Arc::clone(&route));
                if let Some(old) = forgotten.filter(|old| old.key != route.key) {
                    self.shared.leave_behind(&old);
                }
            }
        }
        let keys = session.routes().iter().map(|route| route.key).collect();
        self.shared.directory.set_keys(session.no, keys);
        Ok(route)
    }
}

/// A key that no other request has.
fn one_off(key: PoolKey) -> PoolKey {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    crate::tenancy::derived_key(key, number)
}

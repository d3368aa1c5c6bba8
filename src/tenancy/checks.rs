//! Checks of callers' configs against their schemas, off the threads that serve requests.
//!
//! What such a check costs is up to the caller's values and the operator's schema together: patterns
//! backtrack, `uniqueItems` compares everything with everything, and a schema that refers to itself can
//! be made to look at its branches again and again. A few run at a time, fewer of one tenant, and
//! whoever waits for one does so for a bounded time. A check cannot be ended: one that goes on keeps its
//! place, so that its tenant has one less.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::sync::{Semaphore, oneshot};

use crate::ids::TenantId;
use crate::protocol::{Failure, Reason};

/// Checks that run at once.
const AT_ONCE: usize = 4;
/// Checks of one tenant that run at once.
const OF_TENANT: usize = 2;
/// How long a check waits for a place among those that run at once.
const MAX_WAIT: Duration = Duration::from_secs(10);
/// How long whoever needs a check waits for it once it runs.
const MAX_TIME: Duration = Duration::from_secs(2);
/// With how many tenants in the table those without a check are looked for.
const LOOK_AT: usize = 64;

/// Where checks run.
#[derive(Debug)]
pub(super) struct Checks {
    all: Arc<Semaphore>,
    tenants: Mutex<FxHashMap<TenantId, Arc<Semaphore>>>,
    max_wait: Duration,
    max_time: Duration,
}

impl Default for Checks {
    fn default() -> Self {
        Self {
            all: Arc::new(Semaphore::new(AT_ONCE)),
            tenants: Mutex::default(),
            max_wait: MAX_WAIT,
            max_time: MAX_TIME,
        }
    }
}

impl Checks {
    /// Runs a check of a tenant's values.
    ///
    /// # Errors
    /// [`Reason::TenantLimit`] when no place was free in time, [`Reason::ConfigInvalid`] when it takes too
    /// long.
    ///
    /// # Cancel-Safety
    /// A dropped call lets a check that has begun go on, in its place.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        tenant: &TenantId,
        check: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let of_tenant = self.of_tenant(tenant);
        let permits = async {
            // The tenant's first: what it has too many of waits there, and not among others.
            let own = of_tenant.acquire_owned().await;
            let permit = Arc::clone(&self.all).acquire_owned().await;
            own.and_then(|own| Ok((own, permit?)))
        };
        let permits = match tokio::time::timeout(self.max_wait, permits).await {
            Ok(permits) => {
                permits.map_err(|error| Failure::new(Reason::Internal, error.to_string()))?
            }
            Err(_elapsed) => {
                let why = format!(
                    "the config was not checked within {}: {OF_TENANT} of a tenant's are checked at once",
                    humantime::format_duration(self.max_wait)
                );
                let failure = Failure::new(Reason::TenantLimit, why);
                return Err(failure.retry_after(Duration::from_secs(1)));
            }
        };
        let (tell, told) = oneshot::channel();
        // No task of the runtime: that would wait for it at the end of the process, for ever perhaps.
        let thread = std::thread::Builder::new().name("config check".to_owned());
        let spawned = thread.spawn(move || {
            let result = check();
            drop(permits);
            // Whoever wanted it may not wait any more.
            let _given_up = tell.send(result);
        });
        spawned.map_err(|error| {
            Failure::new(Reason::Internal, format!("no thread for a check: {error}"))
        })?;
        match tokio::time::timeout(self.max_time, told).await {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(_panicked)) => Err(Failure::new(Reason::Internal, "the check did not end")),
            Err(_elapsed) => {
                let why = format!(
                    "the config could not be checked within {}: its values make the server's schema too expensive",
                    humantime::format_duration(self.max_time)
                );
                Err(Failure::new(Reason::ConfigInvalid, why))
            }
        }
    }

    fn of_tenant(&self, tenant: &TenantId) -> Arc<Semaphore> {
        let mut tenants = self.tenants.lock();
        if tenants.len() >= LOOK_AT {
            // One that has a check or waits for one is held elsewhere too, or has fewer places.
            tenants.retain(|_, permits| {
                Arc::strong_count(permits) > 1 || permits.available_permits() < OF_TENANT
            });
        }
        let permits = tenants
            .entry(tenant.clone())
            .or_insert_with(|| Arc::new(Semaphore::new(OF_TENANT)));
        Arc::clone(permits)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn checks() -> Checks {
        Checks {
            max_wait: Duration::from_millis(100),
            max_time: Duration::from_millis(100),
            ..Checks::default()
        }
    }

    #[tokio::test]
    async fn checks_that_go_on_cost_their_tenant_places_and_nobody_else() {
        let (checks, acme, globex) = (checks(), TenantId::new("acme"), TenantId::new("globex"));
        let mut ends = vec![];
        for _ in 0..OF_TENANT {
            let (end, ended) = mpsc::channel::<()>();
            ends.push(end);
            let endless = checks.run(&acme, move || ended.recv());
            let refused = endless.await.expect_err("it takes too long");
            assert_eq!(refused.reason, Reason::ConfigInvalid);
        }
        let refused = checks.run(&acme, || 1).await.expect_err("no permit left");
        assert_eq!(refused.reason, Reason::TenantLimit);
        assert!(refused.retry_after.is_some());
        assert_eq!(checks.run(&globex, || 2).await.expect("its own permits"), 2);
        drop(ends);
        let mut patient = checks;
        patient.max_wait = Duration::from_secs(10);
        assert_eq!(patient.run(&acme, || 3).await.expect("they have ended"), 3);
    }

    #[tokio::test]
    async fn tenants_without_checks_are_forgotten() {
        let checks = checks();
        for n in 0..4 * LOOK_AT {
            let tenant = TenantId::new(n.to_string());
            checks.run(&tenant, || ()).await.expect("a permit");
        }
        assert!(checks.tenants.lock().len() <= 2 * LOOK_AT);
    }
}

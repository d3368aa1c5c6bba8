//! The runtime with a launcher that starts nothing, on paused time.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    AcquireRequest, ExitCause, KeyFacts, Launcher, Lease, NoObserver, Observer, Pool, PoolLimits,
    Refusal, StartFailure, Stop, StopReason,
};
use crate::ids::{PoolKey, ServerName, TenantId, WorkerId};

#[derive(Debug, Default)]
struct Fake {
    started: Mutex<Vec<WorkerId>>,
    adopted: Mutex<Vec<WorkerId>>,
    stopped: Mutex<Vec<(WorkerId, StopReason)>>,
}

impl Launcher for Fake {
    type Spec = ();
    type Worker = WorkerId;

    fn start(&self, id: WorkerId, _: PoolKey, _: Arc<()>) {
        self.started.lock().push(id);
    }

    fn adopt(&self, id: WorkerId, _: PoolKey, _: Arc<()>) {
        self.adopted.lock().push(id);
    }

    fn hibernate(&self, _: WorkerId) {}

    fn wake(&self, _: WorkerId) {}

    fn stop(&self, id: WorkerId, stop: Stop) {
        self.stopped.lock().push((id, stop.reason));
    }
}

fn pool(limits: PoolLimits) -> (Pool<Fake>, Arc<Fake>) {
    let fake = Arc::new(Fake::default());
    (
        Pool::new(limits, Arc::clone(&fake), Arc::new(NoObserver)),
        fake,
    )
}

fn want(n: u8) -> AcquireRequest<()> {
    let facts = KeyFacts {
        tenant_max_workers: 8,
        idle_timeout: Duration::from_secs(60),
        max_lifetime: Duration::from_secs(3600),
        ..KeyFacts::neutral(TenantId::new("t"), ServerName::new("s"))
    };
    AcquireRequest {
        key: PoolKey([n; 16]),
        facts: Arc::new(facts),
        claim: 0.into(),
        spec: Arc::new(()),
    }
}

async fn acquire(pool: &Pool<Fake>, want: AcquireRequest<()>) -> Result<Lease<Fake>, Refusal> {
    pool.acquire(want).await.0
}

/// A lease on a worker that was just started.
async fn first(pool: &Pool<Fake>) -> Lease<Fake> {
    let waiting = acquire(pool, want(1));
    tokio::pin!(waiting);
    assert!(waiting.as_mut().now_or_never().is_none());
    pool.ready(WorkerId(1), WorkerId(1));
    waiting.await.expect("granted")
}

#[tokio::test(start_paused = true)]
async fn a_want_starts_a_worker_and_gets_it() {
    let (pool, fake) = pool(PoolLimits::default());
    let lease = first(&pool).await;
    assert_eq!((lease.id(), *lease.worker()), (WorkerId(1), WorkerId(1)));
    assert_eq!(*fake.started.lock(), [WorkerId(1)]);
    lease.served();
    let again = acquire(&pool, want(1))
        .now_or_never()
        .expect("without waiting");
    assert_eq!(again.expect("granted").id(), WorkerId(1));
}

#[derive(Debug, Default)]
struct Waits(Mutex<Vec<Duration>>);

impl Observer for Waits {
    fn waited(&self, wait: Duration) {
        self.0.lock().push(wait);
    }
}

#[tokio::test(start_paused = true)]
async fn only_waits_are_observed() {
    let waits = Arc::new(Waits::default());
    let observer = Arc::clone(&waits);
    let pool = Pool::new(PoolLimits::default(), Arc::new(Fake::default()), observer);
    drop(first(&pool).await);
    assert_eq!(waits.0.lock().len(), 1, "for the start");
    drop(acquire(&pool, want(1)).await.expect("free"));
    assert_eq!(waits.0.lock().len(), 1, "it was free");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_want_leaves_the_queue() {
    let (pool, _fake) = pool(PoolLimits::default());
    let lease = first(&pool).await;
    let mut waiting = Box::pin(acquire(&pool, want(1)));
    assert!(waiting.as_mut().now_or_never().is_none());
    assert_eq!(pool.queue_depth(), 1);
    drop(waiting);
    assert_eq!(pool.queue_depth(), 0);
    drop(lease);
    assert!(
        acquire(&pool, want(1))
            .now_or_never()
            .expect("free")
            .is_ok()
    );
}

#[tokio::test(start_paused = true)]
async fn a_want_dropped_with_its_grant_unseen_gives_the_slot_back() {
    let (pool, _fake) = pool(PoolLimits::default());
    let lease = first(&pool).await;
    let mut waiting = Box::pin(acquire(&pool, want(1)));
    assert!(waiting.as_mut().now_or_never().is_none());
    drop(lease);
    // Granted by now; nobody has looked.
    assert_eq!(pool.snapshot().workers[0].in_flight, 1);
    drop(waiting);
    assert_eq!(pool.snapshot().workers[0].in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn a_failed_start_is_told_to_whoever_waits() {
    let (pool, _fake) = pool(PoolLimits::default());
    let mut waiting = Box::pin(acquire(&pool, want(1)));
    assert!(waiting.as_mut().now_or_never().is_none());
    pool.start_failed(WorkerId(1), StartFailure::Failed("no luck".into()));
    pool.exited(WorkerId(1), ExitCause::StartFailed);
    let failure = StartFailure::Failed("no luck".into());
    let retry_in = None;
    let refused = waiting.await.expect_err("refused");
    assert_eq!(refused, Refusal::StartFailed { failure, retry_in });
}

#[tokio::test(start_paused = true)]
async fn time_passes_for_the_policy() {
    let (pool, fake) = pool(PoolLimits::default());
    let since = Instant::now();
    let lease = first(&pool).await;
    let refused = acquire(&pool, want(1)).await.expect_err("at its deadline");
    assert!(matches!(refused, Refusal::KeyBusy { .. }), "{refused:?}");
    assert_eq!(since.elapsed().as_secs(), 30);
    drop(lease);
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_eq!(*fake.stopped.lock(), [(WorkerId(1), StopReason::Idle)]);
}

#[tokio::test(start_paused = true)]
async fn stop_all_waits_until_everything_is_gone() {
    let (pool, fake) = pool(PoolLimits::default());
    let lease = first(&pool).await;
    let mut stopping = Box::pin(pool.stop_all(StopReason::Drained));
    assert!(stopping.as_mut().now_or_never().is_none());
    assert_eq!(*fake.stopped.lock(), [(WorkerId(1), StopReason::Drained)]);
    pool.exited(WorkerId(1), ExitCause::Requested);
    stopping.await;
    // A lease on what is gone is harmless.
    drop(lease);
    assert!(pool.snapshot().workers.is_empty());
}

#[tokio::test(start_paused = true)]
async fn quiet_is_when_nothing_is_in_flight_and_nobody_waits() {
    let (pool, _fake) = pool(PoolLimits::default());
    pool.quiet().await;
    let lease = first(&pool).await;
    let mut quiet = Box::pin(pool.quiet());
    assert!(quiet.as_mut().now_or_never().is_none());
    drop(lease);
    quiet.await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_whose_slot_was_invalidated_serves_nobody_else() {
    let (pool, fake) = pool(PoolLimits::default());
    let lease = first(&pool).await;
    lease.give_up();
    assert_eq!(
        *fake.stopped.lock(),
        [(WorkerId(1), StopReason::Unanswered)]
    );
    let mut waiting = Box::pin(acquire(&pool, want(1)));
    assert!(waiting.as_mut().now_or_never().is_none());
    assert_eq!(fake.started.lock().len(), 1, "it has not ended");
    pool.exited(WorkerId(1), ExitCause::Requested);
    assert_eq!(fake.started.lock().len(), 2);
}

/// The timer task holds no handle: when the last one goes, it ends.
#[tokio::test(start_paused = true)]
async fn a_pool_that_nobody_has_is_gone() {
    let (pool, fake) = pool(PoolLimits::default());
    drop(pool);
    tokio::time::sleep(Duration::from_secs(7200)).await;
    assert_eq!(Arc::strong_count(&fake), 1);
}

#[tokio::test(start_paused = true)]
async fn a_spare_becomes_the_worker_that_someone_wants() {
    let (pool, fake) = pool(PoolLimits::default());
    let mut spare = want(9);
    let facts = KeyFacts {
        tenant: TenantId::new(""),
        tenant_max_workers: usize::MAX,
        is_spare: true,
        ..(*spare.facts).clone()
    };
    spare.facts = Arc::new(facts);
    let (spare_key, id) = (spare.key, WorkerId(1));
    pool.stock(vec![spare]);
    assert_eq!(*fake.started.lock(), [id], "before anyone asks");
    pool.ready(id, id);

    let mut wanted = want(1);
    let facts = KeyFacts {
        spare: Some(spare_key),
        ..(*wanted.facts).clone()
    };
    wanted.facts = Arc::new(facts);
    let mut waiting = std::pin::pin!(acquire(&pool, wanted));
    assert!(
        waiting.as_mut().now_or_never().is_none(),
        "no handshake yet"
    );
    assert_eq!(*fake.adopted.lock(), [id]);
    assert_eq!(*fake.started.lock(), [id, WorkerId(2)], "and its successor");
    pool.ready(id, id);
    let lease = waiting.await.expect("granted");
    assert_eq!(*lease.worker(), id);
}

/// A launcher to which something happens while a start is carried out, before there is anything to stop.
#[derive(Default)]
struct Slow {
    meanwhile: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    running: Mutex<Vec<WorkerId>>,
}

impl Launcher for Slow {
    type Spec = ();
    type Worker = WorkerId;

    fn start(&self, id: WorkerId, _: PoolKey, _: Arc<()>) {
        let meanwhile = self.meanwhile.lock().take();
        if let Some(meanwhile) = meanwhile {
            meanwhile();
        }
        self.running.lock().push(id);
    }

    fn adopt(&self, _: WorkerId, _: PoolKey, _: Arc<()>) {}

    fn hibernate(&self, _: WorkerId) {}

    fn wake(&self, _: WorkerId) {}

    fn stop(&self, id: WorkerId, _: Stop) {
        self.running.lock().retain(|running| *running != id);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_overtakes_its_start_is_not_lost() {
    let slow = Arc::new(Slow::default());
    let pool = Pool::new(
        PoolLimits::default(),
        Arc::clone(&slow),
        Arc::new(NoObserver),
    );
    let draining = pool.clone();
    *slow.meanwhile.lock() = Some(Box::new(move || draining.drain()));
    let refused = pool.acquire(want(1)).await.0;
    assert!(matches!(refused, Err(Refusal::Draining)));
    assert_eq!(*slow.running.lock(), []);
}

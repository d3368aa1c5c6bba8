//! Drives the policy: one small lock around it, a timer task, and a launcher.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::launcher::{AcquireRequest, ExitCause, Launcher, Observer, Stop};
use super::lease::Lease;
use super::policy::{
    Action, CircuitChange, Event, NotHibernated, Phase, Policy, PoolLimits, Refusal, StartFailure,
    Stock, StopReason, TicketId, Warmth,
};
use super::snapshot::{Snapshot, WorkerView};
use crate::ids::{PoolKey, ServerName, TenantId, WorkerId};

/// The pool of workers. Cheap to clone.
pub struct Pool<L: Launcher> {
    inner: Arc<Inner<L>>,
}

impl<L: Launcher> Clone for Pool<L> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

pub(super) struct Inner<L: Launcher> {
    core: Mutex<Core<L>>,
    launcher: Arc<L>,
    observer: Arc<dyn Observer>,
    next_ticket: AtomicU64,
    /// The timer task must look at the next deadline again.
    timer: Notify,
    /// Something has ended: those who wait for rest look again.
    changed: Notify,
}

/// Where a ticket's answer goes.
type Answer<L> = oneshot::Sender<Result<Lease<L>, Refusal>>;

struct Core<L: Launcher> {
    policy: Policy,
    /// The ticket of the request that is being decided, which nobody waits for yet: most are answered
    /// with the decision.
    asking: Option<TicketId>,
    /// The session of the request that is being decided.
    asking_session: u64,
    /// The answer to the request.
    answer: Option<Result<Lease<L>, Refusal>>,
    /// With the session that each is for.
    waiting: FxHashMap<TicketId, (u64, Answer<L>)>,
    handles: FxHashMap<WorkerId, L::Worker>,
    specs: FxHashMap<PoolKey, Arc<L::Spec>>,
    /// What spares are started as.
    spare_specs: FxHashMap<PoolKey, Arc<L::Spec>>,
    starts: FxHashMap<WorkerId, (ServerName, Instant)>,
    /// What the timer task sleeps towards.
    timer_at: Option<std::time::Instant>,
    scratch: Vec<Action>,
}

/// The outcome of a request for a slot.
enum Admission<L: Launcher> {
    AtOnce(Result<Lease<L>, Refusal>),
    Later(oneshot::Receiver<Result<Lease<L>, Refusal>>),
}

/// An effect that is carried out once the lock is released. The policy counts a slot as taken and a worker
/// as starting or stopping from the moment it says so, under the lock; so it does not matter in
/// which order two threads get to carry out what it told them.
enum Effect<L: Launcher> {
    Start(WorkerId, PoolKey, Arc<L::Spec>),
    Adopt(WorkerId, PoolKey, Arc<L::Spec>),
    Stop(WorkerId, Stop, Option<ServerName>),
    Hibernate(WorkerId),
    Wake(WorkerId),
    Grant(oneshot::Sender<Result<Lease<L>, Refusal>>, Lease<L>),
    Refuse(oneshot::Sender<Result<Lease<L>, Refusal>>, Refusal),
    Gone(ServerName, Option<StopReason>),
    Circuit(Box<CircuitChange>),
}

impl<L: Launcher> Pool<L> {
    /// An empty pool. Must be called within a tokio runtime, on which its timer task runs until
    /// the last handle of the pool is dropped.
    pub fn new(limits: PoolLimits, launcher: Arc<L>, observer: Arc<dyn Observer>) -> Self {
        let mut seed = [0; 8];
        // Only the jitter of back-offs depends on it: without randomness they are merely in step.
        let _fixed_without = getrandom::fill(&mut seed);
        let inner = Arc::new(Inner {
            core: Mutex::new(Core {
                policy: Policy::new(limits, u64::from_le_bytes(seed)),
                asking: None,
                asking_session: 0,
                answer: None,
                waiting: FxHashMap::default(),
                handles: FxHashMap::default(),
                specs: FxHashMap::default(),
                spare_specs: FxHashMap::default(),
                starts: FxHashMap::default(),
                timer_at: None,
                scratch: Vec::new(),
            }),
            launcher,
            observer,
            next_ticket: AtomicU64::new(0),
            timer: Notify::new(),
            changed: Notify::new(),
        });
        tokio::spawn(keep_time(Arc::downgrade(&inner)));
        Self { inner }
    }

    /// Gets a slot on a worker of the wanted key, without waiting if one is free. Says how long it was
    /// waited for, granted or not.
    ///
    /// # Errors
    /// Why there is none: limits, a full queue, a deadline, a start that failed, a shutdown.
    ///
    /// # Cancel-Safety
    /// A dropped call gives back its place in the queue, or the slot if it was granted meanwhile.
    pub async fn acquire(
        &self,
        request: AcquireRequest<L::Spec>,
    ) -> (Result<Lease<L>, Refusal>, Duration) {
        let ticket = TicketId(self.inner.next_ticket.fetch_add(1, Ordering::Relaxed));
        let mut answer = match self.inner.request(ticket, request) {
            Admission::AtOnce(answer) => return (answer, Duration::ZERO),
            Admission::Later(answer) => answer,
        };
        let since = Instant::now();
        let mut withdrawal = Withdrawal {
            pool: &self.inner,
            ticket: Some(ticket),
        };
        let answered = (&mut answer).await;
        withdrawal.ticket = None;
        let took = since.elapsed();
        self.inner.observer.waited(took);
        let answered = answered.unwrap_or(Err(Refusal::Dropped));
        (answered, took)
    }

    /// A started worker can serve.
    pub fn ready(&self, id: WorkerId, worker: L::Worker) {
        let start = {
            let mut core = self.inner.core.lock();
            core.handles.insert(id, worker);
            core.starts.remove(&id)
        };
        self.inner.on(Event::Ready(id));
        if let Some((server, since)) = start {
            self.inner.observer.started(&server, true, since.elapsed());
        }
    }

    /// A worker that is being started waits for something else than the CPU.
    pub fn waits(&self, id: WorkerId) {
        self.inner.on(Event::Waits(id));
    }

    /// A started worker will never serve; `failure` is what those who wait for it are told.
    pub fn start_failed(&self, id: WorkerId, failure: StartFailure) {
        let start = self.inner.core.lock().starts.remove(&id);
        self.inner.on(Event::StartFailed(id, failure));
        if let Some((server, since)) = start {
            self.inner.observer.started(&server, false, since.elapsed());
        }
    }

    /// A started worker cannot be spoken to in the way of its key, which is nobody's fault.
    pub fn declined(&self, id: WorkerId, failure: StartFailure) {
        self.inner.core.lock().starts.remove(&id);
        self.inner.on(Event::Declined(id, failure));
    }

    /// The last process of a worker is gone.
    pub fn exited(&self, id: WorkerId, cause: ExitCause) {
        let asked = cause == ExitCause::Requested;
        self.inner.on(Event::Exited { worker: id, asked });
    }

    /// Keeps a worker from being evicted or stopped for being idle. Counted.
    pub fn pin(&self, id: WorkerId) {
        self.inner.on(Event::Pin(id));
    }

    /// Takes one pin back.
    pub fn unpin(&self, id: WorkerId) {
        self.inner.on(Event::Unpin(id));
    }

    /// A worker holds so many bytes of memory.
    pub fn measured(&self, id: WorkerId, bytes: u64) {
        self.inner.on(Event::Measured(id, bytes));
    }

    /// What workers are forked from holds so many bytes, beside all workers.
    pub fn reserve(&self, bytes: u64) {
        self.inner.on(Event::Reserved(bytes));
    }

    /// Whether memory has room for one more worker of the server, without anything being shed for it.
    pub fn has_room_for(&self, server: &ServerName) -> bool {
        self.inner.core.lock().policy.has_room_for(server)
    }

    /// A page-out has ended: so many bytes are still held, or it could not be done.
    pub fn hibernated(&self, id: WorkerId, bytes: Option<u64>) {
        self.inner.on(Event::Hibernated(id, bytes));
    }

    /// A worker that was told to hibernate said something unasked.
    pub fn spontaneous_wake(&self, id: WorkerId) {
        self.inner.on(Event::SpontaneousWake(id));
    }

    /// Pages a worker out now, which frees its memory until it is needed.
    ///
    /// # Errors
    /// Why that cannot be: a worker that serves or starts is left alone.
    pub fn hibernate(&self, id: WorkerId) -> Result<(), NotHibernated> {
        let effects = {
            // Asked and told under one lock, so that no request comes between.
            let mut core = self.inner.core.lock();
            core.policy.may_hibernate(id)?;
            self.inner.step(&mut core, Event::Hibernate(id))
        };
        self.inner.carry_out(effects);
        Ok(())
    }

    /// The host runs out of memory: idle workers shed so many bytes.
    pub fn pressure(&self, bytes: u64) {
        self.inner.on(Event::Pressure(bytes));
    }

    /// Gives the worker no new requests and stops it when it has none in flight. Says whether
    /// there is such a worker.
    pub fn retire(&self, id: WorkerId, reason: StopReason) -> bool {
        let is_known = self.inner.core.lock().policy.worker(id).is_some();
        self.inner.on(Event::Retire(id, reason));
        is_known
    }

    /// Gives every worker of a key no new requests, and stops each when it has none in flight.
    pub fn retire_key(&self, key: PoolKey, reason: StopReason) {
        self.inner.on(Event::RetireKey(key, reason));
    }

    /// Gives every worker that `is_meant` no new requests, and stops each when it has none in flight; returns how many.
    pub fn retire_where(
        &self,
        is_meant: impl Fn(&WorkerView) -> bool,
        reason: StopReason,
    ) -> usize {
        let meant = self
            .snapshot()
            .workers
            .into_iter()
            .filter(|worker| is_meant(worker));
        meant
            .map(|worker| self.inner.on(Event::Retire(worker.id, reason)))
            .count()
    }

    /// Keeps so many spares ready as each of these requests' facts allow workers, and none of others.
    pub fn stock(&self, spares: Vec<AcquireRequest<L::Spec>>) {
        let stock = |request: &AcquireRequest<L::Spec>| Stock {
            key: request.key,
            facts: Arc::clone(&request.facts),
        };
        let event = Event::Stock(spares.iter().map(stock).collect());
        let effects = {
            let mut core = self.inner.core.lock();
            let specs = spares
                .into_iter()
                .map(|request| (request.key, request.spec));
            core.spare_specs = specs.collect();
            self.inner.step(&mut core, event)
        };
        self.inner.carry_out(effects);
    }

    /// Puts other limits in force. Smaller ones are reached by stopping idle workers and by not
    /// starting new ones; busy workers are left alone.
    pub fn reconfigure(&self, limits: PoolLimits) {
        self.inner.on(Event::Reconfigure(limits));
    }

    /// Refuses new work and what waits; workers stop as they become idle.
    pub fn drain(&self) {
        self.inner.on(Event::Drain);
    }

    /// Stops every worker, busy or not, and waits until they are gone.
    ///
    /// # Cancel-Safety
    /// A dropped call has still told every worker to stop.
    pub async fn stop_all(&self, reason: StopReason) {
        self.inner.on(Event::StopAll(reason));
        self.until(Policy::is_empty).await;
    }

    /// Waits until nothing is in flight and nobody waits.
    ///
    /// # Cancel-Safety
    /// Cancel-safe.
    pub async fn quiet(&self) {
        self.until(Policy::is_quiet).await;
    }

    async fn until(&self, condition: impl Fn(&Policy) -> bool) {
        loop {
            let changed = self.inner.changed.notified();
            tokio::pin!(changed);
            // Registered before the look, so that no change between the two is missed.
            changed.as_mut().enable();
            if condition(&self.inner.core.lock().policy) {
                return;
            }
            changed.await;
        }
    }

    /// The pool at this moment.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::of(&self.inner.core.lock().policy, Instant::now().into_std())
    }

    /// Whether starts of the server fail for that tenant with what the tenant itself has configured, or for everyone.
    pub fn is_failing(&self, server: &ServerName, tenant: &TenantId) -> bool {
        self.inner.core.lock().policy.is_failing(server, tenant)
    }

    /// How soon the key's next request can be served.
    pub fn warmth(&self, key: PoolKey) -> Warmth {
        self.inner.core.lock().policy.warmth(key)
    }

    /// How many requests wait.
    pub fn queue_depth(&self) -> usize {
        self.inner.core.lock().policy.queue_depth()
    }

    /// The limits in force.
    pub fn limits(&self) -> PoolLimits {
        self.inner.core.lock().policy.limits().clone()
    }
}

impl<L: Launcher> fmt::Debug for Pool<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

impl<L: Launcher> Inner<L> {
    fn request(
        self: &Arc<Self>,
        ticket: TicketId,
        request: AcquireRequest<L::Spec>,
    ) -> Admission<L> {
        let AcquireRequest {
            key,
            facts,
            claim,
            spec,
        } = request;
        let (answered, effects) = {
            let mut core = self.core.lock();
            core.specs.insert(key, spec);
            core.asking = Some(ticket);
            core.asking_session = claim.session;
            let event = Event::Acquire {
                ticket,
                key,
                facts,
                claim,
            };
            let effects = self.step(&mut core, event);
            core.asking = None;
            let answered = match core.answer.take() {
                Some(answer) => Admission::AtOnce(answer),
                None => {
                    let (tell, answer) = oneshot::channel();
                    core.waiting.insert(ticket, (claim.session, tell));
                    Admission::Later(answer)
                }
            };
            (answered, effects)
        };
        // A requested exit makes nothing quieter: nobody who waits for that has to look.
        self.carry_out(effects);
        answered
    }

    pub(super) fn on(self: &Arc<Self>, event: Event) {
        let effects = {
            let mut core = self.core.lock();
            self.step(&mut core, event)
        };
        self.carry_out(effects);
        self.changed.notify_waiters();
    }

    fn step(self: &Arc<Self>, core: &mut Core<L>, event: Event) -> Vec<Effect<L>> {
        let now = Instant::now();
        let mut actions = std::mem::take(&mut core.scratch);
        core.policy.on(now.into_std(), event, &mut actions);
        // Nearly always none.
        let mut effects = Vec::new();
        for action in actions.drain(..) {
            effects.extend(self.effect(core, action, now));
        }
        core.scratch = actions;
        let next = core.policy.next_deadline();
        if next.is_some_and(|next| core.timer_at.is_none_or(|at| next < at)) {
            core.timer_at = next;
            self.timer.notify_one();
        }
        effects
    }

    /// What is to be done about an action once the lock is released, if anything is.
    fn effect(
        self: &Arc<Self>,
        core: &mut Core<L>,
        action: Action,
        now: Instant,
    ) -> Option<Effect<L>> {
        match action {
            Action::Start(id, key) => core.start(id, key, now),
            Action::Adopt(id, key) => core.adopt(id, key),
            Action::Stop(id, reason) => Some(core.stop(id, reason)),
            Action::Hibernate(id) => Some(Effect::Hibernate(id)),
            Action::Wake(id) => Some(Effect::Wake(id)),
            Action::Grant(ticket, id) => self.grant(core, ticket, id),
            Action::Refuse(ticket, refusal) => core.refuse(ticket, refusal),
            Action::Gone {
                worker,
                server,
                stopped,
            } => {
                core.handles.remove(&worker);
                core.starts.remove(&worker);
                Some(Effect::Gone(server, stopped))
            }
            Action::Forget(key) => {
                core.specs.remove(&key);
                None
            }
            Action::Circuit(change) => Some(Effect::Circuit(change)),
        }
    }

    #[inline]
    fn grant(
        self: &Arc<Self>,
        core: &mut Core<L>,
        ticket: TicketId,
        id: WorkerId,
    ) -> Option<Effect<L>> {
        let worker = core.handles.get(&id)?.clone();
        // Not before it is known who gets it: dropped here, it would wait for the lock.
        let lease = |session| Lease {
            pool: Arc::clone(self),
            id,
            worker,
            session,
            served: false,
        };
        if core.asking == Some(ticket) {
            core.answer = Some(Ok(lease(core.asking_session)));
            return None;
        }
        let (session, tell) = core.waiting.remove(&ticket)?;
        Some(Effect::Grant(tell, lease(session)))
    }

    fn carry_out(&self, effects: Vec<Effect<L>>) {
        for effect in effects {
            match effect {
                Effect::Start(id, key, spec) => {
                    self.launcher.start(id, key, spec);
                    // Another thread may have carried out a stop before there was anything to stop.
                    let overtaken = self.core.lock().stop_under_way(id);
                    if let Some(stop) = overtaken {
                        self.launcher.stop(id, stop);
                    }
                }
                Effect::Adopt(id, key, spec) => self.launcher.adopt(id, key, spec),
                Effect::Stop(id, stop, server) => {
                    if let Some(server) = server.filter(|_| stop.reason.is_eviction()) {
                        self.observer.evicted(&server, stop.reason);
                    }
                    self.launcher.stop(id, stop);
                }
                Effect::Hibernate(id) => self.launcher.hibernate(id),
                Effect::Wake(id) => self.launcher.wake(id),
                // If nobody listens any more, the lease comes back and is dropped here.
                Effect::Grant(tell, lease) => drop(tell.send(Ok(lease))),
                Effect::Refuse(tell, refusal) => drop(tell.send(Err(refusal))),
                Effect::Gone(server, stopped) => self.observer.gone(&server, stopped),
                Effect::Circuit(change) => self.observer.circuit(&change),
            }
        }
    }
}

impl<L: Launcher> Core<L> {
    fn start(&mut self, id: WorkerId, key: PoolKey, now: Instant) -> Option<Effect<L>> {
        let spec = self.specs.get(&key).or(self.spare_specs.get(&key));
        let spec = Arc::clone(spec?);
        if let Some(worker) = self.policy.worker(id) {
            self.starts.insert(id, (worker.facts.server.clone(), now));
        }
        Some(Effect::Start(id, key, spec))
    }

    fn adopt(&mut self, id: WorkerId, key: PoolKey) -> Option<Effect<L>> {
        // The handle is of what the worker was as a spare.
        self.handles.remove(&id);
        let spec = Arc::clone(self.specs.get(&key)?);
        Some(Effect::Adopt(id, key, spec))
    }

    fn stop(&self, id: WorkerId, reason: StopReason) -> Effect<L> {
        let worker = self.policy.worker(id);
        let server = worker.map(|worker| worker.facts.server.clone());
        Effect::Stop(id, self.stop_for(id, reason), server)
    }

    /// A stop of that worker for that reason, with all that is known of why.
    fn stop_for(&self, id: WorkerId, reason: StopReason) -> Stop {
        let worker = self.policy.worker(id);
        let room = worker.and_then(|worker| worker.makes_room_for.clone());
        Stop {
            reason,
            makes_room_for: room.filter(|_| reason.is_eviction()),
            is_cut_short: worker.is_some_and(|worker| worker.is_cut_short),
        }
    }

    /// The stop that a worker has been told already; `None` if it goes on.
    fn stop_under_way(&self, id: WorkerId) -> Option<Stop> {
        let worker = self.policy.worker(id)?;
        let reason = worker
            .retiring
            .filter(|_| worker.phase == Phase::Stopping)?;
        Some(self.stop_for(id, reason))
    }

    fn refuse(&mut self, ticket: TicketId, refusal: Refusal) -> Option<Effect<L>> {
        if self.asking == Some(ticket) {
            self.answer = Some(Err(refusal));
            return None;
        }
        let (_, tell) = self.waiting.remove(&ticket)?;
        Some(Effect::Refuse(tell, refusal))
    }
}

/// Gives a waiting ticket back when its caller goes away.
struct Withdrawal<'a, L: Launcher> {
    pool: &'a Arc<Inner<L>>,
    ticket: Option<TicketId>,
}

impl<L: Launcher> Drop for Withdrawal<'_, L> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        let effects = {
            // In one step, so that no grant comes between the two.
            let mut core = self.pool.core.lock();
            match core.waiting.remove(&ticket) {
                Some(_waiting) => self.pool.step(&mut core, Event::Withdraw(ticket)),
                // The ticket was answered: the channel holds the lease, and drops it.
                None => return,
            }
        };
        self.pool.carry_out(effects);
        self.pool.changed.notify_waiters();
    }
}

/// Ticks the policy when it asked to be.
async fn keep_time<L: Launcher>(pool: Weak<Inner<L>>) {
    loop {
        let Some(inner) = pool.upgrade() else { return };
        let at = {
            let mut core = inner.core.lock();
            core.timer_at = core.policy.next_deadline();
            core.timer_at
        };
        // Waits without keeping the pool alive for longer than an hour at a time.
        let idle = Instant::now() + Duration::from_secs(3600);
        let until = at.map_or(idle, |at| Instant::from_std(at).min(idle));
        tokio::select! {
            () = tokio::time::sleep_until(until) => inner.on(Event::Tick),
            () = inner.timer.notified() => {}
        }
    }
}

//! Flows, and the task that grants turns to those that wait.

use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::task::Waker;
use std::time::{Duration, Instant};

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::allowance::Allowance;
use super::pace::Pace;
use super::rotation::{FlowNo, Rotation};
use super::time;

/// How long after the last change from one flow to another the processor counts as shared.
const SHARED_FOR: Duration = Duration::from_millis(100);

/// Grants turns. Cheap to clone.
#[derive(Clone)]
pub struct Scheduler(Arc<Shared>);

struct Shared {
    began: Instant,
    next_flow: AtomicU64,
    /// The flow that ran last.
    last: AtomicU64,
    /// How often another flow ran than the one before.
    changes: AtomicU64,
    /// Several flows want the processor.
    is_shared: AtomicBool,
    /// Some flow waits for turns.
    is_crowded: AtomicBool,
    waiting: Mutex<Waiting>,
    /// For pieces of work that take long.
    large: Arc<Semaphore>,
}

#[derive(Default)]
struct Waiting {
    rotation: Rotation<Arc<Turn>>,
    /// A task grants turns.
    is_driven: bool,
}

/// The wait of one task for its turn.
pub(super) struct Turn {
    flow: Flow,
    pub(super) is_granted: AtomicBool,
    /// Nanoseconds that the task's poll was expected to take when it was granted.
    pub(super) expected: AtomicI64,
    pub(super) task: AtomicWaker,
}

impl Default for Scheduler {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self(Arc::new(Shared {
            began: Instant::now(),
            next_flow: AtomicU64::new(1),
            last: AtomicU64::new(0),
            changes: AtomicU64::new(0),
            is_shared: AtomicBool::new(false),
            is_crowded: AtomicBool::new(false),
            waiting: Mutex::default(),
            large: Arc::new(Semaphore::new((threads / 2).max(1))),
        }))
    }
}

impl Scheduler {
    /// A new flow.
    pub fn flow(&self) -> Flow {
        Flow(Arc::new(FlowState {
            no: self.0.next_flow.fetch_add(1, Ordering::Relaxed),
            allowance: AtomicU64::new(0),
            cost: AtomicU64::new(0),
            owed: AtomicI64::new(0),
            pace: AtomicU64::new(0),
            rate: AtomicU64::new(0),
            large: Arc::new(Semaphore::new(1)),
            scheduler: Arc::clone(&self.0),
        }))
    }
}

impl fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_driven = self.0.waiting.lock().is_driven;
        f.debug_struct("Scheduler")
            .field("is_driven", &is_driven)
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// Nanoseconds since it was made.
    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Notes that a flow ran.
    fn ran(self: &Arc<Self>, flow: FlowNo) {
        let last = self.last.load(Ordering::Relaxed);
        if last == flow {
            return;
        }
        self.last.store(flow, Ordering::Relaxed);
        // 0: nobody ran before.
        if last == 0 {
            return;
        }
        self.changes.fetch_add(1, Ordering::Relaxed);
        if !self.is_shared.swap(true, Ordering::Relaxed) {
            tokio::spawn(Arc::clone(self).watch());
        }
    }

    /// Ends when one flow has been alone for a while.
    async fn watch(self: Arc<Self>) {
        let mut seen = 0;
        loop {
            let changes = self.changes.load(Ordering::Relaxed);
            if changes == seen {
                self.is_shared.store(false, Ordering::Relaxed);
                return;
            }
            seen = changes;
            tokio::time::sleep(SHARED_FOR).await;
        }
    }

    /// Lets it wait; whoever waits first brings the task that grants turns.
    fn wait(self: &Arc<Self>, turn: Arc<Turn>) {
        let mut waiting = self.waiting.lock();
        waiting.rotation.push(turn.flow.0.no, turn);
        if !std::mem::replace(&mut waiting.is_driven, true) {
            self.is_crowded.store(true, Ordering::Relaxed);
            drop(waiting);
            tokio::spawn(Arc::clone(self).drive());
        }
    }

    /// Grants a few turns each time that all others have had theirs and the runtime has looked for events.
    async fn drive(self: Arc<Self>) {
        loop {
            tokio::task::yield_now().await;
            let mut granted: Vec<Waker> = vec![];
            let is_over = {
                let mut waiting = self.waiting.lock();
                let Waiting {
                    rotation,
                    is_driven,
                } = &mut *waiting;
                rotation.pass(
                    |turn| turn.flow.0.owed.swap(0, Ordering::Relaxed),
                    |turn| turn.flow.0.cost.load(Ordering::Relaxed),
                    |turn, expected| {
                        // The turn's task may be gone.
                        let is_there = Arc::strong_count(&turn) > 1;
                        turn.expected.store(expected, Ordering::Relaxed);
                        turn.is_granted.store(true, Ordering::Release);
                        granted.extend(turn.task.take());
                        is_there
                    },
                );
                *is_driven = !rotation.is_empty();
                self.is_crowded.store(*is_driven, Ordering::Relaxed);
                !*is_driven
            };
            for task in granted {
                task.wake();
            }
            if is_over {
                return;
            }
        }
    }
}

/// Whether a flow may run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum RunPermission {
    /// Nobody else wants to: nothing is timed.
    Alone,
    /// The flow may run, from that time on.
    Since(u64),
    /// Not before its turn.
    None,
}

/// The work that is done for one party. Cheap to clone.
#[derive(Clone)]
pub struct Flow(Arc<FlowState>);

struct FlowState {
    no: FlowNo,
    /// As of [`Allowance`].
    allowance: AtomicU64,
    /// The most that a poll took of late, in nanoseconds.
    cost: AtomicU64,
    /// Nanoseconds that the flow's turns took beyond what was expected of them, until its next ones make that good.
    owed: AtomicI64,
    /// As of [`Pace`].
    pace: AtomicU64,
    /// The rate that it goes by; 0: none yet.
    rate: AtomicU64,
    /// Held for a piece of work that takes long.
    large: Arc<Semaphore>,
    scheduler: Arc<Shared>,
}

impl Flow {
    /// Whether the flow may run now.
    pub(super) fn permission(&self) -> RunPermission {
        let scheduler = &self.0.scheduler;
        if !scheduler.is_shared.load(Ordering::Relaxed) {
            return RunPermission::Alone;
        }
        let now = scheduler.now();
        let allowance = Allowance(self.0.allowance.load(Ordering::Relaxed));
        match allowance.has_room(now) {
            true => {
                time::begins(now);
                RunPermission::Since(now)
            }
            false => RunPermission::None,
        }
    }

    /// Whether some flow has more to do than its part, so that it takes long until every flow had a turn.
    pub fn is_crowded(&self) -> bool {
        self.0.scheduler.is_crowded.load(Ordering::Relaxed)
    }

    /// Takes note of that many bytes that its party has sent, of which it may send `rate` a second; how long nothing more is to
    /// be read of what brought them.
    pub fn pace(&self, bytes: usize, rate: NonZeroU64) -> Duration {
        let (of, now) = (&self.0, self.0.scheduler.now());
        if of.rate.load(Ordering::Relaxed) != rate.get() {
            // Of several tasks that see another rate, one takes the old one out.
            let old = of.rate.swap(rate.get(), Ordering::Relaxed);
            if let Some(old) = NonZeroU64::new(old).filter(|old| *old != rate) {
                let anew = |pace| Some(Pace(pace).at_rate(now, old, rate).0);
                let relaxed = Ordering::Relaxed;
                let _always = of.pace.fetch_update(relaxed, relaxed, anew);
            }
        }
        let after = |pace: u64| Pace(pace).after(now, bytes as u64, rate);
        let before = of
            .pace
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |pace| {
                Some(after(pace).0)
            });
        let (Ok(before) | Err(before)) = before;
        after(before).wait(now)
    }

    /// A new flow beside it.
    pub fn another(&self) -> Self {
        Scheduler(Arc::clone(&self.0.scheduler)).flow()
    }

    /// Begins to work on this thread; the time, for [`Flow::worked`].
    pub(super) fn begin(&self) -> u64 {
        let now = self.0.scheduler.now();
        time::begins(now);
        now
    }

    /// Charges what was done on this thread since then, beside the runtime.
    pub(super) fn worked_aside(&self, since: u64) -> u64 {
        let of = &self.0;
        let now = of.scheduler.now();
        let work = time::used(since, now);
        // Two threads may charge at once, and one of them be lost: it is charged again soon.
        let allowance = Allowance(of.allowance.load(Ordering::Relaxed)).after(now, work);
        of.allowance.store(allowance.0, Ordering::Relaxed);
        work
    }

    /// Charges a turn on this thread that began at that time, and was taken for so many nanoseconds.
    pub(super) fn had_turn(&self, since: u64, expected: i64) {
        let work = i64::try_from(self.worked(since)).unwrap_or(i64::MAX);
        let more = work.saturating_sub(expected);
        self.0.owed.fetch_add(more, Ordering::Relaxed);
    }

    /// Charges a poll on this thread that began at that time; the nanoseconds that it used.
    pub(super) fn worked(&self, since: u64) -> u64 {
        let work = self.worked_aside(since);
        let (of, scheduler) = (&self.0, &self.0.scheduler);
        let cost = of.cost.load(Ordering::Relaxed);
        of.cost.store(work.max(cost - cost / 8), Ordering::Relaxed);
        scheduler.ran(of.no);
        work
    }

    /// Notes that this flow was at work while no other was.
    pub(super) fn worked_alone(&self) {
        self.0.scheduler.ran(self.0.no);
    }

    /// Lets a task wait for its turn.
    pub(super) fn wait(&self, task: &Waker) -> Arc<Turn> {
        let turn = Arc::new(Turn {
            flow: self.clone(),
            is_granted: AtomicBool::new(false),
            expected: AtomicI64::new(0),
            task: AtomicWaker::new(),
        });
        turn.task.register(task);
        self.0.scheduler.wait(Arc::clone(&turn));
        turn
    }

    /// Permits for pieces of work that take long: its own, and one of all.
    pub(super) fn large(&self) -> [Arc<Semaphore>; 2] {
        [&self.0.large, &self.0.scheduler.large].map(Arc::clone)
    }
}

impl fmt::Debug for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Flow").field(&self.0.no).finish()
    }
}

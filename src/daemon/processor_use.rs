//! Lets workers that take much of the processor go behind the others, for as long as they do, and their tenants behind
//! other tenants where control groups give each tenant a share.
//!
//! Looked at twelve times a second are workers that have been used lately or were busy at the last look; the others every few
//! seconds, as one may be busy without having been asked.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::ids::WorkerId;
use crate::pool::{WorkerState, WorkerView};
use crate::process::take_precedence;
use crate::upstream::Workers;
use crate::usage::Amounts;
use crate::worker::{
    Precedence, ProcessorUse, TenantGroup, Worker, processor_time, set_precedence,
};

/// How often workers' use of the processor is looked at while a worker is used, and while none is.
const PERIOD: Duration = Duration::from_millis(80);
const QUIET_PERIOD: Duration = Duration::from_millis(500);
/// For so long after its last request a worker counts as used.
const RECENT: Duration = Duration::from_secs(5);
/// How often a worker that is not used is looked at, and the processes that workers have started since.
const RARE_PERIOD: Duration = Duration::from_secs(5);
/// Looking takes at most this part of the time.
const SHARE: u32 = 100;
/// How often what a worker has used is charged to its tenant, at the most.
const CHARGE_PERIOD: Duration = Duration::from_secs(1);
/// Longest time between two looks, however long one took.
const LONGEST: Duration = Duration::from_secs(2);

/// What is remembered of one worker.
#[derive(Debug)]
struct Known {
    load: ProcessorUse,
    /// The control group of its tenant, if there are such.
    tenant: Option<TenantGroup>,
    pids: Vec<u32>,
    looked_at: Instant,
    trees_at: Instant,
    /// When what the worker had used was charged to its tenant.
    charged_at: Instant,
}

/// The task's memory.
#[derive(Debug)]
struct Watch {
    workers: Arc<Workers>,
    known: HashMap<WorkerId, Known>,
    /// The precedence that each tenant's group has.
    tenants: HashMap<TenantGroup, Precedence>,
    begun: Instant,
    /// The log was told that the kernel refuses to put workers behind.
    has_said: bool,
}

/// Charges a worker's tenant what the worker's processes have used since that was last done.
fn charge(workers: &Workers, id: WorkerId, used: Duration) {
    let Some(connection) = workers.connection(id) else {
        return;
    };
    let Some(worker) = connection.worker() else {
        return;
    };
    // With what its init process has waited for.
    let used = used + processor_time(&[worker.init_pid()]);
    let used = Amounts::of_processor(worker.take_use(used));
    let plan = connection.plan();
    let usage = workers.usage();
    usage.charge_worker(&plan.charged_tenant(), &plan.server, &used);
}

/// Looks until `stop`.
///
/// /proc is in memory, but reading it takes its time, and so looking has a thread. The thread is none of the runtime's pool, which gives each
/// piece of work to the thread that waits for longest: work that comes twelve times a second keeps as many threads alive as
/// there ever were, each with memory of its own (docs/performance.md).
pub(super) async fn run(workers: Arc<Workers>, stop: CancellationToken) {
    let watch = Watch {
        workers,
        known: HashMap::new(),
        tenants: HashMap::new(),
        begun: Instant::now(),
        has_said: false,
    };
    let (until, stopped) = std::sync::mpsc::channel();
    let (looks, mut ended) = oneshot::channel();
    let thread = std::thread::Builder::new().name("processor use".to_owned());
    let started = thread.spawn(move || {
        let _unless_denied = take_precedence();
        watch.look_until(&stopped);
        // Not sent by a panic.
        let _nobody_waits = looks.send(());
    });
    match started {
        Err(error) => {
            tracing::error!(%error, "no thread to watch the processor: busy workers do not go behind others");
        }
        Ok(_looks_until_told) => {
            if stop.run_until_cancelled(&mut ended).await.is_some() {
                tracing::error!(
                    "watching the processor failed: busy workers do not go behind others"
                );
                return;
            }
            drop(until);
            let _unless_panicked = ended.await;
        }
    }
}

impl Watch {
    /// Looks again and again until the other end of the channel is dropped.
    fn look_until(mut self, stopped: &Receiver<Infallible>) {
        let mut pause = QUIET_PERIOD;
        while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
            pause = self.look();
        }
    }

    /// Looks at those that are due; how long until the next look.
    fn look(&mut self) -> Duration {
        let now = Instant::now();
        let views = self.workers.pool().snapshot().workers;
        let runs = |view: &&WorkerView| {
            let ready = [WorkerState::Idle, WorkerState::Busy, WorkerState::Draining];
            ready.contains(&view.state)
        };
        let running: HashMap<_, _> = views
            .iter()
            .filter(runs)
            .map(|view| (view.id, is_used(view)))
            .collect();
        // One that hibernates goes on as it was when it wakes up.
        let exist: HashSet<_> = views.iter().map(|view| view.id).collect();
        self.known.retain(|id, _| exist.contains(id));
        let due: Vec<_> = running
            .iter()
            .filter(|(id, is_used)| **is_used || self.is_due(**id, now))
            .filter_map(|(id, _)| Some((*id, self.workers.connection(*id)?.worker()?.clone())))
            .collect();
        self.find_trees(now, &due);
        for (id, _) in &due {
            self.look_at(*id, now);
        }
        self.weigh_tenants();
        let is_watched = |(id, is_used): (&WorkerId, &bool)| *is_used || self.is_behind(*id);
        let pause = match running.iter().any(is_watched) {
            true => PERIOD,
            false => QUIET_PERIOD,
        };
        pause.max((now.elapsed() * SHARE).min(LONGEST))
    }

    fn is_behind(&self, id: WorkerId) -> bool {
        let known = self.known.get(&id);
        known.is_some_and(|known| known.load.precedence() == Precedence::Behind)
    }

    /// Whether a worker that is not used is due to be looked at.
    fn is_due(&self, id: WorkerId, now: Instant) -> bool {
        let is_old = |known: &Known| now.saturating_duration_since(known.looked_at) >= RARE_PERIOD;
        self.is_behind(id) || self.known.get(&id).is_none_or(is_old)
    }

    /// Looks for the processes of workers of which nothing is known, or for long.
    fn find_trees(&mut self, now: Instant, due: &[(WorkerId, Worker)]) {
        let is_old = |(id, _): &&(WorkerId, Worker)| {
            self.known
                .get(id)
                .is_none_or(|known| now.saturating_duration_since(known.trees_at) >= RARE_PERIOD)
        };
        let (ids, workers): (Vec<_>, Vec<_>) = due.iter().filter(is_old).cloned().unzip();
        if workers.is_empty() {
            return;
        }
        let trees = Worker::trees(&workers);
        for ((id, pids), worker) in ids.into_iter().zip(trees).zip(&workers) {
            let pids = sorted(pids);
            let known = self.known.entry(id).or_insert_with(|| {
                let tenant = worker.tenant_group().cloned();
                // The group may have gone with the last worker, and come again with this one.
                tenant.as_ref().map(|tenant| self.tenants.remove(tenant));
                Known {
                    load: ProcessorUse::default(),
                    tenant,
                    pids: Vec::new(),
                    looked_at: now,
                    trees_at: now,
                    charged_at: now,
                }
            });
            known.trees_at = now;
            if known.pids != pids {
                // What a process had used before it was known is not of the last moment.
                known.load.begin_anew();
            }
            known.pids = pids;
            if known.load.precedence() == Precedence::Behind {
                // Whatever left the worker's session since.
                self.set(id, Precedence::Behind);
            }
        }
    }

    fn look_at(&mut self, id: WorkerId, now: Instant) {
        let Some(known) = self.known.get_mut(&id) else {
            return;
        };
        known.looked_at = now;
        let used = processor_time(&known.pids);
        if now.saturating_duration_since(known.charged_at) >= CHARGE_PERIOD {
            known.charged_at = now;
            charge(&self.workers, id, used);
        }
        if let Some(precedence) = known.load.seen(now - self.begun, used) {
            tracing::debug!(worker = %id, ?precedence, "a worker's use of the processor has changed");
            self.set(id, precedence);
        }
    }

    fn set(&mut self, id: WorkerId, precedence: Precedence) {
        let pids = self.known.get(&id).map_or(&[][..], |known| &known.pids);
        let done = set_precedence(pids, precedence);
        self.say(done);
    }

    /// A tenant goes behind the others as long as one of its workers does.
    fn weigh_tenants(&mut self) {
        let mut meant: HashMap<TenantGroup, Precedence> = HashMap::new();
        for known in self.known.values() {
            if let Some(tenant) = &known.tenant {
                let precedence = meant.entry(tenant.clone()).or_default();
                if known.load.precedence() == Precedence::Behind {
                    *precedence = Precedence::Behind;
                }
            }
        }
        for (tenant, precedence) in &meant {
            if self.tenants.get(tenant) != Some(precedence) {
                let done = tenant.set_precedence(*precedence);
                self.say(done);
            }
        }
        self.tenants = meant;
    }

    /// Tells once that the kernel refuses it.
    fn say(&mut self, done: std::io::Result<()>) {
        if let Err(error) = done
            && !std::mem::replace(&mut self.has_said, true)
        {
            tracing::warn!(
                %error,
                "the kernel refuses that a busy worker goes behind others; `stdiopool doctor` says what this host takes"
            );
        }
    }
}

fn sorted(mut pids: Vec<u32>) -> Vec<u32> {
    pids.sort_unstable();
    pids
}

/// Whether a worker has been asked for something lately.
fn is_used(view: &WorkerView) -> bool {
    view.idle_for.is_none_or(|idle| idle < RECENT)
}

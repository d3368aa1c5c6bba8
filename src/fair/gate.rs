//! What a task passes before each of its polls.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use super::scheduler::{Flow, RunPermission, Turn};

/// The gate of one task. Dropped while it waits, it gives its turn up.
#[derive(Default)]
pub struct Gate {
    waiting: Option<Arc<Turn>>,
}

impl Gate {
    /// Whether the work was not polled last, and waits for its turn.
    pub fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// Polls, if that flow may run; else the task is woken when it may.
    pub fn poll<R>(
        &mut self,
        flow: &Flow,
        cx: &mut Context<'_>,
        work: impl FnOnce(&mut Context<'_>) -> Poll<R>,
    ) -> Poll<R> {
        let began = match &self.waiting {
            Some(turn) => {
                turn.task.register(cx.waker());
                if !turn.is_granted.load(Ordering::Acquire) {
                    return Poll::Pending;
                }
                let expected = turn.expected.load(Ordering::Relaxed);
                self.waiting = None;
                let began = flow.begin();
                let polled = work(cx);
                flow.had_turn(began, expected);
                return polled;
            }
            None => match flow.permission() {
                RunPermission::Since(now) => now,
                RunPermission::Alone => {
                    let polled = work(cx);
                    flow.worked_alone();
                    return polled;
                }
                RunPermission::None => {
                    self.waiting = Some(flow.wait(cx.waker()));
                    return Poll::Pending;
                }
            },
        };
        let polled = work(cx);
        flow.worked(began);
        polled
    }
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate")
            .field("waits", &self.waiting.is_some())
            .finish()
    }
}

impl Flow {
    /// Runs work of this flow in its turns.
    ///
    /// # Cancel-Safety
    /// As of `work`.
    pub async fn run<T>(self, work: impl Future<Output = T>) -> T {
        let (mut work, mut gate) = (pin!(work), Gate::default());
        poll_fn(|cx| gate.poll(&self, cx, |cx| work.as_mut().poll(cx))).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use super::super::Scheduler;
    use super::*;

    /// Time that this thread had a processor.
    fn used() -> Duration {
        let clock = nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID;
        Duration::from(nix::time::clock_gettime(clock).expect("a clock"))
    }

    fn work(time: Duration) {
        let began = used();
        while used() - began < time {
            std::hint::spin_loop();
        }
    }

    /// Greedy tasks of one flow and of another, beside one that wants little: it never waits for more than a pass.
    #[tokio::test]
    async fn who_asks_little_runs_beside_those_who_ask_much() {
        let scheduler = Scheduler::default();
        let turns: Arc<Mutex<[u32; 2]>> = Arc::default();
        let mut tasks = tokio::task::JoinSet::new();
        // Twenty tasks of one party, one of the other.
        for (party, flow, count) in [(0, scheduler.flow(), 20), (1, scheduler.flow(), 1)] {
            for _ in 0..count {
                let (flow, turns) = (flow.clone(), Arc::clone(&turns));
                tasks.spawn(flow.run(async move {
                    loop {
                        work(Duration::from_micros(100));
                        turns.lock().expect("no panic")[party] += 1;
                        tokio::task::yield_now().await;
                    }
                }));
            }
        }
        let modest = scheduler.flow();
        let done = modest.run(async {
            // More polls than the greedy ones could ever have let through in the order of coming.
            for _ in 0..300 {
                work(Duration::from_micros(5));
                tokio::task::yield_now().await;
            }
        });
        done.await;
        let turns = *turns.lock().expect("no panic");
        tasks.shutdown().await;
        let all = turns[0] + turns[1];
        assert!(all < 300 * 12, "{all} polls beside 300 of the modest one");
        assert!(turns[1] * 4 > turns[0], "one party's many tasks: {turns:?}");
    }

    #[tokio::test]
    async fn a_flow_that_is_alone_never_waits() {
        let flow = Scheduler::default().flow();
        let mut gate = Gate::default();
        for _ in 0..100 {
            let polled = poll_fn(|cx| {
                let polled = gate.poll(&flow, cx, |_| {
                    work(Duration::from_micros(200));
                    Poll::Ready(())
                });
                Poll::Ready(polled.is_ready())
            });
            assert!(polled.await);
        }
    }

    #[tokio::test]
    async fn who_goes_while_waiting_holds_nobody_up() {
        let scheduler = Scheduler::default();
        let (greedy, other) = (scheduler.flow(), scheduler.flow());
        let spend = |flow: Flow| flow.run(async { work(Duration::from_millis(5)) });
        spend(greedy.clone()).await;
        spend(other).await;
        // From here on they share, and work is timed.
        spend(greedy.clone()).await;
        {
            let mut gone = pin!(spend(greedy.clone()));
            assert!(futures_util::poll!(gone.as_mut()).is_pending());
        }
        tokio::time::timeout(Duration::from_secs(10), spend(greedy))
            .await
            .expect("its turn");
    }
}

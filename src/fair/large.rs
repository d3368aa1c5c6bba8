//! Pieces of work that cannot give way: a message of megabytes is read in one go.

use std::future::pending;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::sync::OwnedSemaphorePermit;
use tokio::task::{JoinError, JoinHandle, spawn_blocking};

use super::scheduler::Flow;

/// From how many bytes on a message is worked on by a blocking thread: reading it takes some hundred microseconds.
pub const LARGE: usize = 256 << 10;

/// Permit to do one piece of work that takes long, on a blocking thread.
#[derive(Debug)]
pub struct Permit {
    flow: Flow,
    _of_flow: Option<OwnedSemaphorePermit>,
    _of_all: Option<OwnedSemaphorePermit>,
}

impl Flow {
    /// Waits until a piece of work that takes long may begin: each flow does one at a time, and all together no more
    /// than half of the processors can, in the order in which they came.
    ///
    /// # Cancel-Safety
    /// Dropped, it loses its place.
    pub async fn large_permit(&self) -> Permit {
        let [own, all] = self.large();
        Permit {
            // Semaphores of flows are never closed. Whoever waits for its own holds none of all.
            _of_flow: own.acquire_owned().await.ok(),
            _of_all: all.acquire_owned().await.ok(),
            flow: self.clone(),
        }
    }
}

impl Permit {
    fn work<T>(self, work: impl FnOnce() -> T) -> T {
        let began = self.flow.begin();
        let done = work();
        self.flow.worked_aside(began);
        done
    }
}

/// Does a piece of work for that flow on a blocking thread, whose tasks go on meanwhile.
///
/// # Panics
/// If `work` does.
///
/// # Cancel-Safety
/// Dropped before the work began, it does nothing; dropped later, the work goes on to its end.
pub async fn large<T: Send + 'static>(flow: &Flow, work: impl FnOnce() -> T + Send + 'static) -> T {
    let permit = flow.large_permit().await;
    match offload(move || permit.work(work)).await {
        Ok(done) => done,
        Err(error) => lost(error).await,
    }
}

/// Polls `future` once on a blocking thread, with that permit.
pub fn poll_offloaded<F>(permit: Permit, mut future: Pin<Box<F>>, waker: Waker) -> Offloaded<F>
where
    F: Future<Output: Send> + Send + ?Sized + 'static,
{
    offload(move || {
        let polled = permit.work(|| future.as_mut().poll(&mut Context::from_waker(&waker)));
        (future, polled)
    })
}

/// A future that is polled once on a blocking thread; it comes back with what that brought.
pub type Offloaded<F> = JoinHandle<(Pin<Box<F>>, Poll<<F as Future>::Output>)>;

/// Where work went that did not come back: it panicked, or the runtime is shutting down and ends this task too.
///
/// # Panics
/// If the work did.
pub async fn lost<T>(error: JoinError) -> T {
    match error.try_into_panic() {
        Ok(panic) => resume_unwind(panic),
        Err(_shutting_down) => pending().await,
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "permits bound how many of these there are, and none of them waits for anything"
)]
fn offload<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    spawn_blocking(work)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread::current;

    use super::super::Scheduler;
    use super::*;

    #[tokio::test]
    async fn work_is_done_on_another_thread_one_at_a_time_of_a_flow() {
        let flow = Scheduler::default().flow();
        let at_work = Arc::new(AtomicUsize::new(0));
        let here = current().id();
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..20 {
            let (flow, at_work) = (flow.clone(), Arc::clone(&at_work));
            tasks.spawn(async move {
                let work = move || {
                    let others = at_work.fetch_add(1, Ordering::SeqCst);
                    std::thread::yield_now();
                    at_work.fetch_sub(1, Ordering::SeqCst);
                    (number, others, current().id())
                };
                large(&flow, work).await
            });
        }
        let mut done: Vec<_> = tasks.join_all().await;
        done.sort_by_key(|(number, ..)| *number);
        for (expected, (number, others, thread)) in done.into_iter().enumerate() {
            assert_eq!((number, others), (expected, 0));
            assert_ne!(thread, here);
        }
    }

    #[tokio::test]
    async fn one_poll_is_done_beside_and_the_next_one_here() {
        let flow = Scheduler::default().flow();
        let mut threads = vec![];
        let future = Box::pin(poll_fn(move |cx| {
            threads.push(current().id());
            match threads.len() {
                1 => {
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
                _ => Poll::Ready(threads.clone()),
            }
        }));
        let permit = flow.large_permit().await;
        let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
        let (future, polled) = poll_offloaded(permit, future, waker)
            .await
            .expect("no panic");
        assert!(polled.is_pending());
        let threads = future.await;
        assert_ne!(threads[0], threads[1]);
        assert_eq!(threads[1], current().id());
    }

    #[tokio::test]
    #[should_panic(expected = "in the work")]
    async fn a_panic_comes_out_where_the_work_was_wanted() {
        let flow = Scheduler::default().flow();
        large(&flow, || panic!("in the work")).await
    }
}

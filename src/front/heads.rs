//! How long a client may take to send the head of a request.
//!
//! hyper asks a timer for a sleep before each head, and drops it when the head is there. With those of tokio that
//! is two visits to the runtime's timers for each request. Here the request only leaves a note; one sleep for
//! each connection, which is left to run, looks now and then whether the same head is still being waited for.
//!
//! Over HTTP/2, where requests overlap, only the first is waited for.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};
use tokio::time::Sleep as TokioSleep;

/// How long a client may take, at least. What it sends of the head meanwhile does not count.
pub(super) const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a connection looks: so much longer it may take at most.
const LOOK_PERIOD: Duration = Duration::from_secs(10);
/// After how many looks at the same head its time is over.
const MAX_LOOKS: u32 = 3;

/// The heads of one connection. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Heads(Arc<State>);

#[derive(Debug)]
struct State {
    began: Instant,
    /// How often the wait for a head has begun or ended: it is being waited for while that is even. The first
    /// is from the beginning.
    turns: AtomicU64,
}

impl Heads {
    /// Of a connection on which nothing has come yet.
    pub(super) fn new() -> Self {
        Self(Arc::new(State {
            began: Instant::now(),
            turns: AtomicU64::new(0),
        }))
    }

    /// One is there.
    pub(super) fn came(&self) {
        self.turn(true);
    }

    /// Counts a turn, unless the wait has begun or ended already.
    fn turn(&self, waits: bool) {
        let turns = self.0.turns.load(Ordering::Relaxed);
        if turns.is_multiple_of(2) == waits {
            self.0.turns.store(turns + 1, Ordering::Relaxed);
        }
    }
}

/// What hyper asks for before each head. Its time is kept by [`Watch`], which does not come back to hyper.
impl Timer for Heads {
    fn sleep(&self, _duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.turn(false);
        Box::pin(Never)
    }

    fn sleep_until(&self, _deadline: Instant) -> Pin<Box<dyn Sleep>> {
        self.sleep(Duration::ZERO)
    }

    fn now(&self) -> Instant {
        // It goes into deadlines, which are not looked at.
        self.0.began
    }
}

/// Of no size, so that its box is no allocation.
struct Never;

impl Future for Never {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

impl Sleep for Never {}

/// Ends when a head takes too long.
#[derive(Debug)]
pub(super) struct Watch {
    heads: Heads,
    sleep: Pin<Box<TokioSleep>>,
    is_armed: bool,
    /// The turn that was found at the last looks, and how many they were.
    seen: (u64, u32),
}

impl Watch {
    /// Over the heads of that connection.
    pub(super) fn over(heads: Heads) -> Self {
        Self {
            heads,
            sleep: Box::pin(tokio::time::sleep(LOOK_PERIOD)),
            is_armed: false,
            seen: (0, 0),
        }
    }

    /// Whether a head is being waited for that was at the last looks too, for too long.
    fn look(&mut self) -> bool {
        let turns = self.heads.0.turns.load(Ordering::Relaxed);
        let (seen, looks) = self.seen;
        self.seen = match turns == seen {
            true => (seen, looks + 1),
            false => (turns, 0),
        };
        turns.is_multiple_of(2) && self.seen.1 >= MAX_LOOKS
    }
}

impl Future for Watch {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // It is polled with each step of its connection: one load, nearly always.
        while !self.is_armed || self.sleep.is_elapsed() {
            self.is_armed = true;
            if self.sleep.as_mut().poll(cx).is_pending() {
                break;
            }
            if self.look() {
                return Poll::Ready(());
            }
            let next = tokio::time::Instant::now() + LOOK_PERIOD;
            self.sleep.as_mut().reset(next);
            self.is_armed = false;
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When the watch ends, if `at` is told the seconds at which something may happen.
    async fn ends(heads: &Heads, mut at: impl FnMut(u64)) -> Option<u64> {
        let mut watch = std::pin::pin!(Watch::over(heads.clone()));
        for second in 0..200 {
            at(second);
            let tick = tokio::time::sleep(Duration::from_secs(1));
            tokio::select! {
                biased;
                () = &mut watch => return Some(second),
                () = tick => {}
            }
        }
        None
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_connection_is_ended_in_time() {
        let heads = Heads::new();
        let end = ends(&heads, |_| {}).await.expect("it ends");
        assert!((29..40).contains(&end), "{end}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_may_take_as_long_as_it_likes() {
        let heads = Heads::new();
        heads.came();
        assert_eq!(ends(&heads, |_| {}).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn each_head_has_its_own_time() {
        let heads = Heads::new();
        let end = ends(&heads, |second| {
            // A request each 25 s, answered within a second, until the sixth.
            if second <= 150 && second % 25 == 24 {
                heads.came();
            } else if second <= 150 && second % 25 == 0 {
                let _sleep = heads.sleep(HEAD_TIMEOUT);
            }
        });
        let end = end.await.expect("it ends");
        assert!((179..190).contains(&end), "{end}");
    }
}

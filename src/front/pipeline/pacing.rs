//! What holds a body up while it is read, and what ends that before it is whole: its tenant's pace, a shutdown, and
//! the end of its connection.

use std::fmt;
use std::future::poll_fn;
use std::num::NonZeroU64;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::front::net::{Activity, framing_error_of_body};
use crate::held::Account;
use crate::protocol::Failure;

/// Bytes of each body that count for no pace: nearly every message is shorter.
pub(in crate::front) const FREE: usize = 64 << 10;
/// How often a body that is held up looks whether its connection is still there, and whether the pace has changed.
const LOOK_PERIOD: Duration = Duration::from_millis(250);
/// How long bodies may still come once a shutdown has begun. A body that has come by then is answered in time for its
/// connection to end.
const DRAIN_GRACE: Duration = Duration::from_millis(250);

/// The limits of a body, and the pace at which it comes.
#[derive(Clone, Copy)]
pub(in crate::front) struct BodyLimits<'a> {
    /// Bytes of it.
    pub(in crate::front) max: usize,
    /// What a client of a longer one is told to do.
    pub(in crate::front) remedy: &'static str,
    /// Bytes a second that may come for its tenant, at this moment: a reload may change it.
    pub(in crate::front) rate: &'a (dyn Fn() -> NonZeroU64 + Sync),
    /// The connection that the body comes over, where that is known.
    pub(in crate::front) connection: Option<&'a Activity>,
    /// Cancelled when a shutdown begins.
    pub(in crate::front) drain: &'a CancellationToken,
}

impl fmt::Debug for BodyLimits<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyLimits")
            .field("max", &self.max)
            .field("rate", &(self.rate)())
            .finish_non_exhaustive()
    }
}

impl BodyLimits<'_> {
    /// What is wrong with the body itself, as far as it has come over the connection.
    pub(in crate::front) fn failure(&self) -> Option<Failure> {
        self.connection.and_then(framing_error_of_body)
    }

    /// Waits for [`BodyLimits::failure`]. Whoever polls it is polled whenever something has come: over HTTP/1 a request is
    /// served by the task of its connection.
    ///
    /// # Cancel-Safety
    /// Cancel-safe.
    pub(in crate::front) async fn until_failure(&self) -> Failure {
        poll_fn(|_| self.failure().map_or(Poll::Pending, Poll::Ready)).await
    }
}

/// A shutdown has begun, and the body is not whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::front) struct Drained;

impl From<Drained> for Failure {
    fn from(Drained: Drained) -> Self {
        Self::draining()
    }
}

/// Reads on only as fast as the tenant may send, until a shutdown.
#[derive(Debug)]
pub(in crate::front) struct Pacing<'a> {
    account: &'a Account,
    pub(in crate::front) limits: BodyLimits<'a>,
    /// Bytes of this body.
    came: usize,
    /// How long the body was not read on, which is not its sender's fault.
    pub(in crate::front) waited: Duration,
    /// Until when the body may come, once a shutdown has begun.
    drained_at: Option<Instant>,
}

impl<'a> Pacing<'a> {
    pub(in crate::front) fn new(account: &'a Account, limits: BodyLimits<'a>) -> Self {
        Self {
            account,
            limits,
            came: 0,
            waited: Duration::ZERO,
            drained_at: None,
        }
    }

    /// Waits until a shutdown has begun and bodies have had their time.
    ///
    /// # Cancel-Safety
    /// Cancel-safe.
    pub(in crate::front) async fn drained(&mut self) -> Drained {
        let at = match self.drained_at {
            Some(at) => at,
            None => {
                self.limits.drain.cancelled().await;
                *self.drained_at.insert(Instant::now() + DRAIN_GRACE)
            }
        };
        sleep_until(at).await;
        Drained
    }

    /// Whether a shutdown has begun and bodies have had their time.
    ///
    /// # Errors
    /// If so.
    pub(in crate::front) fn check_drain(&mut self) -> Result<(), Drained> {
        if !self.limits.drain.is_cancelled() {
            return Ok(());
        }
        let now = Instant::now();
        match *self.drained_at.get_or_insert(now + DRAIN_GRACE) <= now {
            true => Err(Drained),
            false => Ok(()),
        }
    }

    /// Waits as long as those bytes of the body ask for; how long that was.
    ///
    /// # Errors
    /// When a shutdown ends the wait.
    pub(in crate::front) async fn came(&mut self, bytes: usize) -> Result<Duration, Drained> {
        self.came = self.came.saturating_add(bytes);
        let counted = self.came.saturating_sub(FREE).min(bytes);
        if counted == 0 {
            return Ok(Duration::ZERO);
        }
        let rate = (self.limits.rate)();
        let wait = self.account.pace(counted, rate);
        if wait.is_zero() {
            return Ok(wait);
        }
        // Boxed, because it is rare, and what every request has room for is to be small.
        Box::pin(self.hold_up(wait, rate)).await
    }

    /// Lets that time pass at that rate, in pieces: over HTTP/1 nobody reads a socket whose body waits, so that its
    /// connection has to look whether its client is still there.
    async fn hold_up(&mut self, wait: Duration, mut rate: NonZeroU64) -> Result<Duration, Drained> {
        let _held_up = self.limits.connection.map(Activity::holds_up);
        let (began, mut left) = (Instant::now(), wait);
        while !left.is_zero() {
            let piece = left.min(LOOK_PERIOD);
            let is_drained = tokio::select! {
                biased;
                Drained = self.drained() => true,
                () = sleep(piece) => false,
            };
            if is_drained {
                return Err(Drained);
            }
            left -= piece;
            let now = (self.limits.rate)();
            if now != rate {
                // Bytes that the tenant has sent before last as long as they do at the new rate.
                self.account.pace(0, now);
                left = at_rate(left, rate, now);
                rate = now;
            }
        }
        let waited = began.elapsed();
        self.waited += waited;
        Ok(waited)
    }
}

/// How long that takes at another rate which takes so long at one.
fn at_rate(time: Duration, rate: NonZeroU64, other: NonZeroU64) -> Duration {
    let nanos = time.as_nanos().saturating_mul(u128::from(rate.get())) / u128::from(other.get());
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::super::body::RAISE_MAX_BODY;
    use super::*;
    use crate::held::Ledger;
    use crate::ids::TenantId;

    #[tokio::test]
    async fn a_pace_that_is_changed_is_that_of_who_waits_already() {
        // Not paused time: what has been sent lasts by the clock of the processor's turns.
        let account = Ledger::unlimited().account(&TenantId::new("t"));
        let now = AtomicU64::new(1 << 10);
        let rate = || NonZeroU64::new(now.load(Ordering::Relaxed)).unwrap_or(NonZeroU64::MIN);
        let drain = CancellationToken::new();
        let limits = BodyLimits {
            max: 1 << 30,
            remedy: RAISE_MAX_BODY,
            rate: &rate,
            connection: None,
            drain: &drain,
        };
        let mut pacing = Pacing::new(&account, limits);
        let began = Instant::now();
        {
            let mut held_up = std::pin::pin!(pacing.came(2 << 20));
            let soon = tokio::time::timeout(Duration::from_millis(10), held_up.as_mut());
            assert!(soon.await.is_err(), "half an hour");
            now.store(1 << 30, Ordering::Relaxed);
            assert!(held_up.await.is_ok());
        }
        assert!(began.elapsed() < Duration::from_secs(10));
        // And of who comes after.
        assert!(pacing.came(1 << 20).await.is_ok());
        assert!(began.elapsed() < Duration::from_secs(20));
        // A shutdown ends it.
        now.store(1, Ordering::Relaxed);
        drain.cancel();
        assert_eq!(pacing.came(1 << 20).await, Err(Drained));
        assert_eq!(pacing.check_drain(), Err(Drained));
    }
}

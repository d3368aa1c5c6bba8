//! How far a request has come, and when: a few words that are written as it passes, and read if somebody asks.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::labels::Outcome;
use crate::ids::WorkerId;

/// Where a request stands. All times are since it came, in microseconds, the longest some 71 minutes; 0 is not yet.
#[derive(Debug, Default)]
pub struct Progress {
    /// The caller of the request was known; noted only where spans are exported.
    admitted: AtomicU32,
    /// The request was handed to a worker.
    sent: AtomicU32,
    /// The request had waited for a worker until then.
    waited: AtomicU32,
    /// The worker's last answer came.
    answered: AtomicU32,
    /// The last outcome of the request was known.
    ended: AtomicU32,
    /// The worker's number and one; 0 is none.
    worker: AtomicU64,
    /// The place of its outcome among [`Outcome::ALL`] and one; 0 is none.
    outcome: AtomicU8,
    /// Why stdiopool did not pass it on.
    reason: OnceLock<&'static str>,
}

impl Progress {
    /// Notes that the request's caller was known.
    pub fn admitted(&self, at: Duration) {
        self.admitted.store(micros(at), Ordering::Relaxed);
    }

    /// Notes that the request was handed to that worker.
    pub fn sent(&self, at: Duration, worker: WorkerId) {
        self.sent.store(micros(at), Ordering::Relaxed);
        let number = worker.0.saturating_add(1);
        self.worker.store(number, Ordering::Relaxed);
    }

    /// Notes how long the request waited for a worker.
    pub fn waited(&self, waited: Duration) {
        let waited = if waited.is_zero() { 0 } else { micros(waited) };
        self.waited.store(waited, Ordering::Relaxed);
    }

    /// Notes that the worker's last answer came.
    pub fn answered(&self, at: Duration) {
        self.answered.store(micros(at), Ordering::Relaxed);
    }

    /// Notes what became of the request. Of several, as in a batch, one that failed stays.
    pub fn ended(&self, at: Duration, outcome: Outcome, reason: Option<&'static str>) {
        self.ended.store(micros(at), Ordering::Relaxed);
        if self.reason.get().is_none() {
            let place = Outcome::ALL.iter().position(|it| *it == outcome);
            let place = place.and_then(|place| u8::try_from(place + 1).ok());
            self.outcome.store(place.unwrap_or(0), Ordering::Relaxed);
        }
        if let Some(reason) = reason {
            self.reason.get_or_init(|| reason);
        }
    }

    /// How far it is now.
    pub fn now(&self) -> Passed {
        let at = |time: &AtomicU32| match time.load(Ordering::Relaxed) {
            0 => None,
            micros => Some(Duration::from_micros(micros.into())),
        };
        let outcome = usize::from(self.outcome.load(Ordering::Relaxed));
        let worker = self.worker.load(Ordering::Relaxed);
        Passed {
            admitted: at(&self.admitted),
            sent: at(&self.sent),
            waited: at(&self.waited).unwrap_or_default(),
            answered: at(&self.answered),
            ended: at(&self.ended),
            worker: worker.checked_sub(1).map(WorkerId),
            outcome: outcome
                .checked_sub(1)
                .and_then(|at| Outcome::ALL.get(at))
                .copied(),
            reason: self.reason.get().copied(),
        }
    }
}

/// How far a request was at one moment. Times are since it came.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Passed {
    /// When its caller was known; of requests of which spans may be exported.
    pub admitted: Option<Duration>,
    /// When it was handed to a worker, the last time.
    pub sent: Option<Duration>,
    /// How long it waited for one until then.
    pub waited: Duration,
    /// When the worker's last answer came.
    pub answered: Option<Duration>,
    /// When it was over.
    pub ended: Option<Duration>,
    /// The worker that it was handed to.
    pub worker: Option<WorkerId>,
    /// What became of it.
    pub outcome: Option<Outcome>,
    /// Why stdiopool did not pass it on, or not its answer.
    pub reason: Option<&'static str>,
}

impl Passed {
    /// Until it was handed to a worker, without the wait for one: its body, credentials, limits and way.
    pub fn before(&self) -> Option<Duration> {
        Some(self.sent?.saturating_sub(self.waited))
    }

    /// Until its worker's last answer, from when it had it.
    pub fn at_worker(&self) -> Option<Duration> {
        Some(self.answered?.saturating_sub(self.sent?))
    }

    /// From the worker's last answer until it was handed on.
    pub fn after(&self) -> Option<Duration> {
        Some(self.ended?.saturating_sub(self.answered?))
    }
}

/// At least one: none is not yet.
fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_phases_of_a_request_are_what_lies_between_its_times() {
        let progress = Progress::default();
        assert_eq!(progress.now(), Passed::default());
        progress.waited(20 * MS);
        progress.sent(21 * MS, WorkerId(0));
        let under_way = progress.now();
        assert_eq!(under_way.before(), Some(MS));
        assert_eq!(
            (under_way.at_worker(), under_way.after(), under_way.outcome),
            (None, None, None)
        );
        assert_eq!(under_way.worker, Some(WorkerId(0)));
        progress.answered(51 * MS);
        progress.ended(53 * MS, Outcome::Ok, None);
        let over = progress.now();
        assert_eq!(over.at_worker(), Some(30 * MS));
        assert_eq!(over.after(), Some(2 * MS));
        assert_eq!(over.outcome, Some(Outcome::Ok));
    }

    #[test]
    fn of_several_outcomes_the_failure_stays() {
        let progress = Progress::default();
        progress.ended(MS, Outcome::Failed, Some("timeout"));
        progress.ended(2 * MS, Outcome::Ok, None);
        let over = progress.now();
        assert_eq!(
            (over.outcome, over.reason),
            (Some(Outcome::Failed), Some("timeout"))
        );
        assert_eq!(over.ended, Some(2 * MS));
    }

    #[test]
    fn a_time_beyond_the_scale_is_the_longest() {
        let progress = Progress::default();
        progress.ended(Duration::MAX, Outcome::Ok, None);
        assert_eq!(
            progress.now().ended,
            Some(Duration::from_micros(u32::MAX.into()))
        );
    }
}

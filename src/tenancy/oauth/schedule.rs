//! When an access token is fetched again. Pure: every function is told what time it is.
//!
//! ```text
//!             obtained                    refresh_at            ends            expires
//!  asked ────────┴───────── ready ────────────┴── ready, due ────┴── worthless ────┴──▶
//! ```
//!
//! A token counts from when it was asked for, since the provider's clock began at some time after that;
//! it is worthless a little before it expires, as the process that gets it needs time to use it.

use std::time::Duration;

use tokio::time::Instant;

/// A token is fetched again so long before it expires, or a tenth of its lifetime if that is longer.
const MARGIN: Duration = Duration::from_secs(60);
/// A token is not given out any more so long before it expires, or a tenth of its lifetime if that
/// is shorter: clocks differ, and a request takes time.
const SKEW: Duration = Duration::from_secs(10);
/// First pause after a failed attempt; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// The schedule of one authorisation's access token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Schedule {
    access: Option<Validity>,
    /// There is a refresh token.
    can_refresh: bool,
    /// Attempts that failed since the last that did not.
    failures: u32,
    /// No attempt before.
    retry_at: Option<Instant>,
    /// An attempt that was begun ahead of need is under way.
    is_busy: bool,
}

/// Until when a token is good; `None`: until it is revoked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Validity {
    refresh_at: Option<Instant>,
    ends: Option<Instant>,
}

/// The next step without anyone asking.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// Nothing before that.
    Sleep(Option<Instant>),
    /// Fetch another token if a process uses this one, else let it go.
    Renew,
    /// The token is worthless: let it go.
    LetGo,
    /// The authorisation is over: the token is worthless, and there is no way to another.
    End,
}

/// Why an authorisation may soon be of no use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outlook {
    /// The authorisation ends after so long: there is no way to another token.
    Ends(Duration),
    /// So many attempts to get another token have failed in a row.
    Fails {
        /// How many.
        failures: u32,
        /// Until the next attempt.
        retry_in: Duration,
    },
}

/// What somebody gets who needs a token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Demand {
    /// The token that is there.
    Ready,
    /// Another one, which is to be fetched first.
    Refresh,
    /// None before another attempt, at that time.
    Wait(Instant),
    /// None ever.
    Over,
}

impl Schedule {
    /// Before the first token.
    pub(super) fn new(can_refresh: bool) -> Self {
        Self {
            access: None,
            can_refresh,
            failures: 0,
            retry_at: None,
            is_busy: false,
        }
    }

    /// A token is there that was asked for then and lives for so long; `None`: until it is revoked.
    pub(super) fn obtained(
        &mut self,
        asked: Instant,
        lifetime: Option<Duration>,
        can_refresh: bool,
    ) {
        let at = |before: fn(Duration) -> Duration| {
            let lifetime = lifetime?;
            asked.checked_add(lifetime.saturating_sub(before(lifetime)))
        };
        self.access = Some(Validity {
            refresh_at: at(margin).filter(|_| can_refresh),
            ends: at(skew),
        });
        self.can_refresh = can_refresh;
        self.failures = 0;
        self.retry_at = None;
    }

    /// An attempt to get one failed. `jitter` from 0 to 1 spreads those of many authorisations.
    pub(super) fn failed(&mut self, now: Instant, jitter: f64) {
        self.failures = self.failures.saturating_add(1);
        self.retry_at = now.checked_add(pause(self.failures, jitter));
    }

    /// The token is not there any more.
    pub(super) fn let_go(&mut self) {
        self.access = None;
    }

    /// What an operator should know of it, if anything.
    pub(super) fn outlook(&self, now: Instant, within: Duration) -> Option<Outlook> {
        let left = |at: Instant| at.saturating_duration_since(now);
        if self.can_refresh {
            let retry_in = self.retry_at.map(left).unwrap_or_default();
            let failures = self.failures;
            return (failures > 0).then_some(Outlook::Fails { failures, retry_in });
        }
        let ends = self.access.and_then(|access| access.ends).map(left);
        let ends = ends.filter(|left| *left <= within);
        ends.map(Outlook::Ends)
    }

    pub(super) fn set_busy(&mut self, is_busy: bool) {
        self.is_busy = is_busy;
    }

    /// What is to be done now without anyone asking.
    pub(super) fn next(&self, now: Instant) -> Step {
        let Some(access) = self.access else {
            return Step::Sleep(None);
        };
        if access.ends.is_some_and(|ends| ends <= now) {
            return if self.can_refresh {
                Step::LetGo
            } else {
                Step::End
            };
        }
        if self.is_busy {
            return Step::Sleep(access.ends);
        }
        match access.refresh_at {
            None => Step::Sleep(access.ends),
            Some(at) => {
                let at = self.retry_at.map_or(at, |retry| retry.max(at));
                if at <= now {
                    Step::Renew
                } else {
                    let ends = access.ends.unwrap_or(at);
                    Step::Sleep(Some(at.min(ends)))
                }
            }
        }
    }

    /// What somebody gets who needs a token now.
    pub(super) fn demand(&self, now: Instant) -> Demand {
        let wait = self.retry_at.filter(|at| *at > now);
        let good = self
            .access
            .filter(|it| it.ends.is_none_or(|ends| now < ends));
        match (good, wait) {
            (Some(access), None) => {
                // A worker started now would be replaced at once.
                let is_due = access.refresh_at.is_some_and(|at| at <= now);
                if is_due {
                    Demand::Refresh
                } else {
                    Demand::Ready
                }
            }
            (Some(_), Some(_)) => Demand::Ready,
            (None, _) if !self.can_refresh => Demand::Over,
            (None, Some(at)) => Demand::Wait(at),
            (None, None) => Demand::Refresh,
        }
    }
}

fn margin(lifetime: Duration) -> Duration {
    // One that lives for a minute is not renewed all the time.
    MARGIN.max(lifetime / 10).min(lifetime / 2)
}

fn skew(lifetime: Duration) -> Duration {
    SKEW.min(lifetime / 10)
}

/// The pause after so many failures: doubled each time, and spread over its second half.
fn pause(failures: u32, jitter: f64) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled
        .min(LONGEST_PAUSE)
        .mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn an_hour_is_renewed_six_minutes_ahead_and_five_minutes_one_minute() {
        let start = Instant::now();
        for (lifetime, refresh, ends) in [(3600, 3240, 3590), (300, 240, 290), (20, 10, 18)] {
            let mut schedule = Schedule::new(true);
            schedule.obtained(start, Some(secs(lifetime)), true);
            let at = |seconds| start + secs(seconds);
            assert_eq!(schedule.next(start), Step::Sleep(Some(at(refresh))));
            assert_eq!(schedule.demand(at(refresh - 1)), Demand::Ready);
            assert_eq!(schedule.next(at(refresh)), Step::Renew);
            assert_eq!(schedule.demand(at(refresh)), Demand::Refresh);
            assert_eq!(schedule.next(at(ends)), Step::LetGo);
        }
    }

    #[test]
    fn a_provider_that_is_away_costs_nothing_until_the_token_ends() {
        let start = Instant::now();
        let at = |seconds| start + secs(seconds);
        let mut schedule = Schedule::new(true);
        schedule.obtained(start, Some(secs(600)), true);
        schedule.failed(at(540), 1.0);
        assert_eq!(schedule.demand(at(541)), Demand::Ready);
        assert_eq!(schedule.next(at(541)), Step::Sleep(Some(at(542))));
        assert_eq!(schedule.next(at(542)), Step::Renew);
        for _ in 0..9 {
            schedule.failed(at(542), 1.0);
        }
        assert_eq!(schedule.next(at(543)), Step::Sleep(Some(at(590))));
        assert_eq!(schedule.next(at(590)), Step::LetGo);
        schedule.let_go();
        assert_eq!(schedule.demand(at(600)), Demand::Wait(at(842)));
        assert_eq!(schedule.demand(at(842)), Demand::Refresh);
        schedule.obtained(at(842), Some(secs(600)), true);
        assert_eq!(schedule.demand(at(843)), Demand::Ready);
    }

    #[test]
    fn without_a_refresh_token_the_end_is_the_end() {
        let start = Instant::now();
        let mut schedule = Schedule::new(false);
        assert_eq!(schedule.demand(start), Demand::Over);
        schedule.obtained(start, Some(secs(600)), false);
        assert_eq!(schedule.next(start), Step::Sleep(Some(start + secs(590))));
        assert_eq!(schedule.next(start + secs(590)), Step::End);
        assert_eq!(schedule.demand(start + secs(590)), Demand::Over);
        schedule.obtained(start, None, false);
        assert_eq!(schedule.next(start + secs(1 << 30)), Step::Sleep(None));
        assert_eq!(schedule.demand(start + secs(1 << 30)), Demand::Ready);
    }

    #[test]
    fn an_operator_is_told_of_an_end_within_the_time_and_of_failures() {
        let start = Instant::now();
        let day = secs(86_400);
        let mut schedule = Schedule::new(false);
        assert_eq!(schedule.outlook(start, day), None, "nothing was given yet");
        schedule.obtained(start, Some(secs(100_000)), false);
        assert_eq!(schedule.outlook(start, day), None, "that is far away");
        let later = start + secs(50_000);
        let ends = Outlook::Ends(secs(49_990));
        assert_eq!(schedule.outlook(later, day), Some(ends));
        schedule.obtained(start, Some(secs(600)), true);
        assert_eq!(schedule.outlook(start, day), None, "it is refreshed");
        schedule.failed(start, 1.0);
        let fails = Outlook::Fails {
            failures: 1,
            retry_in: secs(2),
        };
        assert_eq!(schedule.outlook(start, day), Some(fails));
    }

    #[derive(Clone, Debug)]
    enum Happens {
        Passes(u64),
        Obtained(u64, bool),
        Failed(f64),
        LetGo,
        Busy(bool),
    }

    fn happens() -> impl Strategy<Value = Happens> {
        prop_oneof![
            (0_u64..5000).prop_map(Happens::Passes),
            (1_u64..100_000, any::<bool>()).prop_map(|(s, can)| Happens::Obtained(s, can)),
            (0.0..1.0).prop_map(Happens::Failed),
            Just(Happens::LetGo),
            any::<bool>().prop_map(Happens::Busy),
        ]
    }

    proptest! {
        /// Whatever happens: no token is given out that has expired, nothing is due in the past
        /// again and again, and who waits gets another attempt within the longest pause.
        #[test]
        fn no_token_outlives_itself(story in prop::collection::vec(happens(), 1..60)) {
            let start = Instant::now();
            let (mut now, mut schedule) = (start, Schedule::new(true));
            let mut expires = None;
            for event in story {
                match event {
                    Happens::Passes(seconds) => now += secs(seconds),
                    Happens::Obtained(seconds, can) => {
                        schedule.obtained(now, Some(secs(seconds)), can);
                        expires = Some(now + secs(seconds));
                    }
                    Happens::Failed(jitter) => schedule.failed(now, jitter),
                    Happens::LetGo => { schedule.let_go(); expires = None; }
                    Happens::Busy(is_busy) => schedule.set_busy(is_busy),
                }
                match schedule.demand(now) {
                    Demand::Ready => prop_assert!(expires.is_some_and(|at| now < at)),
                    Demand::Wait(at) => {
                        prop_assert!(at > now && at <= now + LONGEST_PAUSE);
                        prop_assert_eq!(schedule.demand(at), Demand::Refresh);
                    }
                    Demand::Refresh => prop_assert!(schedule.can_refresh),
                    Demand::Over => prop_assert!(!schedule.can_refresh),
                }
                match schedule.next(now) {
                    Step::Sleep(Some(at)) => {
                        prop_assert!(at > now);
                        prop_assert!(expires.is_some_and(|end| at < end), "awake before it expires");
                        prop_assert_ne!(schedule.next(at), Step::Sleep(Some(at)));
                    }
                    Step::Sleep(None) => prop_assert!(expires.is_none()),
                    Step::Renew => prop_assert!(schedule.can_refresh && !schedule.is_busy),
                    Step::LetGo | Step::End => prop_assert_ne!(schedule.demand(now), Demand::Ready),
                }
            }
        }

        #[test]
        fn pauses_grow_to_a_bound(failures in 1_u32..100, jitter in 0.0..=1.0) {
            let pause = pause(failures, jitter);
            prop_assert!(pause >= FIRST_PAUSE / 2 && pause <= LONGEST_PAUSE);
        }
    }
}

//! Whether the guardian still answers. Pure: each tick is one [`PERIOD`] in which the supervisor itself ran, so that
//! a host that sleeps, or a supervisor that was stopped, is not taken for a guardian that is silent.
//!
//! ```text
//!  heard --> Ping --silent--> stopped? --yes--> Continue (SIGCONT) --silent--> GiveUp
//!                                     --no, MAX_SILENT ticks--> GiveUp
//! ```

use std::time::Duration;

/// Between two pings.
pub(super) const PERIOD: Duration = Duration::from_secs(2);
/// So many ticks without a report are the end of a guardian that is not stopped: 30 s, as it may be short of CPU.
const MAX_SILENT: u32 = 15;
/// A guardian that is stopped again within so many ticks, a minute, is being kept from its work.
const CALM: u32 = 30;

/// The step to take at a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Ask whether it is there.
    Ping,
    /// The guardian was asked: wait.
    Wait,
    /// Something stopped it: let it go on.
    Continue,
    /// Kill it, and everything it started.
    GiveUp,
}

/// The record of the guardian's answers.
#[derive(Debug, Default)]
pub(super) struct Heartbeat {
    /// Ticks since something was heard.
    silent: u32,
    /// Ticks since it was last let go on.
    continued: Option<u32>,
}

impl Heartbeat {
    /// Something came from the guardian.
    pub(super) fn heard(&mut self) {
        self.silent = 0;
    }

    /// A period has passed; `is_stopped` is asked only when that matters.
    pub(super) fn tick(&mut self, is_stopped: impl FnOnce() -> bool) -> Step {
        self.silent += 1;
        self.continued = self
            .continued
            .map(|ticks| ticks + 1)
            .filter(|&ticks| ticks <= CALM);
        if self.silent == 1 {
            return Step::Ping;
        }
        if is_stopped() {
            if self.continued.is_some() {
                return Step::GiveUp;
            }
            self.continued = Some(0);
            return Step::Continue;
        }
        if self.silent > MAX_SILENT {
            return Step::GiveUp;
        }
        Step::Wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guardian_that_answers_is_asked_again_and_again() {
        let mut heartbeat = Heartbeat::default();
        for _ in 0..100 {
            assert_eq!(heartbeat.tick(|| panic!("not asked")), Step::Ping);
            heartbeat.heard();
        }
    }

    #[test]
    fn a_stopped_guardian_is_let_go_on_once_and_given_up_when_stopped_again() {
        let mut heartbeat = Heartbeat::default();
        assert_eq!(heartbeat.tick(|| true), Step::Ping);
        assert_eq!(heartbeat.tick(|| true), Step::Continue);
        heartbeat.heard();
        assert_eq!(heartbeat.tick(|| true), Step::Ping);
        assert_eq!(heartbeat.tick(|| true), Step::GiveUp);
    }

    #[test]
    fn stopped_again_after_a_calm_minute_it_is_let_go_on_again() {
        let mut heartbeat = Heartbeat::default();
        heartbeat.tick(|| true);
        assert_eq!(heartbeat.tick(|| true), Step::Continue);
        for _ in 0..=CALM {
            heartbeat.heard();
            assert_eq!(heartbeat.tick(|| false), Step::Ping);
        }
        assert_eq!(heartbeat.tick(|| true), Step::Continue);
    }

    #[test]
    fn a_silent_one_is_given_up_after_half_a_minute() {
        let mut heartbeat = Heartbeat::default();
        assert_eq!(heartbeat.tick(|| false), Step::Ping);
        for _ in 1..MAX_SILENT {
            assert_eq!(heartbeat.tick(|| false), Step::Wait);
        }
        assert_eq!(heartbeat.tick(|| false), Step::GiveUp);
        assert_eq!(PERIOD * MAX_SILENT, Duration::from_secs(30));
    }
}

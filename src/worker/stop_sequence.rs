//! How a worker is stopped: politely first, surely in the end. Pure; time comes from outside.
//!
//! ```text
//! Running --stop--> Flushing --stdin_grace--> Terminating --term_grace--> Killing
//!    |                 (stdin closes)           (SIGTERM)                  (tree)
//!    +--stdout ends--> Mute --1 s--> Killing        any --kill, stall--> Killing
//! any --the leader exits--> Ended   (the guardian kills the rest on its own)
//! ```

use std::time::Duration;

use tokio::time::Instant;

/// How long a worker may live on after it closed its stdout: time to exit by itself.
pub(crate) const MUTE_GRACE: Duration = Duration::from_secs(1);

/// An event of the worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    Stop,
    Kill,
    StdoutEnded,
    LeaderExited,
    /// Time passed; see [`StopSequence::deadline`].
    Tick,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Write what waits, then close stdin.
    CloseStdin,
    /// Close stdin now.
    DropStdin,
    /// SIGTERM to the process group.
    Terminate,
    /// SIGKILL to everything. Stdin stays open until then: its end might be answered by an exit
    /// that looks voluntary.
    KillTree,
}

/// How far a worker is in its stop sequence.
#[derive(Debug)]
pub(crate) struct StopSequence {
    stdin_grace: Duration,
    term_grace: Duration,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    Mute { until: Instant },
    Flushing { until: Instant },
    Terminating { until: Instant },
    Killing,
    Ended,
}

impl StopSequence {
    /// The stop sequence of a worker that runs.
    pub(crate) fn new(stdin_grace: Duration, term_grace: Duration) -> Self {
        Self {
            stdin_grace,
            term_grace,
            phase: Phase::Running,
        }
    }

    /// When the next [`Event::Tick`] is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Mute { until } | Phase::Flushing { until } | Phase::Terminating { until } => {
                Some(until)
            }
            Phase::Running | Phase::Killing | Phase::Ended => None,
        }
    }

    /// Takes an event; what is to be done about it, in order.
    pub(crate) fn on(&mut self, now: Instant, event: Event) -> &'static [Action] {
        let (phase, actions): (Phase, &'static [Action]) = match (self.phase, event) {
            (Phase::Ended, _) | (_, Event::LeaderExited) => (Phase::Ended, &[]),
            (Phase::Killing, _) => (Phase::Killing, &[]),
            (_, Event::Kill) => (Phase::Killing, &[Action::KillTree]),
            (Phase::Running | Phase::Mute { .. }, Event::Stop) => {
                let until = now + self.stdin_grace;
                (Phase::Flushing { until }, &[Action::CloseStdin])
            }
            (Phase::Running, Event::StdoutEnded) => {
                let until = now + MUTE_GRACE;
                (Phase::Mute { until }, &[])
            }
            (Phase::Flushing { until }, Event::Tick) if now >= until => {
                let until = now + self.term_grace;
                let actions = &[Action::DropStdin, Action::Terminate];
                (Phase::Terminating { until }, actions)
            }
            (Phase::Terminating { until } | Phase::Mute { until }, Event::Tick) if now >= until => {
                (Phase::Killing, &[Action::KillTree])
            }
            (phase, Event::Stop | Event::StdoutEnded | Event::Tick) => (phase, &[]),
        };
        self.phase = phase;
        actions
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STDIN: Duration = Duration::from_secs(2);
    const TERM: Duration = Duration::from_secs(3);
    const KILL: &[Action] = &[Action::KillTree];

    #[test]
    fn a_worker_that_ignores_everything_is_killed_after_both_graces() {
        let start = Instant::now();
        let mut stop_sequence = StopSequence::new(STDIN, TERM);
        assert_eq!(stop_sequence.on(start, Event::Stop), [Action::CloseStdin]);
        assert_eq!(stop_sequence.on(start + STDIN / 2, Event::Tick), []);
        let terminated = start + STDIN;
        assert_eq!(stop_sequence.deadline(), Some(terminated));
        assert_eq!(
            stop_sequence.on(terminated, Event::Tick),
            [Action::DropStdin, Action::Terminate]
        );
        assert_eq!(
            stop_sequence.on(terminated, Event::Stop),
            [],
            "a second stop"
        );
        assert_eq!(stop_sequence.on(terminated + TERM, Event::Tick), KILL);
        assert_eq!(stop_sequence.deadline(), None);
    }

    #[test]
    fn closing_stdout_without_an_exit_is_fatal_after_a_second() {
        let start = Instant::now();
        let mut stop_sequence = StopSequence::new(STDIN, TERM);
        assert_eq!(stop_sequence.on(start, Event::StdoutEnded), []);
        assert_eq!(stop_sequence.on(start + MUTE_GRACE, Event::Tick), KILL);
    }

    #[test]
    fn an_exit_ends_the_sequence() {
        let start = Instant::now();
        let mut stop_sequence = StopSequence::new(STDIN, TERM);
        stop_sequence.on(start, Event::Stop);
        assert_eq!(stop_sequence.on(start, Event::LeaderExited), []);
        assert_eq!(stop_sequence.deadline(), None);
        assert_eq!(stop_sequence.on(start + STDIN, Event::Kill), []);
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            Just(Event::Stop),
            Just(Event::Kill),
            Just(Event::StdoutEnded),
            Just(Event::LeaderExited),
            Just(Event::Tick),
        ]
    }

    proptest! {
        #[test]
        fn each_step_is_taken_once_and_a_stop_ends_in_time(
            events in prop::collection::vec((event(), 0..3000u64), 0..20),
        ) {
            let mut now = Instant::now();
            let mut stop_sequence = StopSequence::new(STDIN, TERM);
            let mut done: Vec<Action> = vec![];
            let mut ended = false;
            for (event, wait) in events {
                // The runtime ticks at each deadline before anything later happens.
                let next = now + Duration::from_millis(wait);
                while let Some(deadline) = stop_sequence.deadline().filter(|&at| at <= next) {
                    done.extend(stop_sequence.on(deadline, Event::Tick));
                }
                now = next;
                done.extend(stop_sequence.on(now, event));
                ended |= event == Event::LeaderExited;
            }
            done.extend(stop_sequence.on(now, Event::Stop));
            let end = now + STDIN + TERM;
            while let Some(deadline) = stop_sequence.deadline() {
                prop_assert!(deadline <= end);
                done.extend(stop_sequence.on(deadline, Event::Tick));
            }
            let count = |action| done.iter().filter(|&&a| a == action).count();
            prop_assert!(count(Action::KillTree) == 1 || (ended && count(Action::KillTree) == 0));
            prop_assert!(count(Action::Terminate) <= 1 && count(Action::CloseStdin) <= 1);
        }
    }
}

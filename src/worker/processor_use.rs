//! Decides which workers go behind the others on the processor: those that take much of it, for as long as they do.

use std::io;
use std::time::Duration;

use procfs::process::Process;

use crate::process::set_background;

/// Of one processor: a worker whose mean is above this goes behind. Far below one, as beside other busy ones nobody gets more
/// than a part of it.
const MUCH: f64 = 0.15;
/// Of one processor: a worker that uses less for [`CALM`] goes as usual again.
const LITTLE: f64 = 0.05;
/// How long a worker must have used little, so that one that is busy every few seconds stays behind.
const CALM: Duration = Duration::from_secs(5);
/// Shortest time over which a use is told: the kernel counts in hundredths of a second (proc_pid_stat(5), `utime`).
const WINDOW: Duration = Duration::from_millis(150);

/// Whether a worker's processes go behind those of others.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Precedence {
    /// As all that the host runs.
    #[default]
    Usual,
    /// The workers and processes that take little go first.
    Behind,
}

/// How much of a processor one worker uses, look by look.
#[derive(Clone, Copy, Default, Debug)]
pub struct ProcessorUse {
    precedence: Precedence,
    /// When the worker was last looked at, and how much time it had used until then.
    last: Option<(Duration, Duration)>,
    /// The last windows' use of one processor, half of it the last one's: a single dear call is not much.
    mean: f64,
    little_since: Option<Duration>,
}

impl ProcessorUse {
    /// What the worker has now.
    pub fn precedence(&self) -> Precedence {
        self.precedence
    }

    /// The next time that is taken in is compared with none before: it is of other processes.
    pub fn begin_anew(&mut self) {
        self.last = None;
    }

    /// Takes in that the worker had used `used` of processor time at the time `at`, both since some beginning. Tells a
    /// precedence that is to be from now on, if it is another than before.
    pub fn seen(&mut self, at: Duration, used: Duration) -> Option<Precedence> {
        let Some((before, used_before)) = self.last else {
            self.last = Some((at, used));
            return None;
        };
        let passed = at.checked_sub(before).filter(|it| *it >= WINDOW)?;
        self.last = Some((at, used));
        // A process that ended takes its time with it, where nobody waited for it.
        let share = used.checked_sub(used_before)?.as_secs_f64() / passed.as_secs_f64();
        self.mean = f64::midpoint(self.mean, share);
        if share < LITTLE {
            self.little_since.get_or_insert(before);
        } else {
            self.little_since = None;
        }
        let is_calm = self.little_since.is_some_and(|since| at - since >= CALM);
        let precedence = match self.precedence {
            Precedence::Usual if self.mean > MUCH => Precedence::Behind,
            Precedence::Behind if is_calm => Precedence::Usual,
            same => same,
        };
        let is_new = precedence != self.precedence;
        self.precedence = precedence;
        is_new.then_some(precedence)
    }
}

/// Processor time that processes have used, with that of children they have waited for. Those that are gone count nothing.
pub fn processor_time(pids: &[u32]) -> Duration {
    let per_second = procfs::ticks_per_second();
    let of_one = |pid: &u32| {
        let stat = Process::new(i32::try_from(*pid).ok()?).ok()?.stat().ok()?;
        let of_children = u64::try_from(stat.cutime + stat.cstime).unwrap_or(0);
        Some(stat.utime + stat.stime + of_children)
    };
    let ticks: u64 = pids.iter().filter_map(of_one).sum();
    Duration::from_millis(ticks * 1000 / per_second.max(1))
}

/// Gives the processes of a worker that precedence.
///
/// # Errors
/// When the kernel refuses it for one that is there; the others have it.
pub fn set_precedence(pids: &[u32], precedence: Precedence) -> io::Result<()> {
    set_background(pids, precedence == Precedence::Behind)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Looks every 200 ms at a worker that uses that much of each, in ms: when it changed, and to what.
    fn changes(used: impl IntoIterator<Item = u64>) -> Vec<(u64, Precedence)> {
        let mut seen = ProcessorUse::default();
        assert_eq!(seen.seen(ms(0), ms(0)), None);
        let mut total = 0;
        let mut changes = vec![];
        for (round, used) in (1..).zip(used) {
            total += used;
            if let Some(to) = seen.seen(ms(round * 200), ms(total)) {
                changes.push((round * 200, to));
            }
        }
        changes
    }

    #[test]
    fn a_busy_loop_goes_behind_at_once_and_comes_back_when_it_has_been_quiet() {
        let busy_then_quiet = [200; 10].into_iter().chain([0; 100]);
        let expected = [(200, Precedence::Behind), (7000, Precedence::Usual)];
        assert_eq!(changes(busy_then_quiet), expected);
    }

    #[test]
    fn one_of_many_busy_loops_goes_behind_soon() {
        assert_eq!(changes([40; 100]), [(600, Precedence::Behind)]);
    }

    #[test]
    fn a_worker_that_is_busy_every_few_seconds_stays_behind() {
        let at_times = (0..300).map(|round| if round % 20 < 5 { 400 } else { 0 });
        assert_eq!(changes(at_times), [(200, Precedence::Behind)]);
    }

    #[test]
    fn a_worker_that_answers_calls_and_a_single_dear_call_stay_as_they_are() {
        assert_eq!(changes([25; 100]), []);
        assert_eq!(changes([0, 0, 50, 0, 0, 0]), []);
    }

    #[test]
    fn looks_that_come_too_soon_and_time_that_runs_backwards_say_nothing() {
        let mut seen = ProcessorUse::default();
        for (at, used) in [(0, 0), (50, 50), (100, 100)] {
            assert_eq!(seen.seen(ms(at), ms(used)), None);
        }
        // Processes that were not known before have used much, long ago.
        let mut other = seen;
        other.begin_anew();
        assert_eq!(other.seen(ms(1000), ms(90_000)), None);
        assert_eq!(other.seen(ms(2000), ms(90_010)), None);
        // A child that had used much is gone.
        assert_eq!(seen.seen(ms(1000), ms(100)), None);
        assert_eq!(seen.seen(ms(2000), ms(50)), None);
        assert_eq!(seen.seen(ms(3000), ms(1050)), Some(Precedence::Behind));
    }

    proptest! {
        #[test]
        fn who_goes_behind_used_much_and_who_comes_back_was_calm(
            used in proptest::collection::vec(0..400_u64, 0..300)
        ) {
            for (at, to) in changes(used.iter().copied()) {
                let round = usize::try_from(at / 200).expect("few");
                match to {
                    Precedence::Behind => {
                        prop_assert!(used[..round].iter().any(|used| *used > 30));
                    }
                    Precedence::Usual => {
                        prop_assert!(used[round - 25..round].iter().all(|used| *used < 10));
                    }
                }
            }
        }
    }
}

//! The points of the last day, and what was counted of late.

use std::collections::VecDeque;
use std::time::Duration;

use super::columns::History;
use super::point::{Point, Sample, Totalled};

/// Points that are kept: those of a day.
pub const MINUTES: usize = 1_440;
/// The length of a minute.
const MINUTE: Duration = Duration::from_secs(60);
/// For how long back it is said what was counted of late.
const LATELY: Duration = Duration::from_secs(300);

/// The last day, minute by minute. Times are those since the supervisor started.
#[derive(Debug, Default)]
pub struct Minutes {
    /// The latest last; `None` of a minute in which nothing was sampled.
    points: VecDeque<Option<Point>>,
    /// The number of the minute of the latest point.
    latest: u64,
    /// Counters as they stood of late, oldest first, with when.
    stood: VecDeque<(Duration, Totalled)>,
}

impl Minutes {
    /// Takes in a sample. One of a minute that has a point already is none of its own, but for what is told of late.
    pub fn push(&mut self, since_start: Duration, sample: &Sample) {
        let minute = since_start.as_secs() / MINUTE.as_secs();
        let nothing = Totalled::default();
        let before = self.stood.back().map_or(&nothing, |(_, stood)| stood);
        if self.points.is_empty() || minute > self.latest {
            let point = Point::of(sample, before);
            let missed = match self.points.is_empty() {
                true => 0,
                false => minute - self.latest - 1,
            };
            // Of a long gap only as much as there is room for.
            let missed = usize::try_from(missed).unwrap_or(MINUTES).min(MINUTES);
            self.points.extend(std::iter::repeat_n(None, missed));
            self.points.push_back(Some(point));
            let over = self.points.len().saturating_sub(MINUTES);
            self.points.drain(..over);
            self.latest = minute;
            self.stood.push_back((since_start, sample.totalled.clone()));
        }
        // One that is as old as is wanted stays.
        while let Some((second, _)) = self.stood.get(1)
            && since_start.saturating_sub(*second) >= LATELY
        {
            self.stood.pop_front();
        }
    }

    /// How counters stood about five minutes before that time, and how long that is; at the start they stood at nothing.
    pub fn before(&self, since_start: Duration) -> (Totalled, Duration) {
        let far_enough =
            |(at, _): &&(Duration, Totalled)| since_start.saturating_sub(*at) >= LATELY;
        let found = self.stood.iter().rev().find(far_enough);
        match found.or(self.stood.front()) {
            Some((at, stood)) if since_start.saturating_sub(*at) >= MINUTE => {
                (stood.clone(), since_start.saturating_sub(*at))
            }
            // Nothing is known of before the start.
            _ => (Totalled::default(), since_start),
        }
    }

    /// The day in at most so many points, at least one: neighbours are put together. `at_ms` is the time of the latest point, in
    /// milliseconds since 1970.
    pub fn history(&self, at_ms: u64, most: usize) -> History {
        let each = self.points.len().div_ceil(most.max(1)).max(1);
        let mut groups: Vec<Vec<Option<Point>>> = Vec::new();
        // From the latest on, so that the oldest group is the one that is not full.
        let mut points: Vec<_> = self.points.iter().rev().copied().collect();
        for group in points.chunks_mut(each) {
            groups.push(group.to_vec());
        }
        groups.reverse();
        History::of(at_ms, each, &groups)
    }

    /// How counters stood at the latest point; `None` before the first.
    pub fn stood(&self) -> Option<&Totalled> {
        self.stood.back().map(|(_, stood)| stood)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn minutes(n: u64) -> Duration {
        Duration::from_secs(60 * n)
    }

    fn sample(calls: u64, busy: usize, queue_depth: usize) -> Sample {
        let mut sample = Sample {
            queue_depth,
            awake_bytes: (busy as u64) << 20,
            ..Sample::default()
        };
        sample.workers.busy = busy;
        sample.totalled.totals.calls = calls;
        sample
    }

    #[test]
    fn levels_are_as_they_were_and_counts_those_of_the_minute() {
        let mut day = Minutes::default();
        assert_eq!(day.history(0, 10).len, 0);
        day.push(Duration::ZERO, &sample(0, 0, 0));
        day.push(minutes(1), &sample(7, 2, 3));
        // A second look in the same minute.
        day.push(minutes(1) + Duration::from_secs(5), &sample(9, 5, 5));
        day.push(minutes(4), &sample(10, 1, 0));
        let told = day.history(240_000, 1_440);
        assert_eq!((told.len, told.step_seconds), (5, 60));
        let calls = [Some(0), Some(7), None, None, Some(3)];
        assert_eq!(told.counts.calls, calls);
        let busy = [Some(0.0), Some(2.0), None, None, Some(1.0)];
        assert_eq!(told.workers.busy, busy);
        assert_eq!(told.queue_depth, [Some(0), Some(3), None, None, Some(0)]);
    }

    #[test]
    fn neighbours_are_put_together_from_the_latest_on() {
        let mut day = Minutes::default();
        for (n, (busy, queue)) in [(1, 0), (2, 9), (4, 1), (0, 0), (8, 2)]
            .into_iter()
            .enumerate()
        {
            day.push(minutes(n as u64), &sample(10 * n as u64, busy, queue));
        }
        let told = day.history(0, 3);
        assert_eq!((told.len, told.step_seconds), (3, 120));
        assert_eq!(
            told.workers.busy,
            [Some(1.0), Some(3.0), Some(4.0)],
            "the mean"
        );
        assert_eq!(told.queue_depth, [Some(0), Some(9), Some(2)], "the highest");
        assert_eq!(told.counts.calls, [Some(0), Some(20), Some(20)], "the sum");
    }

    #[test]
    fn what_was_of_late_is_told_over_five_minutes_and_sooner_since_the_start() {
        let mut day = Minutes::default();
        let seconds = Duration::from_secs;
        assert_eq!(day.before(seconds(9)), (Totalled::default(), seconds(9)));
        for n in 0..=20 {
            day.push(minutes(n), &sample(100 * n, 0, 0));
        }
        let now = minutes(20) + seconds(30);
        let (stood, over) = day.before(now);
        assert_eq!((stood.totals.calls, over), (1_500, seconds(330)));
        assert!(day.stood.len() <= 7, "{}", day.stood.len());
    }

    proptest! {
        #[test]
        fn the_memory_is_bounded_and_no_count_is_lost_that_is_in_the_day(
            steps in prop::collection::vec((0_u64..2_000, 0_u64..50), 1..60),
            most in 1_usize..2_000,
        ) {
            let mut day = Minutes::default();
            let (mut minute, mut calls) = (0, 0);
            let mut all = vec![];
            for (gap, count) in steps {
                minute += gap;
                calls += count;
                let is_new = all.last().is_none_or(|(last, _)| *last < minute);
                day.push(minutes(minute), &sample(calls, 1, 0));
                if is_new {
                    let before: u64 = all.iter().map(|(_, count)| count).sum();
                    all.push((minute, calls - before));
                }
                prop_assert!(day.points.len() <= MINUTES);
            }
            let told = day.history(0, most);
            prop_assert!(told.len <= most);
            prop_assert_eq!(told.len, told.counts.calls.len());
            let last = all.last().map_or(0, |(last, _)| *last);
            let in_day = all.iter().filter(|(at, _)| last - at < MINUTES as u64);
            let expected: u64 = in_day.map(|(_, count)| count).sum();
            let sum: u64 = told.counts.calls.iter().flatten().sum();
            prop_assert_eq!(sum, expected);
        }
    }
}

//! Hours and months of UTC.
//!
//! The calendar is the proleptic Gregorian one, as in ISO 8601, without leap seconds, as `time(2)` has it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Seconds of an hour.
const HOUR: u64 = 3600;
/// Seconds of a day.
const DAY: u64 = 86_400;
/// Days from 0000-03-01 to 1970-01-01, in the Gregorian calendar.
const DAYS_TO_1970: u64 = 719_468;
/// Days of 400 years.
const ERA: u64 = 146_097;

/// An hour of UTC, by its number since 1970. A time before that is in the first hour.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Hour(pub u64);

impl Hour {
    /// The hour of that time.
    pub fn of(at: SystemTime) -> Self {
        let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::of_seconds(since.as_secs())
    }

    /// The hour of that time, in seconds since 1970.
    pub fn of_seconds(seconds: u64) -> Self {
        Self(seconds / HOUR)
    }

    /// When it begins, in seconds since 1970.
    pub fn seconds(self) -> u64 {
        self.0.saturating_mul(HOUR)
    }

    /// The month that it is of.
    pub fn month(self) -> Month {
        Month::of_day(self.0 / 24)
    }
}

/// A month of UTC, by its number since the year 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Month(u64);

impl Month {
    /// The month of a day, by that day's number since 1970: <https://howardhinnant.github.io/date_algorithms.html#civil_from_days>
    fn of_day(day: u64) -> Self {
        let day = day.saturating_add(DAYS_TO_1970);
        let (era, of_era) = (day / ERA, day % ERA);
        let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        // From March on.
        let month = (5 * of_year + 2) / 153;
        Self((era * 400 + year) * 12 + month + 2)
    }

    /// The month of that time.
    pub fn of(at: SystemTime) -> Self {
        Hour::of(at).month()
    }

    /// The month after it.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// When it begins, in seconds since 1970: <https://howardhinnant.github.io/date_algorithms.html#days_from_civil>
    pub fn seconds(self) -> u64 {
        // Counted from March of the year 0 on.
        let since_march = self.0.saturating_sub(2);
        let (year, month) = (since_march / 12, since_march % 12);
        let (era, of_era) = (year / 400, year % 400);
        let of_year = (153 * month + 2) / 5;
        let day = era * ERA + of_era * 365 + of_era / 4 - of_era / 100 + of_year;
        day.saturating_sub(DAYS_TO_1970).saturating_mul(DAY)
    }

    /// When it begins.
    pub fn begins(self) -> SystemTime {
        UNIX_EPOCH
            .checked_add(Duration::from_secs(self.seconds()))
            .unwrap_or(UNIX_EPOCH)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> SystemTime {
        humantime::parse_rfc3339_weak(text).expect("a time")
    }

    #[test]
    fn months_begin_when_the_calendar_says() {
        for (time, begins, next) in [
            (
                "1970-01-01T00:00:00Z",
                "1970-01-01T00:00:00Z",
                "1970-02-01T00:00:00Z",
            ),
            (
                "2026-11-30T23:59:59Z",
                "2026-11-01T00:00:00Z",
                "2026-12-01T00:00:00Z",
            ),
            (
                "2026-12-31T23:59:59Z",
                "2026-12-01T00:00:00Z",
                "2027-01-01T00:00:00Z",
            ),
            (
                "2028-02-29T12:00:00Z",
                "2028-02-01T00:00:00Z",
                "2028-03-01T00:00:00Z",
            ),
            (
                "2100-02-28T12:00:00Z",
                "2100-02-01T00:00:00Z",
                "2100-03-01T00:00:00Z",
            ),
            (
                "2000-02-29T00:00:00Z",
                "2000-02-01T00:00:00Z",
                "2000-03-01T00:00:00Z",
            ),
        ] {
            let month = Month::of(at(time));
            assert_eq!(month.begins(), at(begins), "{time}");
            assert_eq!(month.next().begins(), at(next), "{time}");
        }
        assert_eq!(Hour::of(at("1970-01-02T01:59:59Z")), Hour(25));
        assert_eq!(Hour::of(UNIX_EPOCH - Duration::from_secs(5)), Hour(0));
    }

    proptest! {
        /// Every second is in the month that has begun and whose next has not.
        #[test]
        fn each_time_is_within_its_month(secs in 0_u64..30_000_000_000) {
            let month = Month::of(UNIX_EPOCH + Duration::from_secs(secs));
            prop_assert!(month.seconds() <= secs);
            prop_assert!(secs < month.next().seconds());
            let days = (month.next().seconds() - month.seconds()) / DAY;
            prop_assert!((28..=31).contains(&days));
        }
    }
}

//! Points in time as the database keeps them: whole seconds since 1970.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub(super) fn seconds(at: SystemTime) -> i64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

pub(super) fn time(seconds: i64) -> SystemTime {
    let since = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    UNIX_EPOCH.checked_add(since).unwrap_or(UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_as_it_was_written_and_none_is_out_of_range() {
        for whole in [0, 1, 1_796_000_000, i64::MAX / 2, i64::MAX] {
            assert_eq!(seconds(time(whole)), whole);
        }
        // Before 1970, as under a clock that was never set, and as nobody writes it.
        for before in [-1, i64::MIN] {
            assert_eq!(time(before), UNIX_EPOCH);
        }
        let hour = Duration::from_secs(3600);
        assert_eq!(seconds(UNIX_EPOCH - hour), 0);
    }
}

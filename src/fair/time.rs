//! What a poll used of its processor. A thread that waits for a processor, because other processes have it, does nothing
//! meanwhile, and nobody is charged for that.

use std::cell::Cell;

use nix::time::{ClockId, clock_gettime};

/// Shorter polls are taken for what the clock on the wall says, in nanoseconds: to ask the kernel costs some hundred.
const LONG: u64 = 500_000;
/// How old what is known of a thread may be when a poll begins, in nanoseconds: so much at most is a long poll charged
/// too much.
const FRESH: u64 = 100_000;

/// A thread's time on its processor, and when it was looked at, in nanoseconds.
#[derive(Clone, Copy, Default, Debug)]
struct CpuReading {
    at: u64,
    used: u64,
}

thread_local! {
    static LAST_READING: Cell<CpuReading> = const { Cell::new(CpuReading { at: 0, used: 0 }) };
}

/// Notes that a poll begins on this thread at that time, in nanoseconds.
pub(super) fn begins(now: u64) {
    // Another scheduler's clock may be ahead of this one's.
    if now.abs_diff(LAST_READING.get().at) > FRESH {
        look(now);
    }
}

/// The time that a poll from `since` to `now` used on this thread, in nanoseconds.
pub(super) fn used(since: u64, now: u64) -> u64 {
    let took = now.saturating_sub(since);
    if took < LONG {
        return took;
    }
    let before = LAST_READING.get().used;
    match look(now) {
        Some(used) => took.min(used.saturating_sub(before)),
        None => took,
    }
}

/// The processor time of this thread; `None` where the kernel does not say (it does since Linux 2.6.12, clock_gettime(2)).
fn look(at: u64) -> Option<u64> {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).ok()?;
    let used = u64::try_from(std::time::Duration::from(time).as_nanos()).ok()?;
    LAST_READING.set(CpuReading { at, used });
    Some(used)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn nanos(since: Instant) -> u64 {
        u64::try_from(since.elapsed().as_nanos()).expect("short")
    }

    #[test]
    fn a_thread_that_waits_uses_nothing() {
        let clock = Instant::now();
        let since = nanos(clock);
        begins(since);
        std::thread::sleep(Duration::from_millis(50));
        let used = used(since, nanos(clock));
        assert!(used < 25_000_000, "{used}");
    }

    #[test]
    fn a_thread_that_works_is_charged_for_what_it_did() {
        let clock = Instant::now();
        let since = nanos(clock);
        begins(since);
        let began = look(since).expect("known");
        // Ten milliseconds of its processor, however long that takes.
        while look(nanos(clock)).expect("known") - began < 10_000_000 {}
        LAST_READING.set(CpuReading {
            at: since,
            used: began,
        });
        let used = used(since, nanos(clock));
        assert!(used >= 10_000_000, "{used}");
    }
}

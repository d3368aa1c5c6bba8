//! How much of the processor each worker uses, from what it had used at several looks.
//!
//! What a worker has used is known to within a few seconds only. So it is told over ten to twenty.
//!
//! Pure: time is handed in.

use std::time::Duration;

use rustc_hash::FxHashMap;
use tokio::time::Instant;

use crate::ids::WorkerId;

/// How far apart two looks are, at the least, that a rate is made of.
const SPAN: Duration = Duration::from_secs(10);

/// Processor time that was used at a time.
type Look = (Instant, Duration);

/// What each worker had used at two looks, the older first.
#[derive(Debug, Default)]
pub(super) struct ProcessorRates {
    known: FxHashMap<WorkerId, [Look; 2]>,
}

impl ProcessorRates {
    /// Takes in what each worker has used since its start; how much each uses, in seconds of a second. Workers that are not among
    /// them are forgotten.
    pub(super) fn of(
        &mut self,
        now: Instant,
        used: impl Iterator<Item = (WorkerId, Duration)>,
    ) -> FxHashMap<WorkerId, f64> {
        let mut known = std::mem::take(&mut self.known);
        let rate = |(id, used): (WorkerId, Duration)| {
            let look = (now, used);
            let mut looks = known.remove(&id).unwrap_or([look; 2]);
            let [older, newer] = looks;
            if now.saturating_duration_since(newer.0) >= SPAN {
                looks = [newer, look];
            }
            self.known.insert(id, looks);
            let over = now.saturating_duration_since(older.0);
            let rate = used.saturating_sub(older.1).div_duration_f64(over);
            (id, if over.is_zero() { 0.0 } else { rate })
        };
        used.map(rate).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_that_of_the_last_ten_to_twenty_seconds() {
        let (begun, id) = (Instant::now(), WorkerId(1));
        let mut rates = ProcessorRates::default();
        let mut told = vec![];
        for second in (0_u32..60).step_by(2) {
            // Busy for the first half a minute, which is known in steps of five seconds.
            let used = Duration::from_secs(u64::from(second.min(30) / 5 * 5));
            let now = begun + Duration::from_secs(second.into());
            let rate = rates.of(now, [(id, used)].into_iter())[&id];
            told.push((second, rate));
        }
        assert_eq!(told[0], (0, 0.0));
        for (second, rate) in told {
            match second {
                20..=30 => assert!((0.7..1.3).contains(&rate), "{second}: {rate}"),
                54.. => assert!(rate.abs() < f64::EPSILON, "{second}: {rate}"),
                _ => {}
            }
        }
        assert!(rates.of(begun, std::iter::empty()).is_empty());
        assert!(rates.known.is_empty(), "those that are gone are forgotten");
    }
}

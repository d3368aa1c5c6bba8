//! What was used lately, by tenant and server: for those who look, and only while somebody looks.
//!
//! ```text
//!  charge ──▶ Tally ── taken now and then ──▶ RateWindow: the tallies of the last minute, and their sum
//! ```
//!
//! Pure: time is handed in.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use super::Amounts;
use crate::ids::{ServerName, TenantId};

/// Most pairs of tenant and server that are told apart; what others use counts for all together alone.
const MOST_PAIRS: usize = 65_536;

/// What was used in some span of time.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Used {
    /// Requests for tools, prompts, resources and completions.
    pub calls: u64,
    /// Requests that were answered with an error, the server's or stdiopool's.
    pub errors: u64,
    /// Processor time of workers, in milliseconds.
    pub cpu_ms: u64,
}

impl Used {
    /// Adds what else was used.
    pub fn add(&mut self, other: Self) {
        self.calls += other.calls;
        self.errors += other.errors;
        self.cpu_ms += other.cpu_ms;
    }

    fn subtract(&mut self, other: Self) {
        self.calls = self.calls.saturating_sub(other.calls);
        self.errors = self.errors.saturating_sub(other.errors);
        self.cpu_ms = self.cpu_ms.saturating_sub(other.cpu_ms);
    }

    fn is_zero(self) -> bool {
        self == Self::default()
    }
}

impl From<&Amounts> for Used {
    fn from(amounts: &Amounts) -> Self {
        Self {
            calls: amounts.calls,
            errors: amounts.errors,
            cpu_ms: amounts.cpu_ms,
        }
    }
}

/// What each tenant has used of each server.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Tally {
    tenants: FxHashMap<TenantId, FxHashMap<ServerName, Used>>,
    pairs: usize,
    total: Used,
}

impl Tally {
    /// Adds what the tenant has used of the server.
    pub(super) fn add(&mut self, tenant: &TenantId, server: &ServerName, used: Used) {
        if used.is_zero() {
            return;
        }
        self.total.add(used);
        let known = self.tenants.get_mut(tenant);
        if let Some(known) = known.and_then(|servers| servers.get_mut(server)) {
            known.add(used);
        } else if self.pairs < MOST_PAIRS {
            self.pairs += 1;
            let servers = self.tenants.entry(tenant.clone()).or_default();
            servers.insert(server.clone(), used);
        }
    }

    fn subtract(&mut self, tenant: &TenantId, server: &ServerName, used: Used) {
        let Some(servers) = self.tenants.get_mut(tenant) else {
            return;
        };
        let Some(known) = servers.get_mut(server) else {
            return;
        };
        known.subtract(used);
        if known.is_zero() {
            servers.remove(server);
            self.pairs -= 1;
            if servers.is_empty() {
                self.tenants.remove(tenant);
            }
        }
    }

    /// What all have used together.
    pub fn total(&self) -> Used {
        self.total
    }

    /// What each tenant has used of each server, in no order.
    pub fn pairs(&self) -> impl Iterator<Item = (&TenantId, &ServerName, Used)> {
        let tenants = self.tenants.iter();
        tenants.flat_map(|(tenant, servers)| {
            let servers = servers.iter();
            servers.map(move |(server, used)| (tenant, server, *used))
        })
    }
}

/// What was used in a span of time that ends now and moves on.
#[derive(Debug)]
pub struct RateWindow {
    span: Duration,
    /// When the oldest of the tallies begins.
    begins: Instant,
    /// Each with when it ends, oldest first.
    tallies: VecDeque<(Instant, Tally)>,
    sum: Tally,
}

impl RateWindow {
    /// An empty window that begins at that time and grows to `span`.
    pub fn new(begins: Instant, span: Duration) -> Self {
        Self {
            span,
            begins,
            tallies: VecDeque::new(),
            sum: Tally::default(),
        }
    }

    /// Takes in what was used since the last tally, and lets go of what is older than the span. A time before that of the last tally
    /// counts as that.
    pub fn push(&mut self, now: Instant, tally: Tally) {
        let now = (self.tallies.back()).map_or(now.max(self.begins), |(last, _)| now.max(*last));
        for (tenant, server, used) in tally.pairs() {
            self.sum.add(tenant, server, used);
        }
        // With what is of no pair.
        let of_pairs = tally.pairs().fold(Used::default(), |mut sum, (.., used)| {
            sum.add(used);
            sum
        });
        let mut beyond = tally.total;
        beyond.subtract(of_pairs);
        self.sum.total.add(beyond);
        self.tallies.push_back((now, tally));
        while let Some((ends, _)) = self.tallies.front()
            && now.saturating_duration_since(*ends) >= self.span
            && let Some((ends, old)) = self.tallies.pop_front()
        {
            self.begins = ends;
            self.sum.total.subtract(old.total);
            for (tenant, server, used) in old.pairs() {
                self.sum.subtract(tenant, server, used);
            }
        }
    }

    /// The sum of what was used in the window.
    pub fn sum(&self) -> &Tally {
        &self.sum
    }

    /// How long the window is: what rates are told over.
    pub fn length(&self) -> Duration {
        let ends = self.tallies.back().map_or(self.begins, |(ends, _)| *ends);
        ends.saturating_duration_since(self.begins)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SPAN: Duration = Duration::from_secs(60);

    fn used(calls: u64) -> Used {
        Used {
            calls,
            errors: calls / 2,
            cpu_ms: 7 * calls,
        }
    }

    fn tally(of: &[(u8, u8, u64)]) -> Tally {
        let mut tally = Tally::default();
        for (tenant, server, calls) in of {
            let tenant = TenantId::new(format!("t{tenant}"));
            let server = ServerName::new(format!("s{server}"));
            tally.add(&tenant, &server, used(*calls));
        }
        tally
    }

    #[test]
    fn a_minute_is_remembered_and_no_more() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut window = RateWindow::new(begun, SPAN);
        assert_eq!(window.length(), Duration::ZERO);
        window.push(at(2), tally(&[(1, 1, 4)]));
        assert_eq!(
            (window.length(), window.sum().total()),
            (Duration::from_secs(2), used(4))
        );
        window.push(at(61), tally(&[(1, 1, 2), (2, 1, 6)]));
        assert_eq!(window.sum().total().calls, 12);
        window.push(at(62), Tally::default());
        assert_eq!(
            (window.length(), window.sum().total().calls),
            (Duration::from_secs(60), 8)
        );
        window.push(at(500), Tally::default());
        assert_eq!(window.sum(), &Tally::default());
        // A clock that goes back is taken to stand still.
        window.push(at(400), tally(&[(1, 1, 2)]));
        assert_eq!(window.sum().total().calls, 2);
    }

    #[test]
    fn beyond_its_bound_a_tally_counts_for_all_together_alone() {
        let mut tally = Tally::default();
        let server = ServerName::new("s");
        for n in 0..MOST_PAIRS + 5 {
            tally.add(&TenantId::new(format!("t{n}")), &server, used(2));
        }
        assert_eq!(tally.pairs().count(), MOST_PAIRS);
        assert_eq!(tally.total().calls, 2 * (MOST_PAIRS as u64 + 5));
        let begun = Instant::now();
        let mut window = RateWindow::new(begun, SPAN);
        window.push(begun + SPAN, tally.clone());
        assert_eq!(window.sum().total(), tally.total());
        window.push(begun + 2 * SPAN, Tally::default());
        assert_eq!(window.sum(), &Tally::default());
    }

    proptest! {
        #[test]
        fn the_sum_is_that_of_the_tallies_in_the_window(
            steps in prop::collection::vec((0_u64..50, prop::collection::vec((0_u8..4, 0_u8..3, 0_u64..9), 0..5)), 1..60),
        ) {
            let begun = Instant::now();
            let mut now = begun;
            let mut window = RateWindow::new(begun, SPAN);
            let mut all = vec![];
            for (seconds, of) in steps {
                now += Duration::from_secs(seconds);
                window.push(now, tally(&of));
                all.push((now, of));
                let mut expected = Tally::default();
                for (at, of) in &all {
                    if now - *at < SPAN {
                        for (tenant, server, used) in tally(of).pairs() {
                            expected.add(tenant, server, used);
                        }
                    }
                }
                prop_assert_eq!(window.sum(), &expected);
                prop_assert!(window.length() <= now - begun);
            }
        }
    }
}

//! The order of installs. Pure, but for [`InstallQueue`], which waits.
//!
//! So many installs run at once, each with a permit. The tenant with fewest of them is next; a tenant that has none gets one more at
//! once where another has several, and where installs take longer than usual: so no tenant's slow installs hold all.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Installs at once: they are bound by disk and CPU like starts.
const PERMITS: usize = 2;
/// Permits beside those, for tenants that have none while others' installs take long.
const EXTRA_PERMITS: usize = 2;
/// How long an install takes usually, at the most.
const USUAL: Duration = Duration::from_secs(30);
/// Tenants that are remembered to wait for one install.
const MAX_REQUESTERS: usize = 64;

/// Name of the tenant that asks for an install; empty where nobody did.
pub(super) type Requester = Arc<str>;

/// Tenants that wait for one install, which is begun for the one of them that has fewest others.
#[derive(Clone, Debug)]
pub(super) struct Requesters(Arc<Mutex<Vec<Requester>>>);

impl Requesters {
    pub(super) fn new(requester: Requester) -> Self {
        Self(Arc::new(Mutex::new(vec![requester])))
    }

    /// Someone else waits for it too.
    pub(super) fn add(&self, requester: Requester) {
        let mut requesters = self.0.lock();
        if requesters.len() < MAX_REQUESTERS && !requesters.contains(&requester) {
            requesters.push(requester);
        }
    }

    /// The requester that has fewest of the running installs, and how many.
    fn least(&self, running: &[Running]) -> Option<(usize, Requester)> {
        let requesters = self.0.lock();
        let counted = requesters.iter().map(|requester| {
            let own = running.iter().filter(|other| other.requester == *requester);
            (own.count(), Arc::clone(requester))
        });
        counted.min_by_key(|(own, _)| *own)
    }
}

#[derive(Debug)]
struct Running {
    id: u64,
    requester: Requester,
    since: Instant,
}

/// Installs that have a permit, and those that wait, in order.
#[derive(Default, Debug)]
struct QueueState {
    running: Vec<Running>,
    waiting: VecDeque<(u64, Requesters)>,
    last: u64,
}

impl QueueState {
    fn enter(&mut self, requesters: Requesters) -> u64 {
        self.last += 1;
        self.waiting.push_back((self.last, requesters));
        self.last
    }

    /// Gives a permit to whoever has fewest, and waits longest among those, if there is one for it; whether there was.
    fn grant(&mut self, now: Instant) -> bool {
        let waiting = self.waiting.iter().enumerate();
        let next = waiting.filter_map(|(at, (id, requesters))| {
            let (own, requester) = requesters.least(&self.running)?;
            Some((own, at, *id, requester))
        });
        let next = next.min_by_key(|(own, at, ..)| (*own, *at));
        let Some((own, at, id, requester)) = next else {
            return false;
        };
        if !self.has_permit(own, now) {
            return false;
        }
        self.waiting.remove(at);
        let since = now;
        self.running.push(Running {
            id,
            requester,
            since,
        });
        true
    }

    /// Whether there is a permit for someone who has so many.
    fn has_permit(&self, own: usize, now: Instant) -> bool {
        let taken = self.running.len();
        if taken < PERMITS {
            return true;
        }
        let is_long = |running: &&Running| now.duration_since(running.since) >= USUAL;
        let long = self.running.iter().filter(is_long).count();
        let of = |requester: &Requester| {
            self.running
                .iter()
                .filter(|it| it.requester == *requester)
                .count()
        };
        let has_several = self
            .running
            .iter()
            .any(|running| of(&running.requester) > 1);
        own == 0 && taken < PERMITS + EXTRA_PERMITS && (has_several || taken - PERMITS < long)
    }

    fn leave(&mut self, id: u64) {
        self.running.retain(|running| running.id != id);
        self.waiting.retain(|(waiting, _)| *waiting != id);
    }

    fn has(&self, id: u64) -> bool {
        self.running.iter().any(|running| running.id == id)
    }
}

/// Grants installs their permits.
#[derive(Default, Debug)]
pub(super) struct InstallQueue {
    state: Mutex<QueueState>,
    changed: Notify,
}

/// A permit, or the wait for one; given up when it is dropped.
#[derive(Debug)]
pub(super) struct InstallPermit<'a> {
    queue: &'a InstallQueue,
    id: u64,
}

impl InstallQueue {
    /// Waits for a permit.
    ///
    /// # Cancel-Safety
    /// Cancel-safe: who does not wait any more is forgotten.
    pub(super) async fn take(&self, requesters: &Requesters) -> InstallPermit<'_> {
        let id = self.state.lock().enter(requesters.clone());
        let permit = InstallPermit { queue: self, id };
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Before it is looked, so that no change is missed.
            changed.as_mut().enable();
            let (is_mine, has_granted) = {
                let mut state = self.state.lock();
                let mut has_granted = false;
                while state.grant(Instant::now()) {
                    has_granted = true;
                }
                (state.has(id), has_granted)
            };
            if has_granted {
                self.changed.notify_waiters();
            }
            if is_mine {
                return permit;
            }
            // Others' installs may begin to take long meanwhile, or another tenant asks for this one.
            let _again = tokio::time::timeout(Duration::from_secs(1), changed).await;
        }
    }
}

impl Drop for InstallPermit<'_> {
    fn drop(&mut self) {
        self.queue.state.lock().leave(self.id);
        self.queue.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn requester(name: &str) -> Requester {
        name.into()
    }

    fn running(state: &QueueState) -> Vec<&str> {
        state
            .running
            .iter()
            .map(|running| &*running.requester)
            .collect()
    }

    fn granted(state: &mut QueueState, now: Instant) {
        while state.grant(now) {}
    }

    fn entered(state: &mut QueueState, name: &str) -> u64 {
        state.enter(Requesters::new(requester(name)))
    }

    #[test]
    fn one_tenants_slow_installs_keep_no_other_waiting() {
        let (mut state, now) = (QueueState::default(), Instant::now());
        let first = entered(&mut state, "a");
        for _ in 0..3 {
            entered(&mut state, "a");
        }
        granted(&mut state, now);
        assert_eq!(running(&state), ["a", "a"], "nobody else wants them");
        entered(&mut state, "b");
        granted(&mut state, now);
        assert_eq!(running(&state), ["a", "a", "b"], "one more, at once");
        state.leave(first);
        granted(&mut state, now + USUAL);
        assert_eq!(running(&state), ["a", "b"], "its others wait");
        // Each has one, and they take long.
        entered(&mut state, "c");
        granted(&mut state, now + USUAL / 2);
        assert_eq!(running(&state), ["a", "b"]);
        granted(&mut state, now + USUAL);
        assert_eq!(running(&state), ["a", "b", "c"]);
    }

    #[test]
    fn an_install_that_another_tenant_asks_for_too_does_not_wait_for_the_first_ones_others() {
        let (mut state, now) = (QueueState::default(), Instant::now());
        entered(&mut state, "a");
        entered(&mut state, "a");
        let shared = Requesters::new(requester("a"));
        let wanted = state.enter(shared.clone());
        granted(&mut state, now);
        assert!(!state.has(wanted));
        shared.add(requester("b"));
        granted(&mut state, now);
        assert!(state.has(wanted));
        assert_eq!(running(&state), ["a", "a", "b"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_is_given_up_is_forgotten_and_a_place_goes_on() {
        let queue = InstallQueue::default();
        let of = |name: &str| Requesters::new(requester(name));
        let first = queue.take(&of("a")).await;
        let _other = queue.take(&of("b")).await;
        let (third, given_up) = (of("c"), of("d"));
        {
            let waiting = queue.take(&given_up);
            let waited = tokio::time::timeout(Duration::from_millis(1), waiting).await;
            assert!(waited.is_err());
        }
        let next = queue.take(&third);
        tokio::pin!(next);
        let waited = tokio::time::timeout(Duration::from_millis(1), &mut next).await;
        assert!(waited.is_err());
        drop(first);
        let _third = next.await;
        assert!(queue.state.lock().waiting.is_empty());
    }

    proptest! {
        /// There are never more than there are, who has one does not get one more, and none is free while someone waits.
        #[test]
        fn places_are_shared(steps in prop::collection::vec((0_u8..4, 0_u8..5, 0_u64..40), 0..60)) {
            let (mut state, mut now) = (QueueState::default(), Instant::now());
            for (what, who, wait) in steps {
                now += Duration::from_secs(wait);
                match what {
                    0 | 1 => drop(entered(&mut state, &who.to_string())),
                    2 => if let Some(id) = state.running.first().map(|it| it.id) { state.leave(id) },
                    _ => if let Some(id) = state.waiting.back().map(|it| it.0) { state.leave(id) },
                }
                granted(&mut state, now);
                let names = running(&state);
                prop_assert!(names.len() <= PERMITS + EXTRA_PERMITS);
                for name in &names {
                    prop_assert!(names.iter().filter(|other| *other == name).count() <= PERMITS);
                }
                prop_assert!(names.len() >= PERMITS || state.waiting.is_empty());
            }
        }
    }
}

//! Which install is next. Pure, but for [`Turns`], which waits.
//!
//! There are so many places for installs at once. Whoever has fewest of them is next; a tenant that has none gets one more at
//! once where another has several, and where installs take longer than usual: so no tenant's slow installs hold all.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Installs at once: they are bound by disk and CPU like starts.
const PLACES: usize = 2;
/// Places beside those, for tenants that have none while others' installs take long.
const MORE: usize = 2;
/// How long an install takes usually, at the most.
const USUAL: Duration = Duration::from_secs(30);
/// Tenants that are remembered to wait for one install.
const MAX_ASKERS: usize = 64;

/// Name of the tenant that asks for an install; empty where nobody did.
pub(super) type Asker = Arc<str>;

/// Tenants that wait for one install. It is begun for whoever of them has fewest others.
#[derive(Clone, Debug)]
pub(super) struct Askers(Arc<Mutex<Vec<Asker>>>);

impl Askers {
    pub(super) fn new(asker: Asker) -> Self {
        Self(Arc::new(Mutex::new(vec![asker])))
    }

    /// Someone else waits for it too.
    pub(super) fn add(&self, asker: Asker) {
        let mut askers = self.0.lock();
        if askers.len() < MAX_ASKERS && !askers.contains(&asker) {
            askers.push(asker);
        }
    }

    /// The asker that has fewest of the running installs, and how many.
    fn least(&self, running: &[Running]) -> Option<(usize, Asker)> {
        let askers = self.0.lock();
        let counted = askers.iter().map(|asker| {
            let own = running.iter().filter(|other| other.asker == *asker);
            (own.count(), Arc::clone(asker))
        });
        counted.min_by_key(|(own, _)| *own)
    }
}

#[derive(Debug)]
struct Running {
    id: u64,
    asker: Asker,
    since: Instant,
}

/// Installs that have a place, and those that wait, in order.
#[derive(Default, Debug)]
struct Places {
    running: Vec<Running>,
    waiting: VecDeque<(u64, Askers)>,
    last: u64,
}

impl Places {
    fn enter(&mut self, askers: Askers) -> u64 {
        self.last += 1;
        self.waiting.push_back((self.last, askers));
        self.last
    }

    /// Gives a place to whoever has fewest, and waits longest among those, if there is one for it; whether there was.
    fn grant(&mut self, now: Instant) -> bool {
        let waiting = self.waiting.iter().enumerate();
        let next = waiting.filter_map(|(at, (id, askers))| {
            let (own, asker) = askers.least(&self.running)?;
            Some((own, at, *id, asker))
        });
        let next = next.min_by_key(|(own, at, ..)| (*own, *at));
        let Some((own, at, id, asker)) = next else {
            return false;
        };
        if !self.has_place(own, now) {
            return false;
        }
        self.waiting.remove(at);
        let since = now;
        self.running.push(Running { id, asker, since });
        true
    }

    /// Whether there is a place for someone who has so many.
    fn has_place(&self, own: usize, now: Instant) -> bool {
        let taken = self.running.len();
        if taken < PLACES {
            return true;
        }
        let is_long = |running: &&Running| now.duration_since(running.since) >= USUAL;
        let long = self.running.iter().filter(is_long).count();
        let of = |asker: &Asker| self.running.iter().filter(|it| it.asker == *asker).count();
        let has_several = self.running.iter().any(|running| of(&running.asker) > 1);
        own == 0 && taken < PLACES + MORE && (has_several || taken - PLACES < long)
    }

    fn leave(&mut self, id: u64) {
        self.running.retain(|running| running.id != id);
        self.waiting.retain(|(waiting, _)| *waiting != id);
    }

    fn has(&self, id: u64) -> bool {
        self.running.iter().any(|running| running.id == id)
    }
}

/// Places for installs.
#[derive(Default, Debug)]
pub(super) struct Turns {
    places: Mutex<Places>,
    changed: Notify,
}

/// A place, or the wait for one; given up when it is dropped.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    id: u64,
}

impl Turns {
    /// Waits for a place.
    ///
    /// # Cancel-Safety
    /// Cancel-safe: who does not wait any more is forgotten.
    pub(super) async fn take(&self, askers: &Askers) -> Turn<'_> {
        let id = self.places.lock().enter(askers.clone());
        let turn = Turn { turns: self, id };
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Before it is looked, so that no change is missed.
            changed.as_mut().enable();
            let (is_mine, has_granted) = {
                let mut places = self.places.lock();
                let mut has_granted = false;
                while places.grant(Instant::now()) {
                    has_granted = true;
                }
                (places.has(id), has_granted)
            };
            if has_granted {
                self.changed.notify_waiters();
            }
            if is_mine {
                return turn;
            }
            // Others' installs may begin to take long meanwhile, or another tenant asks for this one.
            let _again = tokio::time::timeout(Duration::from_secs(1), changed).await;
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.turns.places.lock().leave(self.id);
        self.turns.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn asker(name: &str) -> Asker {
        name.into()
    }

    fn running(places: &Places) -> Vec<&str> {
        places
            .running
            .iter()
            .map(|running| &*running.asker)
            .collect()
    }

    fn granted(places: &mut Places, now: Instant) {
        while places.grant(now) {}
    }

    fn entered(places: &mut Places, name: &str) -> u64 {
        places.enter(Askers::new(asker(name)))
    }

    #[test]
    fn one_tenants_slow_installs_keep_no_other_waiting() {
        let (mut places, now) = (Places::default(), Instant::now());
        let first = entered(&mut places, "a");
        for _ in 0..3 {
            entered(&mut places, "a");
        }
        granted(&mut places, now);
        assert_eq!(running(&places), ["a", "a"], "nobody else wants them");
        entered(&mut places, "b");
        granted(&mut places, now);
        assert_eq!(running(&places), ["a", "a", "b"], "one more, at once");
        places.leave(first);
        granted(&mut places, now + USUAL);
        assert_eq!(running(&places), ["a", "b"], "its others wait");
        // Each has one, and they take long.
        entered(&mut places, "c");
        granted(&mut places, now + USUAL / 2);
        assert_eq!(running(&places), ["a", "b"]);
        granted(&mut places, now + USUAL);
        assert_eq!(running(&places), ["a", "b", "c"]);
    }

    #[test]
    fn an_install_that_another_tenant_asks_for_too_does_not_wait_for_the_first_ones_others() {
        let (mut places, now) = (Places::default(), Instant::now());
        entered(&mut places, "a");
        entered(&mut places, "a");
        let shared = Askers::new(asker("a"));
        let wanted = places.enter(shared.clone());
        granted(&mut places, now);
        assert!(!places.has(wanted));
        shared.add(asker("b"));
        granted(&mut places, now);
        assert!(places.has(wanted));
        assert_eq!(running(&places), ["a", "a", "b"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_is_given_up_is_forgotten_and_a_place_goes_on() {
        let turns = Turns::default();
        let of = |name: &str| Askers::new(asker(name));
        let first = turns.take(&of("a")).await;
        let _other = turns.take(&of("b")).await;
        let (third, given_up) = (of("c"), of("d"));
        {
            let waiting = turns.take(&given_up);
            let waited = tokio::time::timeout(Duration::from_millis(1), waiting).await;
            assert!(waited.is_err());
        }
        let next = turns.take(&third);
        tokio::pin!(next);
        let waited = tokio::time::timeout(Duration::from_millis(1), &mut next).await;
        assert!(waited.is_err());
        drop(first);
        let _third = next.await;
        assert!(turns.places.lock().waiting.is_empty());
    }

    proptest! {
        /// There are never more than there are, who has one does not get one more, and none is free while someone waits.
        #[test]
        fn places_are_shared(steps in prop::collection::vec((0_u8..4, 0_u8..5, 0_u64..40), 0..60)) {
            let (mut places, mut now) = (Places::default(), Instant::now());
            for (what, who, wait) in steps {
                now += Duration::from_secs(wait);
                match what {
                    0 | 1 => drop(entered(&mut places, &who.to_string())),
                    2 => if let Some(id) = places.running.first().map(|it| it.id) { places.leave(id) },
                    _ => if let Some(id) = places.waiting.back().map(|it| it.0) { places.leave(id) },
                }
                granted(&mut places, now);
                let names = running(&places);
                prop_assert!(names.len() <= PLACES + MORE);
                for name in &names {
                    prop_assert!(names.iter().filter(|other| *other == name).count() <= PLACES);
                }
                prop_assert!(names.len() >= PLACES || places.waiting.is_empty());
            }
        }
    }
}

//! The resources that one session subscribes to, at whichever workers, within its bounds. A subscription takes its place
//! before its worker is asked, so that requests side by side do not pass the bounds together.

use std::collections::{BTreeMap, BTreeSet};

use crate::bridge::{MAX_SUBSCRIBED, MAX_SUBSCRIPTIONS};
use crate::held::{Charge, Full};
use crate::protocol::{Failure, Reason};

/// Why a session cannot subscribe to one more resource.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum NoRoom {
    /// The session has as many as it may.
    #[error("this session has {MAX_SUBSCRIPTIONS} subscriptions already, as many as it may")]
    TooMany,
    /// The URIs of the session's subscriptions are as long as they may be together.
    #[error(
        "the subscriptions of this session take {0} bytes already, of the {MAX_SUBSCRIBED} that they may"
    )]
    TooLong(usize),
    /// The session's tenant has no room.
    #[error(transparent)]
    Full(#[from] Full),
}

impl From<NoRoom> for Failure {
    fn from(no_room: NoRoom) -> Self {
        match no_room {
            NoRoom::Full(full) => full.into(),
            NoRoom::TooMany | NoRoom::TooLong(_) => {
                Self::new(Reason::TenantLimit, no_room.to_string())
            }
        }
    }
}

/// The subscriptions of a session.
#[derive(Debug)]
pub(crate) struct Subscriptions {
    /// URIs that workers of the session have agreed to.
    agreed: BTreeSet<String>,
    /// What workers are being asked for, and how often.
    asked: BTreeMap<String, usize>,
    /// Bytes of all URIs, each once.
    bytes: usize,
    /// What those take, each once.
    charge: Charge,
}

impl Subscriptions {
    /// None yet; what comes is charged to the tenant of that charge.
    pub(crate) fn new(charge: Charge) -> Self {
        Self {
            agreed: BTreeSet::new(),
            asked: BTreeMap::new(),
            bytes: 0,
            charge,
        }
    }

    fn knows(&self, uri: &str) -> bool {
        self.agreed.contains(uri) || self.asked.contains_key(uri)
    }

    fn len(&self) -> usize {
        let only_asked = self.asked.keys().filter(|uri| !self.agreed.contains(*uri));
        self.agreed.len() + only_asked.count()
    }

    /// Takes a place for one that a worker is about to be asked for.
    pub(super) fn ask(&mut self, uri: &str) -> Result<(), NoRoom> {
        if !self.knows(uri) {
            if self.len() >= MAX_SUBSCRIPTIONS {
                return Err(NoRoom::TooMany);
            }
            if self.bytes + uri.len() > MAX_SUBSCRIBED {
                return Err(NoRoom::TooLong(self.bytes));
            }
            self.charge.grow(weight(uri))?;
            self.bytes += uri.len();
        }
        *self.asked.entry(uri.to_owned()).or_default() += 1;
        Ok(())
    }

    /// The subscription's worker has been asked: the place is given back, unless the worker has agreed.
    pub(super) fn asked(&mut self, uri: &str) {
        if let Some(times) = self.asked.get_mut(uri) {
            *times -= 1;
            if *times == 0 {
                self.asked.remove(uri);
                self.went(uri);
            }
        }
    }

    /// A worker has agreed to it.
    pub(crate) fn add(&mut self, uri: String) {
        if !self.knows(&uri) {
            // The worker has agreed after the client was gone; or the subscription was written down in an earlier run.
            self.charge.grow_anyway(weight(&uri));
            self.bytes += uri.len();
        }
        self.agreed.insert(uri);
    }

    pub(crate) fn remove(&mut self, uri: &str) {
        if self.agreed.remove(uri) {
            self.went(uri);
        }
    }

    fn went(&mut self, uri: &str) {
        if !self.knows(uri) {
            self.charge.shrink(weight(uri));
            self.bytes -= uri.len();
        }
    }

    /// What workers have agreed to.
    pub(crate) fn agreed(&self) -> impl Iterator<Item = &String> {
        self.agreed.iter()
    }
}

/// What a subscription takes, in bytes: its URI stands here, at the worker, and in the index there.
fn weight(uri: &str) -> usize {
    /// Beside the text, at each place.
    const PLACE: usize = 64;
    3 * (uri.len() + PLACE)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::held::{HeldLimits, Kind, Ledger};
    use crate::ids::TenantId;

    fn subscriptions(limit: u64) -> (Subscriptions, Ledger) {
        let ledger = Ledger::new(HeldLimits {
            of_tenant: limit,
            of_all: limit,
        });
        let account = ledger.account(&TenantId::new("one"));
        (
            Subscriptions::new(account.nothing(Kind::Subscription)),
            ledger,
        )
    }

    #[test]
    fn what_is_being_asked_for_counts() {
        let (mut all, _ledger) = subscriptions(u64::MAX);
        for n in 0..MAX_SUBSCRIPTIONS {
            all.ask(&n.to_string()).expect("room");
        }
        assert_eq!(all.ask("more"), Err(NoRoom::TooMany));
        all.ask("7").expect("one that is asked for already");
        // A worker refuses one, and agrees to another.
        all.asked("8");
        all.add("9".to_owned());
        all.asked("9");
        all.ask("more").expect("in place of the one refused");
        assert_eq!(all.ask("still more"), Err(NoRoom::TooMany));
        let (mut all, _ledger) = subscriptions(u64::MAX);
        let long = "x".repeat(MAX_SUBSCRIBED);
        all.ask(&long).expect("room");
        assert_eq!(all.ask("y"), Err(NoRoom::TooLong(MAX_SUBSCRIBED)));
    }

    proptest! {
        /// Charged are the subscriptions that are there, each once, however requests overlap; and nothing is charged in the end.
        #[test]
        fn the_charge_is_of_what_is_there(steps in prop::collection::vec((0_u8..4, 0_usize..6), 0..200)) {
            let (mut all, ledger) = subscriptions(3 * (2 + 64) * 4);
            let mut asked: Vec<String> = Vec::new();
            for (what, n) in steps {
                let uri = format!("u{n}");
                match what {
                    0 => if all.ask(&uri).is_ok() { asked.push(uri) },
                    1 if !asked.is_empty() => {
                        let uri = asked.swap_remove(n % asked.len());
                        all.add(uri.clone());
                        all.asked(&uri);
                    }
                    2 if !asked.is_empty() => all.asked(&asked.swap_remove(n % asked.len())),
                    _ => all.remove(&uri),
                }
                let there: BTreeSet<&String> = all.agreed.iter().chain(&asked).collect();
                let weights: usize = there.iter().map(|uri| weight(uri)).sum();
                prop_assert_eq!(ledger.held(), weights as u64);
                prop_assert!(there.len() <= 4, "within the tenant's room");
                prop_assert_eq!(all.bytes, there.iter().map(|uri| uri.len()).sum::<usize>());
                prop_assert_eq!(all.len(), there.len());
            }
            drop(all);
            prop_assert_eq!(ledger.held(), 0);
        }
    }
}

//! Subscribers by the resource that they subscribe to. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::numbers::SessionNo;

/// Sessions by the URIs that they subscribe to.
///
/// Invariant: no URI is there without a session.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Subscribers(BTreeMap<Box<str>, BTreeSet<SessionNo>>);

impl Subscribers {
    /// The session subscribes to that resource.
    pub(super) fn add(&mut self, uri: &str, session: SessionNo) {
        match self.0.get_mut(uri) {
            Some(sessions) => sessions.insert(session),
            None => self.0.entry(uri.into()).or_default().insert(session),
        };
    }

    /// The session subscribes to that resource no more.
    pub(super) fn remove(&mut self, uri: &str, session: SessionNo) {
        if let Some(sessions) = self.0.get_mut(uri) {
            sessions.remove(&session);
            if sessions.is_empty() {
                self.0.remove(uri);
            }
        }
    }

    /// Whether any session subscribes to that resource.
    pub(super) fn has(&self, uri: &str) -> bool {
        self.0.contains_key(uri)
    }

    /// Whether another session than that one subscribes to that resource.
    pub(super) fn has_others(&self, uri: &str, session: SessionNo) -> bool {
        let mut sessions = self.0.get(uri).into_iter().flatten();
        sessions.any(|other| *other != session)
    }

    /// How many resources anyone subscribes to.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// The resources that anyone subscribes to, in order.
    pub(super) fn uris(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(|uri| &**uri)
    }

    /// The subscribers of a resource that has changed, and of those that it is part of (server/resources,
    /// "Subscriptions": the URI may be a sub-resource of the one subscribed to). In order, each once.
    pub(super) fn of(&self, uri: &str) -> Vec<SessionNo> {
        let mut found = self.wholes(uri).map(|(_, sessions)| sessions);
        match (found.next(), found.next()) {
            (None, _) => Vec::new(),
            // Nearly always.
            (Some(sessions), None) => sessions.iter().copied().collect(),
            (Some(first), Some(second)) => {
                let more = [first, second].into_iter().chain(found);
                let all: BTreeSet<_> = more.flatten().copied().collect();
                all.into_iter().collect()
            }
        }
    }

    /// Whether a resource that has changed has any subscriber.
    pub(super) fn has_any(&self, uri: &str) -> bool {
        self.wholes(uri).next().is_some()
    }

    /// The resources with subscribers that this one is, or is part of; the longest first.
    ///
    /// Looks at URIs that are a prefix of this one and no others: the greatest that is not greater than it either
    /// is one, or what both have in common is as long as a prefix can be.
    fn wholes<'a>(
        &'a self,
        uri: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a BTreeSet<SessionNo>)> {
        let mut longest = Some(uri);
        std::iter::from_fn(move || {
            while let Some(most) = longest {
                let not_greater = (Bound::Unbounded, Bound::Included(most));
                let (whole, sessions) = self.0.range::<str, _>(not_greater).next_back()?;
                let common = common_prefix(whole, most);
                if common < whole.len() {
                    longest = Some(&most[..common]);
                    continue;
                }
                // What is shorter still.
                let last = whole.char_indices().next_back();
                longest = last.map(|(last, _)| &most[..last]);
                if is_part_of(uri, whole) {
                    return Some((&**whole, sessions));
                }
            }
            None
        })
    }
}

/// Bytes that both begin with, to the end of a character.
fn common_prefix(one: &str, other: &str) -> usize {
    let pairs = one.bytes().zip(other.bytes());
    let mut common = pairs.take_while(|(a, b)| a == b).count();
    while !other.is_char_boundary(common) {
        common -= 1;
    }
    common
}

/// Whether a resource is the one with the URI `whole`, or below it.
fn is_part_of(uri: &str, whole: &str) -> bool {
    uri.strip_prefix(whole).is_some_and(|rest| {
        rest.is_empty() || whole.ends_with('/') || rest.starts_with(['/', '#', '?'])
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The index finds whom a look at every subscription finds.
        #[test]
        fn the_subscribers_of_a_resource_are_those_of_what_it_is_part_of(
            changes in prop::collection::vec((any::<bool>(), 0_u64..5, "[ab/#?é]{0,6}"), 0..60),
            asked in prop::collection::vec("[ab/#?é]{0,8}", 1..8),
        ) {
            let mut subscribers = Subscribers::default();
            let mut all = BTreeSet::new();
            for (is_added, session, uri) in changes {
                let session = SessionNo(session);
                if is_added {
                    subscribers.add(&uri, session);
                    all.insert((uri, session));
                } else {
                    subscribers.remove(&uri, session);
                    all.remove(&(uri, session));
                }
            }
            for uri in &asked {
                let expected: BTreeSet<_> = all
                    .iter()
                    .filter(|(whole, _)| is_part_of(uri, whole))
                    .map(|(_, session)| *session)
                    .collect();
                prop_assert_eq!(subscribers.of(uri), expected.into_iter().collect::<Vec<_>>());
                let of_uri = |session| all.contains(&(uri.clone(), session));
                let sessions = || (0..5).map(SessionNo);
                prop_assert_eq!(subscribers.has(uri), sessions().any(of_uri));
                for session in sessions() {
                    let others = sessions().filter(|other| *other != session).any(of_uri);
                    prop_assert_eq!(subscribers.has_others(uri, session), others);
                }
            }
            for (uri, session) in &all {
                subscribers.remove(uri, *session);
            }
            prop_assert_eq!(subscribers, Subscribers::default());
        }
    }
}

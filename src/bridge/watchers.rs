//! Who subscribes to which resource, found by the resource. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::mux::SessionNo;

/// Sessions by the URIs that they subscribe to.
///
/// Invariant: no URI is there without a session.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Watchers(BTreeMap<Box<str>, BTreeSet<SessionNo>>);

impl Watchers {
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

    /// The resources that anyone subscribes to, in order.
    pub(super) fn uris(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(|uri| &**uri)
    }

    /// The subscribers of a resource that has changed, and of those that it is part of (server/resources,
    /// "Subscriptions": the URI may be a sub-resource of the one subscribed to). In order, each once.
    ///
    /// Looks at URIs that are a prefix of this one and no others: the greatest that is not greater than it either
    /// is one, or what both have in common is as long as a prefix can be.
    pub(super) fn of(&self, uri: &str) -> Vec<SessionNo> {
        let mut found = BTreeSet::new();
        let mut longest = uri;
        loop {
            let not_greater = (Bound::Unbounded, Bound::Included(longest));
            let Some((whole, sessions)) = self.0.range::<str, _>(not_greater).next_back() else {
                break;
            };
            let common = common_prefix(whole, longest);
            if common == whole.len() {
                if is_part_of(uri, whole) {
                    found.extend(sessions.iter().copied());
                }
                // What is shorter still.
                let Some((last, _)) = whole.char_indices().next_back() else {
                    break;
                };
                longest = &longest[..last];
            } else {
                longest = &longest[..common];
            }
        }
        found.into_iter().collect()
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
            let mut watchers = Watchers::default();
            let mut all = BTreeSet::new();
            for (is_added, session, uri) in changes {
                let session = SessionNo(session);
                if is_added {
                    watchers.add(&uri, session);
                    all.insert((uri, session));
                } else {
                    watchers.remove(&uri, session);
                    all.remove(&(uri, session));
                }
            }
            for uri in &asked {
                let expected: BTreeSet<_> = all
                    .iter()
                    .filter(|(whole, _)| is_part_of(uri, whole))
                    .map(|(_, session)| *session)
                    .collect();
                prop_assert_eq!(watchers.of(uri), expected.into_iter().collect::<Vec<_>>());
                let of_uri = |session| all.contains(&(uri.clone(), session));
                let sessions = || (0..5).map(SessionNo);
                prop_assert_eq!(watchers.has(uri), sessions().any(of_uri));
                for session in sessions() {
                    let others = sessions().filter(|other| *other != session).any(of_uri);
                    prop_assert_eq!(watchers.has_others(uri, session), others);
                }
            }
            for (uri, session) in &all {
                watchers.remove(uri, *session);
            }
            prop_assert_eq!(watchers, Watchers::default());
        }
    }
}

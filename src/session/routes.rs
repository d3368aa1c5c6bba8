//! The routes by which a session's requests reach workers.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::held::LruEntries;
use crate::routing::Route;

/// Most configs of one session whose routes are remembered; the least recently used that no request is
/// going by is dropped first, and is worked out again when that config comes back.
const MAX_OTHER_ROUTES: usize = 64;

/// The fingerprint of a config that a request sets itself.
type Fingerprint = [u8; 32];

/// The routes that were worked out for one session so far.
#[derive(Debug, Default)]
pub(crate) struct SessionRoutes(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The route of requests that set nothing themselves.
    own: Option<Arc<Route>>,
    /// The routes of requests that set a config themselves, by its fingerprint.
    others: Option<Box<LruEntries<Fingerprint, Arc<Route>>>>,
}

impl SessionRoutes {
    /// The route of requests that set nothing themselves; `None` until it was worked out.
    pub(crate) fn own(&self) -> Option<Arc<Route>> {
        self.0.lock().own.clone()
    }

    pub(crate) fn set_own(&self, route: Arc<Route>) {
        self.0.lock().own = Some(route);
    }

    /// The route of requests that set a config with that fingerprint.
    pub(crate) fn other(&self, fingerprint: &Fingerprint) -> Option<Arc<Route>> {
        let mut state = self.0.lock();
        let route = state.others.as_mut()?.get(fingerprint)?;
        Some(Arc::clone(route))
    }

    /// Remembers the route of requests that set a config with that fingerprint; returns a route that is forgotten for it. If all
    /// are in use, the new one is not remembered.
    pub(crate) fn set_other(
        &self,
        fingerprint: Fingerprint,
        route: Arc<Route>,
    ) -> Option<Arc<Route>> {
        let mut state = self.0.lock();
        let others = state.others.get_or_insert_default();
        if others.peek(&fingerprint).is_some() || others.len() < MAX_OTHER_ROUTES {
            return others.put(fingerprint, route);
        }
        let gone = others.take_oldest(|route| Arc::strong_count(route) > 1)?;
        others.put(fingerprint, route);
        Some(gone)
    }

    /// Every route that is remembered.
    pub(crate) fn all(&self) -> Vec<Arc<Route>> {
        let state = self.0.lock();
        let others = state.others.iter().flat_map(|others| others.iter());
        let others = others.map(|(_, route)| route);
        state.own.iter().chain(others).cloned().collect()
    }

    /// Has every route worked out again with the next request that goes by it.
    pub(crate) fn reconsider(&self) {
        for route in self.all() {
            route.reconsider();
        }
    }
}

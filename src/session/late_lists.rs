//! Lists that are waited for after their caller was told that a server is missing in them: one for each caller,
//! server and list, however often it asks.

use std::sync::Arc;

use parking_lot::Mutex;
use rustc_hash::FxHashSet;

use crate::bridge::{Listing, SessionNo};
use crate::ids::{ServerName, TenantId};

/// One server's list, and who is told when it is there.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct LateList {
    /// The session with all servers; `None` for callers without sessions.
    pub(super) session: Option<SessionNo>,
    /// Whose it is.
    pub(super) tenant: TenantId,
    /// The server that is waited for.
    pub(super) server: ServerName,
    /// Which of its lists.
    pub(super) listing: Listing,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct LateLists(Arc<Mutex<FxHashSet<LateList>>>);

impl LateLists {
    /// Notes that a list is waited for, until what this returns is dropped; `None` if it is already.
    pub(super) fn enter(&self, list: LateList) -> Option<Waited> {
        let is_first = self.0.lock().insert(list.clone());
        let all = Arc::clone(&self.0);
        is_first.then_some(Waited { list, all })
    }
}

/// A list that is waited for.
#[derive(Debug)]
pub(super) struct Waited {
    list: LateList,
    all: Arc<Mutex<FxHashSet<LateList>>>,
}

impl Drop for Waited {
    fn drop(&mut self) {
        self.all.lock().remove(&self.list);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_waited_for_once() {
        let lists = LateLists::default();
        let list = LateList {
            session: Some(SessionNo(1)),
            tenant: TenantId::new("acme"),
            server: ServerName::new("demo"),
            listing: Listing::Tools,
        };
        let first = lists.enter(list.clone()).expect("nobody waits");
        assert!(lists.enter(list.clone()).is_none());
        drop(first);
        assert!(lists.enter(list).is_some());
    }
}

//! Lists that are waited for after their caller was told that a server is missing in them: one for each caller,
//! server and list, however often it asks.

use std::sync::Arc;

use parking_lot::Mutex;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::bridge::{Listing, SessionNo};
use crate::ids::{ServerName, TenantId};

/// One server's list, and who is told when it is there.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct LateList {
    /// The session with all servers; `None` for callers without sessions.
    pub(crate) session: Option<SessionNo>,
    /// The tenant whose list is waited for.
    pub(crate) tenant: TenantId,
    /// The server that is waited for.
    pub(crate) server: ServerName,
    /// The list of the server that is missing.
    pub(crate) listing: Listing,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct LateLists {
    waited: Arc<Mutex<FxHashSet<LateList>>>,
    owed: Mutex<FxHashMap<LateList, OwedNotice>>,
}

/// The notice owed to a caller who was told that a list is missing.
#[derive(Debug, Default)]
struct OwedNotice {
    /// Requests for it that still go on.
    asked: usize,
    /// Whether the caller was told that the list is there since it was told last that it is not.
    is_told: bool,
}

impl LateLists {
    /// A caller was told that the list is missing; its request for it goes on.
    pub(crate) fn owe(&self, list: LateList) {
        let mut owed = self.owed.lock();
        let owed = owed.entry(list).or_default();
        owed.asked += 1;
        owed.is_told = false;
    }

    /// A request for a list that went on has ended, with the list or without. Whether its caller is to be told: of several
    /// that have the list, the first one says so.
    pub(crate) fn ended(&self, list: &LateList, is_there: bool) -> bool {
        let mut all = self.owed.lock();
        let Some(owed) = all.get_mut(list) else {
            return is_there;
        };
        let is_new = is_there && !owed.is_told;
        owed.is_told |= is_there;
        owed.asked -= 1;
        if owed.asked == 0 {
            all.remove(list);
        }
        is_new
    }

    /// Notes that a list is waited for, until what this returns is dropped; `None` if it is already.
    pub(crate) fn enter(&self, list: LateList) -> Option<AwaitedList> {
        let is_first = self.waited.lock().insert(list.clone());
        let all = Arc::clone(&self.waited);
        is_first.then_some(AwaitedList { list, all })
    }
}

/// A list that is waited for.
#[derive(Debug)]
pub(crate) struct AwaitedList {
    list: LateList,
    all: Arc<Mutex<FxHashSet<LateList>>>,
}

impl Drop for AwaitedList {
    fn drop(&mut self) {
        self.all.lock().remove(&self.list);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list() -> LateList {
        LateList {
            session: Some(SessionNo(1)),
            tenant: TenantId::new("acme"),
            server: ServerName::new("demo"),
            listing: Listing::Tools,
        }
    }

    #[test]
    fn whoever_asked_several_times_is_told_once_that_a_list_is_there() {
        let lists = LateLists::default();
        for _ in 0..3 {
            lists.owe(list());
        }
        assert!(!lists.ended(&list(), false), "another goes on");
        assert!(lists.ended(&list(), true));
        // Told again that it is missing, it is owed again.
        lists.owe(list());
        assert!(lists.ended(&list(), true));
        assert!(!lists.ended(&list(), true));
        assert!(lists.owed.lock().is_empty());
    }

    #[test]
    fn a_list_is_waited_for_once() {
        let lists = LateLists::default();
        let list = list();
        let first = lists.enter(list.clone()).expect("nobody waits");
        assert!(lists.enter(list.clone()).is_none());
        drop(first);
        assert!(lists.enter(list).is_some());
    }
}

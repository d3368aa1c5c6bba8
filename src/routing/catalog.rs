//! What servers have said of themselves, so that a client that connects and lists costs no process.
//!
//! Remembered per launch identity: server, tenant, what it is started with, and what clients of the
//! that capability class declare. So nothing that depends on a tenant's config is ever shown to another. An
//! entry holds the `initialize` result and the lists that fit on one page. A list goes when a worker
//! of that identity says it has changed; everything goes when a new worker introduces itself
//! otherwise (another version of the package), and when it is too old.
//!
//! Equal texts of different tenants are kept once.

use std::ops::Deref;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::tool_list::ToolList;
use crate::bridge::{Era, Listing, ServerInfo, repeatable_tools};
use crate::held::{Account, Bounds, Charge, Full, Kind, Ledger, TenantTable, charged};
use crate::ids::{PoolKey, TenantId};

/// Identities that are remembered; the tenant's least recently used goes first.
const ENTRIES: Bounds = Bounds {
    of_tenant: 1_000,
    of_all: 50_000,
};
/// Longest list that is remembered, in bytes.
const MAX_LIST: usize = 1 << 20;
/// What an identity takes beside what its server said, in bytes.
const ENTRY_BYTES: usize = 512;
/// How often texts that nobody holds any more are looked for: each time so many were added.
const SWEEP_EVERY: usize = 256;

/// Counts the changes of an identity's lists. A list that was asked for before a change and
/// answered after it is not remembered.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Edition(u64);

#[derive(Debug)]
struct Entry {
    info: ServerInfo,
    at: Instant,
    edition: Edition,
    lists: FxHashMap<ListKey, Arc<Text>>,
    /// The whole list of tools, as far as rules look at it.
    tools: Option<Arc<ToolList>>,
    /// Tools that can be called twice. Kept when the list goes: a tool that could be, can be.
    repeatable: Vec<String>,
    /// The log was told that a list is too long to be remembered.
    said_too_long: bool,
    _charge: Charge,
}

/// A list as a worker gave it, charged to the tenant whose worker was the first to do so.
#[derive(Debug)]
pub(crate) struct Text {
    bytes: Box<[u8]>,
    _charge: Charge,
}

impl Deref for Text {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The key of an entry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CatalogKey<'a> {
    pub(crate) tenant: &'a TenantId,
    /// The identity of the launch.
    pub(crate) identity: PoolKey,
}

/// Names one list of a server.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct ListKey {
    /// The era in whose words the list is.
    pub(crate) era: Era,
    pub(crate) listing: Listing,
}

#[derive(Debug)]
struct Tables {
    entries: TenantTable<PoolKey, Entry>,
    /// By content.
    texts: FxHashMap<[u8; 32], Weak<Text>>,
    added: usize,
}

/// The introductions and lists of all servers that are remembered.
#[derive(Debug)]
pub(crate) struct Catalog(Mutex<Tables>, Ledger);

impl Catalog {
    /// An empty one, whose entries are charged to their tenants there.
    pub(crate) fn new(ledger: Ledger) -> Self {
        let tables = Tables {
            entries: TenantTable::new(ENTRIES),
            texts: FxHashMap::default(),
            added: 0,
        };
        Self(Mutex::new(tables), ledger)
    }

    /// What a worker of that identity answers to `initialize`, if one has within `max_age`.
    pub(crate) fn server_info(&self, key: CatalogKey<'_>, max_age: Duration) -> Option<ServerInfo> {
        let mut tables = self.0.lock();
        let entry = tables.fresh(key, max_age)?;
        Some(entry.info.clone())
    }

    /// What the server answers to that list request.
    pub(crate) fn list(
        &self,
        key: CatalogKey<'_>,
        list: ListKey,
        max_age: Duration,
    ) -> Option<Arc<Text>> {
        let mut tables = self.0.lock();
        tables.fresh(key, max_age)?.lists.get(&list).cloned()
    }

    /// A worker has introduced itself.
    pub(crate) fn introduced(
        &self,
        CatalogKey { tenant, identity }: CatalogKey<'_>,
        info: &ServerInfo,
    ) {
        let mut tables = self.0.lock();
        let now = Instant::now();
        match tables.entries.get(tenant, &identity) {
            // The server says what it ever said: what it listed before, it will list again.
            Some(entry) if entry.info.says_the_same(info) => entry.at = now,
            _ => {
                let before = tables.entries.take(tenant, &identity);
                let edition = before.map_or(Edition::default(), |entry| entry.edition.next());
                let account = self.1.account(tenant);
                let bytes = ENTRY_BYTES + info.text().len();
                let make_room = || tables.entries.take_oldest(tenant, |_| false).is_some();
                let charge = match charged(&account, Kind::Catalog, bytes, make_room) {
                    Ok(charge) => charge,
                    Err(full) => {
                        tracing::debug!(%tenant, "what a server says of itself is not remembered: {full}");
                        return;
                    }
                };
                let entry = Entry {
                    info: info.clone(),
                    at: now,
                    edition,
                    lists: FxHashMap::default(),
                    tools: None,
                    repeatable: Vec::new(),
                    said_too_long: false,
                    _charge: charge,
                };
                if let Err(crowded) = tables.entries.insert(tenant, identity, entry, |_| false) {
                    tracing::debug!(%tenant, "what a server says of itself is not remembered: {crowded}");
                }
            }
        }
    }

    /// The edition that a list asked for now will belong to.
    pub(crate) fn edition(
        &self,
        CatalogKey { tenant, identity }: CatalogKey<'_>,
    ) -> Option<Edition> {
        let tables = self.0.lock();
        tables
            .entries
            .peek(tenant, &identity)
            .map(|entry| entry.edition)
    }

    /// A worker has answered a list request that was sent in that edition. A list that is too long is not
    /// remembered, which is said once: each client that asks for it costs a request to a worker.
    pub(crate) fn listed(
        &self,
        CatalogKey { tenant, identity }: CatalogKey<'_>,
        edition: Edition,
        list: ListKey,
        result: &[u8],
    ) {
        if result.len() > MAX_LIST {
            let mut tables = self.0.lock();
            if let Some(entry) = tables.entries.get(tenant, &identity)
                && !std::mem::replace(&mut entry.said_too_long, true)
            {
                drop(tables);
                tracing::warn!(
                    %tenant, bytes = result.len(), limit = MAX_LIST, list = list.listing.method(),
                    "a server's list is too long to be remembered: a worker is asked for it each time"
                );
            }
            return;
        }
        let is_current = |entry: &Entry| entry.edition == edition;
        let is_wanted = |tables: &Tables| {
            let entry = tables.entries.peek(tenant, &identity);
            entry.is_some_and(is_current)
        };
        if !is_wanted(&self.0.lock()) {
            return;
        }
        // Read before the lock is taken: other tenants wait for it.
        let repeatable = match (list.listing, std::str::from_utf8(result)) {
            (Listing::Tools, Ok(text)) => Some(repeatable_tools(text)),
            _ => None,
        };
        let digest = Sha256::digest(result).into();
        let account = self.1.account(tenant);
        let mut tables = self.0.lock();
        if !is_wanted(&tables) {
            return;
        }
        let text = match tables.intern(tenant, &account, digest, result) {
            Ok(text) => text,
            Err(full) => {
                drop(tables);
                tracing::debug!(%tenant, list = list.listing.method(), "a list is not remembered: {full}");
                return;
            }
        };
        if let Some(entry) = tables.entries.get(tenant, &identity) {
            entry.lists.insert(list, text);
            entry.repeatable = repeatable.unwrap_or(std::mem::take(&mut entry.repeatable));
        }
    }

    /// The whole list of its tools, as far as rules look at it.
    pub(crate) fn tools(&self, key: CatalogKey<'_>, max_age: Duration) -> Option<Arc<ToolList>> {
        let mut tables = self.0.lock();
        tables.fresh(key, max_age)?.tools.clone()
    }

    /// All pages of its tools were read, since that edition began.
    pub(crate) fn keep_tools(
        &self,
        CatalogKey { tenant, identity }: CatalogKey<'_>,
        edition: Edition,
        list: &Arc<ToolList>,
    ) {
        let mut tables = self.0.lock();
        let entry = tables.entries.get(tenant, &identity);
        if let Some(entry) = entry.filter(|entry| entry.edition == edition) {
            entry.tools = Some(Arc::clone(list));
        }
    }

    /// Whether a tool can be called twice by what its server said of it.
    pub(crate) fn is_repeatable(
        &self,
        CatalogKey { tenant, identity }: CatalogKey<'_>,
        tool: &str,
    ) -> bool {
        let tables = self.0.lock();
        let entry = tables.entries.peek(tenant, &identity);
        entry.is_some_and(|entry| entry.repeatable.iter().any(|name| name == tool))
    }

    /// A package has another version: what any server listed before may have changed.
    pub(crate) fn all_changed(&self) {
        let mut tables = self.0.lock();
        for entry in tables.entries.values_mut() {
            entry.edition = entry.edition.next();
            entry.lists.clear();
            entry.tools = None;
        }
    }

    /// A worker says that some of its lists have changed.
    pub(crate) fn changed(
        &self,
        CatalogKey { tenant, identity }: CatalogKey<'_>,
        is_meant: impl Fn(Listing) -> bool,
    ) {
        let mut tables = self.0.lock();
        if let Some(entry) = tables.entries.get(tenant, &identity) {
            entry.edition = entry.edition.next();
            entry.lists.retain(|list, _| !is_meant(list.listing));
            entry.tools.take_if(|_| is_meant(Listing::Tools));
        }
    }
}

impl Edition {
    fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl Tables {
    fn fresh(
        &mut self,
        CatalogKey { tenant, identity }: CatalogKey<'_>,
        max_age: Duration,
    ) -> Option<&Entry> {
        let entry = self.entries.get(tenant, &identity)?;
        if entry.at.elapsed() >= max_age {
            self.entries.take(tenant, &identity);
            return None;
        }
        self.entries.peek(tenant, &identity)
    }

    fn intern(
        &mut self,
        tenant: &TenantId,
        account: &Account,
        digest: [u8; 32],
        text: &[u8],
    ) -> Result<Arc<Text>, Full> {
        if let Some(known) = self.texts.get(&digest).and_then(Weak::upgrade) {
            return Ok(known);
        }
        let make_room = || self.entries.take_oldest(tenant, |_| false).is_some();
        let charge = charged(account, Kind::Catalog, text.len(), make_room)?;
        let text = Arc::new(Text {
            bytes: text.into(),
            _charge: charge,
        });
        self.texts.insert(digest, Arc::downgrade(&text));
        self.added += 1;
        if self.added >= SWEEP_EVERY {
            self.added = 0;
            self.texts.retain(|_, text| text.strong_count() > 0);
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;

    fn catalog() -> Catalog {
        Catalog::new(Ledger::new(crate::held::HeldLimits {
            of_tenant: 64 << 20,
            of_all: 64 << 20,
        }))
    }

    /// What is remembered of a list.
    fn bytes(text: &Option<Arc<Text>>) -> Option<&[u8]> {
        text.as_ref().map(|text| &***text)
    }

    const HOUR: Duration = Duration::from_secs(3600);

    fn server_info(version: &str) -> ServerInfo {
        let text = format!(
            r#"{{"protocolVersion":"2025-11-25","capabilities":{{}},"serverInfo":{{"name":"s","version":"{version}"}}}}"#
        );
        ServerInfo::parse(&text).expect("valid")
    }

    fn key(n: u8) -> CatalogKey<'static> {
        static TENANT: LazyLock<TenantId> = LazyLock::new(|| TenantId::new("t"));
        CatalogKey {
            tenant: &TENANT,
            identity: PoolKey([n; 16]),
        }
    }

    fn of(listing: Listing) -> ListKey {
        ListKey {
            era: Era::default(),
            listing,
        }
    }

    #[test]
    fn many_identities_of_one_tenant_leave_anothers_and_long_lists_are_not_remembered() {
        let (catalog, other) = (catalog(), TenantId::new("other"));
        let tools = of(Listing::Tools);
        let theirs = CatalogKey {
            tenant: &other,
            identity: PoolKey([0; 16]),
        };
        catalog.introduced(theirs, &server_info("1"));
        let edition = catalog.edition(theirs).expect("known");
        catalog.listed(theirs, edition, tools, b"{}");
        for n in 0..2 * ENTRIES.of_tenant {
            let mut identity = [0; 16];
            identity[..8].copy_from_slice(&(n as u64).to_le_bytes());
            let identity = PoolKey(identity);
            let own = CatalogKey { identity, ..key(0) };
            catalog.introduced(own, &server_info("1"));
        }
        assert_eq!(catalog.0.lock().entries.len(), ENTRIES.of_tenant + 1);
        let list = || catalog.list(theirs, tools, HOUR);
        assert_eq!(bytes(&list()), Some(&b"{}"[..]));
        catalog.listed(theirs, edition, tools, &vec![b'x'; MAX_LIST + 1]);
        assert_eq!(bytes(&list()), Some(&b"{}"[..]), "as it was");
        let entries = &catalog.0.lock().entries;
        assert!(
            entries
                .peek(theirs.tenant, &theirs.identity)
                .expect("there")
                .said_too_long
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_said_is_remembered_for_its_time_and_its_own() {
        let catalog = catalog();
        assert!(catalog.server_info(key(1), HOUR).is_none());
        catalog.introduced(key(1), &server_info("1"));
        let edition = catalog.edition(key(1)).expect("known");
        catalog.listed(key(1), edition, of(Listing::Tools), b"{}");
        assert!(catalog.server_info(key(1), HOUR).is_some());
        assert_eq!(
            bytes(&catalog.list(key(1), of(Listing::Tools), HOUR)),
            Some(&b"{}"[..])
        );
        assert_eq!(
            bytes(&catalog.list(key(1), of(Listing::Prompts), HOUR)),
            None
        );
        assert_eq!(
            bytes(&catalog.list(key(2), of(Listing::Tools), HOUR)),
            None,
            "another's"
        );
        tokio::time::advance(HOUR).await;
        assert_eq!(bytes(&catalog.list(key(1), of(Listing::Tools), HOUR)), None);
        assert!(catalog.server_info(key(1), HOUR).is_none());
    }

    #[tokio::test]
    async fn a_change_takes_the_list_and_what_was_under_way() {
        let catalog = catalog();
        catalog.introduced(key(1), &server_info("1"));
        let before = catalog.edition(key(1)).expect("known");
        catalog.listed(key(1), before, of(Listing::Tools), b"old");
        catalog.listed(key(1), before, of(Listing::Prompts), b"kept");
        catalog.changed(key(1), |listing| listing == Listing::Tools);
        catalog.listed(key(1), before, of(Listing::Tools), b"asked before");
        assert_eq!(bytes(&catalog.list(key(1), of(Listing::Tools), HOUR)), None);
        assert!(catalog.list(key(1), of(Listing::Prompts), HOUR).is_some());
        let now = catalog.edition(key(1)).expect("known");
        catalog.listed(key(1), now, of(Listing::Tools), b"new");
        assert_eq!(
            bytes(&catalog.list(key(1), of(Listing::Tools), HOUR)),
            Some(&b"new"[..])
        );

        catalog.introduced(key(1), &server_info("1"));
        assert!(
            catalog.list(key(1), of(Listing::Tools), HOUR).is_some(),
            "the same server"
        );
        catalog.introduced(key(1), &server_info("2"));
        assert_eq!(
            bytes(&catalog.list(key(1), of(Listing::Tools), HOUR)),
            None,
            "another version"
        );
        catalog.listed(key(1), now, of(Listing::Tools), b"of the old version");
        assert_eq!(bytes(&catalog.list(key(1), of(Listing::Tools), HOUR)), None);
    }

    #[test]
    fn equal_texts_are_kept_once() {
        let catalog = catalog();
        for n in 1..=2 {
            catalog.introduced(key(n), &server_info("1"));
            let edition = catalog.edition(key(n)).expect("known");
            catalog.listed(key(n), edition, of(Listing::Tools), b"the same");
        }
        let of = |n| {
            catalog
                .list(key(n), of(Listing::Tools), HOUR)
                .expect("known")
        };
        assert!(Arc::ptr_eq(&of(1), &of(2)));
    }
}

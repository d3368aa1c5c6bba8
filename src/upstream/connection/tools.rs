//! The list of the worker's tools that rules about them are held against.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::MutexGuard;

use super::own_tools::{Changes, NotKept, ToolEdition};
use super::{PendingCall, WorkerConnection};
use crate::bridge::{Era, Listing};
use crate::held::Kind;
use crate::protocol::Envelope;
use crate::routing::{ListKey, Pages, ToolList};
use crate::upstream::events::ConnectionEvent;

impl WorkerConnection {
    /// The worker's tools, as far as they are known: as it said itself, or a process of an equal launch, unless
    /// they have changed in this one.
    pub(crate) fn known_tools(&self, words: Era) -> Option<Arc<ToolList>> {
        let (changes, own) = self.tools.state.lock().clone();
        let is_fresh =
            |max_age: Duration| own.as_ref().filter(|own| own.read_at().elapsed() < max_age);
        let Some((key, max_age)) = self.plan.remembered() else {
            return own;
        };
        if let Some(own) = is_fresh(max_age) {
            return Some(Arc::clone(own));
        }
        if changes != Changes::default() {
            return None;
        }
        let catalog = &self.services.knowledge.catalog;
        if let Some(known) = catalog.tools(key, max_age) {
            return Some(known);
        }
        let edition = catalog.edition(key)?;
        let tools = ListKey {
            era: words,
            listing: Listing::Tools,
        };
        let text = catalog.list(key, tools, max_age)?;
        let mut pages = Pages::default();
        let last = pages.take(std::str::from_utf8(&text).ok()?);
        matches!(last, Ok(None)).then_some(())?;
        let asked = ToolEdition {
            changes,
            edition: Some(edition),
        };
        self.taken_in(pages, asked).ok()
    }

    /// The edition in which the worker's list would be read now.
    pub(crate) fn tool_edition(&self) -> ToolEdition {
        let changes = self.tools.changes();
        let key = self.plan.catalog_key();
        let edition = key.and_then(|key| self.services.knowledge.catalog.edition(key));
        ToolEdition { changes, edition }
    }

    /// Waits for the lock to ask the worker for its tools.
    ///
    /// # Cancel-Safety
    /// A dropped call has no lock.
    pub(crate) async fn tools_lock(&self) -> MutexGuard<'_, ()> {
        self.tools.asking.lock().await
    }

    /// Keeps what was read of the worker's tools, asked for in that edition.
    ///
    /// # Errors
    /// [`NotKept`].
    pub(crate) fn taken_in(
        &self,
        pages: Pages,
        asked: ToolEdition,
    ) -> Result<Arc<ToolList>, NotKept> {
        let account = self.account.as_ref();
        let charge = account.map(|account| account.charge(Kind::Catalog, pages.bytes()));
        let charge = charge.transpose().map_err(NotKept::NoRoom)?;
        let list = Arc::new(pages.whole(charge));
        {
            let mut state = self.tools.state.lock();
            if state.0 != asked.changes {
                return Err(NotKept::Changed);
            }
            state.1 = Some(Arc::clone(&list));
        }
        // A list that has changed in this process alone is no one else's.
        if asked.changes == Changes::default()
            && let Some((key, _)) = self.plan.remembered()
            && let Some(edition) = asked.edition
        {
            self.services
                .knowledge
                .catalog
                .keep_tools(key, edition, &list);
        }
        self.tell(ConnectionEvent::ToolsListed(&list));
        Ok(list)
    }

    /// The answer to a client's request for its tools: rules about them are held against it.
    pub(super) fn learn_tools(&self, pending: &PendingCall, message: &Bytes) {
        let Ok(envelope) = Envelope::parse(message) else {
            return;
        };
        let Some(result) = envelope.result else {
            return;
        };
        self.tell(ConnectionEvent::ToolsPage(result.get()));
        if let Some(edition) = pending.tools
            && self.services.config.get().binds(&self.plan.server)
        {
            let mut pages = Pages::default();
            // Else it is read when a call needs it.
            if let Ok(None) = pages.take(result.get())
                && let Err(why) = self.taken_in(pages, edition)
            {
                tracing::debug!(parent: &self.span, worker = %self.id, server = %self.plan.server, "a list of tools is not kept: {why}");
            }
        }
    }
}

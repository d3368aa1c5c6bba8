//! Sessions that are just being opened.

use std::sync::Arc;

use super::session_table::SessionTable;
use crate::protocol::Failure;
use crate::session::Session;

/// A session that no table has yet, while it is found out what its server says of itself. The removal of its server or
/// tenant ends it too.
#[derive(Debug)]
pub(super) struct PendingSession<'a> {
    table: &'a SessionTable,
    session: Arc<Session>,
}

impl<'a> PendingSession<'a> {
    /// Notes a session that is about to be opened.
    ///
    /// # Errors
    /// When its server or tenant has just been removed.
    pub(super) fn enter(table: &'a SessionTable, session: &Arc<Session>) -> Result<Self, Failure> {
        let mut pending = table.pending.lock();
        pending.insert(session.no, Arc::clone(session));
        drop(pending);
        let entry = Self {
            table,
            session: Arc::clone(session),
        };
        // Whoever changes pool.toml puts it in force first and looks for pending sessions then: one of the two sees the other.
        match session.ended_under(&table.config.get().config) {
            Some(why) => Err(session.failure(why)),
            None => Ok(entry),
        }
    }
}

impl Drop for PendingSession<'_> {
    fn drop(&mut self) {
        self.table.pending.lock().remove(&self.session.no);
    }
}

//! A place among the subscriptions of a session.

use std::sync::Arc;

use super::record::Session;
use super::subscriptions::NoRoom;

/// A place among the subscriptions of a session, while its worker is asked. Dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Reserved {
    session: Arc<Session>,
    uri: String,
}

impl Reserved {
    /// Takes a place for a subscription of that session; and of the one with all servers that it is part of.
    ///
    /// # Errors
    /// [`NoRoom`] when there is none; nothing is taken then.
    pub(crate) fn take(session: &Arc<Session>, uri: &str) -> Result<Vec<Self>, NoRoom> {
        let mut reserved = vec![Self::of(Arc::clone(session), uri.to_owned())?];
        if let (Some(whole), Some(alias)) = (session.whole(), session.alias()) {
            reserved.push(Self::of(whole, alias.uri(uri))?);
        }
        Ok(reserved)
    }

    fn of(session: Arc<Session>, uri: String) -> Result<Self, NoRoom> {
        session.with_subscriptions(|all| all.ask(&uri))?;
        Ok(Self { session, uri })
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.session.with_subscriptions(|all| all.asked(&self.uri));
    }
}

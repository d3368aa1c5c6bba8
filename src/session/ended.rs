//! Why a session has ended, and what the requests are told that were under way in it: those that a worker has, and those
//! that wait for one.

use std::pin::pin;

use super::record::Session;
use super::shared::Shared;
use crate::config::Config;
use crate::protocol::{Failure, Reason};

/// Why a session has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ended {
    /// Its client has said so, or has gone for good, or nobody has used it.
    ByClient,
    /// Its server is not in pool.toml any more.
    ServerRemoved,
    /// Its tenant is not there any more.
    TenantRemoved,
    /// The process that held its state is gone.
    WorkerGone,
}

impl Ended {
    /// What a request of that session is told that was under way.
    pub(super) fn failure(self, session: &Session) -> Failure {
        let server = &session.server;
        let why = match self {
            Self::ByClient => "its client has ended it".to_owned(),
            Self::ServerRemoved => format!("a reload of pool.toml has removed server `{server}`"),
            Self::TenantRemoved => "its tenant was removed".to_owned(),
            Self::WorkerGone => format!(
                "the process of server `{server}` that held its state is gone; send `initialize` again"
            ),
        };
        // A caller without sessions knows of none.
        let what = match session.is_stateless {
            true => "the request was cancelled while it was in flight",
            false => {
                "the session has ended while this request was in flight, and the request was cancelled"
            }
        };
        Failure::new(Reason::SessionEnded, format!("{what}: {why}"))
    }

    /// Why a session cannot go on under that pool.toml, if it cannot.
    pub(super) fn under(config: &Config, session: &Session) -> Option<Self> {
        let has_server = session.is_with_all() || config.has_server(&session.server);
        match (has_server, config.has_tenant(session.tenant())) {
            (true, true) => None,
            (false, true) => Some(Self::ServerRemoved),
            (_, false) => Some(Self::TenantRemoved),
        }
    }
}

impl Session {
    /// Waits until the session has ended.
    ///
    /// # Cancel-Safety
    /// Cancel-safe.
    async fn until_ended(&self) -> Ended {
        let mut told = pin!(self.end_told.notified());
        // Registered before the look, so that no end between the two is missed.
        told.as_mut().enable();
        loop {
            if let Some(why) = self.ended() {
                return why;
            }
            told.as_mut().await;
            told.set(self.end_told.notified());
            told.as_mut().enable();
        }
    }

    /// What comes of that work for the session, unless the session ends before: then that is told at once, and the work is
    /// dropped.
    ///
    /// # Errors
    /// That of the work; why the session has ended.
    ///
    /// # Cancel-Safety
    /// As of the work.
    pub(super) async fn unless_ended<T>(
        &self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        tokio::select! {
            biased;
            done = work => done,
            why = self.until_ended() => Err(why.failure(self)),
        }
    }
}

/// A session that no table has yet, while it is found out what its server says of itself. Who removes its server or its
/// tenant ends it all the same.
#[derive(Debug)]
pub(super) struct Newcomer<'a> {
    shared: &'a Shared,
    session: std::sync::Arc<Session>,
}

impl<'a> Newcomer<'a> {
    /// Notes a session that is about to be opened.
    ///
    /// # Errors
    /// When its server or tenant has just been removed.
    pub(super) fn enter(
        shared: &'a Shared,
        session: &std::sync::Arc<Session>,
    ) -> Result<Self, Failure> {
        let mut newcomers = shared.newcomers.lock();
        newcomers.insert(session.no, std::sync::Arc::clone(session));
        drop(newcomers);
        let newcomer = Self {
            shared,
            session: std::sync::Arc::clone(session),
        };
        // Whoever changes pool.toml puts it in force first and looks for newcomers then: one of the two sees the other.
        match Ended::under(&shared.setup().config, session) {
            Some(why) => Err(why.failure(session)),
            None => Ok(newcomer),
        }
    }
}

impl Drop for Newcomer<'_> {
    fn drop(&mut self) {
        self.shared.newcomers.lock().remove(&self.session.no);
    }
}

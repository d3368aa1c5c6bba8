//! How sessions end, whichever kind they are of.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::gateway_event::GatewayEvent;
use super::session_table::SessionTable;
use crate::config::{Config, Share};
use crate::ids::{ServerName, TenantId};
use crate::pool::StopReason;
use crate::routing::Route;
use crate::session::{Ended, Session, persistence};
use crate::store::{IdHash, SessionRow};

impl SessionTable {
    /// A route that a session does not take any more: what only it used ends.
    pub(super) fn leave_behind(&self, route: &Route) {
        if route.share == Share::Session {
            self.workers
                .pool()
                .retire_key(route.key, StopReason::Session);
        }
    }

    /// Ends a session: its id is unknown from now on, its calls are cancelled, its streams close.
    /// Says whether it was still there.
    pub fn end(&self, session: &Arc<Session>) -> bool {
        self.end_because(session, Ended::ByClient)
    }

    /// Ends every session for which there is a reason, whether or not a client knows of it: sessions, what stands for
    /// callers without sessions, and those that are just being opened.
    pub(super) fn end_where(&self, why: impl Fn(&Session) -> Option<Ended>) {
        for session in self.directory.all() {
            if let Some(why) = why(&session) {
                self.end_because(&session, why);
            }
        }
        self.end_callers(&why);
        let pending: Vec<_> = self.pending.lock().values().cloned().collect();
        for session in pending {
            if let Some(why) = why(&session) {
                session.end(why);
                for route in session.routes.all() {
                    self.leave_behind(&route);
                }
            }
        }
    }

    /// Ends a session for that reason, which its requests under way are told.
    pub(super) fn end_because(&self, session: &Arc<Session>, why: Ended) -> bool {
        if !session.end(why) {
            return false;
        }
        self.directory.remove(session);
        if let Some(store) = &self.store {
            store.remove(IdHash::of(session.id.as_str()));
        }
        for connection in session
            .attached_to()
            .into_iter()
            .filter_map(|id| self.workers.connection(id))
        {
            connection.detach(session.no, &session.failure(why));
            connection.pin_while_subscribed();
        }
        for route in session.routes.all() {
            self.leave_behind(&route);
        }
        if !session.is_stateless() {
            self.sink
                .gateway_event(GatewayEvent::SessionClosed(session));
        }
        let members = session.take_members();
        for member in members.values() {
            self.end_because(member, why);
        }
        true
    }

    /// Ends the session of that tenant's caller that was asked for longest ago and that nobody uses, and
    /// says whether there was one.
    pub(super) fn end_oldest_caller(&self, tenant: &TenantId) -> bool {
        let oldest = self.stateless_sessions.take_oldest(tenant);
        oldest.is_some_and(|oldest| self.end(&oldest))
    }

    /// Ends what is kept for callers that have asked for nothing during `timeout`.
    pub(super) fn forget_idle_callers(&self, timeout: Duration) {
        for session in self.stateless_sessions.take_idle(timeout) {
            self.end(&session);
        }
    }

    /// Ends what is kept for callers for which there is a reason, with the calls that wait for their clients' next
    /// requests.
    pub(super) fn end_callers(&self, why: &impl Fn(&Session) -> Option<Ended>) {
        let taken = self
            .stateless_sessions
            .take_where(|session| why(session).is_some());
        for session in &taken {
            if let Some(why) = why(session) {
                self.end_because(session, why);
            }
        }
        if !taken.is_empty() {
            self.suspended_calls.forget(Session::has_ended);
        }
    }

    /// Ends the sessions that nothing has used for `timeout`; returns how many.
    pub fn expire(&self, timeout: Duration) -> usize {
        let now = Instant::now();
        self.forget_idle_callers(timeout);
        let ended = self
            .all()
            .iter()
            // A member ends with its whole.
            .filter(|session| !session.is_member())
            .filter(|session| session.idle_for(now).is_some_and(|idle| idle >= timeout))
            .filter(|session| self.end(session))
            .count();
        ended + self.forget_dormant(|row| persistence::is_forgotten(row, timeout))
    }

    /// Ends all sessions of a tenant, those that a restart left behind included.
    pub fn end_of_tenant(&self, tenant: &TenantId) {
        self.end_where(|session| (session.tenant() == tenant).then_some(Ended::TenantRemoved));
        self.forget_dormant(|row| row.tenant == tenant.as_str());
    }

    /// Ends the sessions that the pool.toml in force has no server or no tenant for.
    pub(super) fn end_unserved(&self) {
        let runtime = self.config.get();
        self.end_where(|session| session.ended_under(&runtime.config));
        self.forget_unserved(&runtime.config);
    }

    /// Forgets the sessions of an earlier run that cannot be taken up: their server or tenant is
    /// gone, or the process that held their state.
    pub(super) fn forget_unserved(&self, config: &Config) {
        self.forget_dormant(|row| {
            let tenant = TenantId::new(row.tenant.clone());
            let server = config.server_name(&row.server);
            let server = server.and_then(|name| config.servers.get(&name));
            let is_with_all = row.server == ServerName::all().as_str();
            let is_lost = !is_with_all && server.is_none_or(|server| server.stateful);
            !config.has_tenant(&tenant) || is_lost
        });
    }

    /// Forgets the sessions of an earlier run that are meant, and what is written down of them; returns how many.
    pub(super) fn forget_dormant(&self, is_meant: impl Fn(&SessionRow) -> bool) -> usize {
        let dropped = self.directory.drop_dormant(is_meant);
        for id in &dropped {
            if let Some(store) = &self.store {
                store.remove(*id);
            }
        }
        dropped.len()
    }

    /// Ends the calls that wait for another request of their clients.
    pub fn end_suspended(&self) {
        self.suspended_calls.clear();
    }

    /// Closes every session's own stream, so that connections can end.
    pub fn close_streams(&self) {
        for session in self.all() {
            session.outbox.close();
        }
    }
}

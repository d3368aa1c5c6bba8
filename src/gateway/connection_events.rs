//! What becomes of what the connections to workers tell: it goes to the sessions that it is for.

use std::sync::Arc;

use super::state::GatewayState;
use crate::bridge::SessionNo;
use crate::ids::WorkerId;
use crate::routing::StartPlan;
use crate::session::{Ended, Session};
use crate::telemetry::labels;
use crate::upstream::{ConnectionEvent, ConnectionEvents, Pushed};

impl ConnectionEvents for GatewayState {
    fn happened(&self, worker: WorkerId, plan: &Arc<StartPlan>, event: ConnectionEvent<'_>) {
        match event {
            ConnectionEvent::ToSession(no, message) => {
                if let Some(session) = self.sessions.directory.get(no)
                    && session.tell(message).is_loss()
                {
                    let reason = labels::DropReason::QueueFull;
                    self.metrics.notifications_dropped(reason, 1);
                }
            }
            ConnectionEvent::AskSession(no, ask, message) => {
                let session = self.sessions.directory.get(no);
                let pushed = session.map_or(Pushed::Refused, |session| session.tell(message));
                if !matches!(pushed, Pushed::Whole | Pushed::InPlaceOfOlder)
                    && let Some(connection) = self.connection(worker)
                {
                    connection.ask_failed(ask, &pushed.unasked());
                }
            }
            ConnectionEvent::Broadcast(broadcast) => {
                if let (Some(connection), Some(state)) =
                    (self.connection(worker), self.me.upgrade())
                {
                    state.broadcast(&connection, broadcast);
                }
            }
            ConnectionEvent::LevelSet(no, level) => {
                if let Some(session) = self.sessions.directory.get(no) {
                    session.set_level(level);
                    self.keep_settings_of_whole(&session);
                }
            }
            ConnectionEvent::Subscribed(no, uri) => {
                if let Some(session) = self.sessions.directory.get(no) {
                    if let (Some(whole), Some(alias)) = (session.whole(), session.alias()) {
                        whole.add_subscription(alias.uri(&uri));
                    }
                    session.add_subscription(uri);
                    self.keep_settings_of_whole(&session);
                }
            }
            ConnectionEvent::Unsubscribed(no, uri) => {
                if let Some(session) = self.sessions.directory.get(no) {
                    if let (Some(whole), Some(alias)) = (session.whole(), session.alias()) {
                        whole.remove_subscription(&alias.uri(&uri));
                    }
                    session.remove_subscription(&uri);
                    self.keep_settings_of_whole(&session);
                }
            }
            ConnectionEvent::AskedClient => {
                self.sessions.stateless_sessions.note_asking(&plan.server)
            }
            ConnectionEvent::Introduced => {
                if let (Some(tenant), Some(connection)) = (&plan.tenant, self.connection(worker)) {
                    for listener in self.sessions.directory.listening(tenant, &plan.server) {
                        connection.listen_for(&*listener);
                    }
                }
            }
            ConnectionEvent::ToolsPage(result) => self.learn_tools(&plan.server, result),
            ConnectionEvent::ToolsListed(list) => self.learn_tool_list(&plan.server, list),
            ConnectionEvent::Observed(kind, how) => self.workers.tell_observed(worker, kind, how),
            ConnectionEvent::Exited(attached) => self.worker_exited(worker, plan, &attached),
        }
    }
}

impl GatewayState {
    /// The worker serves no one any more: its sessions are not attached to it any longer, and end where their state was in
    /// its process.
    fn worker_exited(&self, worker: WorkerId, plan: &StartPlan, attached: &[SessionNo]) {
        for session in attached
            .iter()
            .filter_map(|no| self.sessions.directory.get(*no))
        {
            session.detach(worker);
            if plan.stateful {
                self.sessions.end_because(&session, Ended::WorkerGone);
            }
        }
    }

    fn keep_settings_of_whole(&self, session: &Arc<Session>) {
        match session.whole() {
            Some(whole) => self.sessions.keep_settings(&whole),
            None => self.sessions.keep_settings(session),
        }
    }
}

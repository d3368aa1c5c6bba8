//! What holds up a request on its way to a worker, or the opening of a session, in words for its user.

use std::sync::Arc;

use super::aggregate::part_of;
use super::state::Gateway;
use crate::bridge::Level;
use crate::ids::ServerName;
use crate::launch::packages::State;
use crate::routing::Route;
use crate::session::{Session, SessionId};
use crate::tenancy::ClientConfig;

impl Gateway {
    /// What the opening of the session of that name waits for: an install, or a server that starts. `None`: neither.
    pub fn holds_up(&self, id: &SessionId) -> Option<String> {
        let session = {
            let pending = self.state.sessions.pending.lock();
            let of_name = pending.values().find(|it| it.id == *id);
            of_name.cloned()?
        };
        self.holds_up_route(&*session.routes.own()?)
    }

    /// What a request of a session waits for that has no worker yet, and that sets `config`: an install, or a server that starts.
    /// `None`: neither. `member` is the server that is to answer it, in a session with all servers.
    pub fn holds_up_request(
        &self,
        session: &Session,
        member: Option<&ServerName>,
        config: Option<&Arc<ClientConfig>>,
    ) -> Option<String> {
        let route_of = |session: &Session, config: Option<&Arc<ClientConfig>>| match config {
            None => session.routes.own(),
            Some(config) => session.routes.other(&config.fingerprint()),
        };
        let route = match member {
            None => route_of(session, config),
            Some(server) => {
                let member = session.member_with(server)?;
                route_of(&member, part_of(config, &member).as_ref())
            }
        };
        self.holds_up_route(&*route?)
    }

    fn holds_up_route(&self, route: &Route) -> Option<String> {
        let slot = route.plan.slot(&self.state.installer);
        if let Some(slot) = slot
            && let State::Installing { since, stage } = slot.state()
        {
            return Some(format!(
                "package {}: {} ({} s)",
                slot.name(),
                stage.as_str(),
                since.elapsed().as_secs()
            ));
        }
        let connections = self.state.connections();
        // A process for one request alone has a key of its own, made from the plan that the route has.
        let starting = connections.iter().find(|connection| {
            connection.is_starting_for(route.key)
                || Arc::ptr_eq(connection.plan(), &route.plan)
                    && connection.is_starting_for(connection.key())
        })?;
        Some(format!(
            "server `{}` has not answered `{}` yet; {}",
            starting.plan().server,
            starting.plan().first_question(),
            starting.stderr_so_far()
        ))
    }

    /// Whether the client of a session may be told something as a message of the log that is of level `info`: it asked for
    /// that, or asked for nothing and knows that there is a log (server/utilities/logging).
    pub fn may_log_to(&self, session: &Session) -> bool {
        if let Some(level) = session.level() {
            return level <= Level::Info;
        }
        // All servers as one say that they have a log.
        session.is_with_all() || session.is_member() || self.has_log(session)
    }

    fn has_log(&self, session: &Session) -> bool {
        let Some(route) = session.routes.own() else {
            return false;
        };
        let hello = route
            .plan
            .remembered()
            .and_then(|(key, age)| self.state.knowledge.catalog.server_info(key, age));
        hello.is_some_and(|hello| hello.logs)
    }
}

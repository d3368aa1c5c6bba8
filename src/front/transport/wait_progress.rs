//! What a client is told while its request waits for a worker, or its session is being opened.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;

use crate::bridge::stateless::StatelessRequest;
use crate::bridge::{Level, progress_token_of};
use crate::gateway::{Gateway, ResponseStream, WaitSteps, waiting_progress};
use crate::ids::ServerName;
use crate::protocol::{Envelope, notification};
use crate::session::{Session, SessionId};
use crate::tenancy::ClientConfig;

/// The request or session that waits.
#[derive(Debug)]
enum WaitSubject {
    /// The session of that name.
    Opening(SessionId),
    /// A request, and what it sets for its server.
    Request {
        session: Arc<Session>,
        /// The server that is to answer it, in a session with all of them.
        member: Option<ServerName>,
        config: Option<Arc<ClientConfig>>,
    },
}

/// As what its client is told.
#[derive(Debug)]
enum Voice {
    /// As progress, to a client that asked with that token (raw JSON).
    Progress(String),
    /// As a message of the log.
    Log,
    /// As such a message, while the session's client takes those.
    LogOfSession,
    /// Not at all.
    Nothing,
}

/// Tells a client what its request waits for: as progress where it asked for that, else as a message of the log where it may
/// be sent one.
#[derive(Debug)]
pub(in crate::front) struct WaitProgress {
    gateway: Gateway,
    waiting: WaitSubject,
    voice: Voice,
    steps: WaitSteps,
}

impl WaitProgress {
    /// Of the session of that name, which that request opens. A message of the log is the only notification that a server
    /// may send before it has answered (basic/lifecycle, "Initialization").
    pub(in crate::front) fn of_opening(
        gateway: &Gateway,
        id: &SessionId,
        request: &Envelope<'_>,
    ) -> Self {
        let token = progress_token_of(request).map(ToOwned::to_owned);
        Self {
            gateway: gateway.clone(),
            waiting: WaitSubject::Opening(id.clone()),
            voice: token.map_or(Voice::Log, Voice::Progress),
            steps: WaitSteps::default(),
        }
    }

    /// Of a request of a session, with what it sets for its server; `member` is the server that is to answer it, in a session
    /// with all of them.
    pub(in crate::front) fn of_request(
        gateway: &Gateway,
        session: &Arc<Session>,
        member: Option<ServerName>,
        request: &Envelope<'_>,
        response_stream: &ResponseStream,
    ) -> Self {
        let token = progress_token_of(request).map(ToOwned::to_owned);
        Self {
            gateway: gateway.clone(),
            waiting: WaitSubject::Request {
                session: Arc::clone(session),
                member,
                config: response_stream.config().cloned(),
            },
            voice: token.map_or(Voice::LogOfSession, Voice::Progress),
            steps: response_stream.wait_steps(),
        }
    }

    /// Of a request of the stateless revision, which says itself from which level on it takes messages of the log
    /// (2026-07-28, server/utilities/logging).
    pub(in crate::front) fn of_stateless(
        gateway: &Gateway,
        caller: &Arc<Session>,
        request: &StatelessRequest<'_>,
    ) -> Self {
        let voice = match (request.token, request.level) {
            (Some(token), _) => Voice::Progress(token.to_owned()),
            (None, Some(level)) if level <= Level::Info => Voice::Log,
            (None, _) => Voice::Nothing,
        };
        Self {
            gateway: gateway.clone(),
            waiting: WaitSubject::Request {
                session: Arc::clone(caller),
                member: None,
                config: None,
            },
            voice,
            steps: WaitSteps::default(),
        }
    }

    /// Counts what its client is told.
    pub(in crate::front) fn steps(&self) -> &WaitSteps {
        &self.steps
    }

    /// The notification that says what holds it up, if anything is known of that and its client may be told.
    pub(in crate::front) fn next(&self) -> Option<Bytes> {
        let may_be_told = match (&self.voice, &self.waiting) {
            (Voice::Nothing, _) => false,
            (Voice::LogOfSession, WaitSubject::Request { session, .. }) => {
                self.gateway.may_log_to(session)
            }
            (Voice::Progress(_) | Voice::Log | Voice::LogOfSession, _) => true,
        };
        if !may_be_told {
            return None;
        }
        let text = match &self.waiting {
            WaitSubject::Opening(id) => self.gateway.holds_up(id),
            WaitSubject::Request {
                session,
                member,
                config,
            } => self
                .gateway
                .holds_up_request(session, member.as_ref(), config.as_ref()),
        }?;
        Some(match &self.voice {
            Voice::Progress(token) => waiting_progress(token, &self.steps, &text),
            Voice::Log | Voice::LogOfSession | Voice::Nothing => {
                let params = json!({ "level": "info", "logger": "stdiopool", "data": text });
                notification("notifications/message", params).into()
            }
        })
    }
}

//! The clients of HTTP+SSE, each with the two directions of its transport.

use std::collections::VecDeque;
use std::sync::Arc;

use http::{Response, StatusCode};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::task::JoinSet;

use crate::front::pipeline::limits::Permit;
use crate::front::response::body::Body;
use crate::front::response::{errors, reply};
use crate::held::Account;
use crate::ids::ServerName;
use crate::protocol::{Failure, RawId};
use crate::session::{Session, SessionId};
use crate::tenancy::{ClientConfig, Principal};
use crate::upstream::{OutboundMessage, Outbox};

/// Most answers that wait for a client which does not read, and requests of it under way.
pub(super) const MAX_PENDING: usize = 256;

/// Both directions of one client.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) principal: Principal,
    pub(super) server: ServerName,
    /// What the GET set for the server, for the whole session.
    pub(super) config: Option<ClientConfig>,
    /// What is for the client, but for what belongs to no request: that is in its session's own.
    pub(super) outbox: Arc<Outbox>,
    /// The account that the channel is charged to.
    pub(super) account: Account,
    pub(super) session: Mutex<Option<Arc<Session>>>,
    pub(super) tasks: Mutex<JoinSet<()>>,
    /// Permits of the requests whose answers are in the outbox, in their order there; those that were over a limit have none.
    pub(super) permits: Mutex<VecDeque<Option<Permit>>>,
}

impl Channel {
    /// Puts the last message about a request into the outbox. The request is under way until that is sent.
    pub(super) fn settle(&self, permit: impl Into<Option<Permit>>, outbound: OutboundMessage) {
        // Held over both pushes, so that permits stand in the order of their messages. The outbox is never locked first.
        let mut permits = self.permits.lock();
        let is_last = !matches!(outbound, OutboundMessage::Message(_));
        // The stream that tells it is another request's.
        let outbound = match outbound {
            OutboundMessage::Failed { id, failure } => OutboundMessage::Failed {
                id,
                failure: errors::of_current_request(failure),
            },
            outbound => outbound,
        };
        self.outbox.pass_on(outbound);
        // Of what is no last word, whoever calls this has none.
        if !is_last {
            return;
        }
        permits.push_back(permit.into());
    }

    /// Tells of a request that is not served, in its answer.
    ///
    /// # Errors
    /// `failure` where its client does not read what it is told.
    pub(super) fn refuse(
        &self,
        permit: Option<Permit>,
        id: RawId,
        failure: Failure,
    ) -> Result<Response<Body>, Failure> {
        if self.outbox.len() >= MAX_PENDING {
            return Err(failure);
        }
        self.settle(permit, OutboundMessage::Failed { id, failure });
        Ok(reply::empty(StatusCode::ACCEPTED))
    }
}

impl Channel {
    /// Waits until nothing that its client has asked is under way.
    ///
    /// # Cancel-Safety
    /// A dropped call loses nothing.
    pub(super) async fn settled(&self) {
        while std::future::poll_fn(|cx| self.tasks.lock().poll_join_next(cx))
            .await
            .is_some()
        {}
    }
}

/// The clients of this transport.
#[derive(Debug, Default)]
pub struct Channels(pub(super) Mutex<FxHashMap<SessionId, Arc<Channel>>>);

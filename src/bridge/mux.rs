//! The state of one worker's multiplexer: its tables, and what keeps them in agreement with each other.

use rustc_hash::{FxHashMap, FxHashSet};

use super::action::Action;
use super::call::{AttachedSession, Call, OpenQuestion, Purpose};
use super::era::Era;
use super::handshake::Handshake;
use super::level::Level;
use super::listening::Listening;
use super::notices::OpenNotices;
use super::numbers::{CallId, SessionNo};
use super::roots::WorkerRoots;
use super::server_info::ServerInfo;
use super::subscribers::Subscribers;
use super::suspicion_table::Suspicions;
use crate::ids::WorkerId;
use crate::protocol::request;

/// Lets many sessions share one worker. See the [module](super) for what it promises.
#[derive(Debug)]
pub struct Mux {
    pub(super) worker: WorkerId,
    pub(super) next_call: u64,
    pub(super) next_ask: u64,
    pub(super) calls: FxHashMap<CallId, Call>,
    pub(super) asks: FxHashMap<u64, OpenQuestion>,
    pub(super) attached_to: FxHashMap<SessionNo, AttachedSession>,
    /// The subscriptions of all attached sessions, by resource.
    pub(super) subscribers: Subscribers,
    pub(super) ever_attached: EverAttached,
    /// Sessions with a call in flight, kept beside those that are attached so that the owner of a worker's
    /// message is found without walking every session.
    pub(super) active: FxHashSet<SessionNo>,
    /// Calls nobody waits for and the worker may still be busy with, after their session left or
    /// the runtime lost patience. While there are any, nothing the worker asks can be attributed.
    pub(super) orphans: FxHashSet<CallId>,
    /// The level the worker was last told.
    pub(super) worker_level: Option<Level>,
    /// Capabilities of the clients, by the method that needs them.
    pub(super) accepts: Accepts,
    pub(super) server_info: Option<Box<ServerInfo>>,
    /// URIs to answer `roots/list` with.
    pub(super) roots: Vec<String>,
    /// What the worker knows of its clients' roots.
    pub(super) worker_roots: WorkerRoots,
    /// No session has called yet.
    pub(super) is_unused: bool,
    /// How the worker is spoken to.
    pub(super) era: Era,
    /// The calls that go on in several rounds, each of which has a wire id of its own: the call by the id of its later rounds.
    pub(super) wires: FxHashMap<CallId, CallId>,
    /// Calls that may have been answered by what cannot be read.
    pub(super) suspicions: Suspicions,
    pub(super) listening: Listening,
    /// Notifications that the worker may still answer.
    pub(super) notices: OpenNotices,
    /// How stdiopool introduces itself.
    pub(super) own_info: serde_json::Value,
}

/// How many sessions were ever attached to this worker, and whose.
#[derive(Clone, Copy, Default, Debug)]
pub(super) enum EverAttached {
    #[default]
    None,
    One(SessionNo),
    Several,
}

/// The requests that the sessions of this worker accept.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Accepts {
    pub(super) roots: bool,
    pub(super) sampling: bool,
    pub(super) elicitation: bool,
}

/// Most questions of one worker that may wait for clients; further ones are refused.
pub(super) const MAX_ASKS: usize = 256;
/// Most abandoned calls remembered; beyond it the worker is a lost case and the runtime ends it.
pub(super) const MAX_ORPHANS: usize = 1024;
impl Mux {
    /// A multiplexer for a worker that is begun with that handshake.
    pub fn new(worker: WorkerId, handshake: &Handshake) -> Self {
        let has = |name: &str| handshake.capabilities.contains_key(name);
        Self {
            worker,
            next_call: 0,
            next_ask: 0,
            calls: Default::default(),
            asks: Default::default(),
            attached_to: Default::default(),
            subscribers: Default::default(),
            ever_attached: Default::default(),
            active: Default::default(),
            orphans: Default::default(),
            worker_level: None,
            accepts: Accepts {
                roots: has("roots") && handshake.roots.is_empty(),
                sampling: has("sampling"),
                elicitation: has("elicitation"),
            },
            server_info: None,
            roots: handshake.roots.clone(),
            worker_roots: Default::default(),
            is_unused: true,
            era: handshake.era,
            wires: Default::default(),
            suspicions: Default::default(),
            listening: Default::default(),
            notices: Default::default(),
            own_info: handshake.client_info.clone(),
        }
    }

    /// How many calls the worker has not answered.
    pub fn in_flight(&self) -> usize {
        self.calls.len()
    }

    /// The worker's introduction; `None` until the handshake is over.
    pub fn server_info(&self) -> Option<&ServerInfo> {
        self.server_info.as_deref()
    }

    /// The sessions that are attached.
    pub fn sessions(&self) -> Vec<SessionNo> {
        self.attached_to.keys().copied().collect()
    }

    /// The session that called, if the call is still in flight.
    pub fn caller(&self, call: CallId) -> Option<SessionNo> {
        self.calls.get(&call)?.session
    }

    /// Whether the call is still to be answered: neither answered nor cancelled.
    pub fn is_awaited(&self, call: CallId) -> bool {
        self.calls.get(&call).is_some_and(|call| !call.cancelled)
    }

    /// Bytes that are kept of what client and worker sent for the call's later rounds, but for answers, which carry their
    /// charge; 0 for a call that has none.
    pub fn kept(&self, call: CallId) -> usize {
        let rounds = self.calls.get(&call).and_then(|call| call.rounds.as_ref());
        rounds.map_or(0, |rounds| rounds.kept())
    }

    pub(super) fn new_call(&mut self, call: Call) -> CallId {
        let id = CallId(self.next_call);
        self.next_call += 1;
        if let Some(session) = call.session {
            self.attached_session(session).in_flight.push(id);
            self.active.insert(session);
        }
        self.calls.insert(id, call);
        id
    }

    /// Takes the call out; its session may thereby become inactive.
    pub(super) fn end_call(&mut self, id: CallId) -> Option<Call> {
        let call = self.calls.remove(&id)?;
        if let Some(wire) = call.rounds.as_ref().and_then(|rounds| rounds.wire) {
            self.wires.remove(&wire);
        }
        if let Some(session) = call.session
            && let Some(attached) = self.attached_to.get_mut(&session)
        {
            if let Ok(at) = attached.in_flight.binary_search(&id) {
                attached.in_flight.remove(at);
            }
            if attached.in_flight.is_empty() {
                self.active.remove(&session);
            }
        }
        Some(call)
    }

    /// Sends a request of stdiopool's own.
    pub(super) fn own_request(&mut self, method: &str, params: &str, out: &mut Vec<Action>) {
        let id = self.new_call(Call {
            session: None,
            client_id: "null".into(),
            client_token: None,
            purpose: Purpose::Own,
            cancelled: false,
            wants_logs: false,
            rounds: None,
        });
        out.push(Action::ToWorker(request(id.0, method, params).into()));
    }

    /// The one session that must have caused what the worker says unasked: the only one with a
    /// call in flight, else the only one there ever was. With an earlier one gone, what an idle
    /// worker says may still be on its behalf.
    pub(super) fn owner(&self) -> Option<SessionNo> {
        let mut active = self.active.iter();
        match (active.next(), active.next(), self.ever_attached) {
            (Some(one), None, _) => Some(*one),
            (None, _, EverAttached::One(one)) if self.attached_to.contains_key(&one) => Some(one),
            _ => None,
        }
    }

    /// The record of an attached session, made for one that comes for the first time.
    pub(super) fn attached_session(&mut self, session: SessionNo) -> &mut AttachedSession {
        self.ever_attached = match self.ever_attached {
            EverAttached::None => EverAttached::One(session),
            EverAttached::One(one) if one == session => self.ever_attached,
            EverAttached::One(_) | EverAttached::Several => EverAttached::Several,
        };
        self.attached_to.entry(session).or_default()
    }

    pub(super) fn add_orphan(&mut self, id: CallId) {
        // Only in the legacy era does a worker ask something for a call: what asks for one that has gone is told apart by this.
        if self.orphans.len() < MAX_ORPHANS && self.era == Era::Legacy {
            self.orphans.insert(id);
        }
    }

    /// The session's latest call that still has a caller.
    pub(super) fn stream_of(&self, session: SessionNo) -> Option<CallId> {
        let in_flight = &self.attached_to.get(&session)?.in_flight;
        in_flight
            .iter()
            .rev()
            .find(|id| !self.calls[id].cancelled)
            .copied()
    }

    /// How much [`Mux::check_invariants`] walks.
    pub fn extent(&self) -> usize {
        self.attached_to.len() + self.calls.len() + self.subscribers.count()
    }

    /// Panics when the tables disagree with each other. Cheap enough for every event of a
    /// property test and of a debug build.
    pub fn check_invariants(&self) {
        for (id, call) in &self.calls {
            assert!(id.0 < self.next_call, "call from the future");
            if let Some(session) = call.session {
                let attached = self
                    .attached_to
                    .get(&session)
                    .expect("a caller is attached");
                assert!(
                    attached.in_flight.contains(id),
                    "call missing in its session"
                );
            }
        }
        let mut subscribers = Subscribers::default();
        for (session, attached) in &self.attached_to {
            let bytes: usize = attached.subscriptions.iter().map(String::len).sum();
            assert_eq!(attached.subscribed, bytes, "bytes of subscriptions");
            for uri in &attached.subscriptions {
                subscribers.add(uri, *session);
            }
            assert!(
                attached
                    .in_flight
                    .iter()
                    .all(|id| self.calls.contains_key(id))
            );
            assert_eq!(
                self.active.contains(session),
                !attached.in_flight.is_empty(),
                "active must be the sessions with calls in flight"
            );
        }
        assert_eq!(
            self.subscribers, subscribers,
            "the index of the subscriptions"
        );
        assert!(self.active.iter().all(|s| self.attached_to.contains_key(s)));
        assert!(
            self.asks
                .values()
                .all(|q| self.attached_to.contains_key(&q.session))
        );
        assert!(self.wires.values().all(|id| self.calls.contains_key(id)));
        let mut inputs = self.asks.values().filter_map(|q| q.input.as_ref());
        assert!(
            inputs.all(|input| self.calls.contains_key(&input.call)),
            "a question belongs to a call"
        );
        assert!(self.asks.len() <= MAX_ASKS && self.orphans.len() <= MAX_ORPHANS);
    }
}

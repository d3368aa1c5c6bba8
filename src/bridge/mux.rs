//! The state of one worker's multiplexer, and what it tells the runtime to do.

use std::collections::BTreeSet;

use bytes::Bytes;
use rustc_hash::{FxHashMap, FxHashSet};
use smallvec::SmallVec;

use super::era::Era;
use super::initialize::Hello;
use super::level::Level;
pub use super::numbers::{AskRef, CallId, SessionNo};
use super::roots::Told;
use super::rounds::{Input, Rounds};
use super::subscriptions::Listening;
use super::suspected::Suspicions;
use super::watchers::Watchers;
use crate::ids::WorkerId;
use crate::protocol::{Flaw, RawId, code};

/// What the runtime must do. Actions are in order; `ToWorker` messages must reach the worker in
/// the order in which the mux produced them.
#[derive(Debug)]
pub enum Action {
    /// Send one line to the worker.
    ToWorker(Bytes),
    /// The call's answer, under the client's id. The call is over and its slot is free.
    Answer {
        /// The call.
        call: CallId,
        /// The response.
        message: Bytes,
        /// Whether it is a JSON-RPC error.
        is_error: bool,
    },
    /// A notification that belongs to the call: on the stream of its request.
    ToCall(CallId, Bytes),
    /// A message for one session that belongs to no request of it.
    ToSession(SessionNo, Bytes),
    /// A worker's request for the session, on the stream of the call if there is one. If it
    /// cannot be delivered, say so with [`Mux::ask_failed`].
    Ask {
        /// Who is asked.
        session: SessionNo,
        /// The call on whose stream the question goes; else the session's own stream.
        call: Option<CallId>,
        /// Names the question.
        ask: AskRef,
        /// The request, under that name.
        message: Bytes,
    },
    /// A resource has changed: for those who subscribe to it when they are told, as of [`Mux::subscribers_of`].
    ToSubscribers {
        /// The resource.
        uri: String,
        /// The notification.
        message: Bytes,
    },
    /// A notification for every session of the worker's pool key.
    Broadcast(Bytes),
    /// The call is over without an answer for anyone: its slot is free.
    Released(CallId),
    /// The worker accepted the session's log level; it must survive the worker.
    LevelSet(SessionNo, Level),
    /// The worker accepted the session's subscription; it must survive the worker.
    Subscribed(SessionNo, String),
    /// The session no longer subscribes to that resource.
    Unsubscribed(SessionNo, String),
    /// The worker asks for roots, as its clients accept.
    RootsWanted,
    /// The worker has answered [`Mux::probe`].
    Probed,
    /// The handshake is over.
    Greeted(Result<Box<Hello>, NotGreeted>),
    /// The worker did something out of order; count it.
    Anomaly(Anomaly),
    /// A message of the worker was off in this way.
    Malformed(Malformed),
}

/// Why a worker cannot be used after its handshake.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NotGreeted {
    /// For people.
    pub why: String,
    /// Whether a process of the same program may take the handshake of the other era.
    pub may_take_the_other: bool,
}

/// A message of a worker that is off.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Malformed {
    /// In which way.
    pub flaw: Flaw,
    /// What became of it.
    pub outcome: MalformedOutcome,
    /// The line; empty where it is told of another flaw of the same line.
    pub line: Bytes,
}

/// What became of a worker's message that is off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MalformedOutcome {
    /// What it says was clear all the same, and was taken.
    Taken,
    /// It answers that call, which is over thereby; somebody may wait for its answer.
    Failed(CallId),
    /// It answers the handshake, which is over thereby.
    NotGreeted,
    /// Whose answer it is, if anybody's, is not known. The calls that it may answer are over when the worker has shown no
    /// sign of life for them for a while: the runtime says when, with [`Mux::suspicion_over`] and this number.
    Suspected(u64),
    /// Nobody waits for it.
    Dropped,
}

/// Ways in which a worker's message can be out of order. None is fatal.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Anomaly {
    /// A line that is not JSON-RPC.
    Garbage,
    /// An answer to an id that was never asked.
    UnknownId,
    /// A second answer to a request, or one that came after the runtime lost patience.
    DuplicateAnswer,
    /// Progress for a token that is not, or no longer, in use.
    UnknownToken,
    /// A request or notification that no single session can have caused.
    Unattributable,
}

impl Anomaly {
    /// As it stands in metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Garbage => "garbage",
            Self::UnknownId => "unknown_id",
            Self::DuplicateAnswer => "duplicate_answer",
            Self::UnknownToken => "unknown_token",
            Self::Unattributable => "unattributable",
        }
    }
}

/// What a call is for, where its answer means something to the bridge.
#[derive(Debug)]
pub(super) enum Purpose {
    /// Nothing to note.
    Plain,
    /// `logging/setLevel` of a session.
    SetLevel(Level),
    /// `resources/subscribe` of a session.
    Subscribe(String),
    /// `resources/unsubscribe` of a session.
    Unsubscribe(String),
    /// stdiopool's own handshake.
    Greeting,
    /// stdiopool's own question whether it is there.
    Probe,
    /// Another request of stdiopool itself; the answer concerns no one.
    Own,
}

#[derive(Debug)]
pub(super) struct Call {
    /// `None` for stdiopool's own requests.
    pub(super) session: Option<SessionNo>,
    /// The client's id as raw JSON.
    pub(super) client_id: RawId,
    /// The client's progress token as raw JSON.
    pub(super) client_token: Option<Box<str>>,
    pub(super) purpose: Purpose,
    /// The caller gave up and the worker was told; an answer is for no one.
    pub(super) cancelled: bool,
    /// Log lines were asked for with it, of a worker of the stateless revision.
    pub(super) wants_logs: bool,
    /// How it goes, where it may have to be sent several times.
    pub(super) rounds: Option<Box<Rounds>>,
}

#[derive(Debug)]
pub(super) struct Question {
    pub(super) session: SessionNo,
    /// The worker's id as raw JSON; empty for an input.
    pub(super) worker_id: Box<str>,
    /// The worker's progress token for it, as raw JSON.
    pub(super) token: Option<Box<str>>,
    /// What its answer is for, if the worker asked for input in a result.
    pub(super) input: Option<Input>,
    /// It is `roots/list`.
    pub(super) about_roots: bool,
}

#[derive(Debug, Default)]
pub(super) struct Seat {
    /// Calls the worker has not answered yet, cancelled ones included.
    /// Ascending, as they are numbered in their order.
    pub(super) in_flight: SmallVec<[CallId; 2]>,
    /// The level the session asked for.
    pub(super) level: Option<Level>,
    /// URIs it subscribes to.
    pub(super) subscriptions: BTreeSet<String>,
    /// Bytes of those URIs.
    pub(super) subscribed: usize,
    /// How its client is introduced with each request, to a worker of the stateless revision.
    pub(super) identity: Option<Box<str>>,
}

/// Lets many sessions share one worker. See the [module](super) for what it promises.
#[derive(Debug)]
pub struct Mux {
    pub(super) worker: WorkerId,
    pub(super) next_call: u64,
    pub(super) next_ask: u64,
    pub(super) calls: FxHashMap<CallId, Call>,
    pub(super) asks: FxHashMap<u64, Question>,
    pub(super) seats: FxHashMap<SessionNo, Seat>,
    /// The subscriptions of all seats, by resource.
    pub(super) watchers: Watchers,
    pub(super) guests: Guests,
    /// Sessions with a call in flight, kept beside the seats so that the owner of a worker's
    /// message is found without walking every session.
    pub(super) active: FxHashSet<SessionNo>,
    /// Calls nobody waits for and the worker may still be busy with, after their session left or
    /// the runtime lost patience. While there are any, nothing the worker asks can be attributed.
    pub(super) orphans: FxHashSet<CallId>,
    /// The level the worker was last told.
    pub(super) worker_level: Option<Level>,
    /// Capabilities of the clients, by the method that needs them.
    pub(super) accepts: Accepts,
    pub(super) hello: Option<Box<Hello>>,
    /// URIs to answer `roots/list` with.
    pub(super) roots: Vec<String>,
    /// What it knows of its clients' roots.
    pub(super) told: Told,
    /// No session has called yet.
    pub(super) is_unused: bool,
    /// How the worker is spoken to.
    pub(super) era: Era,
    /// Calls by the ids of their later rounds.
    pub(super) wires: FxHashMap<CallId, CallId>,
    /// Calls that may have been answered by what cannot be read.
    pub(super) suspicions: Suspicions,
    pub(super) listening: Listening,
    /// How stdiopool introduces itself.
    pub(super) own_info: serde_json::Value,
}

/// Who has ever had a seat at this worker.
#[derive(Clone, Copy, Default, Debug)]
pub(super) enum Guests {
    #[default]
    None,
    One(SessionNo),
    Several,
}

/// Which requests the sessions of this worker accept.
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
/// Most subscriptions of one session; further ones are refused.
pub const MAX_SUBSCRIPTIONS: usize = 1024;
/// Longest URI that a session can subscribe to, in bytes.
pub(super) const MAX_URI: usize = 8 << 10;
/// Most bytes of the URIs that one session subscribes to.
pub const MAX_SUBSCRIBED: usize = 256 << 10;

impl Mux {
    /// How many calls the worker has not answered.
    pub fn in_flight(&self) -> usize {
        self.calls.len()
    }

    /// What the worker said of itself; `None` until the handshake is over.
    pub fn hello(&self) -> Option<&Hello> {
        self.hello.as_deref()
    }

    /// How many sessions subscribe to resources of this worker.
    pub fn subscribers(&self) -> usize {
        self.seats
            .values()
            .filter(|seat| !seat.subscriptions.is_empty())
            .count()
    }

    /// The sessions that have a seat.
    pub fn sessions(&self) -> Vec<SessionNo> {
        self.seats.keys().copied().collect()
    }

    /// The session that called, if the call is still in flight.
    pub fn caller(&self, call: CallId) -> Option<SessionNo> {
        self.calls.get(&call)?.session
    }

    /// Whether the call is still to be answered: neither answered nor cancelled.
    pub fn is_awaited(&self, call: CallId) -> bool {
        self.calls.get(&call).is_some_and(|call| !call.cancelled)
    }

    pub(super) fn new_call(&mut self, call: Call) -> CallId {
        let id = CallId(self.next_call);
        self.next_call += 1;
        if let Some(session) = call.session {
            self.seat(session).in_flight.push(id);
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
            && let Some(seat) = self.seats.get_mut(&session)
        {
            if let Ok(at) = seat.in_flight.binary_search(&id) {
                seat.in_flight.remove(at);
            }
            if seat.in_flight.is_empty() {
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
        let message = format!(
            r#"{{"jsonrpc":"2.0","id":{},"method":"{method}","params":{params}}}"#,
            id.0
        );
        out.push(Action::ToWorker(message.into()));
    }

    /// The one session that must have caused what the worker says unasked: the only one with a
    /// call in flight, else the only one there ever was. With an earlier one gone, what an idle
    /// worker says may still be on its behalf.
    pub(super) fn owner(&self) -> Option<SessionNo> {
        let mut active = self.active.iter();
        match (active.next(), active.next(), self.guests) {
            (Some(one), None, _) => Some(*one),
            (None, _, Guests::One(one)) if self.seats.contains_key(&one) => Some(one),
            _ => None,
        }
    }

    /// The session's seat, made for one that comes for the first time.
    pub(super) fn seat(&mut self, session: SessionNo) -> &mut Seat {
        self.guests = match self.guests {
            Guests::None => Guests::One(session),
            Guests::One(one) if one == session => self.guests,
            Guests::One(_) | Guests::Several => Guests::Several,
        };
        self.seats.entry(session).or_default()
    }

    /// The session subscribes to that resource.
    pub(super) fn subscribe(&mut self, session: SessionNo, uri: &str) {
        let seat = self.seat(session);
        if seat.subscriptions.insert(uri.to_owned()) {
            seat.subscribed += uri.len();
            self.watchers.add(uri, session);
        }
    }

    /// The session subscribes to that resource no more.
    pub(super) fn unsubscribe(&mut self, session: SessionNo, uri: &str) {
        if let Some(seat) = self.seats.get_mut(&session)
            && seat.subscriptions.remove(uri)
        {
            seat.subscribed -= uri.len();
            self.watchers.remove(uri, session);
        }
    }

    /// Why the session cannot subscribe to that resource, if it cannot.
    pub(super) fn cannot_subscribe(&self, session: SessionNo, uri: &str) -> Option<(i32, String)> {
        if uri.len() > MAX_URI {
            let len = uri.len();
            let why = format!(
                "`uri` is {len} bytes long, more than the {MAX_URI} of a resource that can be subscribed to"
            );
            return Some((code::INVALID_PARAMS, why));
        }
        let seat = self.seats.get(&session)?;
        if seat.subscriptions.contains(uri) {
            return None;
        }
        let (asked, asked_bytes) = self.asked_subscriptions(seat);
        if seat.subscriptions.len() + asked >= MAX_SUBSCRIPTIONS {
            let why = format!("too many subscriptions in this session ({MAX_SUBSCRIPTIONS})");
            return Some((code::SERVER_ERROR, why));
        }
        let bytes = seat.subscribed + asked_bytes;
        (bytes + uri.len() > MAX_SUBSCRIBED).then(|| {
            let why = format!("the subscriptions of this session take {bytes} bytes already, of the {MAX_SUBSCRIBED} that they may");
            (code::SERVER_ERROR, why)
        })
    }

    /// How many subscriptions of a session the worker is being asked for, and the bytes of their URIs: requests side by
    /// side must not pass the bounds together.
    fn asked_subscriptions(&self, seat: &Seat) -> (usize, usize) {
        let asked = seat
            .in_flight
            .iter()
            .filter_map(|id| match self.calls.get(id)?.purpose {
                Purpose::Subscribe(ref uri) => Some(uri.len()),
                _ => None,
            });
        asked.fold((0, 0), |(count, bytes), len| (count + 1, bytes + len))
    }

    /// The session's latest call that still has a caller.
    pub(super) fn stream_of(&self, session: SessionNo) -> Option<CallId> {
        let in_flight = &self.seats.get(&session)?.in_flight;
        in_flight
            .iter()
            .rev()
            .find(|id| !self.calls[id].cancelled)
            .copied()
    }

    /// How much [`Mux::check_invariants`] walks.
    pub fn extent(&self) -> usize {
        self.seats.len() + self.calls.len() + self.watchers.count()
    }

    /// Panics when the tables disagree with each other. Cheap enough for every event of a
    /// property test and of a debug build.
    pub fn check_invariants(&self) {
        for (id, call) in &self.calls {
            assert!(id.0 < self.next_call, "call from the future");
            if let Some(session) = call.session {
                let seat = self.seats.get(&session).expect("a caller has a seat");
                assert!(seat.in_flight.contains(id), "call missing in its seat");
            }
        }
        let mut watchers = Watchers::default();
        for (session, seat) in &self.seats {
            let bytes: usize = seat.subscriptions.iter().map(String::len).sum();
            assert_eq!(seat.subscribed, bytes, "bytes of subscriptions");
            for uri in &seat.subscriptions {
                watchers.add(uri, *session);
            }
            assert!(seat.in_flight.iter().all(|id| self.calls.contains_key(id)));
            assert_eq!(
                self.active.contains(session),
                !seat.in_flight.is_empty(),
                "active must be the sessions with calls in flight"
            );
        }
        assert_eq!(self.watchers, watchers, "the index of the subscriptions");
        assert!(self.active.iter().all(|s| self.seats.contains_key(s)));
        assert!(
            self.asks
                .values()
                .all(|q| self.seats.contains_key(&q.session))
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

//! What is written to a client's stream, and what becomes of it in a queue.

use std::borrow::Cow;

use bytes::Bytes;
use tokio::time::Instant;

use crate::held::Full;
use crate::ids::ServerName;
use crate::protocol::{Failure, RawId};

/// A message that is to be written to a stream.
#[derive(Debug)]
pub enum OutboundMessage {
    /// A notification or a worker's request, or an answer that needed no worker.
    Message(Bytes),
    /// The worker's answer to one of the stream's requests.
    Answer {
        /// The response under the client's id.
        message: Bytes,
        /// When the worker gave it.
        at: Instant,
        /// Whether the answer is a JSON-RPC error.
        is_error: bool,
    },
    /// Why one of the stream's requests has no answer.
    Failed {
        /// The client's id as raw JSON.
        id: RawId,
        /// What went wrong.
        failure: Failure,
    },
}

/// The rule for a notification that finds the queue full.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WhenFull {
    /// The message is dropped: progress and log lines of a running call age faster than they help.
    DropNewest,
    /// The oldest goes: what a session's own stream carries replaces what came before.
    DropOldest,
}

/// The topic of a notification: while one of a topic waits, another of that topic is not needed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Topic(u64);

impl Topic {
    /// The topic of notifications with that method about that thing, if any.
    pub fn of(method: &str, thing: Option<&str>) -> Self {
        use std::hash::{BuildHasher, RandomState};
        use std::sync::OnceLock;
        // Hashed with a key of this process: nobody outside can make two topics collide.
        static KEY: OnceLock<RandomState> = OnceLock::new();
        Self(KEY.get_or_init(RandomState::new).hash_one((method, thing)))
    }

    /// The topic, told apart by server, where several servers tell on one stream.
    #[must_use]
    pub fn of_server(self, server: &ServerName) -> Self {
        use std::hash::{BuildHasher, BuildHasherDefault};
        let hasher = BuildHasherDefault::<rustc_hash::FxHasher>::default();
        Self(self.0.rotate_left(1) ^ hasher.hash_one(server.as_str()))
    }
}

/// The outcome of pushing a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pushed {
    /// The message is in the queue.
    Whole,
    /// A notification of that topic waits already.
    Known,
    /// The message is in the queue, and older ones are not any more.
    InPlaceOfOlder,
    /// The message was dropped: the outbox is closed, or as many wait in it as may.
    Refused,
    /// The message was dropped: its tenant, or all together, hold as much as they may.
    NoRoom(Full),
}

impl Pushed {
    /// Whether something was lost by the push.
    pub fn is_loss(self) -> bool {
        matches!(self, Self::InPlaceOfOlder | Self::Refused | Self::NoRoom(_))
    }

    /// Why a question was not put to its client, as the worker that asked is told.
    pub fn unasked(self) -> Cow<'static, str> {
        match self {
            Self::NoRoom(full) => Failure::from(full).message.into(),
            _ => "the client is not listening".into(),
        }
    }
}

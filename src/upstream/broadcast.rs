//! A notification for many sessions, and those of one worker that wait until those before them are delivered.
//!
//! To a few sessions a notification is delivered at once. To many it is delivered some at a time, one notification after the other. A change that the
//! worker tells again meanwhile is told once.

use std::collections::VecDeque;

use bytes::Bytes;

use super::outbound_message::Topic;

/// To whom a notification goes.
#[derive(Debug)]
pub(crate) enum Audience {
    /// All sessions of the worker's key, and those who listen.
    All,
    /// The sessions that subscribe to that resource when they are told.
    Subscribers(String),
}

/// A notification, and to whom it goes.
#[derive(Debug)]
pub(crate) struct Broadcast {
    pub(crate) message: Bytes,
    /// The message is charged already.
    pub(crate) is_held: bool,
    pub(crate) topic: Topic,
    pub(crate) audience: Audience,
}

/// The notifications of a worker that wait until those before them are delivered.
#[derive(Debug, Default)]
pub(crate) struct Broadcasts {
    pub(super) waiting: VecDeque<Broadcast>,
    /// A task delivers them.
    pub(super) is_under_way: bool,
}

/// How a notification for many sessions goes on.
#[derive(Debug)]
pub(crate) enum BroadcastStep {
    /// The notification is delivered at once.
    Now(Broadcast),
    /// The notification waits, and whoever put it there begins to deliver those that wait.
    StartDelivery,
    /// The notification waits for others that are under way, or was dropped.
    Nothing,
}

impl Broadcast {
    /// A notification that nobody is charged for yet.
    pub(crate) fn new(message: Bytes, topic: Topic, audience: Audience) -> Self {
        Self {
            message,
            is_held: false,
            topic,
            audience,
        }
    }
}

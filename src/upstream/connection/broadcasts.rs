//! The worker's notifications for many sessions: each is delivered at once, or waits for its round.

use super::WorkerConnection;
use crate::held::Kind;
use crate::upstream::broadcast::{Broadcast, BroadcastStep};

/// Most notifications of one worker that wait for their round.
const MAX_WAITING: usize = 256;

impl WorkerConnection {
    /// Gives a notification back, unless one of its topic waits already.
    pub(crate) fn told_soon(&self, broadcast: Broadcast) -> Option<Broadcast> {
        let broadcasts = self.broadcasts.lock();
        let is_waiting = broadcasts
            .waiting
            .iter()
            .any(|it| it.topic == broadcast.topic);
        (!is_waiting).then_some(broadcast)
    }

    /// Lets a notification wait for its round, unless it is for few and can be delivered at once.
    pub(crate) fn put_off(&self, mut broadcast: Broadcast, is_for_few: bool) -> BroadcastStep {
        let mut broadcasts = self.broadcasts.lock();
        if !broadcasts.is_under_way && is_for_few {
            return BroadcastStep::Now(broadcast);
        }
        let message = broadcast.message.clone();
        let held = match &self.account {
            Some(account) => account.hold(Kind::Message, message),
            None => Ok(message),
        };
        let Ok(message) = held else {
            drop(broadcasts);
            self.count_dropped();
            return BroadcastStep::Nothing;
        };
        broadcast.message = message;
        broadcast.is_held = true;
        if broadcasts.waiting.len() >= MAX_WAITING {
            drop(broadcasts);
            self.count_dropped();
            return BroadcastStep::Nothing;
        }
        broadcasts.waiting.push_back(broadcast);
        match std::mem::replace(&mut broadcasts.is_under_way, true) {
            true => BroadcastStep::Nothing,
            false => BroadcastStep::StartDelivery,
        }
    }

    /// The notification that is next; `None`: no more wait.
    pub(crate) fn next_broadcast(&self) -> Option<Broadcast> {
        let mut broadcasts = self.broadcasts.lock();
        let next = broadcasts.waiting.pop_front();
        broadcasts.is_under_way = next.is_some();
        next
    }
}

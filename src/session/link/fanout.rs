//! One notification for many sessions.
//!
//! To a few it is delivered at once. To many it is delivered by a task that lets others have their turn, a few
//! sessions at a time, and that rests after each round for several times as long as it took: a worker that
//! tells changes without end takes a bounded share of the processor. What it tells again meanwhile is told
//! once.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::super::mailbox::{Pushed, Topic};
use super::super::record::Session;
use super::super::shared::Shared;
use super::Link;
use crate::bridge::SessionNo;
use crate::bridge::aggregate::Alias;
use crate::held::Kind;
use crate::telemetry::labels;

/// Sessions to which a notification is delivered at once, and at each turn of the task.
const AT_ONCE: usize = 64;
/// Most notifications of one worker that wait for their round.
const MAX_WAITING: usize = 256;
/// A round's rest is so many times what it took.
const REST: u32 = 9;
/// Longest rest.
const LONGEST_REST: Duration = Duration::from_millis(500);

/// To whom a notification goes.
#[derive(Debug)]
pub(super) enum Audience {
    /// All sessions of the worker's key, and those who listen.
    All,
    /// Those.
    Sessions(Vec<SessionNo>),
}

/// A notification, and to whom it goes.
#[derive(Debug)]
pub(super) struct Round {
    message: Bytes,
    /// Its message is charged already.
    is_held: bool,
    topic: Topic,
    audience: Audience,
}

/// The notifications of a worker that wait for their round.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    waiting: VecDeque<Round>,
    /// A task delivers them.
    is_under_way: bool,
}

/// A message as sessions get it: all under the same alias get the same bytes, charged once.
struct Delivery {
    message: Bytes,
    topic: Topic,
    plain: Option<Option<Bytes>>,
    renamed: Vec<(Alias, Option<Bytes>)>,
}

impl Delivery {
    fn new(round: Round) -> (Self, Audience) {
        let Round {
            message,
            is_held,
            topic,
            audience,
        } = round;
        let delivery = Self {
            plain: is_held.then(|| Some(message.clone())),
            message,
            topic,
            renamed: vec![],
        };
        (delivery, audience)
    }

    fn to(&mut self, session: &Session) -> Pushed {
        let hold = |message| session.account().hold(Kind::Message, message).ok();
        let (held, topic) = match session.alias() {
            None => {
                let plain = self.plain.get_or_insert_with(|| hold(self.message.clone()));
                (plain.clone(), self.topic)
            }
            Some(alias) => {
                let topic = self.topic.of_server(&session.server);
                let known = self.renamed.iter().find(|(known, _)| known == alias);
                let held = match known {
                    Some((_, held)) => held.clone(),
                    None => {
                        let held = hold(alias.notification(self.message.clone()));
                        self.renamed.push((alias.clone(), held.clone()));
                        held
                    }
                };
                (held, topic)
            }
        };
        match held {
            Some(message) => session.outbox.push_held(message, Some(topic)),
            None => Pushed::Refused,
        }
    }
}

impl Link {
    /// Delivers a notification, now or in its round.
    pub(super) fn spread(&self, message: Bytes, topic: Topic, audience: Audience) {
        let Some(shared) = self.shared.upgrade() else {
            return;
        };
        let round = Round {
            message,
            is_held: false,
            topic,
            audience,
        };
        let count = match &round.audience {
            Audience::All => shared.directory.count_of_key(self.key),
            Audience::Sessions(sessions) => sessions.len(),
        };
        let Some(round) = self.put_off(round, count) else {
            return;
        };
        let (mut delivery, audience) = Delivery::new(round);
        self.deliver(&shared, &mut delivery, &self.sessions_of(&shared, audience));
    }

    /// Lets a notification for that many sessions wait for its round; gives it back if it can be delivered at
    /// once.
    fn put_off(&self, mut round: Round, count: usize) -> Option<Round> {
        let mut rounds = self.rounds.lock();
        if !rounds.is_under_way && count <= AT_ONCE {
            return Some(round);
        }
        let waiting = &mut rounds.waiting;
        if let Some(same) = waiting.iter_mut().find(|it| it.topic == round.topic) {
            // The change is the same; who is told of it may be others by now.
            same.audience = round.audience;
            return None;
        }
        let message = round.message.clone();
        let held = match &self.account {
            Some(account) => account.hold(Kind::Message, message),
            None => Ok(message),
        };
        let Ok(message) = held else {
            drop(rounds);
            self.count_dropped();
            return None;
        };
        round.message = message;
        round.is_held = true;
        if waiting.len() >= MAX_WAITING {
            drop(rounds);
            self.count_dropped();
            return None;
        }
        waiting.push_back(round);
        if !std::mem::replace(&mut rounds.is_under_way, true) {
            drop(rounds);
            self.begin_rounds();
        }
        None
    }

    fn begin_rounds(&self) {
        let shared = self.shared.upgrade();
        let link = shared.as_ref().and_then(|shared| shared.link(self.id));
        match (shared, link) {
            (Some(shared), Some(link)) => {
                let flow = link.flow().clone();
                shared
                    .tasks
                    .spawn(flow.run(async move { link.make_rounds().await }));
            }
            // It is gone, and so is who would be told.
            _ => *self.rounds.lock() = Rounds::default(),
        }
    }

    async fn make_rounds(self: Arc<Self>) {
        loop {
            let round = {
                let mut rounds = self.rounds.lock();
                let next = rounds.waiting.pop_front();
                rounds.is_under_way = next.is_some();
                next
            };
            let (Some(round), Some(shared)) = (round, self.shared.upgrade()) else {
                return;
            };
            let (mut delivery, audience) = Delivery::new(round);
            let mut took = Duration::ZERO;
            let sessions = self.sessions_of(&shared, audience);
            for few in sessions.chunks(AT_ONCE) {
                let began = Instant::now();
                self.deliver(&shared, &mut delivery, few);
                took += began.elapsed();
                tokio::task::yield_now().await;
            }
            drop((delivery, sessions, shared));
            tokio::time::sleep((took * REST).min(LONGEST_REST)).await;
        }
    }

    fn sessions_of(&self, shared: &Shared, audience: Audience) -> Vec<Arc<Session>> {
        match audience {
            Audience::All => {
                let mut sessions = shared.directory.of_key(self.key);
                sessions.retain(|session| !session.is_stateless);
                if let Some(tenant) = &self.order.tenant {
                    sessions.extend(shared.directory.listening(tenant, &self.order.server));
                }
                sessions
            }
            Audience::Sessions(sessions) => {
                let sessions = sessions.into_iter();
                sessions.filter_map(|no| shared.directory.get(no)).collect()
            }
        }
    }

    fn deliver(&self, shared: &Shared, delivery: &mut Delivery, sessions: &[Arc<Session>]) {
        let lost = sessions
            .iter()
            .filter(|it| delivery.to(it).is_loss())
            .count();
        if lost > 0 {
            let reason = labels::DropReason::QueueFull;
            shared.metrics.notifications_dropped(reason, lost as u64);
        }
    }
}

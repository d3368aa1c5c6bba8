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
use crate::bridge::aggregate::Alias;
use crate::fair::{LARGE, large};
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
    /// Those who subscribe to that resource when they are told.
    Subscribers(String),
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
    fn deliver(&mut self, shared: &Shared, sessions: &[Arc<Session>]) {
        let lost = sessions.iter().filter(|it| self.to(it).is_loss()).count();
        if lost > 0 {
            let reason = labels::DropReason::QueueFull;
            shared.metrics.notifications_dropped(reason, lost as u64);
        }
    }

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
        let Some(round) = self.told_soon(round) else {
            return;
        };
        // Looked for only now: a worker may tell of a change over and over that many wait for.
        let few = match &round.audience {
            Audience::All if shared.directory.count_of_key(self.key) > AT_ONCE => None,
            audience => Some(self.sessions_of(&shared, audience)),
        };
        let few = few.filter(|sessions| sessions.len() <= AT_ONCE);
        let Some(round) = self.put_off(round, few.is_some()) else {
            return;
        };
        let (mut delivery, _) = Delivery::new(round);
        delivery.deliver(&shared, &few.unwrap_or_default());
    }

    /// Gives a notification back, unless one waits for its round that tells the same.
    fn told_soon(&self, round: Round) -> Option<Round> {
        let rounds = self.rounds.lock();
        let is_waiting = rounds.waiting.iter().any(|it| it.topic == round.topic);
        (!is_waiting).then_some(round)
    }

    /// Lets a notification wait for its round; gives it back if it is for few and can be delivered at once.
    fn put_off(&self, mut round: Round, is_for_few: bool) -> Option<Round> {
        let mut rounds = self.rounds.lock();
        if !rounds.is_under_way && is_for_few {
            return Some(round);
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
        if rounds.waiting.len() >= MAX_WAITING {
            drop(rounds);
            self.count_dropped();
            return None;
        }
        rounds.waiting.push_back(round);
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
            let sessions = self.sessions_of(&shared, &audience);
            for few in sessions.chunks(AT_ONCE) {
                let began = Instant::now();
                if delivery.message.len() >= LARGE {
                    // Servers under aliases have it written anew.
                    let (shared, few) = (Arc::clone(&shared), few.to_vec());
                    let work = move || {
                        delivery.deliver(&shared, &few);
                        delivery
                    };
                    delivery = large(&self.flow, work).await;
                } else {
                    delivery.deliver(&shared, few);
                }
                took += began.elapsed();
                tokio::task::yield_now().await;
            }
            drop((delivery, sessions, shared));
            tokio::time::sleep((took * REST).min(LONGEST_REST)).await;
        }
    }

    fn sessions_of(&self, shared: &Shared, audience: &Audience) -> Vec<Arc<Session>> {
        match audience {
            Audience::All => {
                let mut sessions = shared.directory.of_key(self.key);
                sessions.retain(|session| !session.is_stateless);
                if let Some(tenant) = &self.order.tenant {
                    sessions.extend(shared.directory.listening(tenant, &self.order.server));
                }
                sessions
            }
            Audience::Subscribers(uri) => {
                let sessions = self.state.lock().mux.subscribers_of(uri).into_iter();
                sessions.filter_map(|no| shared.directory.get(no)).collect()
            }
        }
    }
}

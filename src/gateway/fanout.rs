//! One notification for many sessions.
//!
//! To a few it is delivered at once. To many it is delivered by a task that lets other tasks run in between, a few
//! sessions at a time, and that rests after each notification for several times as long as it took: a worker that
//! tells changes without end takes a bounded share of the processor.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::state::GatewayState;
use crate::bridge::aggregate::Alias;
use crate::fair::{LARGE, large};
use crate::held::Kind;
use crate::session::Session;
use crate::telemetry::labels;
use crate::upstream::{Audience, Broadcast, BroadcastStep, Pushed, Topic, WorkerConnection};

/// Sessions to which a notification is delivered at once, and by the task in one go.
const AT_ONCE: usize = 64;
/// The rest after a notification is so many times what it took.
const REST: u32 = 9;
/// Longest rest.
const LONGEST_REST: Duration = Duration::from_millis(500);

/// A message as sessions get it: all under one alias share its bytes, charged once.
struct Delivery {
    message: Bytes,
    topic: Topic,
    plain: Option<Option<Bytes>>,
    renamed: Vec<(Alias, Option<Bytes>)>,
}

impl Delivery {
    fn deliver(&mut self, state: &GatewayState, sessions: &[Arc<Session>]) {
        let lost = sessions.iter().filter(|it| self.to(it).is_loss()).count();
        if lost > 0 {
            let reason = labels::DropReason::QueueFull;
            state.metrics.notifications_dropped(reason, lost as u64);
        }
    }

    fn new(broadcast: Broadcast) -> (Self, Audience) {
        let Broadcast {
            message,
            is_held,
            topic,
            audience,
        } = broadcast;
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

impl GatewayState {
    /// Delivers a worker's notification, now or after those that wait.
    pub(super) fn broadcast(
        self: &Arc<Self>,
        connection: &Arc<WorkerConnection>,
        broadcast: Broadcast,
    ) {
        let Some(broadcast) = connection.told_soon(broadcast) else {
            return;
        };
        // Looked for only now: a worker may tell of a change over and over that many wait for.
        let few = match &broadcast.audience {
            Audience::All if self.sessions.directory.count_of_key(connection.key()) > AT_ONCE => {
                None
            }
            audience => Some(self.sessions_of(connection, audience)),
        };
        let few = few.filter(|sessions| sessions.len() <= AT_ONCE);
        match connection.put_off(broadcast, few.is_some()) {
            BroadcastStep::Now(broadcast) => {
                let (mut delivery, _) = Delivery::new(broadcast);
                delivery.deliver(self, &few.unwrap_or_default());
            }
            BroadcastStep::StartDelivery => {
                let (state, flow) = (Arc::clone(self), connection.flow().clone());
                let connection = Arc::clone(connection);
                self.tasks
                    .spawn(flow.run(async move { state.deliver_waiting(&connection).await }));
            }
            BroadcastStep::Nothing => {}
        }
    }

    async fn deliver_waiting(self: Arc<Self>, connection: &WorkerConnection) {
        while let Some(broadcast) = connection.next_broadcast() {
            let (mut delivery, audience) = Delivery::new(broadcast);
            let mut took = Duration::ZERO;
            let sessions = self.sessions_of(connection, &audience);
            for few in sessions.chunks(AT_ONCE) {
                let began = Instant::now();
                if delivery.message.len() >= LARGE {
                    // Servers under aliases have it written anew.
                    let (state, few) = (Arc::clone(&self), few.to_vec());
                    let work = move || {
                        delivery.deliver(&state, &few);
                        delivery
                    };
                    delivery = large(connection.flow(), work).await;
                } else {
                    delivery.deliver(&self, few);
                }
                took += began.elapsed();
                tokio::task::yield_now().await;
            }
            drop((delivery, sessions));
            tokio::time::sleep((took * REST).min(LONGEST_REST)).await;
        }
    }

    fn sessions_of(&self, connection: &WorkerConnection, audience: &Audience) -> Vec<Arc<Session>> {
        match audience {
            Audience::All => {
                let mut sessions = self.sessions.directory.of_key(connection.key());
                sessions.retain(|session| !session.is_stateless());
                let plan = connection.plan();
                if let Some(tenant) = &plan.tenant {
                    sessions.extend(self.sessions.directory.listening(tenant, &plan.server));
                }
                sessions
            }
            Audience::Subscribers(uri) => {
                let sessions = connection.subscribers_of(uri).into_iter();
                sessions
                    .filter_map(|no| self.sessions.directory.get(no))
                    .collect()
            }
        }
    }
}

//! Any interleaving of sessions and worker: no answer to another session, nothing twice, nothing lost.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::tests::{answered, from_worker, ready, send};
use super::*;
use crate::protocol::Envelope;

#[derive(Clone, Debug)]
enum Step {
    Request {
        session: u64,
        client_id: u8,
        with_token: bool,
    },
    Answer {
        pick: usize,
        is_error: bool,
    },
    AnswerAgain {
        pick: usize,
    },
    AnswerNothing {
        id: u64,
    },
    Progress {
        pick: usize,
    },
    Log,
    Cancel {
        pick: usize,
    },
    Abandon {
        pick: usize,
    },
    Forget {
        pick: usize,
    },
    Question,
    Reply {
        session: u64,
        pick: usize,
    },
    Leave {
        session: u64,
    },
    Garbage(Vec<u8>),
}

fn step() -> impl Strategy<Value = Step> {
    let session = 0_u64..4;
    prop_oneof![
        5 => (session.clone(), any::<u8>(), any::<bool>())
            .prop_map(|(session, client_id, with_token)| Step::Request { session, client_id, with_token }),
        4 => (any::<usize>(), any::<bool>()).prop_map(|(pick, is_error)| Step::Answer { pick, is_error }),
        1 => any::<usize>().prop_map(|pick| Step::AnswerAgain { pick }),
        1 => any::<u64>().prop_map(|id| Step::AnswerNothing { id }),
        2 => any::<usize>().prop_map(|pick| Step::Progress { pick }),
        1 => Just(Step::Log),
        1 => any::<usize>().prop_map(|pick| Step::Cancel { pick }),
        1 => any::<usize>().prop_map(|pick| Step::Abandon { pick }),
        1 => any::<usize>().prop_map(|pick| Step::Forget { pick }),
        2 => Just(Step::Question),
        2 => (session.clone(), any::<usize>()).prop_map(|(session, pick)| Step::Reply { session, pick }),
        1 => session.prop_map(|session| Step::Leave { session }),
        1 => proptest::collection::vec(any::<u8>(), 0..40).prop_map(Step::Garbage),
    ]
}

/// What the world around the mux knows, kept apart from it.
#[derive(Default)]
struct World {
    /// Calls without an answer: session, client id, token.
    open: BTreeMap<CallId, (SessionNo, Value, Option<Value>)>,
    gave_up: BTreeSet<CallId>,
    over: Vec<CallId>,
    questions: Vec<(SessionNo, AskRef)>,
    /// Every session that was ever there.
    ever_attached: BTreeSet<SessionNo>,
    answers_to_worker: BTreeSet<u64>,
    next_question: u64,
}

impl World {
    fn pick(&self, pick: usize) -> Option<CallId> {
        let open: Vec<_> = self.open.keys().copied().collect();
        (!open.is_empty()).then(|| open[pick % open.len()])
    }

    fn see(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Answer { call, message, .. } => {
                    let (_, client_id, _) = self
                        .open
                        .remove(&call)
                        .expect("answered once, to an open call");
                    assert!(!self.gave_up.contains(&call), "its caller had given up");
                    let message: Value = serde_json::from_slice(&message).expect("JSON");
                    assert_eq!(message["id"], client_id);
                    let marker = message.get("result").or(message["error"].get("data"));
                    assert_eq!(
                        marker.expect("either")["of"],
                        call.0,
                        "someone else's answer"
                    );
                    self.over.push(call);
                }
                Action::Released(call) => {
                    self.open.remove(&call).expect("released once");
                    self.over.push(call);
                }
                Action::ToCall(call, message) => {
                    assert!(!self.gave_up.contains(&call));
                    let (_, _, token) = &self.open[&call];
                    let message: Value = serde_json::from_slice(&message).expect("JSON");
                    if message["method"] == "notifications/progress" {
                        assert_eq!(Some(&message["params"]["progressToken"]), token.as_ref());
                        assert_eq!(message["params"]["of"], call.0);
                    }
                }
                Action::Ask {
                    session, call, ask, ..
                } => {
                    let active: BTreeSet<_> = self.open.values().map(|(s, ..)| *s).collect();
                    assert!(active.len() <= 1, "one of several was asked");
                    if active.is_empty() {
                        assert_eq!(self.ever_attached, BTreeSet::from([session]), "a guess");
                    } else {
                        assert!(active.contains(&session));
                    }
                    assert!(call.is_none_or(|call| self.open[&call].0 == session));
                    self.questions.push((session, ask));
                }
                Action::ToWorker(line) => {
                    assert!(!line.contains(&b'\n'));
                    let line: Value = serde_json::from_slice(&line).expect("JSON");
                    if line.get("method").is_none() {
                        let id = line["id"].as_u64().expect("the worker's own id");
                        assert!(
                            self.answers_to_worker.insert(id),
                            "a question answered twice"
                        );
                    }
                }
                _ => {}
            }
        }
    }

    fn run(&mut self, mux: &mut Mux, step: Step) {
        let mut out = vec![];
        match step {
            Step::Request {
                session,
                client_id,
                with_token,
            } => {
                let id = json!(client_id.to_string());
                let token = with_token.then(|| json!(session));
                let mut message = json!({"jsonrpc": "2.0", "id": id, "method": "m", "params": {}});
                if let Some(token) = &token {
                    message["params"]["_meta"] = json!({"progressToken": token});
                }
                let (call, line) = send(mux, SessionNo(session), &message.to_string());
                assert_eq!(line["id"], call.0);
                self.ever_attached.insert(SessionNo(session));
                self.open.insert(call, (SessionNo(session), id, token));
            }
            Step::Answer { pick, is_error } => {
                if let Some(call) = self.pick(pick) {
                    let marker = json!({"of": call.0});
                    let body = if is_error {
                        json!({"jsonrpc": "2.0", "id": call.0, "error": {"code": 1, "message": "", "data": marker}})
                    } else {
                        json!({"jsonrpc": "2.0", "id": call.0, "result": marker})
                    };
                    out = from_worker(mux, body);
                    assert!(!self.open.is_empty());
                }
            }
            Step::AnswerAgain { pick } if !self.over.is_empty() => {
                let call = self.over[pick % self.over.len()];
                out = from_worker(mux, json!({"jsonrpc": "2.0", "id": call.0, "result": {}}));
                assert!(matches!(out[..], [Action::Anomaly(_)]));
            }
            Step::AnswerAgain { .. } => {}
            Step::AnswerNothing { id } => {
                if !self.open.contains_key(&CallId(id)) {
                    out = from_worker(mux, json!({"jsonrpc": "2.0", "id": id, "result": {}}));
                    // An answer of unknown owner goes to nobody, and no call fails for it now.
                    let outcomes = out.iter().filter_map(|action| match action {
                        Action::Malformed(Malformed { outcome, .. }) => Some(*outcome),
                        _ => None,
                    });
                    for outcome in outcomes {
                        assert!(matches!(outcome, MalformedOutcome::Suspected(_)));
                    }
                    out.retain(|action| !matches!(action, Action::Malformed(_)));
                    assert!(matches!(out[..], [Action::Anomaly(_)]));
                }
            }
            Step::Progress { pick } => {
                if let Some(call) = self.pick(pick) {
                    let params = json!({"progressToken": call.0, "progress": 1, "of": call.0});
                    out = from_worker(
                        mux,
                        json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": params}),
                    );
                }
            }
            Step::Log => {
                let params = json!({"level": "info", "data": 1});
                out = from_worker(
                    mux,
                    json!({"jsonrpc": "2.0", "method": "notifications/message", "params": params}),
                );
            }
            Step::Cancel { pick } => {
                if let Some(call) = self.pick(pick) {
                    let (session, id, _) = self.open[&call].clone();
                    let text = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}}).to_string();
                    let envelope = Envelope::parse(text.as_bytes()).expect("valid");
                    if let Some(call) = mux.notification(session, &envelope, &mut out) {
                        assert_eq!(self.open[&call].0, session);
                        self.gave_up.insert(call);
                    }
                }
            }
            Step::Abandon { pick } => {
                if let Some(call) = self.pick(pick) {
                    mux.cancel(call, "test", &mut out);
                    self.gave_up.insert(call);
                }
            }
            Step::Forget { pick } => {
                if let Some(call) = self.pick(pick)
                    && self.gave_up.contains(&call)
                {
                    assert!(mux.forget(call, &mut out));
                }
            }
            Step::Question => {
                self.next_question += 1;
                let id = self.next_question;
                out = from_worker(
                    mux,
                    json!({"jsonrpc": "2.0", "id": id, "method": "sampling/createMessage"}),
                );
            }
            Step::Reply { session, pick } if !self.questions.is_empty() => {
                let pick = pick % self.questions.len();
                let (owner, ask) = self.questions[pick];
                let text = format!(r#"{{"jsonrpc":"2.0","id":{ask},"result":{{}}}}"#);
                let envelope = Envelope::parse(text.as_bytes()).expect("valid");
                let taken = answered(mux, SessionNo(session), ask, &envelope, &mut out);
                assert!(
                    !taken || owner == SessionNo(session),
                    "someone else answered"
                );
                assert_eq!(taken, !out.is_empty());
            }
            Step::Reply { .. } => {}
            Step::Leave { session } => {
                mux.detach(SessionNo(session), &mut out);
                let left = self
                    .open
                    .iter()
                    .filter(|(_, call)| call.0 == SessionNo(session));
                self.gave_up.extend(left.map(|(call, _)| *call));
            }
            Step::Garbage(bytes) => mux.worker_line(bytes.into(), &mut out),
        }
        self.see(out);
        mux.check_invariants();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn no_interleaving_crosses_sessions(steps in proptest::collection::vec(step(), 1..120)) {
        let mut mux = ready(json!({"sampling": {}}));
        let mut world = World::default();
        for step in steps {
            world.run(&mut mux, step);
        }
        // Nothing is lost: whatever is still open can be answered and then the mux is empty.
        let open: Vec<_> = world.open.keys().copied().collect();
        for call in open {
            let out = from_worker(&mut mux, json!({"jsonrpc": "2.0", "id": call.0, "result": {"of": call.0}}));
            world.see(out);
        }
        prop_assert!(world.open.is_empty());
        prop_assert_eq!(mux.in_flight(), 0);
    }
}

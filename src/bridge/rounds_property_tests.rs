//! No interleaving of rounds at a worker of the stateless revision crosses sessions.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::rounds_tests::{input_required, ready, reply, sent};
use super::tests::from_worker;
use super::*;

#[derive(Clone, Debug)]
enum Step {
    Request {
        session: u64,
    },
    Complete {
        pick: usize,
    },
    Requires {
        pick: usize,
        inputs: usize,
    },
    StaleAnswer {
        pick: usize,
    },
    Reply {
        session: u64,
        pick: usize,
        fails: bool,
    },
    GiveUp {
        pick: usize,
    },
    Leave {
        session: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let session = 1_u64..4;
    prop_oneof![
        5 => session.clone().prop_map(|session| Step::Request { session }),
        3 => any::<usize>().prop_map(|pick| Step::Complete { pick }),
        4 => (any::<usize>(), 0_usize..3).prop_map(|(pick, inputs)| Step::Requires { pick, inputs }),
        1 => any::<usize>().prop_map(|pick| Step::StaleAnswer { pick }),
        6 => (session.clone(), any::<usize>(), proptest::bool::weighted(0.1))
            .prop_map(|(session, pick, fails)| Step::Reply { session, pick, fails }),
        1 => any::<usize>().prop_map(|pick| Step::GiveUp { pick }),
        1 => session.prop_map(|session| Step::Leave { session }),
    ]
}

/// What the world around the mux knows: the worker's side by the ids on its wire.
#[derive(Default)]
struct World {
    next: u64,
    /// Calls without an answer: whose.
    open: BTreeMap<CallId, SessionNo>,
    /// What the worker is busy with: wire id, and the marker of the call.
    at_worker: BTreeMap<u64, u64>,
    past_wires: Vec<u64>,
    /// Questions: who was asked, for which marker.
    questions: Vec<(SessionNo, AskRef, u64)>,
    markers: BTreeMap<u64, (CallId, SessionNo)>,
    gave_up: BTreeSet<CallId>,
}

impl World {
    fn see(&mut self, out: &[Action], of_marker: Option<u64>) {
        for action in out {
            match action {
                Action::ToWorker(line) => {
                    let line: Value = serde_json::from_slice(line).expect("JSON");
                    if line["method"] == "tools/call" {
                        let marker = line["params"]["marker"].as_u64().expect("a marker");
                        let responses = line["params"]["inputResponses"].as_object();
                        for given in responses.into_iter().flatten().map(|(_, given)| given) {
                            assert_eq!(given["of"], marker, "the answer to another's question");
                        }
                        assert_eq!(line["params"]["requestState"], marker.to_string());
                        let wire = line["id"].as_u64().expect("a number");
                        assert!(self.at_worker.insert(wire, marker).is_none());
                    } else if line["method"] == "notifications/cancelled" {
                        let wire = line["params"]["requestId"].as_u64().expect("a number");
                        assert!(self.at_worker.contains_key(&wire), "what it does not have");
                    }
                }
                Action::Ask {
                    session, call, ask, ..
                } => {
                    let marker = of_marker.expect("only results ask");
                    let (of, owner) = self.markers[&marker];
                    assert_eq!(
                        (*call, *session),
                        (Some(of), owner),
                        "someone else is asked"
                    );
                    self.questions.push((*session, *ask, marker));
                }
                Action::Answer {
                    call,
                    message,
                    is_error,
                } => {
                    let owner = self.open.remove(call).expect("answered once");
                    assert!(!self.gave_up.contains(call));
                    let told: Value = serde_json::from_slice(message).expect("JSON");
                    let marker = told["id"].as_u64().expect("a number");
                    assert_eq!(self.markers[&marker], (*call, owner), "another's id");
                    assert!(
                        *is_error || told["result"]["of"] == marker,
                        "another's answer"
                    );
                }
                Action::Released(call) => {
                    self.open.remove(call).expect("released once");
                }
                _ => {}
            }
        }
    }

    fn run(&mut self, mux: &mut Mux, step: Step) {
        match step {
            Step::Request { session } => self.requests(mux, SessionNo(session)),
            Step::Complete { pick } => {
                self.responds(
                    mux,
                    pick,
                    |wire, marker| json!({"jsonrpc": "2.0", "id": wire, "result": {"of": marker}}),
                );
            }
            Step::Requires { pick, inputs } => {
                self.responds(mux, pick, |wire, marker| {
                    input_required(&json!(wire), &["a", "b"][..inputs], &marker.to_string())
                });
            }
            Step::StaleAnswer { pick } => {
                let Some(wire) = nth(pick, self.past_wires.len()).map(|at| self.past_wires[at])
                else {
                    return;
                };
                let out = from_worker(mux, json!({"jsonrpc": "2.0", "id": wire, "result": {}}));
                assert!(matches!(out[..], [Action::Anomaly(_)]), "{out:?}");
            }
            Step::Reply {
                session,
                pick,
                fails,
            } => self.replies(mux, SessionNo(session), pick, fails),
            Step::GiveUp { pick } => {
                let Some(at) = nth(pick, self.open.len()) else {
                    return;
                };
                let call = *self.open.keys().nth(at).expect("there");
                let mut out = vec![];
                mux.cancel(call, "test", &mut out);
                self.gave_up.insert(call);
                self.see(&out, None);
            }
            Step::Leave { session } => {
                let session = SessionNo(session);
                let left = self.open.iter().filter(|(_, owner)| **owner == session);
                self.gave_up.extend(left.map(|(call, _)| *call));
                let mut out = vec![];
                mux.detach(session, &mut out);
                self.see(&out, None);
            }
        }
        mux.check_invariants();
    }

    /// A session calls a tool, as long as it is attached.
    fn requests(&mut self, mux: &mut Mux, session: SessionNo) {
        let marker = self.next;
        self.next += 1;
        if !mux.is_attached(session) {
            return;
        }
        let message = json!({"jsonrpc": "2.0", "id": marker, "method": "tools/call", "params": {"marker": marker}});
        let (call, line) = sent(mux, session, &message);
        self.open.insert(call, session);
        self.markers.insert(marker, (call, session));
        self.at_worker
            .insert(line["id"].as_u64().expect("a number"), marker);
    }

    /// The worker answers one of the calls that it has, with what `message` makes of the id on the wire and the call's marker.
    fn responds(&mut self, mux: &mut Mux, pick: usize, message: impl Fn(u64, u64) -> Value) {
        let Some(at) = nth(pick, self.at_worker.len()) else {
            return;
        };
        let (wire, marker) = self
            .at_worker
            .iter()
            .nth(at)
            .map(|(w, m)| (*w, *m))
            .expect("there");
        self.at_worker.remove(&wire);
        self.past_wires.push(wire);
        let out = from_worker(mux, message(wire, marker));
        self.see(&out, Some(marker));
    }

    /// A session answers a question, which may be another's.
    fn replies(&mut self, mux: &mut Mux, session: SessionNo, pick: usize, fails: bool) {
        let Some(at) = nth(pick, self.questions.len()) else {
            return;
        };
        let (owner, ask, marker) = self.questions[at];
        let body = if fails {
            json!({"error": {"code": 1, "message": "no"}})
        } else {
            json!({"result": {"of": marker}})
        };
        let (taken, out) = reply(mux, session, ask, &body);
        assert!(!taken || owner == session, "someone else answered");
        self.see(&out, None);
    }
}

/// The index of one of `len` things, for whichever number was picked.
fn nth(pick: usize, len: usize) -> Option<usize> {
    (len > 0).then(|| pick % len)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn no_interleaving_of_rounds_crosses_sessions(steps in proptest::collection::vec(step(), 1..120)) {
        let (mut mux, _) = ready(&[SessionNo(1), SessionNo(2), SessionNo(3)]);
        let mut world = World::default();
        for step in steps {
            world.run(&mut mux, step);
        }
        // Nothing is lost: once every question is answered and every request too, nothing is open.
        while let Some((owner, ask, marker)) = world.questions.pop() {
            let (_, out) = reply(&mut mux, owner, ask, &json!({"result": {"of": marker}}));
            world.see(&out, None);
        }
        while let Some((wire, marker)) = world.at_worker.pop_first() {
            let out = from_worker(&mut mux, json!({"jsonrpc": "2.0", "id": wire, "result": {"of": marker}}));
            world.see(&out, None);
        }
        prop_assert!(world.open.is_empty(), "{:?}", world.open);
        prop_assert_eq!(mux.in_flight(), 0);
    }
}

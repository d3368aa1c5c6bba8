//! Any lines from a worker of either era and any messages from sessions: the multiplexer's tables stay whole, and
//! what goes to the worker is one line of JSON each.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value, json};
use stdiopool::bridge::{
    Action, AskRef, CallId, ClientHello, ClientRequest, Era, Greeting, Mux, SessionNo,
};
use stdiopool::ids::WorkerId;
use stdiopool::protocol::{Envelope, Kind};

#[derive(Arbitrary, Debug)]
enum Step<'a> {
    Worker(&'a [u8]),
    /// A result for the call of that number, with any text as its content.
    Answer(u8, &'a str),
    /// The same with other text among its members: the call is answered or fails, whatever that is.
    Off(u8, &'a str),
    Client(u8, &'a [u8]),
    /// A request with any method and parameters.
    Request(u8, &'a str, &'a str),
    Cancel(u8),
    Forget(u8),
    Leave(u8),
}

fn client(mux: &mut Mux, session: SessionNo, message: &[u8], out: &mut Vec<Action>) {
    let Ok(envelope) = Envelope::parse(message) else {
        return;
    };
    match envelope.kind() {
        Kind::Request => {
            mux.attach(session, None, [], out);
            // Of a worker of the stateless revision, every second session speaks the older era.
            if session.0 % 2 == 0 {
                mux.introduce(session, &hello());
            }
            let envelope = &envelope;
            mux.request(ClientRequest { session, envelope }, out);
        }
        Kind::Notification => {
            mux.notification(session, &envelope, out);
        }
        Kind::Response => {
            if let Some(ask) = envelope.id.and_then(|id| AskRef::parse(id.get())) {
                mux.answer(session, ask, &envelope, out);
            }
        }
    }
}

fn hello() -> ClientHello {
    ClientHello {
        protocol_version: "2025-11-25".to_owned(),
        capabilities: Map::new(),
        client_info: Value::Null,
    }
}

fuzz_target!(|input: (bool, Vec<Step<'_>>)| {
    let (is_stateless, steps) = input;
    let mut capabilities = Map::new();
    capabilities.insert("sampling".to_owned(), json!({}));
    capabilities.insert("roots".to_owned(), json!({}));
    let greeting = Greeting {
        capabilities,
        client_info: Value::Null,
        roots: vec![],
        era: if is_stateless {
            Era::Stateless
        } else {
            Era::Initialize
        },
    };
    let mut mux = Mux::new(WorkerId(1), &greeting);
    let mut out = Vec::new();
    mux.greet(&greeting, &mut out);
    if is_stateless {
        let result = json!({"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {"listChanged": true}, "resources": {"subscribe": true}}});
        let discovered = json!({"jsonrpc": "2.0", "id": 0, "result": result});
        mux.worker_line(discovered.to_string().into(), &mut out);
    }
    for step in steps {
        match step {
            Step::Worker(line) => {
                let line: Vec<u8> = line.iter().copied().filter(|b| *b != b'\n').collect();
                mux.worker_line(line.into(), &mut out);
            }
            Step::Answer(call, text) => {
                let answer = json!({"jsonrpc": "2.0", "id": call, "result": {"text": text}});
                mux.worker_line(answer.to_string().into(), &mut out);
            }
            Step::Off(call, text) => {
                let text: String = text
                    .chars()
                    .filter(|c| !"\"\n\r{}[]".contains(*c))
                    .collect();
                let line = format!(r#"{{"jsonrpc":"2.0","id":{call},"result":{{}},{text}}}"#);
                mux.worker_line(line.into(), &mut out);
                let id = CallId(call.into());
                // Workers of the stateless revision know calls by other numbers.
                assert!(
                    is_stateless || mux.caller(id).is_none(),
                    "call {call} waits for an answer that has come"
                );
            }
            Step::Client(session, message) => {
                client(&mut mux, SessionNo(session.into()), message, &mut out);
            }
            Step::Request(session, method, params) => {
                let params: Value = serde_json::from_str(params).unwrap_or(json!({}));
                let request =
                    json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
                client(
                    &mut mux,
                    SessionNo(session.into()),
                    request.to_string().as_bytes(),
                    &mut out,
                );
            }
            Step::Cancel(call) => mux.cancel(CallId(call.into()), "fuzz", &mut out),
            Step::Forget(call) => {
                mux.forget(CallId(call.into()), &mut out);
            }
            Step::Leave(session) => mux.detach(SessionNo(session.into()), &mut out),
        }
        for action in out.drain(..) {
            if let Action::ToWorker(line) = action {
                assert!(!line.contains(&b'\n'));
                Envelope::parse(&line).expect("JSON-RPC towards the worker");
            }
        }
        mux.check_invariants();
    }
});

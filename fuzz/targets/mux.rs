//! Any lines from a worker of either era and any messages from sessions: the multiplexer's tables stay whole, and
//! what goes to the worker is one line of JSON each.
use serde_json::{Map, Value, json};
use stdiopool::bridge::{
    Action, AskRef, CallId, ClientInfo, ClientRequest, Era, Handshake, Mux, SessionNo,
};
use stdiopool::ids::WorkerId;
use stdiopool::protocol::{Envelope, Kind};

use super::input::{first_line, step};

fn client(mux: &mut Mux, session: SessionNo, message: &[u8], out: &mut Vec<Action>) {
    let Ok(envelope) = Envelope::parse(message) else {
        return;
    };
    match envelope.kind() {
        Kind::Request => {
            mux.attach(session, None, [], out);
            // Of a worker of the stateless revision, every second session speaks the older era.
            if session.0.is_multiple_of(2) {
                mux.introduce(session, &introduction());
            }
            let envelope = &envelope;
            mux.request(ClientRequest { session, envelope }, out);
        }
        Kind::Notification => {
            mux.notification(session, &envelope, out);
        }
        Kind::Response => {
            if let Some(ask) = envelope.id.and_then(|id| AskRef::parse(id.get())) {
                let keep = |given: &str| Ok::<_, std::convert::Infallible>(given.to_owned().into());
                let Ok(_) = mux.answer(session, ask, &envelope, keep, out);
            }
        }
    }
}

fn introduction() -> ClientInfo {
    ClientInfo {
        protocol_version: "2025-11-25".to_owned(),
        capabilities: Map::new(),
        client_info: Value::Null,
    }
}

pub(super) fn run(input: &[u8]) {
    let (era, steps) = first_line(input);
    let is_stateless = era == b"modern";
    let mut capabilities = Map::new();
    capabilities.insert("sampling".to_owned(), json!({}));
    capabilities.insert("roots".to_owned(), json!({}));
    let handshake = Handshake {
        capabilities,
        client_info: Value::Null,
        roots: vec![],
        era: if is_stateless {
            Era::Modern
        } else {
            Era::Legacy
        },
    };
    let mut mux = Mux::new(WorkerId(1), &handshake);
    let mut out = Vec::new();
    mux.begin_handshake(&handshake, &mut out);
    if is_stateless {
        let result = json!({"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {"listChanged": true}, "resources": {"subscribe": true}}});
        let discovered = json!({"jsonrpc": "2.0", "id": 0, "result": result});
        mux.worker_line(discovered.to_string().into(), &mut out);
    }
    for line in steps.split(|byte| *byte == b'\n') {
        let Some((kind, number, rest)) = step(line) else {
            continue;
        };
        let text = || String::from_utf8_lossy(rest);
        match kind {
            // worker LINE
            b'w' => {
                // As it is done of a worker's lines.
                if let Some(line) = mux.message_line(rest.to_vec().into(), &mut out) {
                    mux.worker_line(line, &mut out);
                }
            }
            // answer CALL TEXT: a result with that text.
            b'a' => {
                let (call, text) = (number, text());
                let answer = json!({"jsonrpc": "2.0", "id": call, "result": {"text": text}});
                let left = mux.message_line(answer.to_string().into(), &mut out);
                assert!(left.is_none(), "an answer is a message");
            }
            // off CALL TEXT: one with text among its members: the call is answered or fails, whatever that is.
            b'o' => {
                let call = number;
                let text: String = text()
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
            // client SESSION MESSAGE
            b'c' => {
                client(&mut mux, SessionNo(number.into()), rest, &mut out);
            }
            // request SESSION METHOD PARAMS
            b'r' => {
                let text = text();
                let (method, params) = text.split_once(' ').unwrap_or((&text, ""));
                let session = number;
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
            // drop CALL: its caller has given up.
            b'd' => mux.cancel(CallId(number.into()), "fuzz", &mut out),
            // forget CALL
            b'f' => {
                mux.forget(CallId(number.into()), &mut out);
            }
            // leave SESSION
            b'l' => mux.detach(SessionNo(number.into()), &mut out),
            _ => {}
        }
        for action in out.drain(..) {
            if let Action::ToWorker(line) = action {
                assert!(!line.contains(&b'\n'));
                Envelope::parse(&line).expect("JSON-RPC towards the worker");
            }
        }
        mux.check_invariants();
    }
}

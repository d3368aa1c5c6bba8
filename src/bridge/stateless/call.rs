//! A request on its way to a worker of either era, and what the worker says of it on its way back.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{StatelessRequest, status_of};
use crate::bridge::{Era, Level};
use crate::protocol::{self, Envelope};

/// How a request goes on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Begin<'a> {
    /// The call that waits for it is taken up: a worker of the legacy era has asked meanwhile, and its client brings the
    /// answers with this state.
    Resume(&'a str),
    /// A worker gets it.
    Send {
        /// In the words of that worker.
        line: Bytes,
        /// What a worker of this revision gave out earlier: that one is asked, if it can be.
        state: Option<&'a str>,
    },
}

impl StatelessRequest<'_> {
    /// How the request goes on at a worker whose requests are in those words. `body` is the request as it came.
    pub fn begin(&self, words: Era, body: &Bytes) -> Begin<'_> {
        let state = self.state.as_deref();
        match (words, state) {
            (Era::Legacy, Some(state)) => Begin::Resume(state),
            (Era::Legacy, None) => Begin::Send {
                line: Bytes::from(self.for_worker()),
                state: None,
            },
            (Era::Modern, state) => Begin::Send {
                line: body.clone(),
                state,
            },
        }
    }
}

/// An answer that goes to its client as it is: it is in the client's own words already.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plain {
    /// HTTP status.
    pub status: u16,
    /// What the client is to bring back (basic/patterns/mrtr).
    pub state: Option<String>,
}

/// The answer of a worker whose answers are in those words; `None` for one that has to be adapted.
pub fn plain_answer(words: Era, answer: &Envelope<'_>) -> Option<Plain> {
    match words {
        Era::Legacy => None,
        Era::Modern => Some(Plain {
            status: answer.error.map_or(200, |error| status_of(error.get())),
            state: answer.result.and_then(|result| state_of(result.get())),
        }),
    }
}

/// The state that a result of this revision gives its client to bring back (basic/patterns/mrtr).
fn state_of(result: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct View {
        #[serde(rename = "requestState")]
        state: String,
    }
    memchr::memmem::find(result.as_bytes(), b"\"requestState\"")?;
    serde_json::from_str::<View>(result)
        .ok()
        .map(|view| view.state)
}

/// A worker's notification during a call as its client is told it; `None` if the client is not. `token` is the progress token of
/// the request, as raw JSON; `level` the log lines that its client wants.
pub fn told_during_call(
    message: &Bytes,
    notification: &Envelope<'_>,
    token: Option<&str>,
    level: Option<Level>,
) -> Option<Bytes> {
    let params = notification.params.map_or("{}", |params| params.get());
    match notification.method.as_deref()? {
        "notifications/progress" => {
            // A call that waited for its client goes on under the token of the new request.
            let params: Map<String, Value> = serde_json::from_str(params).ok()?;
            let mut params = Value::Object(params);
            let token: Value = serde_json::from_str(token?).ok()?;
            if params["progressToken"] == token {
                return Some(message.clone());
            }
            params["progressToken"] = token;
            Some(protocol::notification("notifications/progress", params).into())
        }
        "notifications/message" => {
            #[derive(Deserialize)]
            struct Logged {
                level: String,
            }
            let logged: Logged = serde_json::from_str(params).ok()?;
            let logged = Level::parse(&logged.level)?;
            level
                .is_some_and(|wanted| logged >= wanted)
                .then(|| message.clone())
        }
        // Changes go to those who listen; the rest is unknown to this revision.
        _ => None,
    }
}

/// Whether a result says that its tool has failed.
pub fn is_tool_error(result: &str) -> bool {
    #[derive(Deserialize)]
    struct View {
        #[serde(rename = "isError", default)]
        is_error: bool,
    }
    memchr::memmem::find(result.as_bytes(), b"\"isError\"").is_some()
        && serde_json::from_str::<View>(result).is_ok_and(|view| view.is_error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope(text: &str) -> Envelope<'_> {
        Envelope::parse(text.as_bytes()).expect("a message")
    }

    #[test]
    fn only_a_worker_of_the_older_era_is_resumed_and_only_its_answers_are_adapted() {
        let text = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","requestState":"s","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}"#;
        let (body, sent) = (Bytes::from_static(text.as_bytes()), envelope(text));
        let request = StatelessRequest::read_again(&sent).expect("complete");
        assert_eq!(request.begin(Era::Legacy, &body), Begin::Resume("s"));
        let (line, state) = (body.clone(), Some("s"));
        assert_eq!(
            request.begin(Era::Modern, &body),
            Begin::Send { line, state }
        );
        let first = text.replace(r#""requestState":"s","#, "");
        let sent = envelope(&first);
        let request = StatelessRequest::read_again(&sent).expect("complete");
        let Begin::Send { line, state: None } = request.begin(Era::Legacy, &body) else {
            panic!("nothing waits for it");
        };
        assert!(!line.windows(5).any(|part| part == b"_meta"));
        let answer = envelope(r#"{"jsonrpc":"2.0","id":1,"result":{"requestState":"s"}}"#);
        assert_eq!(plain_answer(Era::Legacy, &answer), None);
        let plain = plain_answer(Era::Modern, &answer).expect("as it is");
        assert_eq!((plain.status, plain.state.as_deref()), (200, Some("s")));
    }

    #[test]
    fn progress_has_the_token_of_the_request_and_log_lines_the_level_that_is_wanted() {
        let progress = r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":2}}"#;
        let message = Bytes::from_static(progress.as_bytes());
        let told = |token, level| told_during_call(&message, &envelope(progress), token, level);
        assert_eq!(told(Some("1"), None), Some(message.clone()));
        let renamed = told(Some("\"a\""), None).expect("under its token");
        assert!(renamed.windows(3).any(|part| part == b"\"a\""));
        assert_eq!(told(None, None), None);
        let logged = r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":1}}"#;
        let message = Bytes::from_static(logged.as_bytes());
        let told = |level| told_during_call(&message, &envelope(logged), None, level);
        assert_eq!(told(Level::parse("info")), Some(message.clone()));
        assert_eq!(told(Level::parse("error")), None);
        assert_eq!(told(None), None);
    }
}

//! A request under way at a worker of the stateless revision, which may be sent several times
//! (2026-07-28, basic/patterns/mrtr).

use std::collections::BTreeMap;

use bytes::Bytes;

use super::numbers::CallId;
use super::stateless::{Template, plain_error, plain_result};
use crate::protocol::{Envelope, raw_error_response, result_response};

/// A request under way, possibly for the second time.
#[derive(Debug)]
pub(super) struct Rounds {
    pub(super) template: Template,
    /// The id it has at the worker; `None` while its client is asked.
    pub(super) wire: Option<CallId>,
    pub(super) count: u8,
    /// Questions without an answer.
    pub(super) missing: usize,
    /// The answers so far, as raw JSON that carries its charge.
    pub(super) responses: BTreeMap<String, Bytes>,
    /// What the next round brings back, as raw JSON.
    pub(super) state: Option<Box<str>>,
    /// Bytes of the names of the questions.
    pub(super) keys: usize,
}

/// A question that belongs to a round.
#[derive(Debug)]
pub(super) struct Input {
    pub(super) call: CallId,
    /// Names the answer to the worker.
    pub(super) key: String,
}

impl Rounds {
    /// Bytes that are kept of what the client and the worker sent, but for the answers, which carry their charge.
    pub(super) fn kept(&self) -> usize {
        let state = self.state.as_ref().map_or(0, |state| state.len());
        self.template.kept() + state + self.keys
    }

    /// The worker's last word in the words of the client's revision.
    pub(super) fn answer(&self, client_id: &str, envelope: &Envelope<'_>) -> Bytes {
        match (envelope.result, envelope.error) {
            (Some(result), _) => result_response(client_id, plain_result(result.get()).as_bytes()),
            (None, error) => {
                let error = error.map_or("null", |error| error.get());
                let error = plain_error(self.template.method(), error);
                raw_error_response(client_id, error.as_bytes())
            }
        }
    }
}

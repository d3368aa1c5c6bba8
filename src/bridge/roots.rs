//! The roots of a client (2025-11-25, client/roots): what it answered to `roots/list`, and how a worker is told.
//!
//! Servers ask for them by themselves right after `notifications/initialized`, when no call is under way that would
//! say who is meant. So the question waits until it is known whose roots they are, and is answered then.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::initialize::write_canonical;
use super::mux::{Action, AskRef, MAX_ASKS, Mux};
use crate::protocol::RawJson;

/// Longest answer of a client to `roots/list`, in bytes: it is kept as long as its session.
pub const MAX_ROOTS: usize = 64 << 10;

/// Why a client's answer to `roots/list` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// It is kept as long as the session, and too long for that.
    #[error("it is {0} bytes long, more than the {MAX_ROOTS} that are accepted")]
    TooLong(usize),
    /// Not a `roots/list` result.
    #[error("it is not a `roots/list` result: {0}")]
    Shape(#[from] serde_json::Error),
}

/// What a client answered to `roots/list`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientRoots {
    /// The `result` for a worker that asks, as raw JSON.
    result: Box<str>,
    digest: [u8; 32],
}

impl ClientRoots {
    /// Of a client that has none, or does not say.
    pub fn none() -> Self {
        Self::of(&[])
    }

    /// Reads the `result` of a client's answer.
    ///
    /// # Errors
    /// [`RootsError`] when it is none, or too long to be kept.
    pub fn read(text: &str) -> Result<Self, RootsError> {
        #[derive(Deserialize)]
        struct Answer {
            roots: Vec<Root>,
        }
        #[derive(Deserialize)]
        struct Root {
            uri: String,
            name: Option<String>,
        }
        if text.len() > MAX_ROOTS {
            return Err(RootsError::TooLong(text.len()));
        }
        let answer: Answer = serde_json::from_str(text)?;
        let roots = answer.roots.into_iter().map(|root| match root.name {
            Some(name) => json!({ "uri": root.uri, "name": name }),
            None => json!({ "uri": root.uri }),
        });
        Ok(Self::of(&roots.collect::<Vec<_>>()))
    }

    fn of(roots: &[Value]) -> Self {
        let mut canonical = Vec::new();
        write_canonical(&json!(roots), &mut canonical);
        Self {
            result: json!({ "roots": roots }).to_string().into(),
            digest: Sha256::digest(&canonical).into(),
        }
    }

    /// Equal for answers that mean the same.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// What it takes in memory, in bytes, about.
    pub fn weight(&self) -> usize {
        size_of::<Self>() + self.result.len()
    }
}

/// What a worker knows of its clients' roots.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// What it was told, or will be when it asks.
    known: Option<ClientRoots>,
    /// It has asked at least once.
    asked: bool,
    /// Its questions that wait until it is known whose roots are meant, by its own ids as raw JSON.
    waiting: Vec<Box<str>>,
    /// How many questions were answered without a client.
    answered: u64,
}

impl Mux {
    /// Whether the worker may ask its clients for their roots.
    pub fn may_ask_for_roots(&self) -> bool {
        self.accepts.roots
    }

    /// How many times the worker was told roots without that a client was asked then.
    pub fn roots_answered(&self) -> u64 {
        self.told.answered
    }

    /// Whether that question of the worker is for a client's roots.
    pub fn is_about_roots(&self, ask: AskRef) -> bool {
        let question = self.asks.get(&ask.number);
        question.is_some_and(|question| question.about_roots)
    }

    /// Has the worker work with those roots: questions that wait are answered, and one that was told others is told that
    /// they have changed, and given these when it asks. Says whether the worker was sent anything.
    pub fn tell_roots(&mut self, roots: &ClientRoots, out: &mut Vec<Action>) -> bool {
        if self.told.known.as_ref() == Some(roots) {
            return false;
        }
        self.told.known = Some(roots.clone());
        let waiting = std::mem::take(&mut self.told.waiting);
        if waiting.is_empty() && self.told.asked {
            let changed = r#"{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}"#;
            out.push(Action::ToWorker(Bytes::from_static(changed.as_bytes())));
            return true;
        }
        for id in &waiting {
            self.answer_with_roots(id, roots, out);
        }
        !waiting.is_empty()
    }

    /// The worker asks for roots while its clients accept that. Says whether that is settled; else the session that
    /// must have caused it is to be asked.
    pub(super) fn roots_wanted(&mut self, raw_id: &str, out: &mut Vec<Action>) -> bool {
        self.told.asked = true;
        out.push(Action::RootsWanted);
        if !self.active.is_empty() && self.owner().is_some() && self.orphans.is_empty() {
            return false;
        }
        if let Some(roots) = self.told.known.clone() {
            self.answer_with_roots(raw_id, &roots, out);
            return true;
        }
        if self.is_unused && self.told.waiting.len() < MAX_ASKS {
            self.told.waiting.push(raw_id.into());
            return true;
        }
        false
    }

    /// A client has answered the worker's question for roots itself.
    pub(super) fn roots_given(&mut self, result: Option<RawJson<'_>>) {
        self.told.known = result.and_then(|result| ClientRoots::read(result.get()).ok());
    }

    /// The worker takes a question back; says whether it was one that waits.
    pub(super) fn roots_not_wanted(&mut self, raw_id: &str) -> bool {
        let before = self.told.waiting.len();
        self.told.waiting.retain(|id| &**id != raw_id);
        self.told.waiting.len() < before
    }

    /// Someone calls of whose roots nothing will be known.
    pub(super) fn no_roots_to_come(&mut self, out: &mut Vec<Action>) {
        for id in std::mem::take(&mut self.told.waiting) {
            self.answer_with_roots(&id, &ClientRoots::none(), out);
        }
    }

    fn answer_with_roots(&mut self, raw_id: &str, roots: &ClientRoots, out: &mut Vec<Action>) {
        self.told.answered += 1;
        let result = &roots.result;
        let answer = format!(r#"{{"jsonrpc":"2.0","id":{raw_id},"result":{result}}}"#);
        out.push(Action::ToWorker(answer.into()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<ClientRoots, RootsError> {
        ClientRoots::read(text)
    }

    #[test]
    fn answers_that_mean_the_same_have_one_digest() {
        let one = read(r#"{"roots":[{"uri":"file:///a","name":"a"}]}"#).expect("roots");
        let same = read(r#"{ "roots": [ {"name":"a", "uri":"file:///a"} ], "_meta": {} }"#);
        assert_eq!(one.digest(), same.expect("roots").digest());
        for other in [
            r#"{"roots":[]}"#,
            r#"{"roots":[{"uri":"file:///b","name":"a"}]}"#,
            r#"{"roots":[{"uri":"file:///a"}]}"#,
        ] {
            assert_ne!(one.digest(), read(other).expect("roots").digest());
        }
        let none = read(r#"{"roots":[]}"#).expect("roots");
        assert_eq!(none, ClientRoots::none());
    }

    #[test]
    fn what_is_no_answer_or_too_long_is_refused() {
        for text in ["{}", r#"{"roots":[{}]}"#, r#"{"roots":"x"}"#, "[]"] {
            assert!(matches!(read(text), Err(RootsError::Shape(_))), "{text}");
        }
        let long = format!(
            r#"{{"roots":[{{"uri":"file:///{}"}}]}}"#,
            "x".repeat(MAX_ROOTS)
        );
        assert!(matches!(read(&long), Err(RootsError::TooLong(_))));
    }
}

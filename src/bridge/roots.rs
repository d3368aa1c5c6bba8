//! The roots of a client (2025-11-25, client/roots): what it answered to `roots/list`, and what a worker knows of it.

use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::canonical::write_canonical;

/// Longest answer of a client to `roots/list`, in bytes: it is kept as long as its session.
pub const MAX_ROOTS: usize = 64 << 10;

/// Why a client's answer to `roots/list` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// The answer is kept as long as the session, and too long for that.
    #[error("it is {0} bytes long, more than the {MAX_ROOTS} that are accepted")]
    TooLong(usize),
    /// Not a `roots/list` result.
    #[error("it is not a `roots/list` result: {0}")]
    Shape(#[from] serde_json::Error),
}

/// The roots that a client answered to `roots/list`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientRoots {
    /// The `result` for a worker that asks, as raw JSON.
    pub(super) result: Box<str>,
    digest: [u8; 32],
}

impl ClientRoots {
    /// The roots of a client that has none, or does not say.
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

    /// A digest that is equal for answers with equal roots.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// The memory of the roots, in bytes, about.
    pub fn weight(&self) -> usize {
        size_of::<Self>() + self.result.len()
    }
}

/// A worker's knowledge of its clients' roots.
#[derive(Debug, Default)]
pub(super) struct WorkerRoots {
    /// The roots that the worker was told, or will be when it asks.
    pub(super) known: Option<ClientRoots>,
    /// Whether the worker has asked at least once.
    pub(super) asked: bool,
    /// The worker's questions that wait until it is known whose roots are meant, by its own ids as raw JSON.
    pub(super) waiting: Vec<Box<str>>,
    /// How many questions were answered without a client.
    pub(super) answered: u64,
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

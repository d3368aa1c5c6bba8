//! What becomes of a request.

use serde_json::Value;

use crate::protocol::code;

/// The reply to a request.
pub(super) enum Reply {
    Now(Value),
    /// The answer comes later: the call stands in the table of waiting calls.
    Later,
    Exit(u8),
}

/// An error answer.
pub(super) struct Refusal {
    pub(super) code: i32,
    pub(super) message: String,
    pub(super) data: Option<Value>,
}

impl Refusal {
    pub(super) fn new(code: i32, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            data: None,
        }
    }

    /// -32602.
    pub(super) fn params(message: impl Into<String>) -> Self {
        Self::new(code::INVALID_PARAMS, message)
    }

    pub(super) fn with(mut self, data: Value) -> Self {
        self.data = Some(data);
        self
    }
}

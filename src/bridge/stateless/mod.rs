//! The stateless revision, 2026-07-28, in which each request says everything: its clients in front
//! of servers of the `initialize` era, and the other way round.
//!
//! ```text
//!  POST ──▶ request: metadata and headers agree? ──▶ its for_worker: a request of the legacy era
//!                                                        │
//!  result, adapted to this era ◀── answer ◀── result or error of the worker
//!  input_required ◀── input ◀── what the worker asks its client meanwhile
//! ```
//!
//! The other way round, `worker` says for a session of the legacy era what a server of this
//! revision has to be told, and translates back what it answers.
//!
//! Invariants: metadata and headers that disagree are refused, never chosen between; what a worker is told has no member of
//! the era that it does not speak.
//!
//! How a request goes on at a worker of either era, and which answers go to their clients as they are, `call` says.
//!
//! Pure: texts in, texts out. The choice of the worker that serves a request, and how a call waits for its client's
//! next request, is decided elsewhere.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::value::RawValue;

mod answer;
mod call;
mod input;
mod listen;
mod request;
mod worker;

pub use answer::{ResponseAdapter, discovered, rediscovered, status_of};
pub use call::{Begin, Plain, is_tool_error, plain_answer, told_during_call};
pub use input::{Question, input_required, pages_required};
pub use listen::Filter;
pub use request::{Fault, StatelessRequest, check_param_headers, is_stateless};
pub use worker::{
    InputRequest, Outcome, Template, identity, plain_error, plain_notification, plain_result,
    refused_revisions,
};

/// The revision.
pub const STATELESS: &str = "2026-07-28";

/// Members of `_meta` that belong to the protocol (basic, "_meta").
pub(in crate::bridge) mod meta {
    pub(in crate::bridge) const PREFIX: &str = "io.modelcontextprotocol/";
    pub(in crate::bridge) const VERSION: &str = "io.modelcontextprotocol/protocolVersion";
    pub(in crate::bridge) const CLIENT_INFO: &str = "io.modelcontextprotocol/clientInfo";
    pub(in crate::bridge) const CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
    pub(in crate::bridge) const LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";
    pub(in crate::bridge) const SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";
    pub(in crate::bridge) const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";
    /// `_meta` of tasks (2025-11-25, basic/utilities/tasks).
    pub(in crate::bridge) const RELATED_TASK: &str = "io.modelcontextprotocol/related-task";

    /// Names in `_meta` that clients send with requests.
    pub(in crate::bridge) const NAMES: [&str; 4] = [VERSION, CLIENT_INFO, CAPABILITIES, LOG_LEVEL];
}

/// The members of an object by name, each value as it stands there; of a name that is there twice, the last.
type RawMembers<'a> = BTreeMap<Cow<'a, str>, &'a RawValue>;

#[cfg(test)]
mod tests;

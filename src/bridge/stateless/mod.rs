//! The stateless revision, 2026-07-28: clients that send everything with each request, in front of
//! servers of the `initialize` era.
//!
//! ```text
//!  POST ──▶ request: metadata and headers agree? ──▶ for_worker: a request of the older era
//!                                                        │
//!  result, dressed for this era ◀── answer ◀── result or error of the worker
//!  input_required ◀── input ◀── what the worker asks its client meanwhile
//! ```
//!
//! Pure: texts in, texts out. Which worker serves a request, and how a call waits for its client's
//! next request, is decided elsewhere.

mod answer;
mod input;
mod listen;
mod request;

pub use answer::{Dress, discovered};
pub use input::{Question, input_required, pages_required};
pub use listen::Filter;
pub use request::{Fault, StatelessRequest, check_param_headers, is_stateless};

/// The revision.
pub const STATELESS: &str = "2026-07-28";

/// Members of `_meta` that belong to the protocol (basic, "_meta").
mod meta {
    pub(super) const PREFIX: &str = "io.modelcontextprotocol/";
    pub(super) const VERSION: &str = "io.modelcontextprotocol/protocolVersion";
    pub(super) const CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
    pub(super) const LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";
    pub(super) const SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";
    pub(super) const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";
}

#[cfg(test)]
mod tests;

//! A line of the audit log. Field names are a contract: scripts read them. Fields may be added.

use serde::{Deserialize, Serialize};

/// The kind of a line.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditKind {
    /// A request of a caller.
    #[default]
    Call,
    /// A request that was turned away before it was known for what it is.
    Refusal,
    /// An act of the operator.
    Act,
    /// An attempt of a worker to reach a host, where `network` has a list.
    Egress,
    /// Lines are missing here.
    Lost,
}

/// A line of the audit log. A field that is not known, or does not apply, is left out.
#[derive(Clone, PartialEq, Default, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct AuditRecord {
    /// When the request or act ended, as RFC 3339 says, in milliseconds. Filled in by the writer if empty.
    pub at: String,
    /// What the line is about.
    pub kind: AuditKind,
    /// The tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The name of the token they came with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// The server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// The MCP method, or the act: `tenant add`, `reload`; a caller's `config create` or `config delete`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// The tool, prompt or resource; the token or secret of an act; of a stored config, the first six
    /// bytes of its handle's SHA-256.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// `ok`, `error` (the server says so), `failed` (stdiopool says so), `cancelled`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// Why the request failed: the error's `data.reason`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Milliseconds from its arrival to its answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// The worker that had it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    /// Bytes of the request's parameters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_bytes: Option<u64>,
    /// Bytes of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_bytes: Option<u64>,
    /// Equal for equal arguments of one tenant, in this installation and nowhere else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arguments_digest: Option<String>,
    /// The arguments, with `[audit] arguments = true`, the tenant's secrets masked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arguments: Option<String>,
    /// Where a refused request came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// The path of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The HTTP request it came with, as in the log and in `data.requestId` of errors. Messages of a batch share one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The host that a worker tried to reach.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The port of the host; not there where its name was looked up alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Bytes that the worker sent to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent_bytes: Option<u64>,
    /// Bytes that the worker received from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received_bytes: Option<u64>,
    /// How many lines are missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<u64>,
}

impl AuditRecord {
    /// What the record takes in memory, in bytes, about.
    pub(super) fn weight(&self) -> usize {
        let texts = [
            &self.tenant,
            &self.subject,
            &self.token,
            &self.server,
            &self.method,
            &self.object,
            &self.arguments,
            &self.path,
            &self.host,
        ];
        let texts = texts.into_iter().flatten();
        size_of::<Self>() + texts.map(String::len).sum::<usize>()
    }
}

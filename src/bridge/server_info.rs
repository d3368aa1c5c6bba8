//! What a worker says of itself, and what a client is told of it (basic/lifecycle, "Initialization").

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::era::Era;
use super::stateless::STATELESS;
use crate::protocol::{Revision, span_of, splice};

/// A worker's own `initialize` result.
#[derive(Clone, Debug)]
pub struct ServerInfo {
    /// The revision the worker speaks.
    pub revision: Revision,
    /// The whole result, as the worker wrote it.
    result: Bytes,
    /// The worker's answer to `server/discover`, if it was asked that.
    discovery: Option<Bytes>,
    /// Whether the server has subscriptions to resources.
    pub subscribes: bool,
    /// Whether the server takes `logging/setLevel`.
    pub logs: bool,
}

/// Why a worker's `initialize` result cannot be worked with.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServerInfoError {
    /// A revision stdiopool does not speak.
    #[error(
        "it answered `initialize` with protocol revision `{0}`, which stdiopool does not speak (it speaks 2024-11-05 to 2025-11-25)"
    )]
    Revision(String),
    /// Not a discovery.
    #[error("its answer to `server/discover` is not a discovery: {0}")]
    Discovery(String),
    /// The server speaks no revision that stdiopool can speak to it in this era.
    #[error(
        "it speaks the revisions {0:?} only, of which stdiopool knows none in which it can be asked so (it knows 2024-11-05 to 2025-11-25 with `initialize`, and {STATELESS})"
    )]
    Versions(Vec<String>),
    /// Not an initialize result.
    #[error("its answer to `initialize` is not an initialize result: {0}")]
    Shape(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct InitializeResult<'a> {
    #[serde(borrow)]
    protocol_version: &'a RawValue,
    #[serde(default)]
    capabilities: Value,
}

impl ServerInfo {
    /// What can be said of a server before any worker of it could be started: it may have
    /// anything, and answers for itself once it is there.
    ///
    /// # Errors
    /// None in fact: what is read here is written here.
    pub fn unknown(server: &str) -> Result<Self, ServerInfoError> {
        let result = json!({
            "protocolVersion": Revision::LATEST.as_str(),
            "capabilities": {
                "tools": { "listChanged": true },
                "prompts": { "listChanged": true },
                "resources": { "listChanged": true },
                "logging": {},
                "completions": {},
            },
            "serverInfo": { "name": server, "version": "unknown" },
        });
        Self::parse(&result.to_string())
    }

    /// Reads a worker's `initialize` result.
    ///
    /// # Errors
    /// [`ServerInfoError`] when it has no known revision.
    pub fn parse(result: &str) -> Result<Self, ServerInfoError> {
        let view: InitializeResult<'_> =
            serde_json::from_str(result).map_err(|e| ServerInfoError::Shape(e.to_string()))?;
        let version: String = serde_json::from_str(view.protocol_version.get())
            .map_err(|e| ServerInfoError::Shape(format!("`protocolVersion`: {e}")))?;
        let revision = Revision::parse(&version).ok_or(ServerInfoError::Revision(version))?;
        Ok(Self {
            revision,
            result: Bytes::copy_from_slice(result.as_bytes()),
            discovery: None,
            subscribes: view.capabilities["resources"]["subscribe"] == true,
            logs: view.capabilities.get("logging").is_some(),
        })
    }

    /// The whole result, as the worker wrote it; what it would have been, for one that was asked
    /// with `server/discover`.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.result).expect("copied from a str")
    }

    pub(super) fn with_discovery(mut self, result: &str) -> Self {
        self.discovery = Some(Bytes::copy_from_slice(result.as_bytes()));
        self
    }

    /// How the worker is spoken to.
    pub fn era(&self) -> Era {
        match self.discovery {
            Some(_) => Era::Modern,
            None => Era::Legacy,
        }
    }

    /// The worker's answer to `server/discover`, as it wrote it; `None` if it was asked `initialize`.
    pub fn discovery(&self) -> Option<&str> {
        let text = std::str::from_utf8(self.discovery.as_ref()?);
        Some(text.expect("copied from a str"))
    }

    /// `serverInfo`, as raw JSON.
    pub fn server_info(&self) -> Option<String> {
        let result: Value = serde_json::from_str(self.text()).ok()?;
        Some(result.get("serverInfo")?.to_string())
    }

    /// Whether another worker said the very bytes that this one said.
    pub fn says_the_same(&self, other: &Self) -> bool {
        self.result == other.result && self.discovery == other.discovery
    }

    /// The result for a client with which `revision` was agreed: the worker's own, but for the version.
    pub fn result_for(&self, revision: Revision) -> Bytes {
        let text = std::str::from_utf8(&self.result).expect("copied from a str");
        let view: InitializeResult<'_> = serde_json::from_str(text).expect("parsed once already");
        let span = span_of(&self.result, view.protocol_version.get());
        splice(&self.result, span, format!("\"{revision}\"").as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_sees_the_workers_own_words_under_the_agreed_revision() {
        let server_info = ServerInfo::parse(
            r#"{"protocolVersion":"2025-11-25","capabilities":{"resources":{"subscribe":true},"x":{"y":1}},"serverInfo":{"name":"s"}}"#,
        )
        .expect("valid");
        assert!(server_info.subscribes && !server_info.logs);
        assert_eq!(
            server_info.result_for(Revision::V2025_03_26),
            r#"{"protocolVersion":"2025-03-26","capabilities":{"resources":{"subscribe":true},"x":{"y":1}},"serverInfo":{"name":"s"}}"#,
        );
    }

    #[test]
    fn an_unknown_revision_is_refused() {
        let error = ServerInfo::parse(r#"{"protocolVersion":"1999-01-01"}"#).expect_err("unknown");
        assert_eq!(error, ServerInfoError::Revision("1999-01-01".into()));
        assert!(matches!(
            ServerInfo::parse("[]"),
            Err(ServerInfoError::Shape(_))
        ));
    }
}

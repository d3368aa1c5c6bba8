//! How a server of the stateless revision introduces itself (2026-07-28, basic/versioning and server/discover), and what
//! follows where a handshake fails.

use bytes::Bytes;
use serde_json::{Value, json};

use super::handshake::Handshake;
use super::server_info::{ServerInfo, ServerInfoError};
use super::stateless::{STATELESS, identity, meta};
use crate::protocol::{Revision, request};

/// The request that finds out whether a process speaks the stateless revision.
pub(super) fn discover_request(id: u64, handshake: &Handshake) -> Bytes {
    let identity = identity(&handshake.client_info, &handshake.capabilities);
    let params = format!(r#"{{"_meta":{{{identity}}}}}"#);
    request(id, "server/discover", params).into()
}

/// Why a worker cannot be used after its handshake.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HandshakeError {
    /// The reason, for people.
    pub why: String,
    /// Whether a process of the same program may take the handshake of the other era.
    pub may_take_the_other: bool,
}

impl HandshakeError {
    /// A process that did not answer what it was asked first, for that reason: one that may not know the question may know
    /// that of the other era.
    pub fn unanswered(handshake: &Handshake, why: String) -> Self {
        Self {
            why,
            may_take_the_other: handshake.may_be_unknown(),
        }
    }

    /// A process that is there, and has not answered `server/discover`.
    pub fn undiscovered() -> Self {
        Self {
            why: "it answered `ping`, and not `server/discover`".to_owned(),
            may_take_the_other: true,
        }
    }
}

impl From<ServerInfoError> for HandshakeError {
    fn from(error: ServerInfoError) -> Self {
        let may_take_the_other = match &error {
            // The server said what it speaks: there is nothing to find out by trying.
            ServerInfoError::Versions(known) => known
                .iter()
                .any(|version| version == STATELESS || Revision::parse(version).is_some()),
            ServerInfoError::Revision(_)
            | ServerInfoError::Discovery(_)
            | ServerInfoError::Shape(_) => true,
        };
        Self {
            why: error.to_string(),
            may_take_the_other,
        }
    }
}

impl ServerInfo {
    /// Reads a worker's `server/discover` result.
    ///
    /// # Errors
    /// [`ServerInfoError`] when it does not speak the revision that is spoken here.
    pub fn discovered(result: &str) -> Result<Self, ServerInfoError> {
        let found: Value =
            serde_json::from_str(result).map_err(|e| ServerInfoError::Discovery(e.to_string()))?;
        let versions = found["supportedVersions"].as_array().ok_or_else(|| {
            ServerInfoError::Discovery("it has no `supportedVersions`".to_owned())
        })?;
        if !versions.iter().any(|version| version == STATELESS) {
            let known = versions.iter().filter_map(Value::as_str);
            return Err(ServerInfoError::Versions(
                known.map(ToOwned::to_owned).collect(),
            ));
        }
        let capabilities = match &found["capabilities"] {
            Value::Object(capabilities) => Value::Object(capabilities.clone()),
            _ => json!({}),
        };
        // What a client of the legacy era is told.
        let mut introduced = json!({
            "protocolVersion": Revision::LATEST.as_str(),
            "capabilities": capabilities,
            "serverInfo": match &found["_meta"][meta::SERVER_INFO] {
                Value::Null => json!({ "name": "unnamed", "version": "0" }),
                info => info.clone(),
            },
        });
        if let Some(instructions) = found.get("instructions") {
            introduced["instructions"] = instructions.clone();
        }
        let server_info = Self::parse(&introduced.to_string())?;
        Ok(server_info.with_discovery(result))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::Era;

    #[test]
    fn a_discovery_introduces_a_server_to_both_eras() {
        let result = r#"{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{"listChanged":true},"resources":{"subscribe":true}},"instructions":"be nice","ttlMs":5,"cacheScope":"public","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s","version":"2"}}}"#;
        let server_info = ServerInfo::discovered(result).expect("modern");
        assert_eq!(server_info.era(), Era::Modern);
        assert!(server_info.subscribes && !server_info.logs);
        let told: Value =
            serde_json::from_slice(&server_info.result_for(Revision::V2025_06_18)).expect("JSON");
        assert_eq!(
            told,
            json!({
                "protocolVersion": "2025-06-18",
                "capabilities": { "tools": { "listChanged": true }, "resources": { "subscribe": true } },
                "instructions": "be nice",
                "serverInfo": { "name": "s", "version": "2" },
            })
        );
        let other = r#"{"supportedVersions":["2031-01-01"],"capabilities":{}}"#;
        assert!(matches!(
            ServerInfo::discovered(other),
            Err(ServerInfoError::Versions(_))
        ));
        assert!(matches!(
            ServerInfo::discovered("{}"),
            Err(ServerInfoError::Discovery(_))
        ));
        let later = ServerInfo::discovered(other).expect_err("unknown");
        assert!(!HandshakeError::from(later).may_take_the_other);
        let older = r#"{"supportedVersions":["2025-06-18"],"capabilities":{}}"#;
        let older = ServerInfo::discovered(older).expect_err("the other era");
        assert!(HandshakeError::from(older).may_take_the_other);
        assert!(matches!(
            ServerInfo::discovered("7"),
            Err(ServerInfoError::Discovery(_))
        ));
    }
}

//! The two kinds of servers, and how one of the stateless revision introduces itself
//! (2026-07-28, basic/versioning and server/discover).

use bytes::Bytes;
use serde_json::{Value, json};

use super::initialize::{Greeting, Hello, HelloError};
use super::mux::NotGreeted;
use super::stateless::{STATELESS, identity, meta};
use crate::protocol::Revision;

/// How a process is spoken to: for its whole life, for what it is told first decides.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub enum Era {
    /// It begins with `initialize`: revisions up to 2025-11-25.
    #[default]
    Initialize,
    /// Each request says everything: 2026-07-28.
    Stateless,
}

impl Era {
    /// The one that is tried where this is refused.
    pub const fn other(self) -> Self {
        match self {
            Self::Initialize => Self::Stateless,
            Self::Stateless => Self::Initialize,
        }
    }
}

/// The request that finds out whether a process speaks the stateless revision.
pub(super) fn discover_request(id: u64, greeting: &Greeting) -> Bytes {
    let identity = identity(&greeting.client_info, &greeting.capabilities);
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"server/discover","params":{{"_meta":{{{identity}}}}}}}"#
    )
    .into()
}

impl From<HelloError> for NotGreeted {
    fn from(error: HelloError) -> Self {
        let may_take_the_other = match &error {
            // It said what it speaks: there is nothing to find out by trying.
            HelloError::Versions(known) => known
                .iter()
                .any(|version| version == STATELESS || Revision::parse(version).is_some()),
            HelloError::Revision(_) | HelloError::Discovery(_) | HelloError::Shape(_) => true,
        };
        Self {
            why: error.to_string(),
            may_take_the_other,
        }
    }
}

impl Hello {
    /// Reads a worker's `server/discover` result.
    ///
    /// # Errors
    /// [`HelloError`] when it does not speak the revision that is spoken here.
    pub fn discovered(result: &str) -> Result<Self, HelloError> {
        let found: Value =
            serde_json::from_str(result).map_err(|e| HelloError::Discovery(e.to_string()))?;
        let versions = found["supportedVersions"]
            .as_array()
            .ok_or_else(|| HelloError::Discovery("it has no `supportedVersions`".to_owned()))?;
        if !versions.iter().any(|version| version == STATELESS) {
            let known = versions.iter().filter_map(Value::as_str);
            return Err(HelloError::Versions(known.map(ToOwned::to_owned).collect()));
        }
        let capabilities = match &found["capabilities"] {
            Value::Object(capabilities) => Value::Object(capabilities.clone()),
            _ => json!({}),
        };
        // What a client of the older era is told.
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
        let hello = Self::parse(&introduced.to_string())?;
        Ok(hello.with_discovery(result))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_discovery_introduces_a_server_to_both_eras() {
        let result = r#"{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{"listChanged":true},"resources":{"subscribe":true}},"instructions":"be nice","ttlMs":5,"cacheScope":"public","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s","version":"2"}}}"#;
        let hello = Hello::discovered(result).expect("modern");
        assert_eq!(hello.era(), Era::Stateless);
        assert!(hello.subscribes && !hello.logs);
        let told: Value =
            serde_json::from_slice(&hello.result_for(Revision::V2025_06_18)).expect("JSON");
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
            Hello::discovered(other),
            Err(HelloError::Versions(_))
        ));
        assert!(matches!(
            Hello::discovered("{}"),
            Err(HelloError::Discovery(_))
        ));
        let later = Hello::discovered(other).expect_err("unknown");
        assert!(!NotGreeted::from(later).may_take_the_other);
        let older = r#"{"supportedVersions":["2025-06-18"],"capabilities":{}}"#;
        let older = Hello::discovered(older).expect_err("the other era");
        assert!(NotGreeted::from(older).may_take_the_other);
        assert!(matches!(
            Hello::discovered("7"),
            Err(HelloError::Discovery(_))
        ));
    }
}

//! What a client says of itself in `initialize` (basic/lifecycle, "Initialization").

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::protocol::{Failure, RawJson, Reason};

/// Capabilities by which a client accepts requests from a server.
pub(super) const INTERACTIVE: [&str; 3] = ["roots", "sampling", "elicitation"];

/// Longest `params` of a client's `initialize`, in bytes: what it says of itself, `clientInfo` and its capabilities,
/// is kept as long as its session.
pub const MAX_INTRODUCTION: usize = 64 << 10;

/// Why a client's `initialize` cannot be accepted.
#[derive(Debug, thiserror::Error)]
pub enum NotIntroduced {
    /// The request has no parameters.
    #[error("`initialize` needs params")]
    NoParams,
    /// A required member is missing or of the wrong type.
    #[error("`initialize` params: {0}")]
    Params(serde_json::Error),
    /// The parameters are kept as long as the session, and too long for that.
    #[error(
        "`initialize` params are {0} bytes long, more than the {MAX_INTRODUCTION} that are accepted: send a shorter `clientInfo` and fewer capabilities"
    )]
    TooLong(usize),
}

impl From<NotIntroduced> for Failure {
    fn from(why: NotIntroduced) -> Self {
        let reason = match why {
            NotIntroduced::NoParams | NotIntroduced::Params(_) => Reason::InvalidParams,
            NotIntroduced::TooLong(_) => Reason::MessageTooLarge,
        };
        Self::new(reason, why.to_string())
    }
}

/// The memory of a JSON value, in bytes, about: the places of its parts and their texts.
pub fn weight_of(value: &Value) -> usize {
    /// A member of an object beside its name and value: objects have room for several.
    const MEMBER: usize = 64;
    size_of::<Value>()
        + match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => 0,
            Value::String(text) => text.len(),
            Value::Array(items) => items.iter().map(weight_of).sum(),
            Value::Object(members) => members
                .iter()
                .map(|(name, value)| MEMBER + name.len() + weight_of(value))
                .sum(),
        }
}

/// `params` of a client's `initialize`.
#[derive(Clone, Debug)]
pub struct ClientInfo {
    /// The revision asked for, as written.
    pub protocol_version: String,
    /// Everything the client declared.
    pub capabilities: Map<String, Value>,
    /// `clientInfo`, unchanged.
    pub client_info: Value,
}

impl ClientInfo {
    /// Reads `initialize` parameters.
    ///
    /// # Errors
    /// When a required member is missing or of the wrong type, or all of it is too long.
    pub fn parse(params: Option<RawJson<'_>>) -> Result<Self, NotIntroduced> {
        let params = params.ok_or(NotIntroduced::NoParams)?.get();
        if params.len() > MAX_INTRODUCTION {
            return Err(NotIntroduced::TooLong(params.len()));
        }
        Self::read(params).map_err(NotIntroduced::Params)
    }

    /// Reads parameters that were accepted before.
    ///
    /// # Errors
    /// When a required member is missing or of the wrong type.
    pub fn read(params: &str) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Params {
            protocol_version: String,
            #[serde(default)]
            capabilities: Map<String, Value>,
            #[serde(default)]
            client_info: Value,
        }
        let params: Params = serde_json::from_str(params)?;
        Ok(Self {
            protocol_version: params.protocol_version,
            capabilities: params.capabilities,
            client_info: params.client_info,
        })
    }

    /// The memory of the introduction, in bytes, about.
    pub fn weight(&self) -> usize {
        let members = self.capabilities.iter();
        let capabilities = members.map(|(name, value)| name.len() + weight_of(value));
        self.protocol_version.len() + capabilities.sum::<usize>() + weight_of(&self.client_info)
    }

    /// What this server said, for a client that is not to be asked anything.
    #[must_use]
    pub fn without_questions(&self) -> Self {
        let mut quiet = self.clone();
        quiet
            .capabilities
            .retain(|name, _| !INTERACTIVE.contains(&name.as_str()));
        quiet
    }

    /// The capabilities that let a server send requests: clients that differ in them cannot share
    /// a worker, which was told them when it started.
    pub fn interactive_capabilities(&self) -> Map<String, Value> {
        INTERACTIVE
            .iter()
            .filter_map(|&name| Some((name.to_owned(), self.capabilities.get(name)?.clone())))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_introduction_that_lacks_something_has_invalid_params() {
        let refused = |why: NotIntroduced| Failure::from(why).reason;
        let none = ClientInfo::parse(None).expect_err("refused");
        assert_eq!(refused(none), Reason::InvalidParams);
        let empty = ClientInfo::read("{}").expect_err("refused");
        assert_eq!(refused(NotIntroduced::Params(empty)), Reason::InvalidParams);
    }
}

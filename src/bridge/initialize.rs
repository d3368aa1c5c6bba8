//! The handshake: what stdiopool tells a worker, what a worker tells of itself, and what a client
//! is told in turn (basic/lifecycle, "Initialization").

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::era::Era;
use super::stateless::STATELESS;
use crate::protocol::{Failure, RawJson, Reason, Revision, span_of, splice};

/// Capabilities by which a client accepts requests from a server.
const INTERACTIVE: [&str; 3] = ["roots", "sampling", "elicitation"];

/// Longest `params` of a client's `initialize`, in bytes: what it says of itself, `clientInfo` and its capabilities,
/// is kept as long as its session.
pub const MAX_INTRODUCTION: usize = 64 << 10;

/// Why a client's `initialize` cannot be accepted.
#[derive(Debug, thiserror::Error)]
pub enum NotIntroduced {
    /// There is nothing to read.
    #[error("`initialize` needs params")]
    NoParams,
    /// A required member is missing or of the wrong type.
    #[error("`initialize` params: {0}")]
    Params(serde_json::Error),
    /// It is kept as long as the session, and too long for that.
    #[error(
        "`initialize` params are {0} bytes long, more than the {MAX_INTRODUCTION} that are accepted: send a shorter `clientInfo` and fewer capabilities"
    )]
    TooLong(usize),
}

impl From<NotIntroduced> for Failure {
    fn from(why: NotIntroduced) -> Self {
        let reason = match why {
            NotIntroduced::NoParams | NotIntroduced::Params(_) => Reason::InvalidRequest,
            NotIntroduced::TooLong(_) => Reason::MessageTooLarge,
        };
        Self::new(reason, why.to_string())
    }
}

/// What a JSON value takes in memory, in bytes, about: the places of its parts and their texts.
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
pub struct ClientHello {
    /// The revision asked for, as written.
    pub protocol_version: String,
    /// Everything the client declared.
    pub capabilities: Map<String, Value>,
    /// `clientInfo`, unchanged.
    pub client_info: Value,
}

impl ClientHello {
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

    /// What it takes in memory, in bytes, about.
    pub fn weight(&self) -> usize {
        let members = self.capabilities.iter();
        let capabilities = members.map(|(name, value)| name.len() + weight_of(value));
        self.protocol_version.len() + capabilities.sum::<usize>() + weight_of(&self.client_info)
    }

    /// The same for a client that is not to be asked anything.
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

/// What a worker is told at its start.
#[derive(Clone, Debug)]
pub struct Greeting {
    /// Client capabilities declared to the worker.
    pub capabilities: Map<String, Value>,
    /// `clientInfo` shown to the worker.
    pub client_info: Value,
    /// `file://` URIs to answer `roots/list` with; none: clients are asked.
    pub roots: Vec<String>,
    /// How the worker is spoken to.
    pub era: Era,
}

impl Greeting {
    /// For a worker that many sessions share: only what they have in common, in stdiopool's name.
    pub fn shared(client: &ClientHello) -> Self {
        Self {
            capabilities: client.interactive_capabilities(),
            client_info: own_info(),
            roots: vec![],
            era: Era::Initialize,
        }
    }

    /// For a worker of one session: the client as it introduced itself.
    pub fn exclusive(client: &ClientHello) -> Self {
        Self {
            capabilities: client.capabilities.clone(),
            client_info: if client.client_info.is_object() {
                client.client_info.clone()
            } else {
                own_info()
            },
            roots: vec![],
            era: Era::Initialize,
        }
    }

    /// For a worker of the stateless revision, which is told with each request who sends it.
    pub fn stateless() -> Self {
        Self {
            capabilities: Map::new(),
            client_info: own_info(),
            roots: vec![],
            era: Era::Stateless,
        }
    }

    /// The same with roots that the operator has set, which need no client to be asked.
    #[must_use]
    pub fn with_roots(mut self, roots: &[String]) -> Self {
        if !roots.is_empty() {
            if self.era == Era::Stateless {
                self.roots = roots.to_vec();
                return self;
            }
            self.capabilities.insert("roots".to_owned(), json!({}));
            self.roots = roots.to_vec();
        }
        self
    }

    /// The same for clients that are not to be asked anything.
    #[must_use]
    pub fn without_questions(mut self) -> Self {
        let is_kept = |name: &String| !INTERACTIVE.contains(&name.as_str());
        self.capabilities.retain(|name, _| is_kept(name));
        self
    }

    /// Whether the worker may send requests to its clients.
    pub fn is_interactive(&self) -> bool {
        INTERACTIVE
            .iter()
            .filter(|name| **name != "roots" || self.roots.is_empty())
            .any(|name| self.capabilities.contains_key(*name))
    }

    /// Equal for greetings that mean the same, whatever the order of members; part of a pool key.
    pub fn class(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if self.era == Era::Stateless {
            out.extend_from_slice(STATELESS.as_bytes());
        }
        write_canonical(&Value::Object(self.capabilities.clone()), &mut out);
        write_canonical(&self.client_info, &mut out);
        out
    }
}

fn own_info() -> Value {
    json!({ "name": "stdiopool", "version": env!("CARGO_PKG_VERSION") })
}

/// JSON with sorted members and no blanks.
pub(super) fn write_canonical(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|(name, _)| *name);
            out.push(b'{');
            for (name, value) in members {
                out.extend_from_slice(Value::from(name.as_str()).to_string().as_bytes());
                out.push(b':');
                write_canonical(value, out);
                out.push(b',');
            }
            out.push(b'}');
        }
        Value::Array(items) => {
            out.push(b'[');
            for item in items {
                write_canonical(item, out);
                out.push(b',');
            }
            out.push(b']');
        }
        scalar => out.extend_from_slice(scalar.to_string().as_bytes()),
    }
}

/// The `initialize` request for a worker. It offers the latest revision of this era; the worker
/// answers with that or with its own.
pub fn initialize_request(id: u64, greeting: &Greeting) -> Bytes {
    json!({
        "jsonrpc": "2.0",
        "id": id,
        "method": "initialize",
        "params": {
            "protocolVersion": Revision::LATEST.as_str(),
            "capabilities": greeting.capabilities,
            "clientInfo": greeting.client_info,
        },
    })
    .to_string()
    .into()
}

/// What a worker said of itself in its `initialize` result.
#[derive(Clone, Debug)]
pub struct Hello {
    /// The revision the worker speaks.
    pub revision: Revision,
    /// The whole result, as the worker wrote it.
    result: Bytes,
    /// What it answered to `server/discover`, if that is how it was asked.
    discovery: Option<Bytes>,
    /// Whether it can subscribe to resources.
    pub subscribes: bool,
    /// Whether it takes `logging/setLevel`.
    pub logs: bool,
}

/// Why a worker's `initialize` result cannot be worked with.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// A revision stdiopool does not speak.
    #[error(
        "it answered `initialize` with protocol revision `{0}`, which stdiopool does not speak (it speaks 2024-11-05 to 2025-11-25)"
    )]
    Revision(String),
    /// Not a discovery.
    #[error("its answer to `server/discover` is not a discovery: {0}")]
    Discovery(String),
    /// None of its revisions is one that stdiopool can speak to it in this way.
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
struct HelloView<'a> {
    #[serde(borrow)]
    protocol_version: &'a RawValue,
    #[serde(default)]
    capabilities: Value,
}

impl Hello {
    /// What can be said of a server before any worker of it could be started: it may have
    /// anything, and answers for itself once it is there.
    ///
    /// # Errors
    /// None in fact: what is read here is written here.
    pub fn unknown(server: &str) -> Result<Self, HelloError> {
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
    /// [`HelloError`] when it has no known revision.
    pub fn parse(result: &str) -> Result<Self, HelloError> {
        let view: HelloView<'_> =
            serde_json::from_str(result).map_err(|e| HelloError::Shape(e.to_string()))?;
        let version: String = serde_json::from_str(view.protocol_version.get())
            .map_err(|e| HelloError::Shape(format!("`protocolVersion`: {e}")))?;
        let revision = Revision::parse(&version).ok_or(HelloError::Revision(version))?;
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
            Some(_) => Era::Stateless,
            None => Era::Initialize,
        }
    }

    /// What it answered to `server/discover`, as it wrote it; `None` if it was greeted otherwise.
    pub fn discovery(&self) -> Option<&str> {
        let text = std::str::from_utf8(self.discovery.as_ref()?);
        Some(text.expect("copied from a str"))
    }

    /// `serverInfo`, as raw JSON.
    pub fn server_info(&self) -> Option<String> {
        let result: Value = serde_json::from_str(self.text()).ok()?;
        Some(result.get("serverInfo")?.to_string())
    }

    /// Whether another worker said exactly the same.
    pub fn says_the_same(&self, other: &Self) -> bool {
        self.result == other.result && self.discovery == other.discovery
    }

    /// The result for a client with which `revision` was agreed: the worker's own, but for the version.
    pub fn result_for(&self, revision: Revision) -> Bytes {
        let text = std::str::from_utf8(&self.result).expect("copied from a str");
        let view: HelloView<'_> = serde_json::from_str(text).expect("parsed once already");
        let span = span_of(&self.result, view.protocol_version.get());
        splice(&self.result, span, format!("\"{revision}\"").as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_ignores_the_order_of_members_and_nothing_else() {
        let class = |text: &str| {
            let capabilities = serde_json::from_str(text).expect("valid");
            let client_info = Value::Null;
            Greeting {
                capabilities,
                client_info,
                roots: vec![],
                era: Era::Initialize,
            }
            .class()
        };
        assert_eq!(
            class(r#"{"roots":{"listChanged":true},"sampling":{}}"#),
            class(r#"{"sampling":{},"roots":{"listChanged":true}}"#)
        );
        assert_ne!(
            class(r#"{"sampling":{}}"#),
            class(r#"{"sampling":{"tools":{}}}"#)
        );
        assert_ne!(class(r#"{"sampling":{}}"#), class("{}"));
    }

    #[test]
    fn the_client_sees_the_workers_own_words_under_the_agreed_revision() {
        let hello = Hello::parse(
            r#"{"protocolVersion":"2025-11-25","capabilities":{"resources":{"subscribe":true},"x":{"y":1}},"serverInfo":{"name":"s"}}"#,
        )
        .expect("valid");
        assert!(hello.subscribes && !hello.logs);
        assert_eq!(
            hello.result_for(Revision::V2025_03_26),
            r#"{"protocolVersion":"2025-03-26","capabilities":{"resources":{"subscribe":true},"x":{"y":1}},"serverInfo":{"name":"s"}}"#,
        );
    }

    #[test]
    fn an_unknown_revision_is_refused() {
        let error = Hello::parse(r#"{"protocolVersion":"1999-01-01"}"#).expect_err("unknown");
        assert_eq!(error, HelloError::Revision("1999-01-01".into()));
        assert!(matches!(Hello::parse("[]"), Err(HelloError::Shape(_))));
    }

    #[test]
    fn a_shared_worker_learns_only_the_interactive_capabilities() {
        let params = RawValue::from_string(
            r#"{"protocolVersion":"2025-06-18","capabilities":{"sampling":{},"experimental":{"z":{}}},"clientInfo":{"name":"c","version":"1"}}"#.into(),
        )
        .expect("valid");
        let client = ClientHello::parse(Some((&*params).into())).expect("valid");
        let shared = Greeting::shared(&client);
        assert_eq!(
            Value::Object(shared.capabilities.clone()),
            json!({"sampling": {}})
        );
        assert!(shared.is_interactive());
        assert_eq!(shared.client_info["name"], "stdiopool");
        let own = Greeting::exclusive(&client);
        assert_eq!(own.client_info["name"], "c");
        assert!(own.capabilities.contains_key("experimental"));
    }
}

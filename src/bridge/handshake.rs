//! What stdiopool tells a worker at its start (basic/lifecycle, "Initialization").

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::canonical::write_canonical;
use super::client_info::{ClientInfo, INTERACTIVE};
use super::era::Era;
use super::stateless::STATELESS;
use crate::protocol::{Revision, request};

/// The handshake with a worker: the client info and capabilities that it is told at its start.
#[derive(Clone, Debug)]
pub struct Handshake {
    /// Client capabilities declared to the worker.
    pub capabilities: Map<String, Value>,
    /// `clientInfo` shown to the worker.
    pub client_info: Value,
    /// `file://` URIs to answer `roots/list` with; none: clients are asked.
    pub roots: Vec<String>,
    /// How the worker is spoken to.
    pub era: Era,
}

impl Handshake {
    /// The handshake of a worker that many sessions share: only what they have in common, in stdiopool's name.
    pub fn shared(client: &ClientInfo) -> Self {
        Self {
            capabilities: client.interactive_capabilities(),
            client_info: own_info(),
            roots: vec![],
            era: Era::Legacy,
        }
    }

    /// The handshake of a worker of one session: the client as it introduced itself.
    pub fn exclusive(client: &ClientInfo) -> Self {
        Self {
            capabilities: client.capabilities.clone(),
            client_info: if client.client_info.is_object() {
                client.client_info.clone()
            } else {
                own_info()
            },
            roots: vec![],
            era: Era::Legacy,
        }
    }

    /// For a worker that is spoken to in that era, of many sessions or of that client alone.
    pub fn for_client(era: Era, client: &ClientInfo, is_shared: bool) -> Self {
        match era {
            Era::Modern => Self::stateless(),
            Era::Legacy if is_shared => Self::shared(client),
            Era::Legacy => Self::exclusive(client),
        }
    }

    /// For a process that is nobody's yet: what it is told of its clients waits until it has some.
    pub fn of_spare() -> Self {
        Self {
            capabilities: Map::new(),
            client_info: Value::Null,
            roots: vec![],
            era: Era::Legacy,
        }
    }

    /// The handshake of a worker of the stateless revision, which is told with each request who sends it.
    pub fn stateless() -> Self {
        Self {
            capabilities: Map::new(),
            client_info: own_info(),
            roots: vec![],
            era: Era::Modern,
        }
    }

    /// The handshake with roots that the operator has set, which need no client to be asked.
    #[must_use]
    pub fn with_roots(mut self, roots: &[String]) -> Self {
        if !roots.is_empty() {
            if self.era == Era::Modern {
                self.roots = roots.to_vec();
                return self;
            }
            self.capabilities.insert("roots".to_owned(), json!({}));
            self.roots = roots.to_vec();
        }
        self
    }

    /// The handshake for clients that are not to be asked anything.
    #[must_use]
    pub fn without_questions(mut self) -> Self {
        let is_kept = |name: &String| !INTERACTIVE.contains(&name.as_str());
        self.capabilities.retain(|name, _| is_kept(name));
        self
    }

    /// Whether a process may not know what it is asked first, and speaks the other era then.
    pub fn may_be_unknown(&self) -> bool {
        self.era == Era::Modern
    }

    /// Whether a spare can become this worker: a spare was told something that only the legacy era has.
    pub fn takes_spares(&self) -> bool {
        self.era == Era::Legacy
    }

    /// Whether the worker can ask its clients for their roots; where the operator has set some, it is not to.
    pub fn may_ask_for_roots(&self) -> bool {
        self.era == Era::Legacy
    }

    /// Whether the worker serves one caller's requests at a time: what it says during one could be another's.
    pub fn is_exclusive(&self, client: &ClientInfo, is_stateless: bool, is_shared: bool) -> bool {
        match self.era {
            Era::Legacy => self.is_interactive() && (is_shared || is_stateless),
            // What the worker asks, it asks in the answer to a request; only its log lines name none. A caller without
            // session has capabilities where it wants log lines.
            Era::Modern => is_stateless && !client.capabilities.is_empty(),
        }
    }

    /// In the words of which era the worker's answers are, to a caller with or without a session.
    pub fn words_for(&self, is_stateless: bool) -> Era {
        match is_stateless {
            true => self.era,
            false => Era::Legacy,
        }
    }

    /// Whether the worker may send requests to its clients.
    pub fn is_interactive(&self) -> bool {
        INTERACTIVE
            .iter()
            .filter(|name| **name != "roots" || self.roots.is_empty())
            .any(|name| self.capabilities.contains_key(*name))
    }

    /// The equivalence class of handshakes, whatever the order of their members; part of a pool key.
    pub fn class(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if self.era == Era::Modern {
            out.extend_from_slice(STATELESS.as_bytes());
        }
        write_canonical(&Value::Object(self.capabilities.clone()), &mut out);
        write_canonical(&self.client_info, &mut out);
        out
    }

    /// The class of a worker that is or is not exclusive: one of the modern era that is not sends no log lines.
    pub fn class_of(&self, is_exclusive: bool) -> Vec<u8> {
        let mut class = self.class();
        if self.era == Era::Modern && is_exclusive {
            class.extend_from_slice(b"logs");
        }
        class
    }
}

fn own_info() -> Value {
    json!({ "name": "stdiopool", "version": env!("CARGO_PKG_VERSION") })
}

/// The `initialize` request for a worker. The request offers the latest revision of this era; the worker
/// answers with that or with its own.
pub fn initialize_request(id: u64, handshake: &Handshake) -> Bytes {
    let params = json!({
        "protocolVersion": Revision::LATEST.as_str(),
        "capabilities": handshake.capabilities,
        "clientInfo": handshake.client_info,
    });
    request(id, "initialize", params).into()
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    #[test]
    fn a_class_ignores_the_order_of_members_and_nothing_else() {
        let class = |text: &str| {
            let capabilities = serde_json::from_str(text).expect("valid");
            let client_info = Value::Null;
            Handshake {
                capabilities,
                client_info,
                roots: vec![],
                era: Era::Legacy,
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
    fn a_shared_worker_learns_only_the_interactive_capabilities() {
        let params = RawValue::from_string(
            r#"{"protocolVersion":"2025-06-18","capabilities":{"sampling":{},"experimental":{"z":{}}},"clientInfo":{"name":"c","version":"1"}}"#.into(),
        )
        .expect("valid");
        let client = ClientInfo::parse(Some((&*params).into())).expect("valid");
        let shared = Handshake::shared(&client);
        assert_eq!(
            Value::Object(shared.capabilities.clone()),
            json!({"sampling": {}})
        );
        assert!(shared.is_interactive());
        assert_eq!(shared.client_info["name"], "stdiopool");
        let own = Handshake::exclusive(&client);
        assert_eq!(own.client_info["name"], "c");
        assert!(own.capabilities.contains_key("experimental"));
    }
}

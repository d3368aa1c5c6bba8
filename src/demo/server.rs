//! The state of one conversation, which the tools and features work on.

use std::path::PathBuf;

use serde_json::{Map, Value};

use super::arguments::Level;
use super::waiting::Table;
use crate::protocol::Revision;

/// The identity of the process that `whoami` tells.
pub(super) struct Identity {
    pub(super) arguments: Vec<String>,
    pub(super) environment: Map<String, Value>,
    pub(super) pid: u32,
    pub(super) cwd: Option<PathBuf>,
}

impl Identity {
    /// Names and values that are not UTF-8 are shown with replacement characters.
    pub(super) fn of_this_process(arguments: Vec<String>) -> Self {
        let variable = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            let text = value.to_string_lossy().into_owned();
            (name.to_string_lossy().into_owned(), Value::String(text))
        };
        Self {
            arguments,
            environment: std::env::vars_os().map(variable).collect(),
            pid: std::process::id(),
            cwd: std::env::current_dir().ok(),
        }
    }
}

/// The client at the other end, as told by `initialize`.
pub(super) struct Client {
    pub(super) revision: Revision,
    pub(super) info: Value,
    pub(super) capabilities: Value,
}

/// One conversation.
pub(super) struct Server {
    pub(super) identity: Identity,
    pub(super) level: Level,
    pub(super) counter: u64,
    pub(super) subscriptions: Vec<String>,
    pub(super) waiting: Table,
    /// Number of the last request of our own.
    pub(super) asked: u64,
    /// The client that has initialised the server.
    pub(super) client: Option<Client>,
}

impl Server {
    pub(super) fn new(identity: Identity) -> Self {
        Self {
            identity,
            level: Level::Info,
            counter: 0,
            subscriptions: Vec::new(),
            waiting: Table::default(),
            asked: 0,
            client: None,
        }
    }

    /// The client that has initialised the server. Tools and features are reached only after that.
    pub(super) fn client(&self) -> &Client {
        self.client
            .as_ref()
            .expect("`dispatch` lets nothing but `initialize` and `ping` pass before")
    }
}

//! A config under a handle, in memory and as it is kept on disk.
//!
//! A config with secrets, or with values that its schema calls confidential, is sealed whole.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::client_config::ClientConfig;
use crate::ids::{ServerName, TenantId};
use crate::store::{HandleRow, IdHash, Vault, VaultError};

/// Whether a handle survives a restart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Durability {
    /// In memory alone.
    Not,
    /// On disk, readable by whoever can read the file.
    Plain,
    /// On disk, sealed.
    Sealed,
}

/// A stored config.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) tenant: TenantId,
    pub(super) subject: Option<String>,
    /// The server it is for; [all](ServerName::all) for several.
    pub(super) server: ServerName,
    pub(super) config: Arc<ClientConfig>,
    pub(super) created: SystemTime,
    pub(super) expires: SystemTime,
    pub(super) kept: Durability,
}

/// What a stored config takes beside its texts, in bytes.
const STORED_BYTES: usize = 512;

impl Stored {
    /// What the config takes in memory, in bytes, about.
    pub(super) fn bytes(&self) -> usize {
        let subject = self.subject.as_ref().map_or(0, String::len);
        STORED_BYTES + subject + self.config.bytes()
    }
}

/// Why a row is no stored config.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreadable {
    /// The sealed part does not open.
    #[error(transparent)]
    Sealed(#[from] VaultError),
    /// The content is not what was written.
    #[error("it is not what was written")]
    Damaged,
}

/// Everything of a config, as it is sealed.
#[derive(Serialize)]
struct Whole<'a> {
    config: &'a Map<String, Value>,
    secrets: BTreeMap<&'a str, &'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    servers: BTreeMap<&'a str, Whole<'a>>,
}

/// Everything of a config, as it is read again.
#[derive(Deserialize)]
struct ReadWhole {
    config: Map<String, Value>,
    secrets: BTreeMap<String, String>,
    #[serde(default)]
    servers: BTreeMap<String, ReadWhole>,
}

impl<'a> From<&'a ClientConfig> for Whole<'a> {
    fn from(config: &'a ClientConfig) -> Self {
        let secrets = config.secrets().iter();
        let parts = config.parts().iter();
        Self {
            config: config.values(),
            secrets: secrets
                .map(|(name, secret)| (name.as_str(), secret.expose_secret()))
                .collect(),
            servers: parts
                .map(|(server, part)| (server.as_str(), part.into()))
                .collect(),
        }
    }
}

impl From<ReadWhole> for ClientConfig {
    fn from(read: ReadWhole) -> Self {
        if read.servers.is_empty() {
            let secrets = read.secrets.into_iter();
            let secrets = secrets.map(|(name, secret)| (name, secret.into()));
            return Self::new(read.config, secrets.collect());
        }
        let parts = read.servers.into_iter();
        let parts = parts.map(|(server, part)| (ServerName::new(server), part.into()));
        Self::of_servers(parts.collect())
    }
}

impl Stored {
    /// As it is written down.
    ///
    /// # Errors
    /// When it cannot be sealed.
    pub(super) fn to_row(&self, id: IdHash, vault: &Vault) -> Result<HandleRow, VaultError> {
        let sealed = match self.kept {
            Durability::Sealed => {
                let text = serde_json::to_string(&Whole::from(&*self.config));
                let text = Zeroizing::new(text.expect("maps with texts as keys"));
                let text = SecretString::from(text.as_str());
                Some(vault.seal_config(self.tenant.as_str(), id, &text)?)
            }
            Durability::Plain | Durability::Not => None,
        };
        Ok(HandleRow {
            id,
            tenant: self.tenant.to_string(),
            subject: self.subject.clone(),
            server: self.server.to_string(),
            config: match sealed {
                Some(_) => "{}".to_owned(),
                None => self.config.plain().to_string(),
            },
            sealed,
            created: self.created,
            expires: self.expires,
        })
    }

    /// As it was when it was written down.
    ///
    /// # Errors
    /// When it does not open, or is damaged.
    pub(super) fn of_row(row: HandleRow, vault: &Vault) -> Result<Self, Unreadable> {
        let server = ServerName::new(row.server);
        let damaged = |_| Unreadable::Damaged;
        let (config, kept) = match &row.sealed {
            Some(sealed) => {
                let text = vault.open_config(&row.tenant, row.id, sealed)?;
                let read = serde_json::from_str::<ReadWhole>(text.expose_secret());
                (read.map_err(damaged)?.into(), Durability::Sealed)
            }
            None => {
                let values = serde_json::from_str(&row.config).map_err(damaged)?;
                (ClientConfig::of_plain(&server, values), Durability::Plain)
            }
        };
        Ok(Self {
            tenant: TenantId::new(row.tenant),
            subject: row.subject,
            server,
            config: Arc::new(config),
            created: row.created,
            expires: row.expires,
            kept,
        })
    }

    /// What the config sets for that server; `None` if it is for others.
    pub(super) fn config_for(&self, server: &ServerName) -> Option<&ClientConfig> {
        if self.server == *server {
            Some(&self.config)
        } else {
            self.config.parts().get(server)
        }
    }

    /// The servers it is for, and what it sets for each.
    pub(super) fn by_server(&self) -> impl Iterator<Item = (&ServerName, &ClientConfig)> {
        let is_of_one = self.server != ServerName::all();
        let one = is_of_one.then_some((&self.server, &*self.config));
        one.into_iter().chain(self.config.parts())
    }

    /// The servers it is for, for people.
    pub(super) fn servers(&self) -> String {
        let names = self.by_server().map(|(server, _)| format!("`{server}`"));
        names.collect::<Vec<_>>().join(", ")
    }
}

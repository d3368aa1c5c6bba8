//! Tenants, tokens and secrets: through the admin API of the stdiopool that runs, or straight in
//! the state folder when none does. The folder's lock tells.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use reqwest::{Method, Url};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::client::{AdminArgs, AdminClient, base_url};
use crate::admin::Act;
use crate::config::{self, Config};
use crate::daemon::Accounts;
use crate::store::{Opened, StateDir, StateDirError};

/// Whose accounts.
#[derive(Args, Clone, Debug)]
pub struct AccountArgs {
    /// The configuration whose state folder it is
    #[arg(long, value_name = "FILE", default_value = "pool.toml")]
    pub config: PathBuf,
    /// Ask the admin API at this address, whether or not there is such a file; otherwise the file
    /// says where it is
    #[arg(long, value_name = "URL", env = "STDIOPOOL_ADMIN", value_parser = base_url)]
    pub admin: Option<Url>,
    /// Token of the admin API, instead of the one in the file
    #[arg(
        long,
        value_name = "TOKEN",
        env = "STDIOPOOL_ADMIN_TOKEN",
        hide_env_values = true
    )]
    pub admin_token: Option<SecretString>,
}

/// A state folder of which this process holds the lock.
pub(super) struct Folder {
    pub(super) config: Config,
    pub(super) accounts: Accounts,
    opened: Opened,
    // Locked until the last change is on disk: fields drop in order.
    _state: Arc<StateDir>,
}

/// Where acts are carried out.
pub(super) enum Place {
    /// By the stdiopool that runs.
    Running(AdminClient),
    /// In its folder, as none runs.
    Folder(Box<Folder>),
}

impl AccountArgs {
    /// Finds out whether a stdiopool runs.
    ///
    /// # Errors
    /// When the configuration or the folder cannot be used.
    pub(super) async fn place(&self) -> Result<Place, miette::Report> {
        if let Some(admin) = &self.admin {
            let admin = admin.clone();
            return Ok(Place::Running(self.client(admin, None)));
        }
        let config = config::load(&self.config).map_err(|error| miette::miette!("{error}"))?;
        match StateDir::open(&config.state.dir) {
            Ok(state) => Ok(Place::Folder(Box::new(Folder::open(config, state).await?))),
            Err(StateDirError::InUse { .. }) => {
                let url = base_url(&config.admin.listen.to_string());
                let url = url.map_err(|error| miette::miette!("{error}"))?;
                Ok(Place::Running(
                    self.client(url, config.admin.token.as_ref()),
                ))
            }
            Err(error) => Err(miette::miette!("{error}")),
        }
    }

    fn client(&self, admin: Url, of_file: Option<&SecretString>) -> AdminClient {
        AdminClient::new(&AdminArgs {
            admin,
            admin_token: self.admin_token.clone().or_else(|| of_file.cloned()),
        })
    }

    /// Carries it out and gives what it answers.
    ///
    /// # Errors
    /// What is wrong with it, or nobody answers.
    pub(super) async fn perform<T: DeserializeOwned>(&self, act: Act) -> Result<T, miette::Report> {
        match self.place().await? {
            Place::Running(client) => {
                let (method, path, body) = request(&act);
                Ok(client.ask(method, &path, body.as_ref()).await?)
            }
            Place::Folder(folder) => {
                let told = folder
                    .accounts
                    .act_offline(&folder.config, &folder.opened, act)
                    .await;
                let told = told.map_err(|error| miette::miette!("{error}"))?;
                let told = serde_json::to_value(told).and_then(serde_json::from_value);
                told.map_err(|error| miette::miette!("{error}"))
            }
        }
    }
}

impl Folder {
    async fn open(config: Config, state: StateDir) -> Result<Self, miette::Report> {
        let opened = Opened::open(&state).map_err(|error| miette::miette!("{error}"))?;
        let accounts = Accounts::open(&opened, &config).await;
        Ok(Self {
            accounts: accounts.map_err(|error| miette::miette!("{error}"))?,
            config,
            opened,
            _state: Arc::new(state),
        })
    }
}

/// The act as the admin API is asked for it.
fn request(act: &Act) -> (Method, String, Option<Value>) {
    let tenant = |name: &str| format!("api/v1/tenants/{}", segment(name));
    let of = |tenant_name: &str, kind: &str, name: &str| {
        format!("{}/{kind}/{}", tenant(tenant_name), segment(name))
    };
    let list = |kind: &str, tenant_name: &Option<String>| match tenant_name {
        Some(name) => format!("{}/{kind}", tenant(name)),
        None => format!("api/v1/{kind}"),
    };
    match act {
        Act::ListTenants => (Method::GET, "api/v1/accounts".to_owned(), None),
        Act::ShowTenant(name) => (Method::GET, tenant(name), None),
        Act::AddTenant(name, settings) => (Method::POST, tenant(name), Some(json!(settings))),
        Act::SetTenant(name, settings) => (Method::PATCH, tenant(name), Some(json!(settings))),
        Act::RemoveTenant(name) => (Method::DELETE, tenant(name), None),
        Act::ListTokens(of_tenant) => (Method::GET, list("tokens", of_tenant), None),
        Act::CreateToken(of_tenant, token) => {
            let path = format!("{}/tokens", tenant(of_tenant));
            (Method::POST, path, Some(json!(token)))
        }
        Act::RevokeToken(of_tenant, name) => (Method::DELETE, of(of_tenant, "tokens", name), None),
        Act::ListSecrets(of_tenant) => (Method::GET, list("secrets", of_tenant), None),
        Act::SetSecret(of_tenant, name, value) => {
            let body = json!({ "value": value.expose_secret() });
            (Method::PUT, of(of_tenant, "secrets", name), Some(body))
        }
        Act::RemoveSecret(of_tenant, name) => {
            (Method::DELETE, of(of_tenant, "secrets", name), None)
        }
        Act::ListGrants(of_tenant) => (Method::GET, list("oauth", of_tenant), None),
        Act::LinkGrant(of_tenant, server) => (Method::POST, of(of_tenant, "oauth", server), None),
        Act::RevokeGrant(of_tenant, server) => {
            (Method::DELETE, of(of_tenant, "oauth", server), None)
        }
    }
}

/// A name as part of a path. What cannot be a name is refused at the other end.
fn segment(name: &str) -> String {
    url::form_urlencoded::byte_serialize(name.as_bytes())
        .collect::<String>()
        .replace('+', "%20")
        .replace("..", "%2E%2E")
}

/// The answer of an act that only says what it did.
#[derive(serde::Deserialize)]
pub(super) struct Done {
    pub(super) message: String,
}

//! Tenants, tokens and secrets: through the admin API of the stdiopool that runs, or straight in
//! the state folder when none does. The folder's lock tells.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use reqwest::{Method, Url};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::client::{AdminClient, base_url, where_it_runs};
use super::error::CliError;
use super::output::{self, Output};
use crate::admin::{AccountError, Act};
use crate::config::{self, Config};
use crate::daemon::Accounts;
use crate::store::{self, Door, OpenedState, StateDir, StateDirError};

/// The configuration whose accounts a command is about.
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

/// The tokens or secrets that are listed, and how.
#[derive(Args, Clone, Debug)]
pub(super) struct ListArgs {
    /// Only of this tenant; all without
    tenant: Option<String>,
    /// Print the rows as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    accounts: AccountArgs,
}

impl ListArgs {
    /// The rows that `act` gives, as they are printed; `none` says what to do where there are none.
    ///
    /// # Errors
    /// When nobody answers.
    pub(super) async fn list<T: Serialize + DeserializeOwned>(
        self,
        act: impl FnOnce(Option<String>) -> Act,
        none: &str,
        render: impl FnOnce(&[T]) -> String,
    ) -> Result<Output, miette::Report> {
        let rows: Vec<T> = self.accounts.perform(act(self.tenant)).await?;
        Ok(listed(&rows, self.json, none, render))
    }
}

/// Rows as they are printed: nothing of none, except where JSON is wanted.
pub(super) fn listed<T: Serialize>(
    rows: &[T],
    json: bool,
    none: &str,
    render: impl FnOnce(&[T]) -> String,
) -> Output {
    if json {
        return Output::json(&json!(rows));
    }
    if rows.is_empty() {
        output::notice(none);
        return Output::Text(String::new());
    }
    Output::Text(render(rows))
}

/// A token or secret that there is.
#[derive(Args, Clone, Debug)]
pub(super) struct NamedArgs {
    /// The tenant that it belongs to
    tenant: String,
    /// The name that lists and templates have for it
    name: String,
    #[command(flatten)]
    accounts: AccountArgs,
}

impl NamedArgs {
    /// Carries out `act` on it and gives what it says it did.
    ///
    /// # Errors
    /// When it is not there, or nobody answers.
    pub(super) async fn done(
        self,
        act: impl FnOnce(String, String) -> Act,
    ) -> Result<Output, miette::Report> {
        done(&self.accounts, act(self.tenant, self.name)).await
    }
}

/// A state folder of which this process holds the lock.
pub(super) struct Folder {
    config: Config,
    accounts: Accounts,
    opened: OpenedState,
    // Locked until the last change is on disk: fields drop in order.
    _state: Arc<StateDir>,
}

/// Through what the accounts of the state folder are changed.
pub(super) enum StateAccess {
    /// The stdiopool that runs carries it out.
    Running(AdminClient),
    /// No stdiopool runs: this process carries the act out in the state folder.
    Folder(Box<Folder>),
}

impl AccountArgs {
    /// Finds out whether a stdiopool runs.
    ///
    /// # Errors
    /// When the configuration or the folder cannot be used.
    pub(super) async fn access(&self) -> Result<StateAccess, miette::Report> {
        if let Some(admin) = &self.admin {
            let admin = admin.clone();
            return Ok(StateAccess::Running(self.client(admin, None)));
        }
        let config = config::load(&self.config).map_err(|error| miette::miette!("{error}"))?;
        // One that began before `state.dir` was changed has another folder: what is done here would not be in force.
        let is_elsewhere = store::address_of_running(&config.state.dir, Door::Admin).is_none();
        if let Some(address) =
            store::address_of_serving(&self.config, Door::Admin).filter(|_| is_elsewhere)
        {
            let url = base_url(&address.to_string()).map_err(|error| miette::miette!("{error}"))?;
            output::notice(&format!(
                "{} names another state folder than the stdiopool uses that runs at {address} (takes effect after a restart)",
                self.config.display()
            ));
            return Ok(StateAccess::Running(
                self.client(url, config.admin.token.as_ref()),
            ));
        }
        match StateDir::open(&config.state.dir) {
            Ok(state) => Ok(StateAccess::Folder(Box::new(
                Folder::open(config, state).await?,
            ))),
            Err(StateDirError::InUse { .. }) => {
                let url = base_url(&config.admin.listen.to_string());
                let url = url.map_err(|error| miette::miette!("{error}"))?;
                let url = where_it_runs(url, &self.config, &config.state.dir, Door::Admin).await;
                Ok(StateAccess::Running(
                    self.client(url, config.admin.token.as_ref()),
                ))
            }
            Err(error) => Err(miette::miette!("{error}")),
        }
    }

    fn client(&self, admin: Url, of_file: Option<&SecretString>) -> AdminClient {
        let token = self.admin_token.clone().or_else(|| of_file.cloned());
        AdminClient::new(admin, token)
    }

    /// Carries out the act, and gives what the supervisor or the state folder answers.
    ///
    /// # Errors
    /// What is wrong with it, or nobody answers.
    pub(super) async fn perform<T: DeserializeOwned>(&self, act: Act) -> Result<T, miette::Report> {
        let told = self.carry_out(act).await;
        told.map_err(|(Refusal::NotFound(why) | Refusal::Other(why))| why)
    }

    /// Carries out the act, and gives what is answered; `None` if what it is about is not there.
    ///
    /// # Errors
    /// What else is wrong with it, or nobody answers.
    pub(super) async fn find<T: DeserializeOwned>(
        &self,
        act: Act,
    ) -> Result<Option<T>, miette::Report> {
        match self.carry_out(act).await {
            Ok(found) => Ok(Some(found)),
            Err(Refusal::NotFound(_)) => Ok(None),
            Err(Refusal::Other(why)) => Err(why),
        }
    }

    async fn carry_out<T: DeserializeOwned>(&self, act: Act) -> Result<T, Refusal> {
        match self.access().await.map_err(Refusal::Other)? {
            StateAccess::Running(client) => {
                let (method, path, body) = request(&act);
                let told = client.ask(method, &path, body.as_ref()).await;
                told.map_err(|error| match &error {
                    CliError::Refused { reason, .. } if reason == "not_found" => {
                        Refusal::NotFound(error.into())
                    }
                    _ => Refusal::Other(error.into()),
                })
            }
            StateAccess::Folder(folder) => {
                let told = folder.accounts.act_offline(&folder.config, act).await;
                let told = told.map_err(|error| match &error {
                    AccountError::NotFound(_) => Refusal::NotFound(miette::miette!("{error}")),
                    _ => Refusal::Other(miette::miette!("{error}")),
                })?;
                let told = serde_json::to_value(told).and_then(serde_json::from_value);
                told.map_err(|error| Refusal::Other(miette::miette!("{error}")))
            }
        }
    }
}

/// Why an act was not carried out.
enum Refusal {
    NotFound(miette::Report),
    Other(miette::Report),
}

impl Folder {
    async fn open(config: Config, state: StateDir) -> Result<Self, miette::Report> {
        let opened = OpenedState::open(&state).map_err(|error| miette::miette!("{error}"))?;
        let accounts = Accounts::open(&opened, &config).await;
        Ok(Self {
            accounts: accounts.map_err(|error| miette::miette!("{error}"))?,
            config,
            opened,
            _state: Arc::new(state),
        })
    }

    /// Seals every secret and stored config anew with another key; returns how many of each.
    ///
    /// # Errors
    /// When a secret does not open, or they cannot be written; then all are as they were.
    pub(super) async fn rekey(&self, key: &SecretString) -> Result<(usize, usize), miette::Report> {
        let handles = &self.opened.handle_rows;
        let counts = self.accounts.rekey(&self.config, key, handles).await;
        counts.map_err(|error| miette::miette!("{error}"))
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

/// What an act says it did, as a line.
pub(super) async fn done(accounts: &AccountArgs, act: Act) -> Result<Output, miette::Report> {
    let done: Done = accounts.perform(act).await?;
    Ok(Output::Text(format!("{}\n", done.message)))
}

//! `stdiopool tenant`: tenants of the state store, beside those of pool.toml.

use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use serde_json::{Map, Value};

use super::accounts::{AccountArgs, done, listed};
use super::output::Output;
use super::table::{self, Align};
use super::value::NoValue;
use crate::admin::{Act, TenantDetails};
use crate::config::parse_size;
use crate::tenancy::TenantSettings;

/// Manages tenants beside those of pool.toml; changes take effect at once
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  stdiopool tenant add globex --weight 2 --set 'github={\"repo\":\"globex/app\"}'
  stdiopool token create globex ci
  stdiopool tenant list")]
pub struct TenantArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Clone, Debug)]
enum Command {
    /// Adds a tenant
    Add(Change),
    /// Changes settings of a tenant; what is not given stays
    Set(Change),
    /// Lists all tenants, and where each is defined
    List(Show),
    /// Shows one tenant
    Show {
        /// The tenant's name
        name: String,
        #[command(flatten)]
        accounts: AccountArgs,
    },
    /// Removes a tenant with its tokens and secrets; its sessions end, its workers stop
    Remove {
        /// The tenant's name
        name: String,
        #[command(flatten)]
        accounts: AccountArgs,
    },
}

#[derive(Args, Clone, Debug)]
struct Show {
    /// Print the rows as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    accounts: AccountArgs,
}

#[derive(Args, Clone, Debug)]
struct Change {
    /// The tenant's name, which is part of its addresses
    name: String,
    /// The tenant's share of the pool under contention, 1 to 1000
    #[arg(long)]
    weight: Option<u32>,
    /// Worker processes it may have
    #[arg(long)]
    max_workers: Option<usize>,
    /// Requests a minute; 0: no limit
    #[arg(long)]
    requests_per_minute: Option<u32>,
    /// Requests at once after a pause; 0: as many as in a minute
    #[arg(long)]
    burst: Option<u32>,
    /// Requests that are not answered yet; 0: no limit
    #[arg(long)]
    concurrent: Option<u32>,
    /// Calls in a month; 0: no limit
    #[arg(long)]
    monthly_calls: Option<u64>,
    /// Memory that workers may hold times the hours for which they do, in a month, such as 720GiB; 0: no limit
    #[arg(long, value_name = "SIZE", value_parser = size_or_none)]
    memory_hours: Option<u64>,
    /// Values for a server's schema, in place of all that the tenant had for that server
    #[arg(long = "set", value_name = "SERVER=JSON", value_parser = values_of)]
    values: Vec<(String, Map<String, Value>)>,
    #[command(flatten)]
    accounts: AccountArgs,
}

fn values_of(text: &str) -> Result<(String, Map<String, Value>), NoValue> {
    let (server, json) = text.split_once('=').ok_or(NoValue::NoServer)?;
    let values = serde_json::from_str(json).map_err(NoValue::Values)?;
    Ok((server.to_owned(), values))
}

/// A size; 0 is one as well.
fn size_or_none(text: &str) -> Result<u64, NoValue> {
    parse_size(text).ok_or(NoValue::Size)
}

impl Change {
    fn settings(&self) -> TenantSettings {
        TenantSettings {
            weight: self.weight,
            max_workers: self.max_workers,
            requests_per_minute: self.requests_per_minute,
            burst: self.burst,
            concurrent: self.concurrent,
            monthly_calls: self.monthly_calls,
            memory_hours: self.memory_hours,
            config: self.values.iter().cloned().collect(),
        }
    }
}

impl TenantArgs {
    /// Does it and says so.
    ///
    /// # Errors
    /// When it cannot be done, or nobody answers.
    pub async fn run(self) -> Result<(), miette::Report> {
        let text = match self.command {
            Command::Add(change) => {
                let act = Act::AddTenant(change.name.clone(), change.settings());
                done(&change.accounts, act).await?
            }
            Command::Set(change) => {
                let act = Act::SetTenant(change.name.clone(), change.settings());
                done(&change.accounts, act).await?
            }
            Command::Remove { name, accounts } => done(&accounts, Act::RemoveTenant(name)).await?,
            Command::Show { name, accounts } => {
                let row: Value = accounts.perform(Act::ShowTenant(name)).await?;
                Output::json(&row)
            }
            Command::List(show) => {
                let rows: Vec<TenantDetails> = show.accounts.perform(Act::ListTenants).await?;
                let none = "no tenants; add one with: stdiopool tenant add NAME";
                listed(&rows, show.json, none, render)
            }
        };
        let _ = text.print()?;
        Ok(())
    }
}

/// A time as people read it.
pub(super) fn date(seconds: Option<u64>) -> String {
    let at = |seconds| UNIX_EPOCH.checked_add(std::time::Duration::from_secs(seconds));
    seconds.and_then(at).map_or_else(
        || "-".to_owned(),
        |at: SystemTime| humantime::format_rfc3339_seconds(at).to_string(),
    )
}

fn render(rows: &[TenantDetails]) -> String {
    use Align::{Left, Right};
    let columns = [
        ("TENANT", Left),
        ("SOURCE", Left),
        ("TOKENS", Right),
        ("SECRETS", Right),
        ("ADDED", Left),
    ];
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            [
                row.name.clone(),
                row.source.clone(),
                row.tokens.to_string(),
                row.secrets.to_string(),
                date(row.created),
            ]
        })
        .collect();
    table::render(columns, &rows)
}

//! `stdiopool oauth`: what tenants have authorised upstream.

use clap::{Args, Subcommand};

use super::accounts::{AccountArgs, done, listed};
use super::output::{self, Output};
use super::table::{self, Align};
use super::tenant::date;
use crate::admin::{Act, GrantDetails, LinkDetails};

/// Manages what tenants have authorised upstream (`[servers.NAME.oauth]`)
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  stdiopool oauth link acme github      # open it in a browser, within ten minutes
  stdiopool oauth list
  stdiopool oauth revoke acme github")]
pub struct OauthArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Clone, Debug)]
enum Command {
    /// Prints a link with which a user authorises a server for a tenant in a browser
    Link {
        /// For whom
        tenant: String,
        /// What
        server: String,
        #[command(flatten)]
        accounts: AccountArgs,
    },
    /// Lists what is authorised; tokens are never shown
    List {
        /// Only of this tenant; all without
        tenant: Option<String>,
        /// Print the rows as JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        accounts: AccountArgs,
    },
    /// Ends an authorisation: the provider is told (`revocation_url`), then it is forgotten
    Revoke {
        /// The tenant whose authorisation it is
        tenant: String,
        /// Of which server
        server: String,
        #[command(flatten)]
        accounts: AccountArgs,
    },
}

impl OauthArgs {
    /// Does it and says so.
    ///
    /// # Errors
    /// When it cannot be done, or nobody answers.
    pub async fn run(self) -> Result<(), miette::Report> {
        let text = match self.command {
            Command::Link {
                tenant,
                server,
                accounts,
            } => {
                let act = Act::LinkGrant(tenant.clone(), server.clone());
                let link: LinkDetails = accounts.perform(act).await?;
                output::notice(&format!(
                    "whoever opens this authorises server {server} for tenant {tenant}, until {}:",
                    date(Some(link.expires))
                ));
                Output::Text(format!("{}\n", link.authorize_url))
            }
            Command::List {
                tenant,
                json,
                accounts,
            } => {
                let rows: Vec<GrantDetails> = accounts.perform(Act::ListGrants(tenant)).await?;
                let none = "nothing is authorised upstream; begin with: stdiopool oauth link TENANT SERVER";
                listed(&rows, json, none, render)
            }
            Command::Revoke {
                tenant,
                server,
                accounts,
            } => done(&accounts, Act::RevokeGrant(tenant, server)).await?,
        };
        let _ = text.print()?;
        Ok(())
    }
}

fn render(rows: &[GrantDetails]) -> String {
    let columns = ["TENANT", "SERVER", "USER", "SCOPE", "AUTHORISED"];
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
            [
                row.tenant.clone(),
                row.server.clone(),
                or_none(&row.subject),
                or_none(&row.scope),
                date(Some(row.authorised)),
            ]
        })
        .collect();
    table::render(columns.map(|title| (title, Align::Left)), &rows)
}

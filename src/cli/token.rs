//! `stdiopool token`: bearer tokens of the state store.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::accounts::{AccountArgs, ListArgs, NamedArgs};
use super::output::{self, Output};
use super::table::{self, Align};
use super::tenant::date;
use crate::admin::{Act, MadeToken, NewToken, TokenDetails};

/// Manages bearer tokens of tenants; changes take effect at once
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  stdiopool token create acme ci --expires 90d --scope tools:call
  stdiopool token list acme
  stdiopool token revoke acme ci")]
pub struct TokenArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Clone, Debug)]
enum Command {
    /// Makes a token and prints it, this once: only its hash is kept
    Create {
        /// The tenant that it is for; one of pool.toml or of the state store
        tenant: String,
        /// A name for it, in lists and in the audit log
        name: String,
        /// The user it stands for: `${user.sub}`, and whose sessions are theirs alone
        #[arg(long, value_name = "USER")]
        subject: Option<String>,
        /// What the token may be used for; several with several flags
        #[arg(long = "scope", value_name = "SCOPE")]
        scopes: Vec<String>,
        /// How long the token is valid, such as 90d; for ever without
        #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
        expires: Option<Duration>,
        #[command(flatten)]
        accounts: AccountArgs,
    },
    /// Lists tokens by name, with their last use
    List(ListArgs),
    /// Revokes a token: it is refused from then on
    Revoke(NamedArgs),
}

impl TokenArgs {
    /// Does it and says so.
    ///
    /// # Errors
    /// When it cannot be done, or nobody answers.
    pub async fn run(self) -> Result<(), miette::Report> {
        let text = match self.command {
            Command::Create {
                tenant,
                name,
                subject,
                scopes,
                expires,
                accounts,
            } => {
                let token = NewToken {
                    name,
                    subject,
                    scopes,
                    expires_in_seconds: expires.map(|valid| valid.as_secs()),
                };
                let made: MadeToken = accounts.perform(Act::CreateToken(tenant, token)).await?;
                output::notice(&format!(
                    "token {} of tenant {}, valid until {}; it is not shown again:",
                    made.name,
                    made.tenant,
                    made.expires
                        .map_or_else(|| "it is revoked".to_owned(), |at| date(Some(at)))
                ));
                Output::Text(format!("{}\n", made.token))
            }
            Command::List(list) => {
                let none = "no tokens; make one with: stdiopool token create TENANT NAME";
                list.list(Act::ListTokens, none, render).await?
            }
            Command::Revoke(named) => named.done(Act::RevokeToken).await?,
        };
        let _ = text.print()?;
        Ok(())
    }
}

fn render(rows: &[TokenDetails]) -> String {
    let columns = [
        "TENANT",
        "NAME",
        "SUBJECT",
        "SCOPES",
        "CREATED",
        "EXPIRES",
        "LAST USED",
    ]
    .map(|title| (title, Align::Left));
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            let scopes = row.scopes.join(" ");
            [
                row.tenant.clone(),
                row.name.clone(),
                row.subject.clone().unwrap_or_else(|| "-".to_owned()),
                if scopes.is_empty() {
                    "-".to_owned()
                } else {
                    scopes
                },
                date(Some(row.created)),
                date(row.expires),
                date(row.last_used),
            ]
        })
        .collect();
    table::render(columns, &rows)
}

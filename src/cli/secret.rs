//! `stdiopool secret`: secrets in the state store.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use miette::miette;
use secrecy::SecretString;
use secrecy::zeroize::Zeroizing;

use super::accounts::{AccountArgs, ListArgs, NamedArgs, StateAccess, done};
use super::output::{self, Output};
use super::table::{self, Align};
use super::tenant::date;
use crate::admin::{Act, SecretDetails};
use crate::counted::counted;

/// Longest value that is read, in bytes; the other end says what a secret may be.
const MAX_READ: u64 = 1 << 20;

/// Manages secrets of tenants, sealed in the state store; changes take effect at once
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
A value comes from standard input or a file, never from the command line, which other
processes can read. A line break at its end is not part of it.

Examples:
  pass show github/acme | stdiopool secret set acme github_token
  stdiopool secret set acme github_token --from token.txt
  stdiopool secret rekey --new-key new.key")]
pub struct SecretArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Clone, Debug)]
enum Command {
    /// Sets a secret; workers with the old value are replaced as they become idle
    Set {
        /// The tenant that it belongs to
        tenant: String,
        /// The name by which templates refer to it: `${secret.NAME}`
        name: String,
        /// Read the value from this file instead of standard input
        #[arg(long, value_name = "FILE")]
        from: Option<PathBuf>,
        #[command(flatten)]
        accounts: AccountArgs,
    },
    /// Lists secrets by name; values are never shown
    List(ListArgs),
    /// Removes a secret
    Remove(NamedArgs),
    /// Seals every secret and stored config anew with another key, while stdiopool does not run
    Rekey {
        /// A file with the new key; set `state.key` to it afterwards
        #[arg(long, value_name = "FILE")]
        new_key: PathBuf,
        #[command(flatten)]
        accounts: AccountArgs,
    },
}

impl SecretArgs {
    /// Does it and says so.
    ///
    /// # Errors
    /// When it cannot be done, or nobody answers.
    pub async fn run(self) -> Result<(), miette::Report> {
        let text = match self.command {
            Command::Set {
                tenant,
                name,
                from,
                accounts,
            } => {
                let value = value(from.as_deref())?;
                done(&accounts, Act::SetSecret(tenant, name, value)).await?
            }
            Command::List(list) => {
                let none =
                    "no secrets in the state store; set one with: stdiopool secret set TENANT NAME";
                list.list(Act::ListSecrets, none, render).await?
            }
            Command::Remove(named) => named.done(Act::RemoveSecret).await?,
            Command::Rekey { new_key, accounts } => rekey(&new_key, &accounts).await?,
        };
        let _ = text.print()?;
        Ok(())
    }
}

async fn rekey(new_key: &Path, accounts: &AccountArgs) -> Result<Output, miette::Report> {
    let key = value(Some(new_key))?;
    match accounts.access().await? {
        StateAccess::Running(_) => Err(miette!(
            help = "stop it, rekey, set `state.key` to the new key, and start it again",
            "a stdiopool that runs holds the old key"
        )),
        StateAccess::Folder(folder) => {
            let (secrets, configs) = folder.rekey(&key).await?;
            let file = new_key.display();
            Ok(Output::Text(format!(
                "{} and {} sealed anew; now set `state.key` to {{ file = \"{file}\" }}\n",
                counted(secrets, "secret"),
                counted(configs, "stored config")
            )))
        }
    }
}

/// The value, without a line break at its end.
fn value(from: Option<&Path>) -> Result<SecretString, miette::Report> {
    let mut bytes = Zeroizing::new(Vec::new());
    let read = match from {
        Some(path) => std::fs::File::open(path)
            .and_then(|file| file.take(MAX_READ).read_to_end(&mut bytes))
            .map_err(|error| miette!("cannot read {}: {error}", path.display())),
        None => {
            let stdin = std::io::stdin().lock();
            if stdin.is_terminal() {
                output::notice("type the value, then Ctrl-D (it is shown as you type):");
            }
            let read = stdin.take(MAX_READ).read_to_end(&mut bytes);
            read.map_err(|error| miette!("cannot read standard input: {error}"))
        }
    };
    read?;
    let text = std::str::from_utf8(&bytes).map_err(|_| miette!("the value is not UTF-8"))?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    Ok(text.strip_suffix('\r').unwrap_or(text).into())
}

fn render(rows: &[SecretDetails]) -> String {
    let columns = ["TENANT", "NAME", "CHANGED"].map(|title| (title, Align::Left));
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            [
                row.tenant.clone(),
                row.name.clone(),
                date(Some(row.changed)),
            ]
        })
        .collect();
    table::render(columns, &rows)
}

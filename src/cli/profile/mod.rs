//! `stdiopool profile`: runs one server in a stdiopool of its own, calls its tools, and prints what it was seen to need.
//!
//! Invariant: a profile has a state folder of its own, and as root a user, which are free again when it ends
//! (docs/decisions/053-profile.md).
//!
//! Not here: the recording ([`crate::worker`]) and what follows from it for the keys ([`crate::profile`]).

mod script;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use miette::miette;
use reqwest::Url;
use serde_json::json;
use tokio::sync::oneshot;

use self::script::{Call, USUAL};
use super::error::{CliError, Target};
use super::mcp::McpClient;
use super::output::{self, Output};
use crate::config::{self, Config};
use crate::counted::counted;
use crate::daemon::{
    self, Options, ProfiledServer, Profiling, Source, accounts_of_profile, config_of_profile,
};
use crate::ids::{ServerName, TenantId};
use crate::profile::{HostsFile, Proposal, Record, Recorded, as_json, as_text};
use crate::protocol::Reason;
use crate::store::{AccountRows, ProfileSlot};
use crate::telemetry;
use crate::tenancy::users_of_host;
use crate::worker::can_be_recorded;

/// Most names that are looked up again.
const MAX_LOOKUPS: usize = 32;
/// How long one lookup may take.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(3);

/// How long until an install or a start that goes on is asked for again.
const PATIENCE: Duration = Duration::from_secs(1);
/// Most letters of a failure that are shown.
const MAX_LINE: usize = 200;

/// Runs a server, records what it needs of the host, and prints the narrowest keys that would have sufficed
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
The server runs as with `sandbox = \"standard\"`, network = \"on\" and no limits, whatever pool.toml says, with a state folder and, as root,
a user of its own, which go when the command ends: a folder that is given to a tenant's user is closed to it, which is said. It needs Linux 5.5
and no other program. Tenants and secrets are those of pool.toml and of the state store, whose key has to be readable; what a tenant has
authorised upstream is not used.

A script has a call on each line:
  {\"tool\": \"read_file\", \"arguments\": {\"path\": \"/srv/docs/a.txt\"}}
  {\"method\": \"prompts/get\", \"params\": {\"name\": \"review\"}}

What no call has led to is not recorded: the keys are as good as the script.

Exit codes: 0 when the keys were printed; 1 when the server did not start, or a call was not answered; 2 wrong usage.

Examples:
  stdiopool profile files
  stdiopool profile files --calls calls.jsonl --tenant acme
  stdiopool profile files --live            # use it with a client at the address that is said, then Ctrl-C")]
pub struct ProfileArgs {
    /// The server, as pool.toml calls it
    pub server: String,
    /// The file that has it
    #[arg(long, value_name = "FILE", default_value = "pool.toml")]
    pub config: PathBuf,
    /// The tenant that it runs for; without, the only one of the file, or `default`
    #[arg(long, value_name = "NAME")]
    pub tenant: Option<String>,
    /// The calls to make; without, its tools, resources and prompts are listed
    #[arg(long, value_name = "FILE", conflicts_with = "live")]
    pub calls: Option<PathBuf>,
    /// Make no calls: serve it over HTTP until Ctrl-C
    #[arg(long)]
    pub live: bool,
    /// Serve it at this address, on the loopback
    #[arg(long, value_name = "ADDR", requires = "live")]
    pub http: Option<SocketAddr>,
    /// How long to wait for an answer, the start of the server included
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = humantime::parse_duration)]
    pub timeout: Duration,
    /// How long to go on recording after the last answer
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = humantime::parse_duration)]
    pub settle: Duration,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// What became of the calls.
#[derive(Default, Debug)]
struct Driven {
    answered: Vec<String>,
    failed: Vec<String>,
}

impl ProfileArgs {
    /// Runs the server, drives it, and prints the keys.
    ///
    /// # Errors
    /// When it cannot be run or recorded, or a call is not answered; in the latter case the keys are printed all the same.
    pub async fn run(self) -> Result<(), miette::Report> {
        telemetry::init_logging_quietly().map_err(|error| miette!("{error}"))?;
        let config = config::load(&self.config).map_err(|error| miette!("{error}"))?;
        let name = config.server_name(&self.server).ok_or_else(|| {
            let all: Vec<_> = config.servers.keys().map(ServerName::as_str).collect();
            miette!(
                "{} has no server `{}`; it has {}",
                self.config.display(),
                self.server,
                all.join(", ")
            )
        })?;
        let tenant = self.tenant(&config);
        let accounts =
            accounts_of_profile(&config, &name, &tenant).map_err(|error| miette!("{error}"))?;
        if !config.has_tenant(&tenant) && accounts.tenants.is_empty() {
            return Err(miette!(
                help = "`stdiopool tenant list` has those of the state store; --tenant NAME",
                "there is no tenant `{tenant}` in {}, nor in the state store",
                self.config.display()
            ));
        }
        let calls = self.calls()?;
        let range = users_of_host(&config).ok();
        can_be_recorded(range.is_some())
            .map_err(|why| miette!("servers cannot be recorded on this host: {why}"))?;
        let slot = ProfileSlot::take(&config.state.dir, range.as_ref())
            .map_err(|error| miette!("{error}"))?;
        let profiled = ProfiledServer {
            name: &name,
            tenant: &tenant,
            slot: &slot,
            accounts: &accounts,
            listen: self.http,
            timeout: self.timeout,
        };
        let profiled = config_of_profile(&config, &profiled)
            .map_err(|error| miette!("no random numbers: {error}"))?;
        let (driven, recorded) = self.record(profiled, accounts, &tenant, calls).await?;
        let user = slot.users().map(|users| *users.start());
        drop(slot);
        self.print(&name, &tenant, user, &driven, &recorded).await?;
        match driven.failed.len() {
            0 => Ok(()),
            count => Err(miette!(
                "{} of {} failed, so that less was recorded:\n{}",
                count,
                counted(count + driven.answered.len(), "call"),
                driven.failed.join("\n")
            )),
        }
    }

    /// The tenant that it runs for, which may be one of the state store.
    fn tenant(&self, config: &Config) -> TenantId {
        let mut all = config.tenants.keys();
        let only = match (all.next(), all.next()) {
            (Some(only), None) => only.as_str(),
            _ => config::DEFAULT_TENANT,
        };
        TenantId::new(self.tenant.as_deref().unwrap_or(only))
    }

    /// The calls to make.
    fn calls(&self) -> Result<Vec<Call>, miette::Report> {
        let Some(path) = &self.calls else {
            return Ok(USUAL.map(Call::plain).into());
        };
        let shown = path.display();
        let text = std::fs::read_to_string(path).map_err(|error| miette!("{shown}: {error}"))?;
        script::read(&text).map_err(|error| miette!("{shown}: {error}"))
    }

    /// Serves that config, makes the calls, and ends it.
    async fn record(
        &self,
        config: Config,
        accounts: AccountRows,
        tenant: &TenantId,
        calls: Vec<Call>,
    ) -> Result<(Driven, Recorded), miette::Report> {
        let record = Arc::new(Record::new(true));
        let (profiling, address) = Profiling::new(config, accounts, Arc::clone(&record));
        let profiling = Arc::new(profiling);
        let options = Options {
            source: Source::Profile(Arc::clone(&profiling)),
            http: None,
            admin: None,
            record_trace: None,
        };
        let mut serving = tokio::spawn(daemon::serve(options));
        let driving = self.drive(address, tenant, calls);
        let driven = tokio::select! {
            driven = driving => Some(driven),
            // Ctrl-C, which it listens for, or a failure to start.
            ended = &mut serving => {
                let ended = ended.map_err(|error| miette!("the profile broke off: {error}"))?;
                ended.map_err(|error| miette!("{error}"))?;
                None
            }
        };
        if driven.is_some() {
            profiling.stop.cancel();
            let ended = serving.await;
            let ended = ended.map_err(|error| miette!("the profile broke off: {error}"))?;
            ended.map_err(|error| miette!("{error}"))?;
        }
        match driven {
            Some(driven) => Ok((driven?, record.recorded())),
            None if self.live => Ok((Driven::default(), record.recorded())),
            None => Err(CliError::Interrupted.into()),
        }
    }

    /// Makes the calls at the address that is told; with `--live` says it, and never returns.
    async fn drive(
        &self,
        address: oneshot::Receiver<SocketAddr>,
        tenant: &TenantId,
        calls: Vec<Call>,
    ) -> Result<Driven, miette::Report> {
        let Ok(address) = address.await else {
            // The reason comes from whoever serves.
            return std::future::pending().await;
        };
        let url = format!("http://{address}/t/{tenant}/{}/mcp", self.server);
        if self.live {
            output::notice(&format!(
                "MCP at {url}\nUse it as it will be used; Ctrl-C prints the keys."
            ));
            return std::future::pending().await;
        }
        let url = Url::parse(&url).map_err(|error| miette!("{url}: {error}"))?;
        let target = Target {
            url,
            url_flag: "--http",
            token_flag: "--token",
            token_env: "STDIOPOOL_TOKEN",
        };
        let mut client = McpClient::new(target, None);
        let driven = self.exchange(&mut client, calls).await;
        tokio::time::sleep(self.settle).await;
        client.close().await;
        driven
    }

    async fn exchange(
        &self,
        client: &mut McpClient,
        calls: Vec<Call>,
    ) -> Result<Driven, miette::Report> {
        let late = || CliError::TimedOut {
            after: self.timeout,
        };
        let started = tokio::time::timeout(self.timeout, begin(client)).await;
        started.map_err(|_| late())??;
        let mut driven = Driven::default();
        for call in calls {
            let name = call.name();
            let asked = client.request(&call.method, call.params);
            let answer = match tokio::time::timeout(self.timeout, asked).await {
                Ok(answer) => answer,
                Err(_) => Err(late()),
            };
            match answer {
                Ok(answer) => {
                    if let Some(said) = failure(&answer) {
                        output::notice(&format!("{name}: the tool reports a failure: {said}"));
                    }
                    driven.answered.push(name);
                }
                // Not every server has all that can be listed.
                Err(CliError::Refused { .. }) if self.calls.is_none() => {}
                Err(error) => driven.failed.push(format!("  {name}: {error}")),
            }
        }
        Ok(driven)
    }

    async fn print(
        &self,
        name: &ServerName,
        tenant: &TenantId,
        user: Option<u32>,
        driven: &Driven,
        recorded: &Recorded,
    ) -> Result<(), miette::Report> {
        let looked_up = look_up(recorded).await;
        let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
        let mut proposal = Proposal::of(recorded, &HostsFile::read(&hosts), &looked_up);
        let left = user.filter(|_| !proposal.writable.is_empty());
        proposal.notes.extend(left.map(|user| {
            format!("what it made in folders of `writable` belongs to user {user}, as which the profile ran: remove that, or give it to the tenant's user, who cannot change it else")
        }));
        let output = if self.json {
            let mut json = as_json(&proposal, recorded);
            json["server"] = json!(name.as_str());
            json["tenant"] = json!(tenant.as_str());
            json["answered"] = json!(driven.answered);
            json["failed"] = json!(driven.failed.len());
            Output::json(&json)
        } else {
            let by = match self.live {
                true => "a live session".to_owned(),
                false => format!(
                    "{} ({})",
                    counted(driven.answered.len(), "answer"),
                    driven.answered.join(", ")
                ),
            };
            Output::Text(format!(
                "# What `{name}` took for {by}; limits have room above what was seen.\n[servers.{name}]\n{}",
                as_text(&proposal)
            ))
        };
        let _is_read = output.print()?;
        Ok(())
    }
}

/// Opens the session, however long the server takes to be installed and to start.
async fn begin(client: &mut McpClient) -> Result<(), CliError> {
    loop {
        match client.initialize().await {
            // Whoever wants an answer sooner says so (`--timeout`).
            Err(CliError::Refused { reason, .. })
                if [Reason::Installing, Reason::Starting]
                    .iter()
                    .any(|it| reason == it.as_str()) =>
            {
                tokio::time::sleep(PATIENCE).await;
            }
            begun => return begun,
        }
    }
}

/// The first line of what a tool says whose result says that it failed.
fn failure(result: &str) -> Option<String> {
    let result: serde_json::Value = serde_json::from_str(result).ok()?;
    if result["isError"] != true {
        return None;
    }
    let text = result["content"][0]["text"].as_str().unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    Some(line.chars().take(MAX_LINE).collect())
}

/// Addresses, as of now, of names that were asked for and whose answers were not seen.
async fn look_up(recorded: &Recorded) -> BTreeMap<IpAddr, BTreeSet<String>> {
    let answered: BTreeSet<&String> = recorded.names.values().flatten().collect();
    let untold = recorded.asked.iter().filter(|it| !answered.contains(it));
    let mut names: BTreeMap<IpAddr, BTreeSet<String>> = BTreeMap::new();
    for name in untold.take(MAX_LOOKUPS) {
        let lookup = tokio::net::lookup_host((name.as_str(), 0));
        // Without an answer, the address is proposed.
        if let Ok(Ok(found)) = tokio::time::timeout(LOOKUP_TIMEOUT, lookup).await {
            for address in found {
                let of_address = names.entry(address.ip().to_canonical()).or_default();
                of_address.insert(name.clone());
            }
        }
    }
    names
}

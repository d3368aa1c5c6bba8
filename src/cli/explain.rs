//! `stdiopool explain`.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use serde_json::{Value, json};

use crate::config::{self, Config};
use crate::ids::{TenantId, is_valid_name};
use crate::tenancy::{Principal, policy};

/// Says whether a caller may use a server or a tool, and which line of pool.toml decides that
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
The caller is described with the options; nobody's credentials are looked at, and no stdiopool has
to run. What a server really has is known to its processes alone: a tool that may be called need
not be there.

Exit codes: 0 when it is allowed; 1 when it is not, or pool.toml has mistakes; 2 wrong usage.

Example:
  stdiopool explain --tenant acme --server github --tool delete_repo --scope read --user anna")]
pub struct ExplainArgs {
    /// The file to read
    #[arg(long, value_name = "FILE", default_value = "pool.toml")]
    pub config: PathBuf,
    /// The caller's tenant
    #[arg(long, value_name = "NAME", default_value = config::DEFAULT_TENANT)]
    pub tenant: String,
    /// The server it wants to use
    #[arg(long, value_name = "NAME")]
    pub server: String,
    /// The tool of it; without, whether it may use the server at all
    #[arg(long, value_name = "NAME")]
    pub tool: Option<String>,
    /// A scope that the caller's credentials have; may be given several times
    #[arg(long = "scope", value_name = "SCOPE")]
    pub scopes: Vec<String>,
    /// The caller's user name
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// The caller's mail address
    #[arg(long, value_name = "ADDRESS")]
    pub email: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// A step of the decision: what was looked at, and what it says.
struct Step {
    line: Option<usize>,
    is_allowed: bool,
    text: String,
}

impl ExplainArgs {
    /// Prints the decision.
    #[expect(clippy::print_stdout, reason = "the decision is what was asked for")]
    pub fn run(self) -> ExitCode {
        let config = match config::load(&self.config) {
            Ok(config) => config,
            Err(error) => {
                eprintln!("{error}");
                return ExitCode::FAILURE;
            }
        };
        let steps = self.steps(&config);
        let is_allowed = steps.iter().all(|step| step.is_allowed);
        if self.json {
            println!("{:#}", self.as_json(is_allowed, &steps));
        } else {
            print!("{}", self.as_text(is_allowed, &steps));
        }
        if is_allowed {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }

    /// What is looked at, in order, up to the first that says no.
    fn steps(&self, config: &Config) -> Vec<Step> {
        let mut steps = Vec::new();
        let no = |text: String| Step {
            line: None,
            is_allowed: false,
            text,
        };
        if !is_valid_name(&self.tenant) || !config.has_tenant(&TenantId::new(self.tenant.as_str()))
        {
            let text = format!("there is no tenant `{}` in this file", self.tenant);
            return vec![no(text)];
        }
        let Some(server) = config.server_name(&self.server) else {
            let text = format!("there is no server `{}` in this file", self.server);
            return vec![no(text)];
        };
        let mut who = Principal::new(TenantId::new(self.tenant.as_str()), self.user.clone());
        who.email.clone_from(&self.email);
        let scopes: BTreeSet<_> = self.scopes.iter().cloned().collect();
        who.scopes = Arc::new(scopes);
        if let (Some(tool), Some(definition)) = (&self.tool, config.servers.get(&server)) {
            let tools = &definition.tools;
            let (is_allowed, text) = match tools.deny.matching(tool) {
                _ if tools.offers_everything() => (true, "the server offers all its tools".into()),
                Some(glob) => (
                    false,
                    format!(
                        "`servers.{server}.tools.deny` has \"{glob}\": it is offered to nobody"
                    ),
                ),
                None => match tools.allow.matching(tool) {
                    Some(glob) => (
                        true,
                        format!("`servers.{server}.tools.allow` has \"{glob}\""),
                    ),
                    None => (
                        false,
                        format!(
                            "nothing in `servers.{server}.tools.allow` matches it: it is offered to nobody"
                        ),
                    ),
                },
            };
            let line = (!tools.offers_everything()).then_some(tools.line);
            steps.push(Step {
                line,
                is_allowed,
                text,
            });
            if !is_allowed {
                return steps;
            }
        }
        let decision = match &self.tool {
            Some(tool) => policy::tool(&config.policy, &who, server.as_str(), tool),
            None => policy::server(&config.policy, &who, server.as_str()),
        };
        steps.push(Step {
            line: decision.why.line(),
            is_allowed: decision.is_allowed,
            text: decision.why.to_string(),
        });
        steps.extend(self.bound(config));
        steps
    }

    /// What is set for the caller of the tool.
    fn bound(&self, config: &Config) -> Option<Step> {
        let tool = self.tool.as_ref()?;
        let server = config.server_name(&self.server)?;
        let bound = config.servers.get(&server)?.bind.get(tool)?;
        let names: Vec<_> = bound.keys().map(|name| format!("`{name}`")).collect();
        Some(Step {
            line: None,
            is_allowed: true,
            text: format!(
                "`servers.{server}.bind.{tool}` sets {}, which the caller cannot",
                names.join(", ")
            ),
        })
    }

    fn as_text(&self, is_allowed: bool, steps: &[Step]) -> String {
        let verdict = if is_allowed { "allowed" } else { "denied" };
        let what = match &self.tool {
            Some(tool) => format!("tool `{tool}` of server `{}`", self.server),
            None => format!("server `{}`", self.server),
        };
        let mut text = format!("{verdict}: {what} for {}\n", self.caller());
        for step in steps {
            let place = match step.line {
                Some(line) => format!("{}:{line}", self.config.display()),
                None => self.config.display().to_string(),
            };
            text.push_str(&format!("  {place}: {}\n", step.text));
        }
        text
    }

    fn caller(&self) -> String {
        let mut text = match &self.user {
            Some(user) => format!("user `{user}` of tenant `{}`", self.tenant),
            None => format!("tenant `{}`", self.tenant),
        };
        if !self.scopes.is_empty() {
            text.push_str(&format!(" with `{}`", self.scopes.join("`, `")));
        }
        text
    }

    fn as_json(&self, is_allowed: bool, steps: &[Step]) -> Value {
        let file = self.config.display().to_string();
        let steps = steps.iter().map(|step| {
            json!({
                "file": file, "line": step.line, "allowed": step.is_allowed, "why": step.text,
            })
        });
        json!({
            "allowed": is_allowed,
            "tenant": self.tenant,
            "user": self.user,
            "email": self.email,
            "scopes": self.scopes,
            "server": self.server,
            "tool": self.tool,
            "steps": steps.collect::<Vec<_>>(),
        })
    }
}

//! `stdiopool explain`.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::accounts::AccountArgs;
use super::output;
use crate::admin::{Act, TenantDetails, TokenDetails};
use crate::config::{self, AuthMode, BindRule, Config, Taking, Token};
use crate::egress::Network;
use crate::ids::{TenantId, is_valid_name};
use crate::protocol::CommandEnd;
use crate::tenancy::{Principal, policy};

/// Says whether a caller may use a server or a tool, and which line of pool.toml decides that
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
The caller is described with the options, or is whoever comes with the token of that name. Tenants
and tokens that are not in pool.toml are looked for in the state store: through the admin API while
stdiopool runs, in the folder otherwise. What a server really has is known to its processes alone: a
tool that may be called need not be there.

Exit codes: 0 when it is allowed; 1 when it is not, or pool.toml has mistakes; 2 wrong usage.

Examples:
  stdiopool explain --tenant acme --server github --tool delete_repo --scope read --user anna
  stdiopool explain --tenant acme --server github --token ci")]
pub struct ExplainArgs {
    #[command(flatten)]
    pub accounts: AccountArgs,
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
    /// The name of the token that it comes with; its user and scopes are the caller's
    #[arg(long, value_name = "NAME", conflicts_with_all = ["scopes", "user", "email"])]
    pub token: Option<String>,
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
    source: Source,
    is_allowed: bool,
    text: String,
}

/// Where the rule of a step stands.
#[derive(Clone, Copy)]
enum Source {
    /// pool.toml, with the line if the rule has one.
    File(Option<usize>),
    Store,
}

impl Step {
    fn no(text: String) -> Self {
        Self {
            source: Source::File(None),
            is_allowed: false,
            text,
        }
    }
}

impl ExplainArgs {
    /// Prints the decision.
    ///
    /// # Errors
    /// When the state store has to be looked at and cannot be.
    pub async fn run(self) -> Result<ExitCode, miette::Report> {
        let config = match config::load(&self.accounts.config) {
            Ok(config) => config,
            Err(error) => {
                output::notice(&error.to_string());
                return Ok(CommandEnd::Failed.into());
            }
        };
        let mut who = Principal::new(TenantId::new(self.tenant.as_str()), self.user.clone());
        who.email.clone_from(&self.email);
        who.scopes = Arc::new(self.scopes.iter().cloned().collect());
        let mut steps = self.caller_steps(&config, &mut who).await?;
        if steps.iter().all(|step| step.is_allowed) {
            steps.extend(self.steps(&config, &who));
        }
        let is_allowed = steps.iter().all(|step| step.is_allowed);
        if self.json {
            let json = self.as_json(is_allowed, &steps, &who);
            let _is_read = output::print_json(&format!("{json:#}\n"))?;
        } else {
            let _is_read = output::print(&self.as_text(is_allowed, &steps, &who))?;
        }
        Ok(if is_allowed {
            CommandEnd::Done.into()
        } else {
            CommandEnd::Failed.into()
        })
    }

    /// Whether there is such a caller; what its token says of it is put into `who`.
    async fn caller_steps(
        &self,
        config: &Config,
        who: &mut Principal,
    ) -> Result<Vec<Step>, miette::Report> {
        let is_known = is_valid_name(&self.tenant)
            && (config.has_tenant(&who.tenant) || self.is_stored(config).await?);
        if !is_known {
            let text = format!(
                "there is no tenant `{}` in this file, nor in the state store",
                self.tenant
            );
            return Ok(vec![Step::no(text)]);
        }
        let Some(name) = &self.token else {
            return Ok(vec![]);
        };
        if !matches!(config.auth.mode, AuthMode::Token) {
            let text = "`auth.mode` is not \"token\": no such token is accepted".to_owned();
            return Ok(vec![Step::no(text)]);
        }
        let Some((token, source)) = self.token(config, name).await? else {
            let text = format!(
                "tenant `{}` has no token `{name}` in this file, nor in the state store",
                self.tenant
            );
            return Ok(vec![Step::no(text)]);
        };
        who.subject.clone_from(&token.subject);
        who.scopes = Arc::clone(&token.scopes);
        let until = |at| humantime::format_rfc3339_seconds(at);
        let (is_allowed, valid) = match token.expires {
            None => (true, "is valid until it is revoked".to_owned()),
            Some(at) if at > SystemTime::now() => (true, format!("is valid until {}", until(at))),
            Some(at) => (false, format!("has expired at {}", until(at))),
        };
        let mut text = format!("token `{name}` {valid}");
        if let Some(user) = &token.subject {
            text.push_str(&format!(", stands for user `{user}`"));
        }
        if !token.scopes.is_empty() {
            let scopes: Vec<_> = token.scopes.iter().map(String::as_str).collect();
            text.push_str(&format!(", has `{}`", scopes.join("`, `")));
        }
        Ok(vec![Step {
            source,
            is_allowed,
            text,
        }])
    }

    /// Whether the state store has the tenant.
    async fn is_stored(&self, config: &Config) -> Result<bool, miette::Report> {
        let act = Act::ShowTenant(self.tenant.clone());
        let found: Option<TenantDetails> = self.find(config, act).await?;
        Ok(found.is_some())
    }

    /// The tenant's token of that name, and where it is.
    async fn token(
        &self,
        config: &Config,
        name: &str,
    ) -> Result<Option<(Token, Source)>, miette::Report> {
        let of_file = config.tenants.get(self.tenant.as_str()).and_then(|tenant| {
            let is_it = |token: &&Token| token.name.as_deref() == Some(name);
            tenant.tokens.iter().find(is_it)
        });
        if let Some(token) = of_file {
            return Ok(Some((token.clone(), Source::File(None))));
        }
        let act = Act::ListTokens(Some(self.tenant.clone()));
        let stored: Option<Vec<TokenDetails>> = self.find(config, act).await?;
        let mut stored = stored.into_iter().flatten();
        let found = stored.find(|token| token.name == name);
        Ok(found.map(|token| {
            let after = |seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
            let token = Token {
                name: Some(name.into()),
                subject: token.subject,
                scopes: Arc::new(token.scopes.into_iter().collect()),
                expires: token.expires.and_then(after),
                ..Token::default()
            };
            (token, Source::Store)
        }))
    }

    /// What the state store has; nothing where there is none, and none is made.
    async fn find<T: DeserializeOwned>(
        &self,
        config: &Config,
        act: Act,
    ) -> Result<Option<T>, miette::Report> {
        if self.accounts.admin.is_none() && !config.state.dir.exists() {
            return Ok(None);
        }
        self.accounts.find(act).await
    }

    /// What is looked at, in order, up to the first that says no.
    fn steps(&self, config: &Config, who: &Principal) -> Vec<Step> {
        let mut steps = Vec::new();
        let Some(server) = config.server_name(&self.server) else {
            let text = format!("there is no server `{}` in this file", self.server);
            return vec![Step::no(text)];
        };
        if let (Some(tool), Some(definition)) = (&self.tool, config.servers.get(&server)) {
            let tools = &definition.tools;
            let (is_allowed, text) = match tools.deny.taking(tool) {
                _ if tools.offers_everything() => (true, "the server offers all its tools".into()),
                Some(Taking { glob, is_exact }) => {
                    let spelling = match is_exact {
                        true => "",
                        false => ", which matches whatever the case of its name",
                    };
                    let text = format!(
                        "`servers.{server}.tools.deny` has \"{glob}\"{spelling}: it is offered to nobody"
                    );
                    (false, text)
                }
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
                source: Source::File(line),
                is_allowed,
                text,
            });
            if !is_allowed {
                return steps;
            }
        }
        let decision = match &self.tool {
            Some(tool) => policy::tool(&config.policy, who, server.as_str(), tool),
            None => policy::server(&config.policy, who, server.as_str()),
        };
        steps.push(Step {
            source: Source::File(decision.why.line()),
            is_allowed: decision.is_allowed,
            text: decision.why.to_string(),
        });
        steps.extend(self.network(config, who));
        steps.extend(self.bound(config));
        steps
    }

    /// What the server's processes for that caller reach, where that is less than the host does.
    fn network(&self, config: &Config, who: &Principal) -> Option<Step> {
        let server = config.server_name(&self.server)?;
        let tenant = config.tenants.get(&who.tenant);
        let own = tenant.and_then(|tenant| tenant.networks.get(&server));
        let (key, network) = match own {
            Some(network) => (format!("tenants.{}.network.{server}", who.tenant), network),
            None => (
                format!("servers.{server}.network"),
                &config.servers.get(&server)?.network,
            ),
        };
        let text = match network {
            Network::On => return None,
            Network::Off => format!("`{key}` is \"off\": its processes reach themselves alone"),
            Network::Allow(list) => format!(
                "`{key}`: its processes reach \"{}\"{}, and no other host",
                list.texts().join("\", \""),
                match list.rules().iter().any(|rule| rule.has_usual_ports()) {
                    true => " (443 and 80 where there is no port)",
                    false => "",
                },
            ),
        };
        Some(Step {
            source: Source::File(None),
            is_allowed: true,
            text,
        })
    }

    /// What is set for callers of the tool, and what may be meant for it.
    fn bound(&self, config: &Config) -> Vec<Step> {
        let Some((tool, server)) = self.tool.as_ref().zip(config.server_name(&self.server)) else {
            return vec![];
        };
        let Some(bind) = config.servers.get(&server).map(|server| &server.bind) else {
            return vec![];
        };
        let step = |text: String| Step {
            source: Source::File(None),
            is_allowed: true,
            text,
        };
        let mut steps = Vec::new();
        for is_exact in [true, false] {
            let bound = bind.of(tool).into_iter();
            let bound = bound.filter(|(_, (_, rule))| rule.is_exact() == is_exact);
            let by = |(name, (_, rule)): (&str, (_, &BindRule))| {
                format!("`{name}` (`servers.{server}.bind.{}`)", rule.pattern())
            };
            let names: Vec<_> = bound.map(by).collect();
            if names.is_empty() {
                continue;
            }
            let unless = match is_exact {
                true => "if the tool has no such argument, it is not called",
                false => {
                    "if the tool has no such argument, it is called without; where no tool that the pattern matches has it, none of them is called"
                }
            };
            steps.push(step(format!(
                "sets {}, which the caller cannot; {unless} (`stdiopool check --live`)",
                names.join(", ")
            )));
        }
        steps.extend(bind.resembling(tool).map(|rule| {
            let pattern = rule.pattern();
            step(format!(
                "`servers.{server}.bind.{pattern}` may be meant for it: if it matches no tool of the server, this one is not called (`stdiopool check --live`)"
            ))
        }));
        steps
    }

    fn as_text(&self, is_allowed: bool, steps: &[Step], who: &Principal) -> String {
        let verdict = if is_allowed { "allowed" } else { "denied" };
        let what = match &self.tool {
            Some(tool) => format!("tool `{tool}` of server `{}`", self.server),
            None => format!("server `{}`", self.server),
        };
        let mut text = format!("{verdict}: {what} for {}\n", caller(who));
        for step in steps {
            let file = self.accounts.config.display();
            let source = match step.source {
                Source::File(Some(line)) => format!("{file}:{line}"),
                Source::File(None) => file.to_string(),
                Source::Store => "state store".to_owned(),
            };
            text.push_str(&format!("  {source}: {}\n", step.text));
        }
        text
    }

    fn as_json(&self, is_allowed: bool, steps: &[Step], who: &Principal) -> Value {
        let file = self.accounts.config.display().to_string();
        let steps = steps.iter().map(|step| {
            let (file, line) = match step.source {
                Source::File(line) => (Some(&file), line),
                Source::Store => (None, None),
            };
            json!({
                "file": file, "line": line, "allowed": step.is_allowed, "why": step.text,
            })
        });
        json!({
            "allowed": is_allowed,
            "tenant": self.tenant,
            "user": who.subject,
            "email": who.email,
            "scopes": *who.scopes,
            "token": self.token,
            "server": self.server,
            "tool": self.tool,
            "steps": steps.collect::<Vec<_>>(),
        })
    }
}

fn caller(who: &Principal) -> String {
    let mut text = match &who.subject {
        Some(user) => format!("user `{user}` of tenant `{}`", who.tenant),
        None => format!("tenant `{}`", who.tenant),
    };
    if !who.scopes.is_empty() {
        let scopes: Vec<_> = who.scopes.iter().map(String::as_str).collect();
        text.push_str(&format!(" with `{}`", scopes.join("`, `")));
    }
    text
}

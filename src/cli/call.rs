//! `stdiopool call`: tries a server through the front door, as any MCP client would.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use reqwest::Url;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::client::{base_url, front_door};
use super::error::{CliError, Target};
use super::mcp::McpClient;
use super::output;
use super::table::{self, Align};
use super::value::NoValue;
use crate::ids::is_valid_name;

/// Pages of a tool list that are read at the most; a server that goes on is wrong.
const MAX_PAGES: usize = 100;
/// Stands for the only server of `serve -- COMMAND`, which has no name in the path.
const ONLY_SERVER: &str = "-";

/// Calls a tool through the front door, or lists the tools
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Examples:\n  stdiopool call demo\n  stdiopool call demo add '{\"a\": 1, \"b\": 2}'\n  stdiopool call - echo '{\"message\": \"hi\"}'    # the only server of `serve -- COMMAND`\n  stdiopool call demo echo '{\"message\": \"a\\tb\"}' --raw > answer.txt"
)]
pub struct CallArgs {
    /// The server, or `-` for the only one of `serve -- COMMAND`
    #[arg(value_parser = server_name)]
    pub server: String,
    /// The tool; without it the server's tools are listed
    pub tool: Option<String>,
    /// The tool's arguments, a JSON object
    #[arg(value_name = "JSON", value_parser = arguments, requires = "tool")]
    pub arguments: Option<Map<String, Value>>,
    /// Use the path of this tenant (it must be the token's)
    #[arg(long, value_name = "T", value_parser = name)]
    pub tenant: Option<String>,
    /// The configuration that says where the front door is; pool.toml, if there is one
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address of the front door, instead of the one in the file
    #[arg(long, value_name = "URL", env = "STDIOPOOL_URL", value_parser = base_url)]
    pub url: Option<Url>,
    /// Token of the tenant, where the front door wants one
    #[arg(
        long,
        value_name = "TOKEN",
        env = "STDIOPOOL_TOKEN",
        hide_env_values = true
    )]
    pub token: Option<SecretString>,
    /// Print the result as it came, as JSON
    #[arg(long)]
    pub json: bool,
    /// Print its text byte by byte, without writing control characters out: for what is read by no terminal
    #[arg(long, conflicts_with = "json")]
    pub raw: bool,
    /// How long to wait, the start of a worker included
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = humantime::parse_duration)]
    pub timeout: Duration,
}

fn name(text: &str) -> Result<String, NoValue> {
    if is_valid_name(text) {
        return Ok(text.to_owned());
    }
    Err(NoValue::Name)
}

fn server_name(text: &str) -> Result<String, NoValue> {
    if text == ONLY_SERVER {
        return Ok(text.to_owned());
    }
    name(text)
}

fn arguments(text: &str) -> Result<Map<String, Value>, NoValue> {
    serde_json::from_str(text).map_err(NoValue::Object)
}

/// What goes to standard output, or, when the tool says that it failed, to standard error.
#[derive(Debug)]
struct Answer {
    text: String,
    failed: bool,
}

impl CallArgs {
    /// Opens a session, calls or lists, prints, ends the session.
    ///
    /// # Errors
    /// When the front door, the server or the tool says no, or nobody answers in time.
    pub async fn run(self) -> Result<(), miette::Report> {
        let answer = self.answer().await?;
        if self.json {
            let _is_read = output::print_json(&answer.text)?;
        } else if answer.failed {
            output::notice(&answer.text);
        } else if self.raw {
            let _is_read = output::print_raw(&answer.text)?;
        } else {
            let _is_read = output::print(&answer.text)?;
        }
        if !answer.failed {
            return Ok(());
        }
        let tool = self.tool.unwrap_or_default();
        Err(CliError::ToolFailed { tool }.into())
    }

    async fn answer(&self) -> Result<Answer, CliError> {
        let target = Target {
            url: self.endpoint().await?,
            url_flag: "--url",
            token_flag: "--token",
            token_env: "STDIOPOOL_TOKEN",
        };
        let mut client = McpClient::new(target, self.token.clone());
        let outcome = tokio::select! {
            outcome = self.exchange(&mut client) => outcome,
            () = tokio::time::sleep(self.timeout) => Err(CliError::TimedOut { after: self.timeout }),
            // Where Ctrl-C cannot be watched it ends the process, and the session by its timeout.
            Ok(()) = tokio::signal::ctrl_c() => Err(CliError::Interrupted),
        };
        client.close().await;
        outcome
    }

    async fn endpoint(&self) -> Result<Url, CliError> {
        let server = match self.server.as_str() {
            ONLY_SERVER => String::new(),
            name => format!("{name}/"),
        };
        let path = match &self.tenant {
            Some(tenant) => format!("t/{tenant}/{server}mcp"),
            None => format!("{server}mcp"),
        };
        let base = match &self.url {
            Some(url) => url.clone(),
            None => front_door(self.config.as_deref()).await?,
        };
        let url = base.join(&path);
        url.map_err(|error| CliError::Protocol(format!("`{path}`: {error}")))
    }

    async fn exchange(&self, client: &mut McpClient) -> Result<Answer, CliError> {
        client.initialize().await?;
        let Some(tool) = &self.tool else {
            return self.list(client).await;
        };
        let arguments = self.arguments.clone().unwrap_or_default();
        let params = json!({ "name": tool, "arguments": arguments });
        let result = client.request("tools/call", params).await?;
        let read: CallResult = serde_json::from_str(&result)
            .map_err(|error| CliError::Protocol(format!("`tools/call`: {error}")))?;
        Ok(Answer {
            failed: read.is_error,
            text: if self.json {
                format!("{result}\n")
            } else {
                read.render()
            },
        })
    }

    async fn list(&self, client: &mut McpClient) -> Result<Answer, CliError> {
        let mut tools: Vec<Value> = Vec::new();
        let mut params = json!({});
        for _ in 0..MAX_PAGES {
            let result = client.request("tools/list", params).await?;
            let page: ToolPage = serde_json::from_str(&result)
                .map_err(|error| CliError::Protocol(format!("`tools/list`: {error}")))?;
            tools.extend(page.tools);
            let Some(cursor) = page.next_cursor else {
                return Ok(Answer {
                    failed: false,
                    text: if self.json {
                        format!("{:#}\n", Value::from(tools))
                    } else {
                        render_tools(&tools)
                    },
                });
            };
            params = json!({ "cursor": cursor });
        }
        let error = format!("the tool list has more than {MAX_PAGES} pages");
        Err(CliError::Protocol(error))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ToolPage {
    tools: Vec<Value>,
    next_cursor: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CallResult {
    #[serde(default)]
    content: Vec<Value>,
    structured_content: Option<Value>,
    #[serde(default)]
    is_error: bool,
}

impl CallResult {
    /// Text as it is, everything else as JSON. Structured content comes with an equal text
    /// (server/tools, "Structured Content"), so structured content is shown where there is no text only.
    fn render(&self) -> String {
        let mut out = String::new();
        let mut has_text = false;
        for part in &self.content {
            match (part["type"].as_str(), part["text"].as_str()) {
                (Some("text"), Some(text)) => {
                    out.push_str(text);
                    has_text = true;
                }
                _ => out.push_str(&format!("{part:#}")),
            }
            if !out.ends_with('\n') {
                out.push('\n');
            }
        }
        if let Some(structured) = self.structured_content.as_ref().filter(|_| !has_text) {
            out.push_str(&format!("{structured:#}\n"));
        }
        out
    }
}

fn render_tools(tools: &[Value]) -> String {
    let rows: Vec<_> = tools
        .iter()
        .map(|tool| {
            let text = |key: &str| tool[key].as_str().unwrap_or_default();
            let description = text("description").trim_start();
            [
                text("name").to_owned(),
                description.lines().next().unwrap_or_default().to_owned(),
            ]
        })
        .collect();
    table::render([("TOOL", Align::Left), ("DESCRIPTION", Align::Left)], &rows)
}

#[cfg(test)]
mod tests;

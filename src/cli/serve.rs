//! `stdiopool serve`: runs the supervisor.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use crate::daemon::{self, Options, Source};
use crate::telemetry::{self, LogFormat};

/// Serves what pool.toml says, or one command
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Examples:\n  stdiopool serve --config pool.toml\n  stdiopool serve -- npx -y @modelcontextprotocol/server-everything\n  stdiopool serve -- stdiopool demo-server"
)]
pub struct ServeArgs {
    /// What to serve
    #[arg(long, value_name = "FILE", default_value = "pool.toml")]
    pub config: PathBuf,
    /// Listen here instead of `[http] listen`
    #[arg(long, value_name = "ADDR")]
    pub http: Option<SocketAddr>,
    /// Listen here for the admin API instead of `[admin] listen`
    #[arg(long, value_name = "ADDR")]
    pub admin: Option<SocketAddr>,
    /// Record requests, starts and memory for `stdiopool tune`: times and sizes, no content, tenants
    /// under made-up names
    #[arg(long, value_name = "FILE")]
    pub record_trace: Option<PathBuf>,
    /// The shape of the log's lines
    #[arg(long, value_enum, default_value_t)]
    pub log_format: LogFormat,
    /// Host this one command at /mcp, on loopback, without a config file
    #[arg(last = true, value_name = "COMMAND", conflicts_with = "config")]
    pub command: Vec<String>,
}

impl ServeArgs {
    /// Serves until told to stop. `slices` is what became of making its time slices short.
    ///
    /// # Errors
    /// When it cannot start.
    pub async fn run(self, slices: io::Result<()>) -> Result<(), miette::Report> {
        telemetry::init_logging(self.log_format).map_err(|error| miette::miette!("{error}"))?;
        if let Err(error) = slices {
            tracing::debug!(%error, "time slices stay as long as they are");
        }
        let source = if self.command.is_empty() {
            Source::File(self.config)
        } else {
            Source::Command(self.command)
        };
        let options = Options {
            source,
            http: self.http,
            admin: self.admin,
            record_trace: self.record_trace,
        };
        daemon::serve(options)
            .await
            .map_err(|error| miette::miette!("{error}"))
    }
}

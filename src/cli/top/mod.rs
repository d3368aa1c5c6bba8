//! `stdiopool top`: the pool and its workers, live in a terminal.
//!
//! ```text
//!  keys ──▶            ┌───────┐ ──▶ effects: act, watch a worker, suspend, end
//!  signals ─▶ runtime ─▶ model │
//!  feed ───▶           └───────┘ ──▶ view ──▶ screen
//! ```
//!
//! Invariants: the model does no I/O, and is told the time; the view is made of the model alone; text of strangers is
//! [`clean::Clean`] as soon as it is in the model. At most four frames a second are drawn while no key is pressed, of the rows that are on
//! the screen, and a frame writes what has changed.
//!
//! Nothing is decided here that stdiopool decides: it is asked through its admin API, as `ps`, `logs`, `stop` and `restart` do.

mod clean;
mod counters;
mod detail;
mod feed;
mod key;
mod listing;
mod model;
#[cfg(test)]
mod model_tests;
mod runtime;
mod screen;
mod signals;
mod theme;
mod view;

use clap::Args;
use tokio::time::Instant;

use super::client::AdminArgs;

/// Shows the pool and its workers, live; sorts, filters, shows what one writes, stops and restarts
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Keys: ? shows them all. It needs a terminal; for programs: `stdiopool ps --json`, `stdiopool events --json`.

Examples:
  stdiopool top
  stdiopool top --filter 'server:github busy'")]
pub struct TopArgs {
    /// Only workers with these words in server, tenant or state; `server:NAME` and `tenant:NAME` are the whole name
    #[arg(long, value_name = "WORDS", default_value = "")]
    pub filter: String,
    /// Where the admin API is.
    #[command(flatten)]
    pub admin: AdminArgs,
}

impl TopArgs {
    /// Shows it until a key or a signal ends that.
    ///
    /// # Errors
    /// When there is no terminal, or nobody answers at the beginning. Whoever stops answering later is asked again.
    pub async fn run(self) -> Result<(), miette::Report> {
        screen::check_terminal()?;
        let client = self.admin.client().await?;
        let (status, workers) = feed::pool(&client).await?;
        let address = client.target().url.to_string();
        let now = Instant::now().into_std();
        let mut model = model::Model::new(now, &address, status, workers);
        model.filter(&self.filter);
        Ok(runtime::run(client, model).await?)
    }
}

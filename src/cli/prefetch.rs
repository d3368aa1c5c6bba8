//! `stdiopool prefetch`: packages into the caches, before anyone waits for them.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use miette::miette;

use super::output;
use crate::config::{self, Arg, Config, LaunchMode, Server};
use crate::daemon::install_sandbox;
use crate::launch::packages::{self, Cache, Outcome, Pins, Request};
use crate::launch::{Package, understand};
use crate::tenancy::install_environment;

/// Installs the packages that servers run through npx and uvx, so that no first start waits for them
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
They go into the package cache in the state folder, from which workers are started. Packages of
servers that are started as written are named only: each tenant has a cache of its own for them, which
its first start fills. A stdiopool that is running goes on and finds what is fetched.

Examples:
  stdiopool prefetch
  stdiopool prefetch github time --config pool.toml")]
pub struct PrefetchArgs {
    /// Only these servers
    pub servers: Vec<String>,
    /// The file that names them
    #[arg(long, value_name = "FILE", default_value = "pool.toml")]
    pub config: PathBuf,
}

/// How a package is fetched.
enum Fetch {
    /// Into the package cache.
    Install(Request),
    /// By its launcher, into a cache of the tenant's; and why.
    AsWritten(Package, Option<String>),
}

impl Fetch {
    fn name(&self) -> String {
        match self {
            Self::Install(request) => request.recipe.name(),
            Self::AsWritten(package, _) => package.name(),
        }
    }
}

impl PrefetchArgs {
    /// Fetches one after the other.
    ///
    /// # Errors
    /// When the config cannot be read, a server is unknown, or a package cannot be had.
    pub fn run(self) -> Result<(), miette::Report> {
        let config = config::load(&self.config).map_err(|error| miette!("{error}"))?;
        let packages = self.packages(&config)?;
        let bar = ProgressBar::new(packages.len() as u64);
        if let Ok(style) = ProgressStyle::with_template("{bar:20} {pos}/{len} {wide_msg}") {
            bar.set_style(style);
        }
        let store = Store::open(&config)?;
        let mut text = String::new();
        let mut failed = Vec::new();
        for (server, fetch) in packages {
            let name = fetch.name();
            bar.set_message(name.clone());
            let outcome = match store.fetch(&server, &fetch, &bar) {
                Ok(outcome) => outcome,
                Err(why) => {
                    failed.push(format!("`{name}` of server `{server}`: {why}"));
                    "failed".to_owned()
                }
            };
            text.push_str(&format!("{server}: {name} {outcome}\n"));
            bar.inc(1);
        }
        bar.finish_and_clear();
        let _is_read = output::print(&text)?;
        if failed.is_empty() {
            return Ok(());
        }
        Err(miette!("{}", failed.join("\n")))
    }

    fn packages(&self, config: &Config) -> Result<Vec<(String, Fetch)>, miette::Report> {
        if let Some(unknown) = self
            .servers
            .iter()
            .find(|name| config.server_name(name).is_none())
        {
            return Err(miette!(
                "there is no server `{unknown}` in {}",
                self.config.display()
            ));
        }
        let is_meant =
            |name: &str| self.servers.is_empty() || self.servers.iter().any(|s| s == name);
        let meant = config
            .servers
            .iter()
            .filter(|(name, _)| is_meant(name.as_str()));
        Ok(meant
            .filter_map(|(name, server)| Some((name.to_string(), fetch_of(config, server)?)))
            .collect())
    }
}

/// The packages to fetch for a server, as far as they are one for every tenant.
fn fetch_of(config: &Config, server: &Server) -> Option<Fetch> {
    let args: Vec<Option<&str>> = server
        .args
        .iter()
        .map(|arg| match arg {
            Arg::Always(template) => template.as_literal(),
            Arg::When { .. } => None,
        })
        .collect();
    let as_written = |why| Some(Fetch::AsWritten(Package::of(&server.command, &args)?, why));
    if server.launch == LaunchMode::AsIs {
        return as_written(None);
    }
    let run = understand(&server.command, &args)?;
    let request = run.map_err(|why| why.to_string()).and_then(|run| {
        let env = install_environment(config, server);
        match env.differs {
            Some(why) => Err(why),
            None => Ok(Request::new(&run, Arc::new(env.variables), server.pin)),
        }
    });
    match request {
        Ok(request) => Some(Fetch::Install(request)),
        Err(why) => as_written(Some(why)),
    }
}

/// A package that could not be fetched: what npm or uv said, without the secrets of its environment.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct FetchError(String);

impl FetchError {
    fn masked(why: &impl std::fmt::Display, request: &Request) -> Self {
        Self(packages::masked(&why.to_string(), &request.env))
    }
}

/// Where packages go.
struct Store {
    cache: Cache,
    pins: Pins,
    runtime: tokio::runtime::Runtime,
}

impl Store {
    fn open(config: &Config) -> Result<Self, miette::Report> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let cache = Cache::open(&config.package_cache(&config.state.dir))
            .map_err(|error| miette!("{error}"))?;
        cache.set_timeout(config.packages.install_timeout);
        let state = config.state.dir.canonicalize();
        let cache = cache.with_sandbox(install_sandbox(config, state.into_iter().collect()));
        Ok(Self {
            cache,
            pins: Pins::beside(&config.base_dir),
            runtime: runtime.map_err(|error| miette!("no runtime: {error}"))?,
        })
    }

    /// Fetches a package; returns what became of it, in words.
    ///
    /// # Errors
    /// npm or uv failed.
    fn fetch(&self, server: &str, fetch: &Fetch, bar: &ProgressBar) -> Result<String, FetchError> {
        match fetch {
            Fetch::AsWritten(_, why) => {
                let why = why.as_ref().map(|why| format!(": {why}"));
                Ok(format!(
                    "is run as written, and fetched by the first start of each tenant{}",
                    why.unwrap_or_default()
                ))
            }
            Fetch::Install(request) => {
                let name = request.recipe.name();
                let tell = |stage: packages::Stage| {
                    bar.set_message(format!("{name}: {}", stage.as_str()));
                    bar.tick();
                };
                let pins = Some(&self.pins);
                let install = packages::install(&self.cache, request, pins, false, &tell);
                let Outcome {
                    installation,
                    is_new,
                } = self
                    .runtime
                    .block_on(install)
                    .map_err(|why| FetchError::masked(&why, request))?;
                let version = &installation.version;
                let mut said = if is_new {
                    format!("fetched, version {version}")
                } else {
                    format!("is there, version {version}")
                };
                if let Some(unscripted) = &installation.unscripted {
                    let (told, remedy) = (unscripted.told(), unscripted.remedy(server));
                    said.push_str(&format!("\n  {told}; {remedy}"));
                }
                for downloaded in &installation.left.downloaded {
                    said.push_str(&format!("\n  its install scripts downloaded {downloaded}"));
                }
                Ok(said)
            }
        }
    }
}

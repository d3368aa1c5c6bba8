//! The life of `stdiopool serve`.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::assemble::ServeError;
use super::dashboard;
use super::doors::{Bound, Doors};
use super::grants;
use super::limits;
use super::options::{Options, Source};
use super::processor_use;
use super::read::{self, LoadedConfig};
use super::refresh;
use super::sampler;
use super::service::{Service, addresses};
use super::service_manager::{self, Inherited};
use super::shutdown::Background;
use super::signals::Signals;
use super::start_up;
use super::traces;
use super::usage;
use crate::admin;
use crate::config::{self, Config};
use crate::front::{Front, Tls};
use crate::store::StateDir;
use crate::telemetry::Exporter;
use crate::worker::Guardian;

fn read(options: &Options) -> Result<LoadedConfig, ServeError> {
    let mut found = match &options.source {
        Source::File(path) => read::read(path)?,
        Source::Command(argv) => LoadedConfig::of_command(config::single_command(argv.clone())?),
        Source::Profile(profiling) => LoadedConfig::of_config(profiling.config.clone()),
    };
    options.listens().put_into(&mut found.config)?;
    match found.notices.fatal() {
        Some(why) => Err(ServeError::Host(why)),
        None => Ok(found),
    }
}

/// Serves until SIGTERM, SIGINT or a drain through the admin API, then shuts down in good order.
///
/// # Errors
/// [`ServeError`] when it cannot start.
pub async fn serve(mut options: Options) -> Result<(), ServeError> {
    let inherited = Inherited::take()?;
    inherited.put_into(&mut options.http, &mut options.admin)?;
    let found = read(&options)?;
    found.notices.warn();
    let config = Arc::new(found.config);
    limits::raise_open_files();
    limits::keep_out_of_core_dumps();
    limits::say_if_page_out_unsupported(&config);
    limits::say_if_packages_are_writable();
    let state = Arc::new(if config.only_server.is_some() {
        StateDir::temporary(&config.state.dir)?
    } else {
        StateDir::open(&config.state.dir)?
    });
    let bound = Bound::open(&config, &state, inherited).await?;
    let (http, admin) = (bound.http.address(), bound.admin.address());
    let guardian = Guardian::start().await?;
    guardian.close_to_workers(vec![http, admin]);
    let tls = config.http.tls.as_ref().map(Tls::load).transpose()?;
    let service = Service::assemble(&options, &config, state, &guardian, tls.clone()).await?;

    let exporter = traces::start(&config.tracing).await?;
    let shutdown = CancellationToken::new();
    let admin_router = admin::router(
        Arc::clone(&service.running),
        Arc::clone(service.gateway.metrics()),
        admin::Options {
            listen: admin,
            token: config.admin.token.clone(),
            shutdown: shutdown.clone(),
        },
    )?;
    let front = service.front(&config, http);
    if let Some(base) = callback_base(&config, http) {
        front.grants.set_base(&base);
    }
    // Before anybody is told that it is there: until then a signal ends the process as it does any other.
    let mut signals = Signals::listen()?;
    match &options.source {
        Source::Profile(profiling) => profiling.serves_at(http),
        Source::File(_) | Source::Command(_) => say_where(&config, http, admin),
    }
    let slots = &service.reloader.slots;
    let doors = Doors::serve(bound, &front, tls, slots, admin_router, &shutdown);
    let background = begin_background(&service, &front, exporter, &shutdown);
    service_manager::ready(&format!("MCP at {http}, admin at {admin}"));
    service.until_drain(&mut signals).await;
    service
        .shut_down(&front, doors, background, &shutdown, &guardian)
        .await;
    Ok(())
}

/// Begins what goes on beside requests, until `shutdown`.
fn begin_background(
    service: &Service,
    front: &Arc<Front>,
    exporter: Option<Exporter>,
    shutdown: &CancellationToken,
) -> Background {
    let sampling = tokio::spawn(sampler::run(
        Arc::clone(service.gateway.workers()),
        service.events.clone(),
        shutdown.child_token(),
    ));
    let watching = tokio::spawn(processor_use::run(
        Arc::clone(service.gateway.workers()),
        shutdown.child_token(),
    ));
    let reloader = Arc::clone(&service.reloader);
    let refreshing = tokio::spawn(refresh::run(reloader, shutdown.child_token()));
    let usage = Arc::clone(&service.running.usage);
    let counting = tokio::spawn(usage::run(usage, shutdown.child_token()));
    let sampling_of_day = tokio::spawn(dashboard::run(
        Arc::clone(&service.running.dashboard),
        service.gateway.clone(),
        shutdown.child_token(),
    ));
    let grants_stop = shutdown.child_token();
    let grants = tokio::spawn(grants::look_after(
        Arc::clone(&front.grants),
        Arc::clone(&service.reloader),
        grants_stop.clone(),
    ));
    let settling = tokio::spawn(start_up::settle(shutdown.child_token()));
    let watchdog = tokio::spawn(service_manager::keep_watchdog_quiet(shutdown.child_token()));
    Background {
        grants,
        grants_stop,
        exporter,
        others: vec![
            sampling,
            watching,
            refreshing,
            settling,
            watchdog,
            counting,
            sampling_of_day,
        ],
    }
}

/// Where providers send browsers back to; unknown where the front door has no name of its own.
fn callback_base(config: &Config, http: SocketAddr) -> Option<String> {
    addresses(config).base_at(http)
}

/// Says where it listens, on stderr like the rest of the log, so that a script that started it on
/// port 0 can find it.
fn say_where(config: &Config, http: SocketAddr, admin: SocketAddr) {
    let path = if config.only_server.is_some() {
        "/mcp"
    } else {
        "/{server}/mcp"
    };
    let scheme = if config.http.tls.is_some() {
        "https"
    } else {
        "http"
    };
    tracing::info!("MCP at {scheme}://{http}{path}");
    tracing::info!("admin at http://{admin}/");
}

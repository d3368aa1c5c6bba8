//! Parses the command line and runs what it asks for.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use nix::unistd::geteuid;
use tokio::runtime::Builder;

use super::output;
use super::{
    AuditArgs, BackupArgs, CallArgs, CheckArgs, DemoServer, DoctorArgs, DrainArgs, EventsArgs,
    ExplainArgs, LogLevelArgs, LogsArgs, OauthArgs, PrefetchArgs, PrimeArgs, ProfileArgs, PsArgs,
    ReloadArgs, RestoreArgs, SchemaArgs, SecretArgs, ServeArgs, StopArgs, TenantArgs, TokenArgs,
    TraceArgs, TuneArgs, UsageArgs,
};
use crate::config;
use crate::process::{
    take_precedence, take_precedence_of_session, take_short_slices, take_subordinate_users,
    try_subordinate_users_if_asked,
};
use crate::protocol::CommandEnd;
use crate::telemetry;

/// Hosts unmodified stdio MCP servers for many tenants behind one HTTP front door
#[derive(Parser, Debug)]
// Not wrapped: a terminal does that itself, and what is copied, an example or an error, stays whole.
#[command(name = "stdiopool", version, propagate_version = true, term_width = 0)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Serve(ServeArgs),
    Check(CheckArgs),
    Schema(SchemaArgs),
    Explain(ExplainArgs),
    Doctor(DoctorArgs),
    Profile(ProfileArgs),
    Call(CallArgs),
    Ps(PsArgs),
    Logs(LogsArgs),
    LogLevel(LogLevelArgs),
    Events(EventsArgs),
    Usage(UsageArgs),
    Trace(TraceArgs),
    Stop(StopArgs),
    Drain(DrainArgs),
    Reload(ReloadArgs),
    Tenant(TenantArgs),
    Token(TokenArgs),
    Secret(SecretArgs),
    Oauth(OauthArgs),
    Audit(AuditArgs),
    Backup(BackupArgs),
    Restore(RestoreArgs),
    Prefetch(PrefetchArgs),
    Prime(PrimeArgs),
    Tune(TuneArgs),
    DemoServer(DemoServer),
}

/// Runs the command line; its exit codes are those of [`CommandEnd`].
pub fn main() -> ExitCode {
    try_subordinate_users_if_asked();
    let cli = Cli::parse();
    if let Some(config) = cli.command.starts_servers_of() {
        take_users(config);
    }
    // Before there are threads. A host that keeps it from that has taken more away.
    let _as_it_is = crate::process::give_up_privileges(false);
    let outcome = match cli.command {
        Command::Schema(args) => return args.run(),
        Command::DemoServer(args) => return args.run(),
        Command::Check(args) => match block_on(args.run()) {
            Ok(verdict) => return verdict,
            Err(report) => Err(report),
        },
        Command::Explain(args) => match block_on(args.run()) {
            Ok(decision) => return decision,
            Err(report) => Err(report),
        },
        Command::Prefetch(args) => args.run(),
        Command::Audit(args) => args.run(),
        Command::Backup(args) => args.run(),
        Command::Restore(args) => args.run(),
        Command::Tune(args) => args.run(),
        Command::Serve(args) => {
            // Before there are more threads than this one.
            let slices = take_short_slices().and_then(|()| take_precedence_of_session());
            block_on_first(args.run(slices))
        }
        Command::Doctor(args) => block_on(args.run()),
        Command::Profile(args) => block_on(args.run()),
        Command::Call(args) => block_on(args.run()),
        Command::Ps(args) => block_on(args.run()),
        Command::Prime(args) => block_on(args.run()),
        Command::Logs(args) => block_on(args.run()),
        Command::LogLevel(args) => block_on(args.run()),
        Command::Events(args) => block_on(args.run()),
        Command::Usage(args) => block_on(args.run()),
        Command::Trace(args) => block_on(args.run()),
        Command::Stop(args) => block_on(args.run()),
        Command::Drain(args) => block_on(args.run()),
        Command::Tenant(args) => block_on(args.run()),
        Command::Token(args) => block_on(args.run()),
        Command::Secret(args) => block_on(args.run()),
        Command::Oauth(args) => block_on(args.run()),
        Command::Reload(args) => block_on(args.run()),
    };
    match outcome {
        Ok(()) => {
            telemetry::flush_stderr();
            CommandEnd::Done.into()
        }
        Err(report) => {
            // Behind what was logged, and without waiting for a reader that never comes.
            telemetry::say_on_stderr(&output::shown(&report));
            CommandEnd::Failed.into()
        }
    }
}

impl Command {
    /// The configuration of which it starts servers, or looks at what they would come to.
    fn starts_servers_of(&self) -> Option<&Path> {
        match self {
            Self::Serve(args) if args.command.is_empty() => Some(&args.config),
            Self::Check(args) => Some(&args.config),
            Self::Profile(args) => Some(&args.config),
            _ => None,
        }
    }
}

/// Users for tenants' servers where stdiopool is not root, if the host gives it some; else whoever looks for them says why not.
/// The process has one thread.
fn take_users(config: &Path) {
    // What is wrong with the file is said by the command.
    let config = match geteuid().is_root() {
        true => None,
        false => config::load(config).ok(),
    };
    if let Some(uids) = config.and_then(|config| config.sandbox.uids) {
        let _said_where_they_lack = take_subordinate_users(&uids);
    }
}

/// The runtime's own variable for how many threads it has.
const THREADS: &str = "TOKIO_WORKER_THREADS";

/// How long a thread for work that blocks is kept without any. Such work comes once a second at least, and goes to whichever thread waits
/// for longest: with the runtime's own 10 s, ten threads of a busy start would live for ever, of 0.2 MiB each.
const IDLE_THREAD: Duration = Duration::from_millis(1_500);

/// Half of the CPUs: the servers want some too, and a call that stays on one thread costs less than
/// one that is handed over (docs/performance.md).
fn default_threads() -> usize {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    (cpus / 2).max(1)
}

fn block_on<T>(
    command: impl Future<Output = Result<T, miette::Report>>,
) -> Result<T, miette::Report> {
    run_on(&mut runtime(), command)
}

/// Runs the supervisor: its threads go before those of its workers, where they may.
fn block_on_first<T>(
    command: impl Future<Output = Result<T, miette::Report>>,
) -> Result<T, miette::Report> {
    let mut builder = runtime();
    builder.on_thread_start(|| {
        let _unless_denied = take_precedence();
    });
    builder.thread_keep_alive(IDLE_THREAD);
    run_on(&mut builder, command)
}

fn runtime() -> Builder {
    let mut builder = Builder::new_multi_thread();
    if std::env::var_os(THREADS).is_none() {
        builder.worker_threads(default_threads());
    }
    builder.enable_all();
    builder
}

fn run_on<T>(
    builder: &mut Builder,
    command: impl Future<Output = Result<T, miette::Report>>,
) -> Result<T, miette::Report> {
    builder
        .build()
        .map_err(|error| miette::miette!("the async runtime could not be started: {error}"))?
        .block_on(command)
}

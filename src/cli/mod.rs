//! The command line: one file per command.
//!
//! Exit codes: 0 ok, 1 the thing asked for failed, 2 usage. Errors go to stderr and say what
//! happened, why, and what to do.
//!
//! ```text
//!  serve, demo-server            this process does it
//!  check, explain, doctor, tune  this process looks, and changes nothing
//!  profile                       this process serves one server for the moment, and records it
//!  ps, usage, logs, trace …       the admin API of a running stdiopool  (`client`)
//!  tenant, token, secret, oauth  the admin API; where none runs, the state folder itself  (`accounts`)
//!  call                          a client of the front door  (`mcp`)
//! ```
//!
//! Invariants: standard output has what was asked for and nothing else; with `--json` it is JSON; a secret is read from a
//! file, a prompt or a pipe, never from an argument.
//!
//! Commands deliberately decide nothing that a running stdiopool decides: rules are in the modules below.

mod accounts;
mod audit;
mod backup;
mod call;
mod check;
mod client;
mod demo_server;
mod dispatch;
mod doctor;
mod drain;
mod error;
mod events;
mod explain;
mod log_level;
mod logs;
mod mcp;
mod oauth;
mod observed;
mod output;
mod prefetch;
mod prime;
mod profile;
mod ps;
mod reload;
mod schema;
mod secret;
mod serve;
mod sse;
mod stop;
mod table;
mod tenant;
mod token;
mod trace;
mod tune;
mod usage;
mod value;
mod wait;

pub use accounts::AccountArgs;
pub use audit::AuditArgs;
pub use backup::{BackupArgs, RestoreArgs};
pub use call::CallArgs;
pub use check::CheckArgs;
pub use client::AdminArgs;
pub use demo_server::DemoServer;
pub use dispatch::main;
pub use doctor::DoctorArgs;
pub use drain::DrainArgs;
pub use error::CliError;
pub use events::EventsArgs;
pub use explain::ExplainArgs;
pub use log_level::LogLevelArgs;
pub use logs::LogsArgs;
pub use oauth::OauthArgs;
pub use prefetch::PrefetchArgs;
pub use prime::PrimeArgs;
pub use profile::ProfileArgs;
pub use ps::PsArgs;
pub use reload::ReloadArgs;
pub use schema::SchemaArgs;
pub use secret::SecretArgs;
pub use serve::ServeArgs;
pub use stop::StopArgs;
pub use tenant::TenantArgs;
pub use token::TokenArgs;
pub use trace::TraceArgs;
pub use tune::TuneArgs;
pub use usage::UsageArgs;

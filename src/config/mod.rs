//! pool.toml: read with spans, checked whole, immutable from then on.
//!
//! ```text
//!  text ─▶ spanned tree ─▶ Reader (typed, notes every mistake, goes on) ─▶ Config | Mistakes
//!                              └─▶ on an absent file: the reference of the keys, the JSON Schema
//! ```
//!
//! Invariants: a [`Config`] has no mistake in it; all mistakes of a file are reported at once, each
//! with its place; no text makes the reader panic; what may be a secret is not quoted.
//!
//! This module deliberately opens nothing that the file refers to: secrets are fetched and commands looked
//! up when they are first needed.

mod audit;
mod auth;
mod bind;
mod command;
mod command_line;
mod command_line_error;
mod digest;
mod doubts;
pub mod downloads;
mod globs;
mod homes;
mod inspect;
mod isolation;
mod lines;
mod load;
mod mistake;
mod model;
mod names;
mod needs;
mod network;
mod notes;
mod oauth;
mod odd;
mod origins;
mod policy;
mod quotas;
mod rates;
mod read;
mod reader;
mod references;
mod resembling;
mod restart;
mod schema;
mod secret_source;
mod server_limits;
mod server_schema;
mod servers;
mod shown;
pub mod template;
mod tenants;
#[cfg(test)]
mod tests;
mod tools;
mod tracing;
mod units;
mod values;
mod whole;

pub use audit::Audit;
pub use bind::{Bind, BindRule};
pub use command_line_error::CommandLineError;
pub use globs::{Globs, Taking};
pub use inspect::Inspection;
pub use lines::Lines;
pub use load::{load, parse, single_command};
pub use mistake::{ConfigErrors, Mistake, Mistakes, Warning, placed, similar};
pub use model::{
    Admin, Aggregate, Arg, Auth, AuthMode, ClientAuth, Config, DEFAULT_TENANT, DefaultRates, Http,
    Interactive, Isolation, Jwt, KeySource, LaunchMode, OAuth, Packages, Pool, Prime, ProxyHeaders,
    Rates, SandboxUsers, SecretSource, SecretUse, Server, Share, State, Tenant, Tls, Token,
    WorkerLimits,
};
pub use origins::{NoOrigin, Origins};
pub use policy::{Policy, Rule};
pub use read::{canonical, state_dir};
pub use resembling::resembles;
pub use schema::{json_schema, reference};
pub use tools::Tools;
pub use tracing::Tracing;
pub use units::{SizeOrShare, size as parse_size};
pub use whole::Exposed;

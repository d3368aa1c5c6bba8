//! Callers, and what is started for them.
//!
//! ```text
//!  Authorization, path ─▶ Authenticator ─▶ Principal
//!                                             │ tenant, user
//!  schema defaults, tenant's, caller's (caller_config: may it set that?) ─┴▶ validate ─▶ templates ─▶ LaunchSpec ─▶ pool key
//!                                         secrets (env, file, command) ─▶┘
//! ```
//!
//! Invariants: a value is put into a template once and never read as one; a secret is in the launch
//! spec and nowhere else; what belongs to another tenant is as unknown as what does not exist.
//!
//! This module deliberately starts nothing, except the commands that print secrets.

mod authenticator;
mod bound;
mod bounded;
mod caller_config;
mod cause;
mod checks;
mod client_config;
mod confinement;
mod dry_run;
mod environment;
mod handles;
mod host_users;
mod jwks;
mod jwt;
mod key;
mod merge;
pub mod oauth;
pub mod policy;
mod principal;
pub mod refresh;
mod render;
mod resolver;
mod secret_error;
mod secrets;
mod stored_config;
mod uses;
mod values;

pub use authenticator::{Authenticator, Credentials};
pub(crate) use bounded::{BodyError, read_up_to};
pub use caller_config::{advert_of_parts, of_part};
pub(crate) use cause::innermost;
pub use client_config::{ClientConfig, ConfigInput, HANDLE_PREFIX, MAX_CONFIG};
pub use dry_run::DryRun;
pub use environment::InstallEnvironment;
pub use handles::{DEFAULT_TTL, HandleInfo, Handles, MAX_TTL, Named};
pub(crate) use host_users::users_of_host;
pub use jwks::keys_problem;
pub use key::{caller_of, derived_key, derived_lineage, lineage, pool_key, program_id};
pub use merge::{InvalidSettings, MergeError, TenantSettings, in_both, merged};
pub use principal::Principal;
pub use resolver::{Resolver, ResolverError, install_environment, program};
pub use secret_error::{NoSecret, NotPrinted, SecretError};
pub use secrets::{Secrets, secret_problem};
pub use uses::Uses;

//! `stdiopool serve`: the only place where the parts are wired to each other.
//!
//! ```text
//!  config ─▶ state folder ─▶ guardian ─▶ sessions + pool ─▶ admin listener ─▶ front listener
//!                                                                │
//!   SIGHUP: reload     SIGTERM, SIGINT: drain     every 30 s: expire sessions
//! ```
//!
//! Shutdown runs the other way, each step with its own deadline: no new connections and no new
//! work; what is in flight finishes, for at most `pool.drain_timeout`; workers stop (stdin closed,
//! SIGTERM, SIGKILL); the guardian goes last and takes with it whatever is still there.
//!
//! Invariants: clients are taken on only when the state, the pool and the admin listener are there; a config that cannot be
//! put in force leaves the old one in force, whole; each step of the way down has an end.
//!
//! The daemon deliberately has no rules of its own: it hands each part what that needs, and says what happened.

mod accounts;
mod acts;
mod assemble;
mod dashboard;
mod doors;
mod ended;
mod events;
mod grants;
mod history;
mod install_sandbox;
mod limits;
mod observed;
mod options;
mod pool_view;
mod processor_use;
mod profiling;
mod read;
mod refresh;
mod reload;
mod run;
mod sampler;
mod service;
mod service_manager;
mod shown;
mod shutdown;
mod signals;
mod start_up;
mod supervisor;
mod traces;
mod usage;
mod users;

pub use accounts::{Accounts, folder_act};
pub use assemble::ServeError;
pub use install_sandbox::{install_sandbox, lacking_of_installs};
pub use options::{Options, Source};
pub use profiling::{ProfiledServer, Profiling, accounts_of_profile, config_of_profile};
pub use run::serve;

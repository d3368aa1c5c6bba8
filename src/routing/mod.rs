//! Where a request goes: what is started for it, and which workers may have it.
//!
//! ```text
//!  pool.toml ──▶ RuntimeConfig ──┐
//!  session   ──▶ RouteRequest  ──┼──▶ Route: pool key, facts for the pool, StartPlan
//!  workers   ──▶ Knowledge     ──┘         (catalog, dialects, roots, one at a time)
//! ```
//!
//! A `Route` is worked out once and is right until pool.toml is read again, servers have told something new
//! (`Knowledge::edition`), or somebody has it reconsidered.
//!
//! Invariants:
//! - two requests have one pool key only if what is started for them is equal, byte by byte, and what their clients
//!   declare is too;
//! - what a server said of itself is remembered for a launch and a tenant, and never shown to another;
//! - a tool is called only if what is set for its callers (`bind`) is set, or it does not have it.
//!
//! This module deliberately starts nothing, asks no worker, and knows a session only as the request that it makes.

mod bindings;
mod catalog;
mod command;
mod dialects;
mod introduction;
mod knowledge;
mod launch_forecast;
mod one_at_a_time;
mod plan;
mod request;
mod roots;
mod route;
mod runtime_config;
mod search;
mod tool_facts;
mod tool_list;

pub use launch_forecast::LaunchForecast;
pub use plan::StartPlan;
pub use runtime_config::RuntimeConfig;

pub(crate) use bindings::{Misfit, Verdict, did_you_mean};
pub(crate) use catalog::{Edition, ListKey};
pub(crate) use command::{NotStarted, Start, Withheld, as_written};
pub(crate) use dialects::DialectCache;
pub(crate) use knowledge::Knowledge;
pub(crate) use plan::spares;
pub(crate) use request::{KnownRoots, RouteRequest};
pub(crate) use route::{Room, Route};
pub(crate) use runtime_config::CurrentConfig;
pub(crate) use tool_list::{Pages, ToolList};

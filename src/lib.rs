//! Hosts unmodified stdio MCP servers for many tenants behind one HTTP front door.
//!
//! A request travels in a straight line, and imports point the same way, downwards only:
//!
//! ```text
//! cli -> daemon, tune -> admin, front -> gateway -> session -> upstream -> routing -> bridge, pool, worker
//!        below them all: what is shared; the whole order is in scripts/layers
//! ```
//!
//! Decisions are pure, effects are thin: [`pool::policy`] and [`bridge`] are state machines
//! without clock, I/O or async; the runtime around them carries out what they say.

pub mod admin;
pub mod bridge;
pub mod cli;
pub mod config;
pub mod counted;
pub mod daemon;
pub mod demo;
pub mod egress;
pub mod escape;
pub mod fair;
mod fields;
pub mod folders;
pub mod folding;
pub mod front;
pub mod gateway;
pub mod held;
pub mod ids;
pub mod launch;
pub mod pool;
pub mod preflight;
mod process;
pub mod profile;
pub mod protocol;
pub mod routing;
pub mod session;
pub mod store;
pub mod telemetry;
pub mod tenancy;
pub mod tune;
pub mod upstream;
pub mod usage;
pub mod worker;

//! The command line: one file per command, each with its arguments and a `run`.

mod call;
mod client;
mod drain;
mod error;
mod logs;
mod mcp;
mod output;
mod ps;
mod reload;
mod stop;
mod table;

pub use call::CallArgs;
pub use client::AdminArgs;
pub use drain::DrainArgs;
pub use error::CliError;
pub use logs::LogsArgs;
pub use ps::PsArgs;
pub use reload::ReloadArgs;
pub use stop::StopArgs;

//! The hosts that a server may reach: its allow-list, and what is decided by it. Pure: no sockets, no clock, no lookups.
//!
//! ```text
//!  in the worker's network                          | outside
//!  name --dns::answer--> address of the names' own  |
//!  connect(address, port) --> listener -------------|-> NameTable: which name was it? --> AllowList --> lookup --> AllowList, address --> host
//!       no listener for the port: refused by kernel, seen by attempt::attempt_of
//! ```
//!
//! Invariants
//! - Nothing of a worker's is believed but the address and port that it connects to: which name an address stands for is what `NameTable`
//!   gave out itself.
//! - An address inside a network, such as a private one, is reached only where a rule names that address or a part of that network.
//!
//! Not done here: sockets, lookups, bytes (`worker::egress`), and what is told of it (`upstream`).

mod address;
mod attempt;
mod dns;
mod names;
mod network;
mod rule;

pub use address::{is_internal, plain};
pub use attempt::{Attempt, MAX_HEAD, attempt_of, head_filter};
pub use dns::{QueryOutcome, answer};
pub use names::{NameTable, Synthetic};
pub use network::Network;
pub use rule::{AllowList, MAX_PORTS, Rule, RuleError};

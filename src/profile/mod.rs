//! What a server was seen to need of its host, and the narrowest keys of pool.toml that give it that.
//!
//! ```text
//!  worker::recorder --Seen--> Record (bounded) --Recorded--> Proposal --> text or JSON
//! ```
//!
//! Invariants
//! - A record is bounded, whatever a server does: what has no room is counted (`Recorded::left_out`).
//! - What a record has is covered by what is proposed from it, or a note says why it cannot be.
//! - No content of files or messages is kept: paths, addresses, names and numbers alone.
//!
//! Not done here: seeing it (`worker::recorder`), and running the server (`daemon`, `cli`). Pure, but for the clock of nobody.

mod folders;
mod hosts;
mod names;
mod proposal;
mod record;
mod report;
mod seen;

pub use hosts::HostsFile;
pub use names::{Heard, Questions, heard};
pub use proposal::{Proposal, Reason};
pub use record::{Peak, Record, RecordBook, Recorded};
pub use report::{as_json, as_text};
pub use seen::{Seen, Transport, Use};

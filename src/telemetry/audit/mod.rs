//! The audit log: who did what, as lines of JSON.
//!
//! ```text
//! calls, refusals, acts ── try_send ──▶ queue (bounded) ──▶ one thread ──▶ file ─▶ file.1 ─▶ … ─▶ file.N
//!                             └ full: counted, and said in the log itself
//! ```
//!
//! Invariants: nothing that is called waits for the disk; a line that could not be kept is counted
//! where it is missed; of arguments there is a digest, unless the operator asks for more.
//!
//! The audit log deliberately keeps no answers and no credentials, and is sent nowhere.

mod digest;
mod log_file;
mod read;
mod record;
mod writer;

pub use digest::Digester;
pub use log_file::AuditOptions;
pub use read::{AuditFilter, read_audit};
pub use record::{AuditKind, AuditRecord};
pub use writer::{Audit, append_record};

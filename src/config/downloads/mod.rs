//! Finds the programs in a command line that download packages: as its command, behind a program that runs another one
//! (`env`, `timeout`), or in the script of a shell. Pure: words in, [`Downloader`]s out.
//!
//! ```text
//!  command, args ─▶ downloads packages? ──▶ Downloader, with the flags that are its own
//!       │ no
//!       ├─ a shell, a program that runs another: its words and scripts likewise ──▶ Certainty::Runs
//!       └─ any other program: what its words name ──▶ Certainty::Named
//! ```
//!
//! Invariants: no words make it panic; it looks at each word a bounded number of times.
//!
//! The search deliberately is no shell: what a variable holds or a script file says is not looked at, and a word that stands where a
//! shell would not run it may be found all the same.

mod flags;
mod programs;
mod scan;
mod word;

pub use flags::is_registry_variable;
pub(crate) use programs::LAUNCHERS;
pub use programs::{Family, Kind, kind};
pub use scan::{Certainty, Downloader, downloaders};
pub use word::Word;

//! What is kept on disk: one state folder, private to the user that stdiopool runs as.
//!
//! ```text
//! .stdiopool/            0700
//!   lock                 held while stdiopool runs, with its pid
//!   data/TENANT/SERVER/  `${dir.data}`: kept
//!   tmp/TENANT/SERVER/   `${dir.tmp}`, TMPDIR: emptied at every start
//! ```
//!
//! Invariant: one stdiopool per folder. It deliberately creates no tenant's folder before a worker
//! needs it.

mod state_dir;

pub use state_dir::{StateDir, StateDirError};

//! Private views: a package as one tenant's workers of one server see it. Workers may write beside its code and
//! find that again; no other tenant does.
//!
//! ```text
//!  data/TENANT/.packages/SERVER/
//!  ├─ 3/                         the view in use: the highest number of its package
//!  │   ├─ shared -> packages/entries/ENTRY
//!  │   ├─ node_modules/a/…       the package's own files: copies, which the server may write
//!  │   ├─ node_modules/dep -> ../shared/node_modules/dep
//!  │   └─ view.json, shipped.json   what it was made from, and the digests its files had then
//!  └─ left-behind/               what the version after could not take over
//!
//!  another version ──▶ a new view, with what the server has added or changed ──▶ the old one goes with its last worker
//! ```
//!
//! Invariants: a view holds links and copies, never a second name of a shared file; what a copy consists of was
//! compared with the entry's manifest; no link that a server may have made is followed; a view that a worker runs
//! from, in this process or another, is locked (shared, its folder) and is not removed; what a server wrote is in the
//! next view, in `left-behind`, or named in the log as lost.
//!
//! A view deliberately keeps what a server does to it; `changes` tells of that.

mod build;
mod carry;
mod changes;
mod error;
mod hold;
mod layout;
mod make;
mod own;
mod own_node;
mod successor;
#[cfg(test)]
mod tests;
mod views;
pub(super) mod walk;
mod wanted;

pub(super) use changes::changes;
pub use changes::read_only_dependency;
pub use error::ViewError;
pub use hold::View;
pub(super) use layout::LEFT;
pub use views::{StillRunning, Views};
pub use wanted::Wanted;

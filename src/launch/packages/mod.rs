//! The package cache: what npx and uvx lines run, installed once and started directly.
//!
//! ```text
//!  packages/                    below the state folder, mode 0700
//!  ├─ refs/REQUEST.json         what a request was resolved to: entry, version, when
//!  ├─ _npx/ENTRY/               one installation of npm, named by the digest of its lock file
//!  │   ├─ package.json, package-lock.json, node_modules/
//!  │   ├─ downloads/            what its install scripts have downloaded: browsers
//!  │   ├─ home/                 what they have left in HOME
//!  │   └─ manifest.json, entry.json    as below
//!  ├─ entries/ENTRY/            one of PyPI
//!  │   ├─ requirements.txt, venv/
//!  │   ├─ manifest.json         every file and its digest
//!  │   └─ entry.json            written last: the installation is whole; then all is read-only
//!  ├─ locks/NAME                one holder each, also across processes
//!  ├─ downloads/                caches of npm and uv, which no code of packages writes
//!  ├─ tmp/                      TMPDIR of what fetches; places of installs that run code of packages: HOME, TMPDIR, caches
//!  └─ home/                     HOME of installs without scripts
//!
//!  Unknown ──ensure──▶ Installing ──▶ Installed ──refresh, another version──▶ Installed
//!                          └──▶ Failed ──after a while, ensure──▶ Installing
//! ```
//!
//! Invariants: an entry never changes once it is whole, and is compared with its manifest before it is first used and
//! when a start from it fails, and before each start where workers may write to it (`seals`); workers run from a private view of it ([`view`]), never from the entry itself; two requests that resolve to the same lock
//! file share it; a request is installed by one process at a time; code of packages runs apart (`place`), and nothing of it is left when its entry is
//! looked at; what fetches writes to its own folders alone (`fetching`); what fails is run as written.
//!
//! This module deliberately knows no registry: npm and uv are asked, under the user's own configuration.

mod cache;
#[cfg(test)]
mod cache_fixture;
mod collect;
mod command_error;
mod downloads;
mod fetching;
mod helper;
mod install;
mod install_error;
mod install_queue;
mod install_sandbox;
mod installer;
mod lock;
mod manifest;
mod mode;
mod node;
mod npm_settings;
mod pins;
mod place;
mod python;
mod python_name;
mod refusal;
mod request;
mod scripts;
mod seals;
mod seed;
pub mod view;
mod workspace;
pub mod written;

pub use cache::{Cache, CacheError, InstalledPackage};
pub use command_error::CommandError;
pub use downloads::{Downloaded, Left};
pub use install::install;
pub use install_error::{InstallError, PinsError};
pub use install_sandbox::InstallSandbox;
pub use installer::{InstallEvent, InstallEventSink, Installed, Installer, Slot, State, UnderWay};
pub use manifest::ManifestError;
pub use pins::Pins;
pub use refusal::masked;
pub use request::{Installation, Outcome, Request, Stage};
pub use scripts::{Unscripted, npm_cache, wanted_by_npx};

//! What is needed to start one process: the launch spec; and the direct start of packages.
//!
//! ```text
//!  npx -y a@1 --x ─▶ line::understand ─▶ PackageRun ─▶ packages::Installer ─▶ Installed
//!                        │ Err(why)                         │ Failed               │
//!                        ▼                                  ▼                      ▼
//!                    as written                         as written      direct: node_modules/.bin/a --x
//! ```
//!
//! Invariants: the sharing of a process is decided by the command as written, never by what it was
//! resolved to; the program gets the arguments, environment and folder that its launcher would give
//! it; what is not understood or cannot be installed is run as written, unless it would then ask another registry than
//! the operator's.
//!
//! This module deliberately starts no worker.

mod command_init;
mod confinement;
mod direct;
mod group;
mod host;
mod launcher_settings;
pub mod line;
mod package;
pub mod packages;
pub mod priming;
mod quiet;
mod reach;
mod sandbox;
mod secret_files;
mod settings_files;
mod sources;
mod spec;

pub use command_init::run_command_if_asked;
pub use confinement::{Confine, Confinement, InstallGroup};
pub use direct::direct;
pub use group::{CommandGroup, CommandLine};
pub use host::takes_precedence;
pub use line::{
    Entry, NodeLauncher, PackageRun, PythonLauncher, Recipe, known_at_a_start, understand,
};
pub use package::Package;
pub use quiet::quieten;
pub use reach::{Inaccessible, inaccessible, installation_of, unreadable, unreadable_itself};
pub use sandbox::{NamedPath, Observed, RunsAs, Sandbox, Strict, UserPool};
pub use secret_files::SecretFiles;
pub use settings_files::{SettingsFile, settings_files, withheld_files};
pub use sources::{
    Unseen, is_for_installs, is_of_npm, is_one_variable, lacking_of, names_public_registry,
    says_from_where, unheeded, unseen, withheld,
};
pub use spec::{LAUNCHER_FOLDERS, LaunchSpec, ProcessLimits, Redactor, TokenMark};

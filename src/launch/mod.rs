//! What is needed to start one process, and what package a command line runs. Later also the resolver that turns `npx …` and `uvx …`
//! lines into a direct start; today every command runs as written.

mod package;
mod secret_files;
mod spec;

pub use package::Package;
pub use secret_files::SecretFiles;
pub use spec::{LaunchSpec, ProcessLimits, Redactor};

//! What is needed to start one process. Later also the resolver that turns `npx …` and `uvx …`
//! lines into a direct start; today every command runs as written.

mod spec;

pub use spec::{LaunchSpec, ProcessLimits, Redactor};

//! What a command line of npx, uvx and their like runs. Pure: words in, a [`PackageRun`] out.
//!
//! ```text
//!  program ─▶ launcher? ──no──▶ None: it starts what it starts
//!                │ yes
//!                ▼
//!  flags ─▶ known and without influence │ known │ anything else ──▶ Err(why): run as written
//!                                          ▼
//!                     PackageRun: what to install, which program of it, which arguments remain
//! ```
//!
//! Invariants: no words make it panic; what it does not know for certain is an error, never a guess;
//! the arguments that remain are those that the launcher would pass on, in their order.
//!
//! This module deliberately knows no folder, registry or version: `launch::packages` does. `python -m` is no
//! launcher: it is a direct start already.

mod flags;
mod names;
mod node;
mod not_understood;
mod python;
mod recipe;
#[cfg(test)]
mod tests;
mod words;

pub use names::{NpmSpec, Requirement};
pub use not_understood::NotUnderstood;
pub use recipe::{AllowedScripts, Entry, NodeLauncher, PackageRun, PythonLauncher, Recipe};
use words::Words;

/// Understands a command line. `None` for a program that launches no package; otherwise what it
/// runs, or why that cannot be told. `None` among the arguments stands for one that is not known
/// before the start.
pub fn understand(
    program: &str,
    args: &[Option<&str>],
) -> Option<Result<PackageRun, NotUnderstood>> {
    let name = program.rsplit('/').next()?;
    let words = Words { args, at: 0 };
    let after = |at| Words { args, at };
    Some(match (name, args) {
        ("npx", _) => node::npx(words),
        ("npm", [Some("exec" | "x"), ..]) => node::npm_exec(after(1)),
        ("pnpx", _) => node::pnpm_dlx(words),
        ("pnpm", [Some("dlx"), ..]) => node::pnpm_dlx(after(1)),
        ("bunx", _) => node::bunx(words),
        ("bun", [Some("x"), ..]) => node::bunx(after(1)),
        ("uvx", _) => python::uvx(words),
        ("uv", [Some("tool"), Some("run"), ..]) => python::uvx(after(2)),
        ("pipx", [Some("run"), ..]) => python::pipx_run(after(1)),
        _ => return None,
    })
}

/// Why a line cannot be understood whose argument at that place, from 0, is known at a start only.
pub fn known_at_a_start(at: usize) -> String {
    NotUnderstood::KnownAtStart(at).to_string()
}

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
//! It deliberately knows no folder, registry or version: `launch::install` does. `python -m` is no
//! launcher: it is a direct start already.

mod flags;
mod names;
mod node;
mod not_understood;
mod python;
#[cfg(test)]
mod tests;

pub use names::{NpmSpec, Requirement};
pub use not_understood::NotUnderstood;

/// Who runs a package of npm, each by rules of its own.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum NodeLauncher {
    /// npx and npm exec.
    Npm,
    /// pnpm dlx and pnpx.
    Pnpm,
    /// bunx.
    Bun,
}

/// Who runs a package of PyPI.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PythonLauncher {
    /// uvx.
    Uv,
    /// pipx run.
    Pipx,
}

impl NodeLauncher {
    /// Whether it runs the packages' install scripts, as npm does.
    pub fn runs_scripts(self) -> bool {
        self == Self::Npm
    }

    /// What it is called.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Npm => "npm",
            Self::Pnpm => "pnpm",
            Self::Bun => "bun",
        }
    }
}

/// Whose install scripts a line allows to run. From 12 on, npm runs none that are not allowed.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub enum AllowedScripts {
    /// As npm's configuration says.
    #[default]
    AsConfigured,
    /// Those of these packages, as npm takes them: names, with versions or without, between commas.
    Of(String),
    /// All.
    All,
}

impl AllowedScripts {
    /// What is allowed when those are named too.
    fn with(&self, names: &str) -> Self {
        match self {
            Self::AsConfigured => Self::Of(names.to_owned()),
            Self::Of(known) => Self::Of(format!("{known},{names}")),
            Self::All => Self::All,
        }
    }
}

/// What is installed so that something of it can be run.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Recipe {
    /// Packages of npm, side by side in one folder.
    Npm {
        /// The packages; the first is the one that is run, unless the program is named.
        specs: Vec<NpmSpec>,
        /// Whose install scripts the line itself allows.
        scripts: AllowedScripts,
        /// By whose rules.
        launcher: NodeLauncher,
    },
    /// Packages of PyPI, in one virtual environment.
    PyPi {
        /// The packages; the first is the one that is run.
        requirements: Vec<Requirement>,
        /// The Python it is to have, as written; `None` for the usual one.
        python: Option<String>,
        /// What uv is told beside that: which index, which pre-releases.
        options: Vec<String>,
        /// By whose rules.
        launcher: PythonLauncher,
    },
}

/// Which program of what is installed.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Entry {
    /// The one of the first package: its only one, or the one with its name.
    OfPackage,
    /// The one of that name.
    Named(String),
}

/// A command line that runs a package.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PackageRun {
    /// What is installed.
    pub recipe: Recipe,
    /// What of it is run.
    pub entry: Entry,
    /// Which of the arguments the program gets: their places, ascending.
    pub tail: Vec<usize>,
    /// A program of that name is preferred by the launcher if the host has one.
    pub prefers: Option<String>,
}

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

impl Recipe {
    /// Whether what is installed can be another version tomorrow.
    pub fn may_change(&self) -> bool {
        match self {
            Self::Npm { specs, .. } => !specs.iter().all(NpmSpec::is_exact),
            Self::PyPi { requirements, .. } => !requirements.iter().all(Requirement::is_exact),
        }
    }

    /// The package that is run, without a version; `None` for a recipe of nothing.
    pub fn package(&self) -> Option<&str> {
        match self {
            Self::Npm { specs, .. } => specs.first().map(NpmSpec::name),
            Self::PyPi { requirements, .. } => requirements.first().map(Requirement::name),
        }
    }

    /// As people write it.
    pub fn name(&self) -> String {
        let words: Vec<String> = match self {
            Self::Npm { specs, .. } => specs.iter().map(ToString::to_string).collect(),
            Self::PyPi { requirements, .. } => {
                requirements.iter().map(ToString::to_string).collect()
            }
        };
        words.join(", ")
    }

    /// Equal for equal recipes and only for those; what a lock file names it by.
    pub fn id(&self) -> String {
        match self {
            Self::Npm {
                launcher, scripts, ..
            } => match launcher {
                NodeLauncher::Npm => {
                    let scripts = match scripts {
                        AllowedScripts::AsConfigured => String::new(),
                        AllowedScripts::Of(names) => format!(" with scripts of {names}"),
                        AllowedScripts::All => " with all scripts".to_owned(),
                    };
                    format!("npm {}{scripts}", self.name())
                }
                NodeLauncher::Pnpm | NodeLauncher::Bun => {
                    format!("npm {} by {}", self.name(), launcher.as_str())
                }
            },
            Self::PyPi {
                python,
                options,
                launcher,
                ..
            } => {
                let python = python.as_ref();
                let python = python.map_or(String::new(), |python| format!(" on python {python}"));
                let pipx = match launcher {
                    PythonLauncher::Uv => "",
                    PythonLauncher::Pipx => " by pipx",
                };
                let options = options.iter().map(|option| format!(" {option}"));
                let options: String = options.collect();
                format!("pypi {}{python}{pipx}{options}", self.name())
            }
        }
    }
}

/// Why a line cannot be understood whose argument at that place, from 0, is known at a start only.
pub fn known_at_a_start(at: usize) -> String {
    NotUnderstood::KnownAtStart(at).to_string()
}

/// The words of a command line, read one after the other.
struct Words<'a> {
    args: &'a [Option<&'a str>],
    at: usize,
}

impl<'a> Words<'a> {
    /// The next word and its place; `None` at the end.
    fn next(&mut self) -> Option<Result<(usize, &'a str), NotUnderstood>> {
        let word = self.args.get(self.at)?;
        let at = self.at;
        self.at += 1;
        Some(
            word.map(|word| (at, word))
                .ok_or(NotUnderstood::KnownAtStart(at)),
        )
    }

    /// The value of a flag: behind its `=`, or the next word.
    fn value(&mut self, flag: &str, inline: Option<&'a str>) -> Result<&'a str, NotUnderstood> {
        if let Some(value) = inline {
            return Ok(value);
        }
        match self.next() {
            Some(word) => Ok(word?.1),
            None => Err(NotUnderstood::NoValue(flag.to_owned())),
        }
    }

    /// The places of what is left.
    fn rest(&self) -> Vec<usize> {
        (self.at..self.args.len()).collect()
    }
}

/// A flag's name and what stands behind its `=`.
fn split(word: &str) -> (&str, Option<&str>) {
    match word.split_once('=') {
        Some((flag, value)) => (flag, Some(value)),
        None => (word, None),
    }
}

fn refused_flag(flag: &str, why: &'static str) -> NotUnderstood {
    let flag = flag.to_owned();
    NotUnderstood::RefusedFlag { flag, why }
}

fn not_its_value(flag: &str, value: &str) -> NotUnderstood {
    NotUnderstood::NotItsValue {
        flag: flag.to_owned(),
        value: value.to_owned(),
    }
}

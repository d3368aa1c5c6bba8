//! What a launcher's line installs, and what of it is run.

use super::names::{NpmSpec, Requirement};

/// Launchers that run packages of npm, each by rules of its own.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum NodeLauncher {
    /// npx and npm exec.
    Npm,
    /// pnpm dlx and pnpx.
    Pnpm,
    /// bunx.
    Bun,
}

/// Launchers that run packages of PyPI.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PythonLauncher {
    /// uvx.
    Uv,
    /// pipx run.
    Pipx,
}

impl NodeLauncher {
    /// Whether the launcher runs the packages' install scripts, as npm does.
    pub fn runs_scripts(self) -> bool {
        self == Self::Npm
    }

    /// The launcher's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Npm => "npm",
            Self::Pnpm => "pnpm",
            Self::Bun => "bun",
        }
    }
}

/// Packages whose install scripts a line allows to run. From 12 on, npm runs none that are not allowed.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub enum AllowedScripts {
    /// The line says nothing: npm's configuration decides.
    #[default]
    AsConfigured,
    /// Scripts of these packages, as npm takes them: names, with versions or without, between commas.
    Of(String),
    /// Scripts of all packages.
    All,
}

impl AllowedScripts {
    /// What is allowed when those are named too.
    pub(super) fn with(&self, names: &str) -> Self {
        match self {
            Self::AsConfigured => Self::Of(names.to_owned()),
            Self::Of(known) => Self::Of(format!("{known},{names}")),
            Self::All => Self::All,
        }
    }
}

/// The packages that are installed so that one of their programs can be run.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Recipe {
    /// Packages of npm, side by side in one folder.
    Npm {
        /// The packages; the first is the one that is run, unless the program is named.
        specs: Vec<NpmSpec>,
        /// Packages whose install scripts the line itself allows.
        scripts: AllowedScripts,
        /// The launcher by whose rules.
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
        /// The launcher by whose rules.
        launcher: PythonLauncher,
    },
}

/// The program to run of what is installed.
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
    /// The program of the package that is run.
    pub entry: Entry,
    /// The arguments that the program gets, by their positions, ascending.
    pub tail: Vec<usize>,
    /// A program of that name is preferred by the launcher if the host has one.
    pub prefers: Option<String>,
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

    /// The packages as people write them.
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

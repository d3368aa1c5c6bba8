//! Why a command line is left to its launcher.

/// The reason for which a command line of a launcher is not read: the line is run as written then.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotUnderstood {
    /// The line ends before a package is named.
    #[error("no package is named")]
    NothingNamed,
    /// The argument at that place, from 0, is known at a start only.
    #[error("argument {} is known only when it is started", .0 + 1)]
    KnownAtStart(usize),
    /// The name of the program is known at a start only.
    #[error("its program is known only when it is started")]
    ProgramKnownAtStart,
    /// A flag that wants a value is the last word.
    #[error("`{0}` has no value")]
    NoValue(String),
    /// A flag has a value that it does not take.
    #[error("`{value}` is no value of `{flag}`")]
    NotItsValue {
        /// The flag.
        flag: String,
        /// The word behind the flag.
        value: String,
    },
    /// A flag that is in none of the lists.
    #[error("what `{0}` changes is not known")]
    UnknownFlag(String),
    /// A flag whose influence is the launcher's alone.
    #[error("`{flag}` {why}")]
    RefusedFlag {
        /// The flag.
        flag: String,
        /// What the flag does.
        why: &'static str,
    },
    /// npx takes the word behind a flag for the flag's value when it looks for the program.
    #[error(
        "with `{flag}` right before the package, npx takes `{next}` for its own flag; write another flag between them"
    )]
    TakenForNpms {
        /// The flag before the package.
        flag: String,
        /// The word behind the package.
        next: String,
    },
    /// The specifier may be a folder, a file, a repository or a URL.
    #[error("`{0}` is not the name of a package in a registry")]
    NotOfRegistry(String),
    /// The requirement may be none of an index of Python's.
    #[error("`{0}` is not the name of a package in an index")]
    NotOfIndex(String),
    /// The name may be a path, or an interpreter.
    #[error("`{0}` is not the name of a package's program")]
    NotAProgram(String),
    /// The value may be a flag of the program to which it is passed on.
    #[error("`{0}` does not name a Python")]
    NotAPython(String),
}

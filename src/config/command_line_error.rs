//! What is wrong with the command that is hosted without a file.

/// Why words of a command line are no program and its arguments.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CommandLineError {
    /// A shell has not replaced a home folder.
    #[error("the command begins with `{home}`, which no shell has replaced: leave out the quotes")]
    Home {
        /// How the path begins.
        home: &'static str,
    },
    /// A whole line is one word.
    #[error(
        "the command is one program; give `{rest}` as words of their own, without quotes around all of them: stdiopool serve -- {program} {rest}"
    )]
    Line {
        /// The first word in it.
        program: String,
        /// The words behind that.
        rest: String,
    },
    /// A flag of a launcher and its value are one word.
    #[error("argument {at} of the command, `{word}`, holds a space; did you mean {words}?")]
    Several {
        /// Position of the argument, from 1.
        at: usize,
        /// The argument.
        word: String,
        /// The words that the argument holds, as a list.
        words: String,
    },
}

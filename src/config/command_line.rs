//! The command that is hosted without a file: its words come from a shell, which has taken quotes away.

use super::command::{LauncherArguments, arguments_in};
use super::command_line_error::CommandLineError;
use super::homes::home;

/// Looks at the words as a server's `command` and `args` in a file are looked at.
pub(super) fn check(argv: &[String]) -> Result<(), CommandLineError> {
    let Some((command, args)) = argv.split_first() else {
        return Ok(());
    };
    if let Some(home) = home(command) {
        return Err(CommandLineError::Home { home });
    }
    if let Some(rest) = arguments_in(command) {
        let program = command.split_whitespace().next().unwrap_or_default();
        let (program, rest) = (program.to_owned(), rest.to_owned());
        return Err(CommandLineError::Line { program, rest });
    }
    let mut launchers = LauncherArguments::of(command);
    for (at, word) in args.iter().enumerate() {
        if let Some(words) = launchers.words_in(word) {
            let (at, word) = (at + 1, word.clone());
            return Err(CommandLineError::Several { at, word, words });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_hold_several_are_told_of() {
        let said = |words: &[&str]| {
            let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
            check(&words).err().map(|error| error.to_string())
        };
        for (words, text) in [
            (
                &["npx -y x"][..],
                "the command is one program; give `-y x` as words of their own, without quotes around all of them: stdiopool serve -- npx -y x",
            ),
            (
                &["npx", "-y x"],
                "argument 1 of the command, `-y x`, holds a space; did you mean [\"-y\", \"x\"]?",
            ),
            (
                &["uv", "tool", "run", "--from a", "b"],
                "argument 3 of the command, `--from a`, holds a space; did you mean [\"--from\", \"a\"]?",
            ),
            (
                &["~/bin/server", "-y"],
                "the command begins with `~`, which no shell has replaced: leave out the quotes",
            ),
        ] {
            assert_eq!(said(words).as_deref(), Some(text));
        }
        for words in [
            &["npx", "-y", "pkg", "-q a b"][..],
            &["/opt/my server.py"],
            &["sh", "-c", "exec server"],
            &["server", "-a b"],
            &[],
        ] {
            assert_eq!(said(words), None, "{words:?}");
        }
    }
}

//! Runs npm and uv.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt;
use tokio_process_stream::{Item, ProcessChunkStream};

use super::command_error::CommandError;
use super::manifest::write_anew;
use crate::launch::{CommandGroup, CommandLine, Confinement, InstallGroup};

/// How much of what a command prints is kept, in bytes.
const MAX_OUTPUT: usize = 64 * 1024;
/// How much of a failed command's stderr is kept, in bytes: its beginning, where the reason is. Advice follows, npm's usage text
/// first of all.
const MAX_COMPLAINT: usize = 16 * 1024;
/// How much of a failed command's stderr is quoted in its error, in bytes.
const QUOTED: usize = 1024;

/// Where and how commands run.
#[derive(Debug)]
pub(super) struct Helper<'a> {
    /// The whole environment.
    pub(super) env: &'a BTreeMap<String, String>,
    /// The working directory.
    pub(super) dir: &'a Path,
    /// Held by the command too, as its stdin, so that what it protects stays protected should this
    /// process be killed meanwhile.
    pub(super) lock: &'a File,
    /// How long one command may take; then it is killed with everything it started.
    pub(super) timeout: Duration,
    /// What commands are kept to; `None`: they may what stdiopool may.
    pub(super) confinement: Option<Confinement>,
    /// The control group that they are in.
    pub(super) group: Option<&'a dyn InstallGroup>,
}

impl Helper<'_> {
    /// Runs a command to its end and returns what it printed on stdout.
    ///
    /// # Errors
    /// Why it did not succeed: the first error on its stderr.
    ///
    /// # Cancel-Safety
    /// A dropped call kills the command and everything it started.
    pub(super) async fn run(&self, program: &str, args: &[&str]) -> Result<String, CommandError> {
        let cannot = |source| CommandError::NotRun {
            program: program.to_owned(),
            source,
        };
        let line = CommandLine {
            program,
            args: args.to_vec(),
            env: Some(self.env),
            dir: Some(self.dir),
            stdin: Some(self.lock.try_clone().map_err(cannot)?),
            confinement: self.confinement.as_ref(),
        };
        let mut running = CommandGroup::start(line).map_err(cannot)?;
        let command = || format!("`{program} {}`", args.first().copied().unwrap_or_default());
        let printed = output(running.output(), &command);
        match tokio::time::timeout(self.timeout, printed).await {
            Ok(printed) => printed.map_err(|failed| self.told(failed)),
            Err(_elapsed) => Err(CommandError::TooLong {
                command: command(),
                timeout: self.timeout,
            }),
        }
    }

    /// A failure, with what of the sandbox may be why.
    fn told(&self, failed: CommandError) -> CommandError {
        let failed = Box::new(failed);
        if let Some(limit) = self.group.and_then(|group| group.reached()) {
            return CommandError::Limited { failed, limit };
        }
        match self.confinement.is_some() && is_denial(&failed.to_string()) {
            true => CommandError::Denied { failed },
            false => *failed,
        }
    }
}

/// Whether the system's refusal is in what a command said: in words (strerror(3)), or as Node and Python name it.
fn is_denial(said: &str) -> bool {
    let denials = [
        "EACCES",
        "EPERM",
        "EROFS",
        "ermission denied",
        "ot permitted",
        "ead-only file system",
        "os error 13",
    ];
    denials.iter().any(|denial| said.contains(denial))
}

impl Helper<'_> {
    /// Writes a file into the folder in which commands run, for these to read and write.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn write(&self, name: &str, text: &str) -> io::Result<()> {
        let path = self.dir.join(name);
        write_anew(&path, text.as_bytes())?;
        match self.confinement.as_ref().and_then(|it| it.user) {
            Some(user) => std::os::unix::fs::lchown(&path, Some(user), Some(user)),
            None => Ok(()),
        }
    }

    /// Runs a command that answers a question, and returns what it printed on stdout, without the blanks around it.
    ///
    /// # Errors
    /// As [`Helper::run`], and when it printed nothing: whoever goes on with an empty answer asks for something else.
    ///
    /// # Cancel-Safety
    /// As [`Helper::run`].
    pub(super) async fn answer(
        &self,
        program: &str,
        args: &[&str],
    ) -> Result<String, CommandError> {
        let printed = self.run(program, args).await?;
        let answer = printed.trim();
        if answer.is_empty() {
            return Err(CommandError::Silent(format!(
                "{program} {}",
                args.join(" ")
            )));
        }
        Ok(answer.to_owned())
    }
}

/// Why a command failed, of what it printed on stderr, in one line: npm's first error with its code, else all of it but
/// warnings, as far as it is quoted.
fn reason(complaint: &str) -> String {
    let lines = || complaint.lines().map(str::trim);
    let of_npm = |line: &str| {
        let said = ["npm error", "npm ERR!"];
        let said = said.iter().find_map(|prefix| line.strip_prefix(prefix));
        said.map(|said| said.trim().to_owned())
    };
    let errors: Vec<String> = lines().filter_map(of_npm).collect();
    if let Some(script) = failed_script(&errors) {
        return beginning(script);
    }
    let code = errors.iter().find_map(|line| line.strip_prefix("code "));
    let first = errors
        .iter()
        .find(|line| !line.is_empty() && !line.starts_with("code "));
    let whole = match (first, code) {
        (Some(first), Some(code)) if !first.contains(code) => format!("{first} ({code})"),
        (Some(first), _) => first.clone(),
        (None, _) => {
            let is_said = |line: &&str| !line.is_empty() && !line.starts_with("warning:");
            lines().filter(is_said).collect::<Vec<_>>().join(" ")
        }
    };
    beginning(whole)
}

/// As much of a text as is quoted.
fn beginning(mut text: String) -> String {
    let ends = text.char_indices().map(|(at, c)| at + c.len_utf8());
    let end = ends.take_while(|end| *end <= QUOTED).last();
    text.truncate(end.unwrap_or(0));
    text
}

/// Of npm's errors about an install script: whose it was, and what it said.
fn failed_script(errors: &[String]) -> Option<String> {
    let path = errors.iter().find_map(|line| line.strip_prefix("path "))?;
    let at = errors.iter().position(|line| line == "command failed")?;
    let (command, said) = errors.get(at + 1..)?.split_first()?;
    let command = command.strip_prefix("command ").unwrap_or(command);
    let package = path.rsplit("node_modules/").next().unwrap_or(path);
    let said = said.iter().filter(|line| !line.is_empty());
    let said: Vec<&str> = said.map(String::as_str).collect();
    Some(format!(
        "the install script of {package}, `{command}`: {}",
        said.join(" ")
    ))
}

/// What the command prints until it has ended; `command` names it in errors.
async fn output(
    stream: &mut ProcessChunkStream,
    command: &(dyn Fn() -> String + Sync),
) -> Result<String, CommandError> {
    let (mut printed, mut complaint) = (Vec::new(), Vec::new());
    while let Some(item) = stream.next().await {
        match item {
            Item::Stdout(chunk) => {
                let room = MAX_OUTPUT - printed.len();
                printed.extend_from_slice(&chunk[..chunk.len().min(room)]);
            }
            Item::Stderr(chunk) => {
                let room = MAX_COMPLAINT - complaint.len();
                complaint.extend_from_slice(&chunk[..chunk.len().min(room)]);
            }
            Item::Done(Ok(status)) if status.success() => {
                return Ok(String::from_utf8_lossy(&printed).into_owned());
            }
            Item::Done(Ok(status)) => {
                let complaint = String::from_utf8_lossy(&complaint);
                return Err(CommandError::Ended {
                    command: command(),
                    status,
                    reason: reason(&complaint),
                });
            }
            Item::Done(Err(source)) => {
                let command = command();
                return Err(CommandError::NotWaitedFor { command, source });
            }
        }
    }
    Err(CommandError::NoStatus(command()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_the_first_error_and_not_the_advice_below_it() {
        let of_npm = "npm warn deprecated x\nnpm error code EUSAGE\nnpm error\nnpm error `npm ci` can only install packages when in sync.\nnpm error Missing: a@1 from lock file\nnpm error\nnpm error Clean install a project\nnpm error Usage:\nnpm error npm ci\n";
        assert_eq!(
            reason(of_npm),
            "`npm ci` can only install packages when in sync. (EUSAGE)"
        );
        let old = "npm ERR! code E404\nnpm ERR! 404 Not Found - GET http://x/a\nnpm ERR! 404\n";
        assert_eq!(reason(old), "404 Not Found - GET http://x/a (E404)");
        let of_uv = "warning: something\n  × No solution found:\n  ╰─▶ Because a is not there\n";
        assert_eq!(
            reason(of_uv),
            "× No solution found: ╰─▶ Because a is not there"
        );
        let of_script = "npm error code 7\nnpm error path /x/node_modules/@a/b\nnpm error command failed\nnpm error command sh -c node x.js\nnpm error EACCES: /y\nnpm error A complete log\n";
        assert_eq!(
            reason(of_script),
            "the install script of @a/b, `sh -c node x.js`: EACCES: /y A complete log"
        );
        assert_eq!(reason(&"ä".repeat(QUOTED)).len(), QUOTED);
        assert_eq!(reason(""), "");
    }

    #[tokio::test]
    async fn a_command_that_answers_with_nothing_has_failed() {
        let env = BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]);
        let lock = File::open("/dev/null").expect("there");
        let helper = Helper {
            env: &env,
            dir: Path::new("/"),
            lock: &lock,
            timeout: Duration::from_secs(60),
            confinement: None,
            group: None,
        };
        let said = helper.answer("echo", &["", " x "]).await;
        assert_eq!(said.expect("an answer"), "x");
        let why = helper.answer("true", &["find", "3.12"]).await;
        let why = why.expect_err("nothing was printed").to_string();
        assert!(why.contains("`true find 3.12` printed nothing"), "{why}");
    }
}

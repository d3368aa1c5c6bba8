//! This program, run once more to try something in a process of its own.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::process::{Command, Stdio};

/// Longest answer that is read, in bytes.
const MAX_ANSWER: u64 = 4096;

/// Runs this program with those arguments and of the environment `PATH` alone; what it says on stdout until it ends.
///
/// # Errors
/// When it cannot be run or read, or says something that is no UTF-8.
pub(crate) fn ask_own_program<T: AsRef<OsStr>>(
    args: impl IntoIterator<Item = T>,
) -> io::Result<String> {
    let mut command = Command::new("/proc/self/exe");
    command.args(args).env_clear();
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    #[allow(
        clippy::disallowed_methods,
        reason = "it is no worker, and ends at once"
    )]
    let mut child = command.spawn()?;
    let mut answer = String::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(MAX_ANSWER).read_to_string(&mut answer)?;
    }
    child.wait()?;
    Ok(answer)
}

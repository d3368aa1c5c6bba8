//! The demo server: a small stdio MCP server inside the binary, so that a first try and the
//! benchmarks need neither node nor python.
//!
//! One thread does everything. `dispatch` is the state machine over `server`, the state: it is given lines and the time, and
//! appends whole messages to a buffer; `stdio` feeds it from a pipe and wakes it for its timers.
//! A sleeping call is an entry in a table, so it never holds up another request.
//!
//! ```text
//! Fresh --initialize--> Initialized --EOF on stdin, or the tool `exit`--> process ends
//!   `-- any request but `initialize` and `ping`: -32600
//! ```
//!
//! Invariants
//! - A request is answered exactly once, or never when it was cancelled or ended the process.
//! - Calls in flight, questions to the client, subscriptions and the length of a line are bounded;
//!   beyond the bound a request is refused, none is dropped silently.
//!
//! Deliberately left out: JSON-RPC batches, several pages of anything, tasks, and any
//! waiting for unfinished calls once stdin has ended.

mod answer;
mod arguments;
mod catalogue;
mod dispatch;
mod features;
mod message;
mod server;
mod stdio;
#[cfg(test)]
mod tests;
mod tools;
mod waiting;

use std::io::Write as _;
use std::process::ExitCode;

use server::{Identity, Server};

/// Serves MCP over this process's stdin and stdout until stdin ends (exit code 0) or the tool
/// `exit` is called (its `code`). `args` mean nothing to the server; the tool `whoami` shows them.
///
/// A broken stdout counts as the end of the conversation; any other I/O error is told on stderr
/// and gives exit code 1.
pub fn run(args: Vec<String>) -> ExitCode {
    let mut server = Server::new(Identity::of_this_process(args));
    let stdin = std::io::stdin();
    let code = match stdio::serve(&mut server, UnbufferedStdin(&stdin), std::io::stdout()) {
        Ok(code) => code,
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => 0,
        Err(error) => {
            // Nobody may be there to read it.
            let _unread = writeln!(std::io::stderr(), "demo server: {error}");
            1
        }
    };
    // Not through `main`'s return: "exits at once" is what `exit` promises.
    ExitCode::from(code)
}

/// Stdin read past the standard library's buffer: `poll` sees only what the kernel holds, so a
/// byte resting in a buffer would wait for the next timer.
struct UnbufferedStdin<'a>(&'a std::io::Stdin);

impl std::io::Read for UnbufferedStdin<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        Ok(nix::unistd::read(self.0, into)?)
    }
}

impl std::os::fd::AsFd for UnbufferedStdin<'_> {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

//! `stdiopool demo-server`.

use std::process::ExitCode;

use crate::demo;

/// Serves a small MCP server over stdin and stdout, to try things with.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
It ends when stdin ends. Its tools: echo, add, sleep, whoami, counter, log, notify, ask, big, exit.

Example:
  printf '%s\\n' \\
      '{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"initialize\",\"params\":{\"protocolVersion\":\"2025-11-25\",\"capabilities\":{},\"clientInfo\":{\"name\":\"me\",\"version\":\"1\"}}}' \\
      '{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"tools/call\",\"params\":{\"name\":\"add\",\"arguments\":{\"a\":1,\"b\":2}}}' |
    stdiopool demo-server")]
pub struct DemoServer {
    /// Taken as they are, flags included; they change nothing, the tool `whoami` shows them
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "ARGS"
    )]
    args: Vec<String>,
}

impl DemoServer {
    /// Serves until stdin ends. See [`demo::run`] for the exit codes.
    pub fn run(self) -> ExitCode {
        demo::run(self.args)
    }
}

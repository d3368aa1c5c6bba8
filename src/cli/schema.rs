//! `stdiopool schema`.

use std::io::Write;
use std::process::ExitCode;

use clap::Args;

use super::output;
use crate::config;
use crate::protocol::CommandEnd;

/// Prints the JSON Schema of pool.toml, for editors
#[derive(Args, Clone, Copy, Debug)]
#[command(after_help = "\
Example, for editors with the taplo language server:
  stdiopool schema > pool.schema.json
  sed -i '1i #:schema ./pool.schema.json' pool.toml")]
pub struct SchemaArgs;

impl SchemaArgs {
    /// Prints it.
    pub fn run(self) -> ExitCode {
        let text = format!("{:#}\n", config::json_schema());
        match std::io::stdout().write_all(text.as_bytes()) {
            Ok(()) => CommandEnd::Done.into(),
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => CommandEnd::Done.into(),
            Err(error) => {
                output::notice(&format!("cannot write to stdout: {error}"));
                CommandEnd::Failed.into()
            }
        }
    }
}

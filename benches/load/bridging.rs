//! What a call costs that is translated between the eras.

use std::time::Duration;

use clap::Args;

use super::http_load::{Era, load_as, serve};
use super::report::Report;

#[derive(Args)]
pub(crate) struct BridgingArgs {
    /// How many clients at once; may be repeated
    #[arg(long, default_values_t = [1_usize, 16])]
    sessions: Vec<usize>,
    /// How long each measurement takes
    #[arg(long, default_value_t = 5)]
    seconds: u64,
}

pub(crate) fn run(args: &BridgingArgs) {
    let period = Duration::from_secs(args.seconds);
    let fixture = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/conformance/stateless.mjs"
    );
    let of_initialize = "command = \"stdiopool\"\nargs = [\"demo-server\"]\n".to_owned();
    let of_stateless = format!("command = \"node\"\nargs = [\"{fixture}\"]\n");
    for (server, tool, eras) in [
        (
            &of_initialize,
            "echo",
            [("same era", Era::Initialize), ("bridged", Era::Stateless)],
        ),
        (
            &of_stateless,
            "test_simple_text",
            [("same era", Era::Stateless), ("bridged", Era::Initialize)],
        ),
    ] {
        println!("\nserver: {}", server.replace('\n', " "));
        let mut report = Report::default();
        for &sessions in &args.sessions {
            for (what, era) in eras {
                let (mut process, _dir) = serve(server);
                let measured = load_as(era, tool, &mut process, sessions, period, 32);
                report.add(what, sessions, &measured);
            }
            report.compare();
        }
    }
}

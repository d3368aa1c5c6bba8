//! The `stdiopool` binary.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Before anything else: the guardian must stay small and have one thread.
    stdiopool::worker::run_guardian_if_asked();
    stdiopool::launch::run_command_if_asked(stdiopool::worker::confine);
    stdiopool::cli::main()
}

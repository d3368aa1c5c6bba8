//! Builds the addon of primed node processes, `settle.c`, for the platform that the program is built for, and has the program built again
//! when the dashboard was.

use std::path::PathBuf;

const SOURCE: &str = "src/worker/guardian/primed/settle.c";

fn main() {
    println!("cargo::rerun-if-changed={SOURCE}");
    // Files that are new in it are built in too.
    println!("cargo::rerun-if-changed=web/dist");
    if let Err(why) = build() {
        println!(
            "cargo::error={SOURCE} cannot be built: {why} (a C compiler and the headers of libc are needed: apt-get install gcc libc6-dev, or set CC)"
        );
    }
}

fn build() -> Result<(), String> {
    let folder = std::env::var_os("OUT_DIR").ok_or("cargo sets no OUT_DIR")?;
    let addon = PathBuf::from(folder).join("settle.node");
    let mut build = cc::Build::new();
    build.opt_level_str("s").pic(true).debug(false);
    let compiler = build
        .try_get_compiler()
        .map_err(|error| error.to_string())?;
    // The functions that it calls are in the process that loads it.
    let mut command = compiler.to_command();
    let command = command
        .args(["-shared", "-nostdlib", "-Wl,-s", "-o"])
        .arg(&addon)
        .arg(SOURCE);
    let program = compiler.path().display();
    let status = command.status();
    let status = status.map_err(|error| format!("`{program}` does not run: {error}"))?;
    match status.success() {
        true => Ok(()),
        false => Err(format!("`{program}` ended with {status}")),
    }
}

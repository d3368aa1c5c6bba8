//! Builds the addon of primed node processes, `settle.c`, for the platform that the program is built for.

use std::path::PathBuf;

const SOURCE: &str = "src/worker/guardian/primed/settle.c";

fn main() {
    println!("cargo::rerun-if-changed={SOURCE}");
    let Some(folder) = std::env::var_os("OUT_DIR") else {
        panic!("cargo says where it goes (OUT_DIR)");
    };
    let addon = PathBuf::from(folder).join("settle.node");
    let compiler = cc::Build::new()
        .opt_level_str("s")
        .pic(true)
        .debug(false)
        .get_compiler();
    // What it calls is in the process that loads it.
    let built = compiler
        .to_command()
        .args(["-shared", "-nostdlib", "-Wl,-s", "-o"])
        .arg(&addon)
        .arg(SOURCE)
        .status();
    match built {
        Ok(status) if status.success() => {}
        other => panic!("the C compiler did not build {SOURCE}: {other:?}"),
    }
}

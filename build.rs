//! Has the linker lay the code that serves side by side, in release builds: `link/serving.ld` says why.

use std::env;
use std::path::Path;

fn main() {
    println!("cargo::rerun-if-changed=link/serving.ld");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found == value);
    // It knows no linker scripts.
    let is_mold = env::var("CARGO_ENCODED_RUSTFLAGS").is_ok_and(|flags| flags.contains("mold"));
    if is("CARGO_CFG_TARGET_OS", "linux") && is("PROFILE", "release") && !is_mold {
        let root = env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        let script = Path::new(&root).join("link/serving.ld");
        println!(
            "cargo::rustc-link-arg-bin=stdiopool=-Wl,-T,{}",
            script.display()
        );
    }
}

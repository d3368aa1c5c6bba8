//! What is fuzzed: one function for each target, which takes any bytes and fails where a promise does not hold.
//!
//! libFuzzer drives them (`fuzz/fuzz_targets`, `scripts/fuzz`), and so does `cargo test --test fuzz`, which needs no nightly
//! toolchain: over the kept corpus and over mutations of it.
//!
//! Inputs are text as far as can be, so that a file of the corpus can be read and written by hand. Numbers that steer a target
//! stand in the first line; where a target takes steps, each is a line.

mod addressed;
mod aggregate;
mod client_config;
mod config;
mod envelope;
mod escape;
mod framing;
mod guard;
mod http_framing;
mod id_scanner;
mod input;
mod introductions;
mod launch_line;
mod members;
mod mux;
mod patterns;
mod policy;
mod repair;
mod sse;
mod stateless;
mod template;
mod trace_context;

/// Takes any bytes, and panics where what is promised does not hold.
pub type Target = fn(&[u8]);

/// All targets by name, which is that of their corpus and of their program too.
pub const TARGETS: &[(&str, Target)] = &[
    ("addressed", addressed::run),
    ("aggregate", aggregate::run),
    ("client_config", client_config::run),
    ("config", config::run),
    ("envelope", envelope::run),
    ("escape", escape::run),
    ("framing", framing::run),
    ("guard", guard::run),
    ("http_framing", http_framing::run),
    ("id_scanner", id_scanner::run),
    ("introductions", introductions::run),
    ("launch_line", launch_line::run),
    ("members", members::run),
    ("mux", mux::run),
    ("patterns", patterns::run),
    ("policy", policy::run),
    ("repair", repair::run),
    ("sse", sse::run),
    ("stateless", stateless::run),
    ("template", template::run),
    ("trace_context", trace_context::run),
];

/// Runs the target of that name.
///
/// # Panics
/// If there is none, or what it promises does not hold.
pub fn run(name: &str, input: &[u8]) {
    let target = TARGETS.iter().find(|(known, _)| *known == name);
    target.unwrap_or_else(|| panic!("no target `{name}`")).1(input);
}

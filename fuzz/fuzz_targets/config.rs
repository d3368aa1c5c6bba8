//! No text makes the reader of pool.toml panic, and its report can always be printed.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Err(mistakes) = stdiopool::config::parse(text, "pool.toml", Path::new("/nowhere")) {
        assert!(!mistakes.to_string().is_empty());
    }
});

//! No text makes the reader of pool.toml panic, and its report can always be printed.
use std::path::Path;

pub(super) fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    if let Err(mistakes) = stdiopool::config::parse(text, "pool.toml", Path::new("/nowhere")) {
        assert!(!mistakes.to_string().is_empty());
    }
}

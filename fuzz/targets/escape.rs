//! Whatever a client, a worker or a registry writes: in a log it is one line, on a terminal it moves nothing, and JSON says the
//! same as before.

use serde_json::Value;
use stdiopool::escape::{acts, for_log, for_terminal, in_json};
use stdiopool::folding::case_folded;

pub(super) fn run(input: &[u8]) {
    let text = &*String::from_utf8_lossy(input);
    assert!(!for_log(text).contains(acts));
    assert!(!for_terminal(text).contains(|c| acts(c) && c != '\n' && c != '\t'));
    if !text.contains(acts) {
        assert_eq!(for_log(text), text);
    }
    let folded = case_folded(text);
    assert_eq!(case_folded(&folded), folded, "folded once is folded");
    assert_eq!(case_folded(&text.to_ascii_uppercase()), folded);
    if let Ok(before) = serde_json::from_str::<Value>(text) {
        let escaped = in_json(text);
        assert_eq!(serde_json::from_str::<Value>(&escaped).ok(), Some(before));
        assert!(!escaped.contains(|c| acts(c) && !matches!(c, '\n' | '\t' | '\r')));
    }
}

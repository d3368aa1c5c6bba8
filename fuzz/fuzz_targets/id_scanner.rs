//! The scanner of messages too long to keep agrees with the real parser, however they are cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stdiopool::protocol::{Envelope, IdScanner, MAX_ID_LEN};

fuzz_target!(|input: (usize, &[u8])| {
    let (cut, message) = input;
    let (head, tail) = message.split_at(cut % (message.len() + 1));
    let mut whole = IdScanner::new();
    whole.feed(message);
    let mut pieces = IdScanner::new();
    pieces.feed(head);
    pieces.feed(tail);
    let seen = whole.finish();
    assert_eq!(seen, pieces.finish(), "cut at {}", head.len());
    if let Ok(envelope) = Envelope::parse(message) {
        assert_eq!(seen.has_method, envelope.method.is_some());
        if let Some(id) = envelope.id.filter(|id| id.get().len() <= MAX_ID_LEN) {
            assert_eq!(seen.only_id(), Some(id.get()));
        }
    }
});

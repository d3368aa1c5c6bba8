//! The scanner of messages too long to keep agrees with the real parser, however they are cut.
use stdiopool::protocol::{Envelope, IdScanner, MAX_ID_LEN};

use super::input::numbers;

pub(super) fn run(input: &[u8]) {
    let ([cut], message) = numbers(input);
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
}

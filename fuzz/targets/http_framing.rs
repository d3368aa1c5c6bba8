//! Whatever a client sends over HTTP/1: where its heads end is told alike however the bytes are cut, and a head whose body could be
//! read in two ways is told.

use stdiopool::front::Framing;

use super::input::numbers;

/// Longest head that is looked at here, in bytes.
const MAX_HEAD: usize = 1024;

fn follow<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Framing {
    let mut framing = Framing::default();
    pieces.into_iter().for_each(|piece| framing.feed(piece));
    framing
}

pub(super) fn run(input: &[u8]) {
    let ([size], sent) = numbers(input);
    let whole = follow([sent]);
    let pieces = follow(sent.chunks(size % 64 + 1));
    assert_eq!(whole.ambiguous(), pieces.ambiguous());
    assert_eq!(whole.is_within_head(), pieces.is_within_head());
    assert_eq!(whole.head_len(), pieces.head_len());
    // What is certain stays so: nothing that comes later makes an earlier head ambiguous.
    for end in 0..sent.len().min(MAX_HEAD) {
        if let Some(found) = follow([&sent[..end]]).ambiguous() {
            assert_eq!(whole.ambiguous(), Some(found));
            break;
        }
    }
    first_head(sent, &whole);
}

/// The first head, read in the plainest way there is: two lengths in it are never passed over.
fn first_head(sent: &[u8], framing: &Framing) {
    let Some(end) = sent.windows(4).position(|at| at == b"\r\n\r\n") else {
        return;
    };
    let Ok(head) = std::str::from_utf8(&sent[..end]) else {
        return;
    };
    let mut lines = head.split("\r\n");
    let is_http_1 = lines
        .next()
        .is_some_and(|line| line.ends_with(" HTTP/1.1") && line.len() < 64);
    let named = |name: &str| {
        let lines = lines.clone();
        let names = lines.filter_map(|line| line.split_once(':').map(|(name, _)| name));
        names
            .filter(|found| found.eq_ignore_ascii_case(name))
            .count()
    };
    let lengths = named("content-length");
    if is_http_1 && (lengths > 1 || lengths == 1 && named("transfer-encoding") > 0) {
        assert!(framing.ambiguous().is_some(), "two lengths are passed over");
    }
}

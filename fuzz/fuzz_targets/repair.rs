//! Any lines of a worker: the verdict on each can be relied on, what is put together of several loses none, and a message
//! on a line of its own is taken whatever came before it. How a line is cut where it is too long to be kept makes no
//! difference.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stdiopool::protocol::{Broken, Line, LongLine, MAX_JOINED, MessageLines};

const ANSWER: &[u8] = br#"{"jsonrpc":"2.0","id":7,"result":{}}"#;

fuzz_target!(|text: &[u8]| {
    check(text);
    let mut lines = MessageLines::default();
    let (mut given, mut judged) = (0, 0);
    for line in text.split(|byte| *byte == b'\n') {
        given += 1;
        let told = lines.line(line.to_vec().into());
        if let Line::Message(_) = Line::of(line) {
            let last = told.last().expect("it is judged at once");
            assert!(last.text == line && last.lines == 1, "a message is lost");
        }
        for joined in told {
            judged += joined.lines;
            assert!(joined.lines == 1 || joined.text.len() <= MAX_JOINED);
            check(&joined.text);
        }
    }
    let told = lines.line(ANSWER.to_vec().into());
    assert!(told.last().is_some_and(|last| last.text == ANSWER));
    judged += told.iter().map(|joined| joined.lines).sum::<u64>();
    assert_eq!(judged, given + 1);
    assert!(lines.give_up().is_empty());

    let whole = too_long([text]);
    assert_eq!(whole, too_long(text.chunks(3)));
    if let Some(broken) = whole {
        broken.check_invariants();
    }
});

fn too_long<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Option<Broken> {
    let mut long = LongLine::default();
    chunks.into_iter().for_each(|chunk| long.feed(chunk));
    long.finish()
}

fn check(line: &[u8]) {
    let verdict = Line::of(line);
    verdict.check_invariants(line);
    assert!(!Line::is_plain_log(line) || matches!(verdict, Line::Log));
}

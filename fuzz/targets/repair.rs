//! Any lines of a worker: the verdict on each can be relied on, what is put together of several loses none, and a message
//! on a line of its own is taken whatever came before it. How a line is cut where it is too long to be kept makes no
//! difference.
use stdiopool::protocol::{Broken, Joined, Line, LongLine, MessageLines};

/// Most bytes of a message over several lines that are kept.
const MAX: usize = 4 << 10;

const ANSWER: &[u8] = br#"{"jsonrpc":"2.0","id":7,"result":{}}"#;

pub(super) fn run(text: &[u8]) {
    check(text);
    let mut lines = MessageLines::new(MAX);
    let (mut given, mut judged) = (0, 0);
    for line in text.split(|byte| *byte == b'\n') {
        given += 1;
        let told = lines.line(line.to_vec().into());
        if let Line::Message(_) = Line::of(line) {
            let last = told.last().expect("it is judged at once");
            assert!(is_line(last, line), "a message is lost");
        }
        for joined in told {
            judged += joined.lines();
            assert!(joined.lines() == 1 || joined.len() <= MAX);
            if let Joined::Text { text, .. } = joined {
                check(&text);
            }
        }
    }
    let told = lines.line(ANSWER.to_vec().into());
    assert!(told.last().is_some_and(|last| is_line(last, ANSWER)));
    judged += told.iter().map(|joined| joined.lines()).sum::<u64>();
    assert_eq!(judged, given + 1);
    assert!(lines.give_up().is_empty());

    let whole = too_long([text]);
    assert_eq!(whole, too_long(text.chunks(3)));
    if let Some(broken) = whole {
        broken.check_invariants();
    }
}

/// Whether that is to be judged, and nothing else.
fn is_line(joined: &Joined, line: &[u8]) -> bool {
    matches!(joined, Joined::Text { text, lines: 1 } if text == line)
}

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

//! An event stream reads the same however it is cut, and what is written reads back.
use stdiopool::protocol::sse::{Event, EventTooLarge, Parser, encode_event};

use super::input::numbers;

const LIMIT: usize = 256;

fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Event>, Result<(), EventTooLarge>) {
    let mut parser = Parser::new(LIMIT);
    let mut events = Vec::new();
    let end = pieces
        .into_iter()
        .try_for_each(|piece| parser.push(piece, &mut events));
    (events, end)
}

pub(super) fn run(input: &[u8]) {
    let ([size], stream) = numbers(input);
    let size = size % 64;
    assert_eq!(read([stream]), read(stream.chunks(size + 1)));

    // Data is one line of JSON in this program.
    let data: Vec<u8> = stream
        .iter()
        .copied()
        .filter(|b| !b"\r\n".contains(b))
        .take(LIMIT / 2)
        .collect();
    let (events, end) = read([&encode_event(&data, Some("7"), None)[..]]);
    assert_eq!(end, Ok(()));
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].data, data);
}

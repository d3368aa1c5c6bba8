//! Lines come out the same however the stream is cut, and none is longer than the cap.
use stdiopool::worker::framing::{Frame, Framer};

use super::input::numbers;

fn frames<'a>(cap: usize, chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<Frame> {
    let mut framer = Framer::new(cap);
    let mut frames = Vec::new();
    for chunk in chunks {
        framer.feed(chunk, |frame| frames.push(frame));
    }
    frames.extend(framer.finish());
    frames
}

pub(super) fn run(input: &[u8]) {
    let ([cap, size], stream) = numbers(input);
    let (cap, size) = (cap % 256 + 1, size % 256 + 1);
    let whole = frames(cap, [stream]);
    assert_eq!(whole, frames(cap, stream.chunks(size)));
    for frame in whole {
        match frame {
            Frame::Line(line) => {
                assert!(line.len() <= cap && !line.contains(&b'\n') && !line.is_empty());
            }
            Frame::Oversized(line) => assert!(line.len > cap as u64),
        }
    }
}

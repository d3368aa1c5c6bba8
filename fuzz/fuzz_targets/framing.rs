//! Lines come out the same however the stream is cut, and none is longer than the cap.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stdiopool::worker::framing::{Frame, Framer};

fn frames<'a>(cap: usize, chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<Frame> {
    let mut framer = Framer::new(cap);
    let mut frames = Vec::new();
    for chunk in chunks {
        framer.feed(chunk, |frame| frames.push(frame));
    }
    frames.extend(framer.finish());
    frames
}

fuzz_target!(|input: (u8, u8, &[u8])| {
    let (cap, size, stream) = input;
    let cap = usize::from(cap) + 1;
    let whole = frames(cap, [stream]);
    assert_eq!(whole, frames(cap, stream.chunks(usize::from(size) + 1)));
    for frame in whole {
        match frame {
            Frame::Line(line) => {
                assert!(line.len() <= cap && !line.contains(&b'\n') && !line.is_empty());
            }
            Frame::Oversized(line) => assert!(line.len > cap as u64),
        }
    }
});

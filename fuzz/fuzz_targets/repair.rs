//! Any lines of a worker: what is made of one is exact, what is taken for noise is nothing else to who reads it, and
//! what is put together of several loses none.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stdiopool::protocol::{Envelope, MAX_JOINED, MessageLines, is_noise, mended};

fuzz_target!(|text: &[u8]| {
    check(text);
    let mut lines = MessageLines::default();
    let mut given = 0;
    let mut judged = 0;
    for line in text.split(|byte| *byte == b'\n') {
        given += 1;
        for joined in lines.line(line.to_vec().into()) {
            judged += joined.lines;
            assert!(joined.lines == 1 || joined.text.len() <= MAX_JOINED);
            check(&joined.text);
        }
    }
    let rest = lines.give_up().map_or(0, |rest| rest.lines);
    assert_eq!(judged + rest, given);
});

fn check(line: &[u8]) {
    let read = mended(line);
    if is_noise(line) {
        assert!(Envelope::parse(line).is_err(), "a message is no noise");
        assert!(read.as_ref().is_err_and(|why| !why.is_message));
    }
    match read {
        Ok(mended) => {
            assert!(!mended.messages.is_empty() || mended.lost.len() > 1);
            for message in &mended.messages {
                let envelope = Envelope::parse(message).expect("it can be read");
                assert!(envelope.is_exact);
                assert!(!message.contains(&b'\n') && !message.contains(&b'\r'));
            }
        }
        Err(why) => {
            assert!(!why.is_quoted || !why.is_message || why.has_answer);
            for (at, id) in why.ids.iter().enumerate() {
                assert!(!why.ids[..at].contains(id), "each once");
                let id: serde_json::Value = serde_json::from_str(id).expect("an id is JSON");
                assert!(!id.is_object() && !id.is_array());
            }
        }
    }
}

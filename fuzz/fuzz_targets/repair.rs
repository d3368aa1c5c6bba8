//! Any line of a worker: what is made of it is exact, and what is taken for noise is nothing else to who reads it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stdiopool::protocol::{Envelope, is_noise, mended};

fuzz_target!(|line: &[u8]| {
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
            for (at, id) in why.ids.iter().enumerate() {
                assert!(!why.ids[..at].contains(id), "each once");
                let id: serde_json::Value = serde_json::from_str(id).expect("an id is JSON");
                assert!(!id.is_object() && !id.is_array());
            }
        }
    }
});

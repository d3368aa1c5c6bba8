//! The scanner of members of JSON is sound: whatever it accepts, serde_json reads, and reads the same in. What is made portable
//! stays JSON and says the same, but for what is no character.

use serde_json::value::RawValue;
use serde_json::{Map, Value};
use stdiopool::protocol::{each_member, portable};

pub(super) fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let mut found = Vec::new();
    let is_read = each_member(text, |name, value| {
        found.push((name, value));
        Some(())
    });
    let parsed = serde_json::from_str::<Value>(text);
    if is_read.is_some() {
        match &parsed {
            Ok(Value::Object(members)) => alike(&found, members),
            Ok(other) => panic!("no object: {other}"),
            // JSON all the same: values go on as they are, and are looked at where they go to.
            Err(error) => assert!(is_json(text), "{error}"),
        }
    }
    // It takes JSON, whatever is in its texts.
    if !is_json(text) {
        return;
    }
    if let (Ok(before), Ok(after)) = (&parsed, portable(text)) {
        let again = serde_json::from_str::<Value>(&after).expect("JSON");
        assert!(*before == again || text.contains("\\u"), "{after}");
        assert_eq!(portable(&after).as_deref(), Ok(&*after), "once is enough");
    }
}

/// Whether the scanner has the members that serde_json has; the last one counts where a name is there twice.
fn alike(found: &[(&str, &str)], members: &Map<String, Value>) {
    for (name, value) in members {
        let written = |other: &&(&str, &str)| {
            serde_json::from_str::<String>(&format!("\"{}\"", other.0))
                .is_ok_and(|read| read == *name)
        };
        let (_, raw) = found
            .iter()
            .rev()
            .find(written)
            .expect("a member is missed");
        let raw: Value = serde_json::from_str(raw).expect("a value that stands for itself");
        assert_eq!(raw, *value);
    }
    assert!(found.len() >= members.len());
}

/// Whether it is JSON by its grammar; numbers may be of any size, and halves of characters stand alone.
fn is_json(text: &str) -> bool {
    serde_json::from_str::<&RawValue>(text.trim()).is_ok()
}

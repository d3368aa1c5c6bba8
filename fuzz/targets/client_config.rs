//! Whatever stands where a caller's config may stand: what is taken in is no longer than may be, means one thing, and no
//! refusal or `Debug` shows a value of it.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use stdiopool::ids::ServerName;
use stdiopool::tenancy::{ClientConfig, ConfigInput, HANDLE_PREFIX, MAX_CONFIG};

pub(super) fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let of_text = ConfigInput::of_text("the header", text);
    let of_json = ConfigInput::of_json("the member", text);
    for given in [of_text, of_json] {
        match given {
            Ok(ConfigInput::Handle(handle)) => assert!(handle.starts_with(HANDLE_PREFIX)),
            Ok(ConfigInput::Values(values)) => taken(values),
            // Short ones are in the words of any refusal.
            Err(failure) => {
                assert!(text.trim().len() < 32 || !failure.message.contains(text.trim()))
            }
        }
    }
}

fn taken(values: Map<String, Value>) {
    let config = ClientConfig::new(values.clone(), BTreeMap::new());
    assert_eq!(config.plain(), Value::Object(values.clone()));
    assert_eq!(config.fingerprint(), config.clone().fingerprint());
    assert_eq!(config.clone().fits().is_ok(), config.bytes() <= MAX_CONFIG);
    // Over itself it says the same.
    assert_eq!(config.clone().with(&config).plain(), config.plain());
    let shown = format!("{config:?}");
    for value in values.values() {
        let is_telling =
            |secret: &str| secret.len() > 16 && !values.keys().any(|key| key.contains(secret));
        if let Some(secret) = value.as_str().filter(|it| is_telling(it)) {
            assert!(!shown.contains(secret), "a value is in {shown}");
        }
    }
    let all = ClientConfig::of_plain(&ServerName::all(), values.clone());
    for (server, part) in all.parts() {
        assert_eq!(part.plain(), values[server.as_str()]);
    }
}

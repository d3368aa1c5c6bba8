//! Whatever a client sends: nothing that is for stdiopool goes on to a worker, in whichever spelling, and what goes on can
//! be read in one way.
use serde_json::Value;
use stdiopool::bridge::{CLIENT_CONFIG, CONFIG, IDENTITY, addressed};
use stdiopool::protocol::Envelope;

/// Whether an object has a member that a decoder which matches names without case takes for one of those.
fn has(object: &Value, names: &[&str]) -> bool {
    let members = object.as_object().into_iter().flatten();
    members.into_iter().any(|(name, _)| {
        let lower = name.to_lowercase();
        names.iter().any(|known| known.to_lowercase() == lower)
    })
}

pub(super) fn run(message: &[u8]) {
    let Ok(envelope) = Envelope::parse(message) else {
        return;
    };
    let Ok(found) = addressed(&envelope) else {
        return;
    };
    let on = found.as_ref().map_or_else(
        || {
            envelope.rewritten(
                envelope.id.map(|id| id.get()),
                envelope.params.map(|it| it.get()),
            )
        },
        |found| found.message.clone(),
    );
    let envelope = Envelope::parse(&on).expect("what goes on is a message");
    assert!(envelope.is_exact);
    assert!(
        matches!(addressed(&envelope), Ok(None)),
        "nothing is left to take out"
    );
    let Some(params) = envelope.params else {
        return;
    };
    // Numbers that some decoders cannot read are none of this one's.
    let Ok(params) = serde_json::from_str::<Value>(params.get()) else {
        return;
    };
    assert!(!has(&params, &[CLIENT_CONFIG]), "{params}");
    assert!(!has(&params["_meta"], &[CONFIG, IDENTITY]), "{params}");
}

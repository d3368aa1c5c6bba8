//! Any message of a client or a server, where several servers are offered as one: what comes out is
//! JSON-RPC again, whatever names it holds.
use serde_json::Value;
use stdiopool::bridge::Listing;
use stdiopool::bridge::aggregate::{Alias, Names, items, merged};
use stdiopool::ids::ServerName;
use stdiopool::protocol::Envelope;

use super::input::first_line;

pub(super) fn run(input: &[u8]) {
    let names = Names::new("__");
    let alias = names.of(&ServerName::new("s"));
    // The first line says what the rest is.
    let (kind, message) = first_line(input);
    match kind.first() {
        Some(b'q') => {
            if let Ok(envelope) = Envelope::parse(message)
                && let Some(own) = names.addressed(message, &envelope)
            {
                Envelope::parse(&own.message).expect("JSON-RPC towards the server");
            }
        }
        Some(b'r') => {
            let is_valid = Envelope::parse(message).is_ok();
            let renamed = alias.response(message.to_vec().into());
            assert_eq!(Envelope::parse(&renamed).is_ok(), is_valid);
        }
        Some(b'n') => {
            let is_valid = Envelope::parse(message).is_ok();
            let renamed = alias.notification(message.to_vec().into());
            assert_eq!(Envelope::parse(&renamed).is_ok(), is_valid);
        }
        _ => page(message, &alias),
    }
}

fn page(page: &[u8], alias: &Alias) {
    let Ok(page) = std::str::from_utf8(page) else {
        return;
    };
    for listing in [Listing::Tools, Listing::Prompts, Listing::Resources] {
        let Ok(found) = items(listing, page, alias) else {
            continue;
        };
        let texts: Vec<String> = found.items.iter().map(|(_, text)| text.clone()).collect();
        let whole = merged(listing, &texts, &[]);
        let _json: Value = serde_json::from_str(&whole).expect("JSON");
        for (_, item) in &found.items {
            let item: Value = serde_json::from_str(item).expect("JSON");
            let Some(name) = item["name"].as_str().filter(|_| listing == Listing::Tools) else {
                continue;
            };
            let names = Names::new("__");
            let (server, _) = names.split(name).expect("a name that leads back");
            assert_eq!(server, "s");
        }
    }
}

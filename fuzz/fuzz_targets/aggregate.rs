//! Any message of a client or a server, where several servers are offered as one: what comes out is
//! JSON-RPC again, whatever names it holds.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use stdiopool::bridge::Listing;
use stdiopool::bridge::aggregate::{Names, items};
use stdiopool::ids::ServerName;
use stdiopool::protocol::Envelope;

#[derive(Arbitrary, Debug)]
enum Input<'a> {
    Request(&'a [u8]),
    Response(&'a [u8]),
    Notification(&'a [u8]),
    Page(&'a str),
}

fuzz_target!(|input: Input<'_>| {
    let names = Names::new("__");
    let alias = names.of(&ServerName::new("s"));
    match input {
        Input::Request(message) => {
            if let Ok(envelope) = Envelope::parse(message)
                && let Some(own) = names.addressed(message, &envelope)
            {
                Envelope::parse(&own.message).expect("JSON-RPC towards the server");
            }
        }
        Input::Response(message) => {
            let is_valid = Envelope::parse(message).is_ok();
            let renamed = alias.response(message.to_vec().into());
            assert_eq!(Envelope::parse(&renamed).is_ok(), is_valid);
        }
        Input::Notification(message) => {
            let is_valid = Envelope::parse(message).is_ok();
            let renamed = alias.notification(message.to_vec().into());
            assert_eq!(Envelope::parse(&renamed).is_ok(), is_valid);
        }
        Input::Page(page) => {
            for item in items(Listing::Tools, page, &alias).0 {
                let _json: serde_json::Value = serde_json::from_str(&item).expect("JSON");
            }
        }
    }
});

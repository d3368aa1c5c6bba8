//! What stdiopool adds to a request on its way to the worker: arguments that it sets, and who calls.

use std::borrow::Cow;

use bytes::Bytes;

use super::addressed::Unreadable;
use super::member_names::folded;
use super::members::Members;
use super::names::IDENTITY;
use crate::protocol::Envelope;

/// Members that stdiopool adds to a request.
#[derive(Clone, Default, Debug)]
pub struct Additions {
    /// The caller's identity, as raw JSON.
    pub identity: Option<String>,
    /// Arguments of the tool, each with its value as raw JSON.
    pub arguments: Vec<(String, String)>,
    /// Arguments that are not the caller's to give, and that the tool does not have.
    pub withheld: Vec<String>,
}

impl Additions {
    /// Whether there is nothing to add.
    pub fn is_empty(&self) -> bool {
        self.identity.is_none() && self.arguments.is_empty() && self.withheld.is_empty()
    }
}

/// Why a request cannot be added to.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotAdded {
    /// The caller gives an argument that is not theirs to give.
    #[error("argument `{0}` is set by the server's operator and cannot be given; leave it out")]
    Supplied(String),
    /// The arguments are no object.
    #[error("`params.arguments` is no object")]
    NoObject,
    /// The parameters cannot be read with certainty.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
}

/// The request with what is added. Of members that stand twice the last counts, and goes on alone.
///
/// # Errors
/// [`NotAdded`].
pub fn with_additions(message: &[u8], additions: &Additions) -> Result<Bytes, NotAdded> {
    let envelope = Envelope::parse(message).map_err(|_| Unreadable)?;
    let given = envelope.params.map(|params| params.get());
    let mut params = Members::read(given.unwrap_or("{}")).ok_or(Unreadable)?;
    let is_about_arguments = !additions.arguments.is_empty()
        || (!additions.withheld.is_empty() && params.get("arguments").is_some());
    if is_about_arguments {
        let own = params.take("arguments");
        let own = own
            .filter(|own| own != "null")
            .unwrap_or(Cow::Borrowed("{}"));
        let mut arguments = match Members::read(&own) {
            Some(arguments) => arguments,
            None if own.starts_with('{') => return Err(Unreadable.into()),
            None => return Err(NotAdded::NoObject),
        };
        let set = additions.arguments.iter().map(|(name, _)| name);
        for name in set.chain(&additions.withheld) {
            // Some servers match names without case.
            let own = folded(name);
            if arguments.0.iter().any(|(given, _)| folded(given) == own) {
                return Err(NotAdded::Supplied(name.clone()));
            }
        }
        for (name, value) in &additions.arguments {
            arguments.set(name, value.as_str());
        }
        params.set("arguments", arguments.write());
    }
    if let Some(identity) = &additions.identity {
        let own = params.take("_meta");
        let own = own.filter(|own| own.starts_with('{'));
        let own = own.unwrap_or(Cow::Borrowed("{}"));
        let mut meta = Members::read(&own).ok_or(Unreadable)?;
        let _claimed = meta.take(IDENTITY);
        meta.set(IDENTITY, identity.as_str());
        params.set("_meta", meta.write());
    }
    let id = envelope.id.map(|id| id.get());
    Ok(envelope.rewritten(id, Some(&params.write())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(
        params: &str,
        identity: Option<&str>,
        arguments: &[(&str, &str)],
    ) -> Result<String, NotAdded> {
        let additions = Additions {
            identity: identity.map(ToOwned::to_owned),
            arguments: arguments
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            withheld: vec!["owner".to_owned()],
        };
        let message = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call"{params}}}"#);
        let bytes = with_additions(message.as_bytes(), &additions)?;
        let text = String::from_utf8(bytes.to_vec()).expect("UTF-8");
        let rest = text.strip_prefix(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call""#);
        Ok(rest.expect("the head is as it was").to_owned())
    }

    #[test]
    fn arguments_and_identity_are_added_and_the_rest_stays() {
        let account = [("account", "\"a1\"")];
        assert_eq!(
            added(
                r#","params":{"name":"x","arguments":{"n": 1}}"#,
                None,
                &account
            )
            .expect("added"),
            r#","params":{"name":"x","arguments":{"n":1,"account":"a1"}}}"#
        );
        assert_eq!(
            added(r#","params":{"name":"x"}"#, Some("{}"), &account).expect("added"),
            r#","params":{"name":"x","arguments":{"account":"a1"},"_meta":{"dev.stdiopool/identity":{}}}}"#
        );
        assert_eq!(
            added("", Some(r#"{"sub":"anna"}"#), &[]).expect("added"),
            r#","params":{"_meta":{"dev.stdiopool/identity":{"sub":"anna"}}}}"#
        );
    }

    #[test]
    fn what_is_not_the_callers_to_give_is_refused_or_replaced() {
        let account = [("account", "\"a1\"")];
        for params in [
            r#","params":{"name":"x","arguments":{"account":"b"}}"#,
            r#","params":{"name":"x","arguments":{"acc\u006funt":null}}"#,
            r#","params":{"name":"x","arguments":{"Account":"b"}}"#,
            r#","params":{"name":"x","arguments":{"acc-OUNT":"b"}}"#,
        ] {
            let refused = added(params, None, &account).expect_err("refused");
            assert_eq!(refused, NotAdded::Supplied("account".into()), "{params}");
        }
        // What stands twice could be read either way: one of them goes on.
        let twice = r#","params":{"arguments":{"account":"b"},"arguments":{}}"#;
        assert_eq!(
            added(twice, None, &account).expect("added"),
            r#","params":{"arguments":{"account":"a1"}}}"#
        );
        let claimed = r#","params":{"_meta":{"dev.stdiopool\/identity":1,"k":2},"_meta":{"dev.stdiopool/identity":3,"k":4}}"#;
        assert_eq!(
            added(claimed, Some("5"), &[]).expect("added"),
            r#","params":{"_meta":{"k":4,"dev.stdiopool/identity":5}}}"#
        );
        let withheld = r#","params":{"name":"x","arguments":{"OWNER":1}}"#;
        for set in [&account[..], &[]] {
            let refused = added(withheld, None, set).expect_err("refused");
            assert_eq!(refused, NotAdded::Supplied("owner".into()));
        }
        let without = r#","params":{"name":"x"}"#;
        assert_eq!(
            added(without, None, &[]).expect("added"),
            r#","params":{"name":"x"}}"#
        );
        let odd = r#","params":{"arguments":[1]}"#;
        assert_eq!(added(odd, None, &account), Err(NotAdded::NoObject));
        let hidden = r#","params":{"arguments":{"\ud800":1}}"#;
        assert_eq!(added(hidden, None, &account), Err(Unreadable.into()));
    }
}

//! What a message says to stdiopool itself, and not to the worker: the config its caller sets for
//! the server. And the other way round: what stdiopool says to clients beside what a server says of
//! itself.

use std::borrow::Cow;

use bytes::Bytes;

use super::member_names::{
    BadName, CheckedObject, WrittenMember, WrittenMembers, are_usual, folded, is_token,
    may_have_nul,
};
use super::members::Members;
use super::names::{CLIENT_CONFIG, CONFIG, IDENTITY};
use super::stateless::meta;
use crate::protocol::{Envelope, Failure, MAX_KEPT_ID, Method, NotPortable, Reason, portable};

/// A message without what was for stdiopool, and that.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Addressed {
    /// What the worker may see.
    pub message: Bytes,
    /// `params.clientConfig`, as raw JSON.
    pub client_config: Option<String>,
    /// `params._meta["dev.stdiopool/config"]`, as raw JSON.
    pub meta_config: Option<String>,
}

/// Why a client's message cannot be accepted: a worker might read it otherwise than stdiopool does, or
/// drop it without an answer.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotAccepted {
    /// The method is one that is known, in another spelling.
    #[error("unknown method `{method}` (did you mean `{known}`? methods are spelled exactly)")]
    Method {
        /// The method as it is spelled.
        method: String,
        /// The method as it would be right.
        known: &'static str,
    },
    /// The id is longer than is kept.
    #[error("`id` must have at most {MAX_KEPT_ID} bytes")]
    Id,
    /// U+0000 in the method.
    #[error("the method has U+0000 in it, where some servers cut it")]
    NulInMethod,
    /// U+0000 in what a request is about.
    #[error("`{0}` has U+0000 in it, where some servers cut it")]
    Nul(&'static str),
    /// Parameters are by name (2025-06-18, basic, "Requests").
    #[error("`params` must be an object, or be left out")]
    NoObject,
    /// A member of the parameters is of the wrong type.
    #[error("`params.{0}` must be {1}, or be left out")]
    Type(&'static str, &'static str),
    /// A name that some decoders read otherwise.
    #[error("{0}")]
    Name(String),
    /// Half of a surrogate pair stands alone in a name.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// A value that some decoders cannot read.
    #[error("the message cannot be sent to every server: {0}")]
    Value(#[from] NotPortable),
}

impl From<BadName> for NotAccepted {
    fn from(name: BadName) -> Self {
        Self::Name(name.to_string())
    }
}

impl From<NotAccepted> for Failure {
    fn from(why: NotAccepted) -> Self {
        let reason = match why {
            NotAccepted::Method { .. } | NotAccepted::NulInMethod | NotAccepted::Id => {
                Reason::InvalidRequest
            }
            _ => Reason::InvalidParams,
        };
        Self::new(reason, why.to_string())
    }
}

/// Parameters whose names cannot be read as text (half of a surrogate pair stands alone in one),
/// so that a worker with other ideas of text might find in them what was to be taken out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`params` or their `_meta` have a name that is no Unicode text")]
pub struct Unreadable;

/// Checks a client's message, of which `envelope` has the members, and takes out of it what is for
/// stdiopool or means nothing; `None` if there is nothing of that. For nearly every message that takes one
/// pass over its parameters.
///
/// # Errors
/// [`NotAccepted`] when a worker might read something else in it than stdiopool, or nothing at all.
pub fn addressed(envelope: &Envelope<'_>) -> Result<Option<Addressed>, NotAccepted> {
    if envelope.id.is_some_and(|id| id.get().len() > MAX_KEPT_ID) {
        return Err(NotAccepted::Id);
    }
    if let Some(method) = envelope.method.as_deref()
        && Method::of(method).is_none()
    {
        check_method(method)?;
    }
    let has_usual_params = match &envelope.listed {
        Some(listed) => are_usual(listed),
        None => envelope.params.is_none(),
    };
    if has_usual_params && !envelope.is_doubtful {
        return Ok(None);
    }
    closely(envelope)
}

/// Methods that clients send beside [`Method::ALL`].
const OTHER_METHODS: [&str; 9] = [
    "notifications/cancelled",
    "notifications/initialized",
    "notifications/progress",
    "notifications/roots/list_changed",
    "notifications/tasks/status",
    "tasks/get",
    "tasks/result",
    "tasks/list",
    "tasks/cancel",
];

fn check_method(method: &str) -> Result<(), NotAccepted> {
    let mut names = Method::ALL
        .iter()
        .map(|known| known.name)
        .chain(OTHER_METHODS);
    let own = folded(method.trim());
    match names.find(|known| folded(known) == own) {
        Some(known) if known != method => Err(NotAccepted::Method {
            method: method.to_owned(),
            known,
        }),
        _ if method.contains('\0') => Err(NotAccepted::NulInMethod),
        _ => Ok(()),
    }
}

/// The reference for [`addressed`]: reads every name as what it is.
fn closely(envelope: &Envelope<'_>) -> Result<Option<Addressed>, NotAccepted> {
    let id = envelope.id.map(|id| id.get());
    let Some(params) = envelope.params else {
        // Of a response, what is in it.
        let whole = envelope.rewritten(id, None);
        let text = std::str::from_utf8(&whole).map_err(|_| Unreadable)?;
        return Ok(match portable(text)? {
            Cow::Borrowed(_) => None,
            Cow::Owned(text) => Some(Addressed {
                message: text.into(),
                client_config: None,
                meta_config: None,
            }),
        });
    };
    let params = params.get();
    if !params.starts_with('{') {
        return Err(NotAccepted::NoObject);
    }
    let members = WrittenMembers::read(params).ok_or(Unreadable)?;
    members.check(CheckedObject::Params)?;
    let (mut client_config, mut meta_config) = (None, None);
    let mut is_changed = false;
    let mut rest = Vec::with_capacity(members.0.len());
    for WrittenMember { name, value, .. } in members.0 {
        match &*name {
            CLIENT_CONFIG => {
                is_changed = true;
                client_config = Some(value.to_owned());
            }
            "name" => {
                without_nul("params.name", value)?;
                rest.push((name, Cow::Borrowed(value)));
            }
            "uri" => {
                without_nul("params.uri", value)?;
                rest.push((name, Cow::Borrowed(value)));
            }
            "_meta" => match worker_meta(value, &mut meta_config)? {
                Some(text) => {
                    is_changed |= matches!(text, Cow::Owned(_));
                    rest.push((name, text));
                }
                None => is_changed = true,
            },
            "ref" => {
                if value.starts_with('{') {
                    let reference = WrittenMembers::read(value).ok_or(Unreadable)?;
                    reference.check(CheckedObject::Reference)?;
                    for member in &reference.0 {
                        match &*member.name {
                            "name" => without_nul("params.ref.name", member.value)?,
                            "uri" => without_nul("params.ref.uri", member.value)?,
                            _ => {}
                        }
                    }
                }
                rest.push((name, Cow::Borrowed(value)));
            }
            _ => rest.push((name, Cow::Borrowed(value))),
        }
    }
    let text = match is_changed {
        true => Cow::Owned(Members(rest).write()),
        false => Cow::Borrowed(params),
    };
    let text = match portable(&text)? {
        Cow::Borrowed(_) if !is_changed => return Ok(None),
        Cow::Borrowed(text) => text.to_owned(),
        Cow::Owned(text) => text,
    };
    Ok(Some(Addressed {
        message: envelope.rewritten(id, Some(&text)),
        client_config,
        meta_config,
    }))
}

/// Refuses a text with U+0000 in it.
fn without_nul(place: &'static str, raw: &str) -> Result<(), NotAccepted> {
    let text: Option<String> = may_have_nul(raw)
        .then(|| serde_json::from_str(raw).ok())
        .flatten();
    match text.is_some_and(|text| text.contains('\0')) {
        true => Err(NotAccepted::Nul(place)),
        false => Ok(()),
    }
}

/// What a worker may see of `_meta`; `None` if nothing is left. What it sets for its server goes to `config`.
fn worker_meta<'a>(
    value: &'a str,
    config: &mut Option<String>,
) -> Result<Option<Cow<'a, str>>, NotAccepted> {
    if value == "null" {
        return Ok(None);
    }
    if !value.starts_with('{') {
        return Err(NotAccepted::Type("_meta", "an object"));
    }
    let members = WrittenMembers::read(value).ok_or(Unreadable)?;
    members.check(CheckedObject::Meta)?;
    let before = members.0.len();
    let mut rest = Vec::with_capacity(before);
    for WrittenMember { name, value, .. } in members.0 {
        match &*name {
            CONFIG => *config = Some(value.to_owned()),
            IDENTITY => {}
            "progressToken" if value == "null" => {}
            "progressToken" if !is_token(value) => {
                return Err(NotAccepted::Type(
                    "_meta.progressToken",
                    "a string or a number of at most 1024 bytes",
                ));
            }
            meta::RELATED_TASK if !is_related_task(value) => {
                let name = "_meta[\"io.modelcontextprotocol/related-task\"]";
                return Err(NotAccepted::Type(name, "an object with a string `taskId`"));
            }
            _ => rest.push((name, Cow::Borrowed(value))),
        }
    }
    if rest.len() == before {
        return Ok(Some(Cow::Borrowed(value)));
    }
    // An object that held nothing else goes too.
    Ok((!rest.is_empty()).then(|| Cow::Owned(Members(rest).write())))
}

fn is_related_task(value: &str) -> bool {
    let value: Result<serde_json::Value, _> = serde_json::from_str(value);
    value.is_ok_and(|value| value["taskId"].is_string())
}

/// An `initialize` or `server/discover` result that tells clients what they may set: `schema` is
/// raw JSON. `None` if it is no result.
pub fn advertised(result: &[u8], schema: &str) -> Option<Bytes> {
    let mut members = Members::read(std::str::from_utf8(result).ok()?)?;
    let capabilities = members.get("capabilities").unwrap_or("{}").to_owned();
    let mut capabilities = Members::read(&capabilities)?;
    let experimental = capabilities.get("experimental").unwrap_or("{}").to_owned();
    let mut experimental = Members::read(&experimental).unwrap_or_default();
    experimental.set(CONFIG, schema);
    capabilities.set("experimental", experimental.write());
    members.set("capabilities", capabilities.write());
    Some(members.write().into())
}

#[cfg(test)]
#[path = "addressed_tests.rs"]
mod tests;

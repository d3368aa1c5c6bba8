//! The members of a message that is JSON, and the message that they make.

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::broken::Broken;
use super::errors::usual_error;
use super::flaw::Flaw;
use super::mended::Mended;
use super::sketch::{Sketch, wrapped_number};
use crate::protocol::envelope::quoted;
use crate::protocol::object::members_of;
use crate::protocol::one_line;
use crate::protocol::portable::portable;

/// The members of a message as they stand there, `null` for those that are not.
#[derive(Default)]
pub(super) struct MessageMembers<'a> {
    jsonrpc: Option<&'a str>,
    id: Option<&'a str>,
    method: Option<&'a str>,
    params: Option<&'a str>,
    result: Option<&'a str>,
    error: Option<&'a str>,
    has_others: bool,
    /// A member is there twice, with different values.
    is_ambiguous: bool,
    /// What is there as the id.
    ids: Vec<&'a str>,
    /// What is there under a name that some take for that of the id.
    near_ids: Vec<&'a str>,
}

impl<'a> MessageMembers<'a> {
    pub(super) fn read(object: &'a str, noted: &mut Mended) -> Option<Self> {
        let members = object_members(object)?;
        let mut found = Self::default();
        let mut is_twice = false;
        for (name, value) in members {
            let member = match &*name {
                "jsonrpc" => &mut found.jsonrpc,
                "id" => &mut found.id,
                "method" => &mut found.method,
                "params" => &mut found.params,
                "result" => &mut found.result,
                "error" => &mut found.error,
                other => {
                    found.has_others = true;
                    if other.eq_ignore_ascii_case("id") {
                        found.near_ids.push(value);
                    }
                    continue;
                }
            };
            if name == "id" {
                found.ids.push(value);
            }
            if let Some(before) = member.replace(value) {
                is_twice = true;
                found.is_ambiguous |= before != value;
            }
        }
        if is_twice {
            noted.note(Flaw::DuplicateMember);
        }
        Some(found)
    }

    /// What the object says of itself.
    fn sketch(&self) -> Sketch {
        let has_method = is_there(self.method);
        let is_null_answer = self.result.or(self.error).is_some() && !has_method;
        Sketch {
            ids: self.all_ids(),
            has_other_id: self.ids.iter().any(|id| *id != "null"),
            has_version: self.jsonrpc.is_some(),
            has_method,
            has_answer: is_there(self.result) || is_there(self.error) || is_null_answer,
            has_others: self.has_others,
            near_ids: vec![],
        }
    }

    /// The message, if there is one in it.
    ///
    /// # Errors
    /// What else it is: a broken message, or a log's record.
    pub(super) fn message(self, noted: &mut Mended) -> Result<Bytes, Option<Broken>> {
        let sketch = self.sketch();
        let Sketch {
            has_method,
            has_answer,
            ..
        } = sketch;
        let fault = |flaw| Broken::of(sketch.clone(), flaw, None);
        let is_message = fault(Flaw::Shape).is_some();
        if !is_message || !has_method && !has_answer {
            return Err(fault(Flaw::Shape));
        }
        if self.is_ambiguous {
            return Err(fault(Flaw::DuplicateMember));
        }
        if self.jsonrpc != Some("\"2.0\"") {
            noted.note(Flaw::Version);
        }
        if has_method && has_answer {
            return Err(fault(Flaw::Shape));
        }
        if has_method {
            let method = self.method.and_then(plain_method);
            let method = method.ok_or_else(|| fault(Flaw::Shape))?;
            return self.asked(&method, noted).ok_or_else(|| fault(Flaw::Id));
        }
        let (result, error) = match (is_there(self.result), is_there(self.error)) {
            (true, true) => return Err(fault(Flaw::ResultAndError)),
            (false, true) => (None, self.error),
            (_, false) => (self.result.or(Some("null")), None),
        };
        let is_beside_null = self.result.is_some() && self.error.is_some();
        if is_beside_null || self.method.is_some() || self.params.is_some() {
            noted.note(Flaw::NullMember);
        }
        let result = match result {
            Some("null") => {
                noted.note(Flaw::Result);
                Some("{}")
            }
            Some(result) if !result.starts_with('{') => return Err(fault(Flaw::Result)),
            result => result,
        };
        let error = error.map(|error| {
            let usual = usual_error(error);
            if matches!(usual, Cow::Owned(_)) {
                noted.note(Flaw::Error);
            }
            usual
        });
        match self.id.filter(|id| is_id(id)) {
            Some(id) => Ok(written(Some(id), None, None, result, error.as_deref())),
            None => Err(Broken::of(sketch, Flaw::Id, error.map(Cow::into_owned))),
        }
    }

    /// Each id that is one, the last one last. Where nothing else says whose the message is, one under another spelling
    /// of the name is as good, and so is one in a wrapping: `[7]`.
    fn all_ids(&self) -> Vec<String> {
        let each_once = |all: &[&str], read: fn(&str) -> Option<String>| {
            let mut ids: Vec<String> = Vec::new();
            for id in all.iter().filter_map(|id| read(id)) {
                ids.retain(|known| *known != id);
                ids.push(id);
            }
            ids
        };
        let plain = |raw: &str| is_id(raw).then(|| raw.to_owned());
        [
            each_once(&self.ids, plain),
            each_once(&self.near_ids, plain),
            each_once(&self.ids, wrapped_number),
        ]
        .into_iter()
        .find(|ids| !ids.is_empty())
        .unwrap_or_default()
    }

    /// A request or notification. One whose id is `null` can only be a notification.
    fn asked(&self, method: &str, noted: &mut Mended) -> Option<Bytes> {
        let id = match self.id {
            Some("null") if method.starts_with("\"notifications/") => {
                noted.note(Flaw::NullMember);
                None
            }
            Some(id) if is_id(id) => Some(id),
            Some(_) => return None,
            None => None,
        };
        if self.result.is_some() || self.error.is_some() {
            noted.note(Flaw::NullMember);
        }
        let params = self.params.filter(|params| *params != "null");
        Some(written(id, Some(method), params, None, None))
    }
}

fn is_there(member: Option<&str>) -> bool {
    member.is_some_and(|value| value != "null")
}

/// A method as raw JSON without an escape; `None` where that cannot be: it is the name of no method.
fn plain_method(raw: &str) -> Option<String> {
    let method: String = serde_json::from_str(raw).ok()?;
    let plain = quoted(&method);
    (!plain.contains('\\')).then_some(plain)
}

pub(super) fn is_id(raw: &str) -> bool {
    matches!(raw.as_bytes().first(), Some(b'"' | b'-' | b'0'..=b'9'))
}

/// Members of an object, a name decoded.
fn object_members(object: &str) -> Option<Vec<(String, &str)>> {
    // A name that is no text is none that is known here.
    let decoded = |name: &RawValue| serde_json::from_str(name.get()).unwrap_or_default();
    members_of(object, |name: &RawValue, value| Ok((decoded(name), value))).ok()
}

/// A message of these members, as raw JSON.
fn written(
    id: Option<&str>,
    method: Option<&str>,
    params: Option<&str>,
    result: Option<&str>,
    error: Option<&str>,
) -> Bytes {
    let mut text = String::from("{\"jsonrpc\":\"2.0\"");
    let members = [
        ("id", id),
        ("method", method),
        ("params", params),
        ("result", result),
        ("error", error),
    ];
    for (name, value) in members {
        if let Some(value) = value {
            // A value too deep or too large for some readers is not for others: it goes on.
            let value = portable(value).unwrap_or(Cow::Borrowed(value));
            text.push_str(&format!(",\"{name}\":"));
            text.push_str(&value);
        }
    }
    text.push('}');
    let mut text = text.into_bytes();
    one_line(&mut text);
    text.into()
}

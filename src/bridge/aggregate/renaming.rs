//! Messages that name things, in the names of the other side.

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::names::{Alias, Names};
use crate::protocol::{Envelope, span_of};

/// Replacements in a text, in the order of their places.
#[derive(Default)]
pub(super) struct Replacements(Vec<(Range<usize>, String)>);

impl Replacements {
    /// A JSON string of `whole` becomes `with`.
    pub(super) fn replace(&mut self, whole: &[u8], part: &RawValue, with: &str) {
        self.replace_span(span_of(whole, part.get()), with);
    }

    /// A JSON string that stands there becomes `with`.
    pub(super) fn replace_span(&mut self, span: Range<usize>, with: &str) {
        self.0.push((span, Value::from(with).to_string()));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn apply(mut self, whole: &[u8]) -> Vec<u8> {
        self.0.sort_by_key(|(span, _)| span.start);
        let mut out = Vec::with_capacity(whole.len() + 32 * self.0.len());
        let mut copied = 0;
        for (span, with) in &self.0 {
            out.extend_from_slice(&whole[copied..span.start]);
            out.extend_from_slice(with.as_bytes());
            copied = span.end;
        }
        out.extend_from_slice(&whole[copied..]);
        out
    }
}

/// A request that names a thing of one server, in that server's own words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RenamedRequest {
    /// The server, as the request names it: there may be none of that name.
    pub server: String,
    /// The name of the thing, as the server calls it.
    pub own: String,
    /// The request.
    pub message: Bytes,
}

#[derive(Deserialize)]
struct Params<'a> {
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    #[serde(borrow)]
    uri: Option<&'a RawValue>,
    #[serde(borrow, rename = "ref")]
    reference: Option<Reference<'a>>,
}

#[derive(Deserialize)]
struct Reference<'a> {
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    #[serde(borrow)]
    uri: Option<&'a RawValue>,
}

fn text(raw: &RawValue) -> Option<Cow<'_, str>> {
    serde_json::from_str(raw.get()).ok()
}

impl Names {
    /// The server that a request is for, by what it names; `None` if it names nothing of any server.
    pub fn addressed(&self, message: &[u8], envelope: &Envelope<'_>) -> Option<RenamedRequest> {
        let params: Params<'_> = serde_json::from_str(envelope.params?.get()).ok()?;
        let (named, is_uri) = match envelope.method.as_deref()? {
            "tools/call" | "prompts/get" => (params.name?, false),
            "resources/read" | "resources/subscribe" | "resources/unsubscribe" => {
                (params.uri?, true)
            }
            "completion/complete" => {
                let reference = params.reference?;
                match (reference.name, reference.uri) {
                    (Some(name), _) => (name, false),
                    (None, uri) => (uri?, true),
                }
            }
            _ => return None,
        };
        let whole = text(named)?;
        let (server, own) = if is_uri {
            Self::split_uri(&whole)?
        } else {
            let (server, own) = self.split(&whole)?;
            (server, Cow::Borrowed(own))
        };
        let mut replacements = Replacements::default();
        replacements.replace(message, named, &own);
        Some(RenamedRequest {
            server: server.to_owned(),
            own: own.into_owned(),
            message: replacements.apply(message).into(),
        })
    }
}

/// The members of a result in which a server may name its resources.
#[derive(Deserialize)]
struct NamingMembers<'a> {
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    contents: Option<&'a RawValue>,
    #[serde(borrow, default)]
    messages: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Content<'a> {
    #[serde(borrow, default)]
    uri: Option<&'a RawValue>,
    #[serde(borrow, default)]
    resource: Option<&'a RawValue>,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
}

impl Alias {
    /// A response of the server, with its resources as they are called here.
    pub fn response(&self, message: Bytes) -> Bytes {
        if memchr::memmem::find(&message, b"\"uri\"").is_none() {
            return message;
        }
        let Ok(envelope) = Envelope::parse(&message) else {
            return message;
        };
        let Some(Ok(members)) = envelope
            .result
            .map(|result| serde_json::from_str::<NamingMembers<'_>>(result.get()))
        else {
            return message;
        };
        let mut replacements = Replacements::default();
        for member in [members.content, members.contents, members.messages] {
            self.rename_in(&message, member, &mut replacements);
        }
        if replacements.is_empty() {
            return message;
        }
        replacements.apply(&message).into()
    }

    /// Whatever names a resource in a content, or in each of a list of contents or messages.
    fn rename_in(&self, whole: &[u8], member: Option<&RawValue>, into: &mut Replacements) {
        let Some(member) = member else { return };
        let all: Vec<&RawValue> = match serde_json::from_str(member.get()) {
            Ok(all) => all,
            Err(_) => vec![member],
        };
        for one in all {
            let Ok(content) = serde_json::from_str::<Content<'_>>(one.get()) else {
                continue;
            };
            if let Some((raw, uri)) = content.uri.and_then(|raw| Some((raw, text(raw)?))) {
                into.replace(whole, raw, &self.uri(&uri));
            }
            self.rename_in(whole, content.resource, into);
            self.rename_in(whole, content.content, into);
        }
    }

    /// A notification of the server, with the resource that it names as it is called here.
    pub fn notification(&self, message: Bytes) -> Bytes {
        if memchr::memmem::find(&message, b"notifications/resources/updated").is_none() {
            return message;
        }
        let renamed = Envelope::parse(&message).ok().and_then(|envelope| {
            let params: Params<'_> = serde_json::from_str(envelope.params?.get()).ok()?;
            let raw = params.uri?;
            let mut replacements = Replacements::default();
            replacements.replace(&message, raw, &self.uri(&text(raw)?));
            Some(replacements.apply(&message).into())
        });
        renamed.unwrap_or(message)
    }
}

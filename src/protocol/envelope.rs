//! JSON-RPC 2.0 messages, read once and borrowed: the envelope is parsed, the bodies stay bytes.

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;
use compact_str::CompactString;
use serde::ser::Error as _;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

use super::scan::{EnvelopeMembers, Listed, members};

/// A JSON value as it stands in a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RawJson<'a>(&'a str);

impl<'a> RawJson<'a> {
    /// The value's text.
    pub fn get(self) -> &'a str {
        self.0
    }
}

impl Serialize for RawJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let value: &RawValue = serde_json::from_str(self.0).map_err(S::Error::custom)?;
        value.serialize(serializer)
    }
}

impl<'a> From<&'a RawValue> for RawJson<'a> {
    fn from(value: &'a RawValue) -> Self {
        Self(value.get())
    }
}

/// One JSON-RPC message whose members are views into the text it was read from.
#[derive(Deserialize, Debug)]
pub struct Envelope<'a> {
    /// Must be `"2.0"`; checked by [`Envelope::parse`].
    #[serde(borrow)]
    pub(super) jsonrpc: Option<Cow<'a, str>>,
    /// As written, quotes included.
    #[serde(borrow, default, deserialize_with = "present")]
    pub id: Option<RawJson<'a>>,
    /// Present in requests and notifications.
    #[serde(borrow)]
    pub method: Option<Cow<'a, str>>,
    /// Parameters of a request or notification.
    #[serde(borrow, default, deserialize_with = "present")]
    pub params: Option<RawJson<'a>>,
    /// The result of a successful response.
    #[serde(borrow, default, deserialize_with = "present")]
    pub result: Option<RawJson<'a>>,
    /// The error of a failed response.
    #[serde(borrow, default, deserialize_with = "present")]
    pub error: Option<RawJson<'a>>,
    /// Whether the text was exactly these members, each once and none without meaning: nothing else goes
    /// on with it.
    #[serde(skip)]
    pub is_exact: bool,
    /// Whether the text has something in it on which decoders differ, or may have; see
    /// [`portable`](super::portable).
    #[serde(skip)]
    pub is_doubtful: bool,
    /// What is in `params`; `None` where they are no object, or something in the text is unusual.
    #[serde(skip)]
    pub listed: Option<Listed<'a>>,
}

impl<'a> From<EnvelopeMembers<'a>> for Envelope<'a> {
    fn from(found: EnvelopeMembers<'a>) -> Self {
        Self {
            jsonrpc: found.jsonrpc.map(Cow::Borrowed),
            id: found.id.map(RawJson),
            method: found.method.map(Cow::Borrowed),
            params: found.params.map(RawJson),
            result: found.result.map(RawJson),
            error: found.error.map(RawJson),
            is_exact: !found.has_others,
            is_doubtful: found.is_doubtful,
            listed: found.listed,
        }
    }
}

/// Keeps a member that is there with the value `null` apart from one that is not there.
fn present<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<RawJson<'de>>, D::Error> {
    let value = <&RawValue>::deserialize(deserializer)?;
    Ok(Some(value.into()))
}

/// The names in `params` are not known, or not plain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unlisted;

/// Longest id or progress token that is taken, of clients and of workers: bytes of raw JSON. Each is kept, in several places, until its
/// request is answered.
pub const MAX_KEPT_ID: usize = 1024;

/// A JSON-RPC id as it was written: raw JSON. Nearly every one is short, and then stands for itself
/// without an allocation.
pub type RawId = CompactString;

/// The kind of an envelope.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Wants an answer.
    Request,
    /// Wants none.
    Notification,
    /// Answers a request.
    Response,
}

/// Why a text is not a JSON-RPC message.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// Not even text.
    #[error("not JSON: it is no UTF-8 at byte {0}")]
    Encoding(usize),
    /// Not JSON at all.
    #[error("not JSON: {0}")]
    Syntax(serde_json::Error),
    /// JSON of another shape.
    #[error("not a JSON-RPC message: {0}")]
    Shape(String),
}

impl<'a> Envelope<'a> {
    /// Reads one message.
    ///
    /// # Errors
    /// [`EnvelopeError::Encoding`] and [`EnvelopeError::Syntax`] when `text` is not JSON in UTF-8;
    /// [`EnvelopeError::Shape`] when it is, but
    /// is not a JSON-RPC 2.0 message with an id that is a string or a number (MCP, basic: ids MUST
    /// NOT be null; a response to an unreadable request may carry `null`).
    pub fn parse(text: &'a [u8]) -> Result<Self, EnvelopeError> {
        let utf8 = std::str::from_utf8(text);
        let utf8 = utf8.map_err(|error| EnvelopeError::Encoding(error.valid_up_to()))?;
        let mut envelope = match members(utf8) {
            Some(found) => Self::from(found),
            None => Self {
                is_doubtful: true,
                ..Self::read(text)?
            },
        };
        // Parameters are structured where they are there (JSON-RPC 2.0, 4.2): `null` means that they are not.
        if envelope.params.is_some_and(|params| params.get() == "null") {
            envelope.params = None;
            envelope.is_exact = false;
        }
        envelope.check()?;
        Ok(envelope)
    }

    /// As `serde_json` reads it.
    pub(super) fn read(text: &'a [u8]) -> Result<Self, EnvelopeError> {
        serde_json::from_slice(text).map_err(|error| {
            if error.is_data() {
                EnvelopeError::Shape(error.to_string())
            } else {
                EnvelopeError::Syntax(error)
            }
        })
    }

    fn check(&self) -> Result<(), EnvelopeError> {
        let shape = |what: &str| Err(EnvelopeError::Shape(what.to_owned()));
        match self.jsonrpc.as_deref() {
            Some("2.0") => {}
            Some(_) => return shape("`jsonrpc` must be \"2.0\""),
            None => return shape("member `jsonrpc` is missing"),
        }
        if let Some(id) = self.id
            && !(id.get() == "null" && self.error.is_some())
            && !matches!(id.get().as_bytes().first(), Some(b'"' | b'-' | b'0'..=b'9'))
        {
            return shape("`id` must be a string or a number");
        }
        match (&self.method, self.result, self.error) {
            (Some(_), None, None) => Ok(()),
            (Some(_), _, _) => shape("a message has either `method` or `result`/`error`"),
            (None, Some(_), None) if self.id.is_none() => shape("a result needs an `id`"),
            (None, Some(_), None) | (None, None, Some(_)) => Ok(()),
            (None, Some(_), Some(_)) => shape("a response has either `result` or `error`"),
            (None, None, None) => shape("neither `method` nor `result` nor `error` is present"),
        }
    }

    /// The message of these members alone, on one line, with that id and those parameters in place of its
    /// own. `None`: it has none.
    pub fn rewritten(&self, id: Option<&str>, params: Option<&str>) -> Bytes {
        const VERSION: &str = r#"{"jsonrpc":"2.0""#;
        let len = [id, params]
            .into_iter()
            .chain([self.result, self.error].map(|part| part.map(RawJson::get)))
            .flatten()
            .map(|part| part.len() + r#","params":"#.len());
        let method = self.method.as_deref().map(quoted);
        let method_len = method.as_deref().map_or(0, |method| method.len() + 12);
        let len = VERSION.len() + len.sum::<usize>() + method_len + 1;
        let mut line = Vec::with_capacity(len);
        line.extend_from_slice(VERSION.as_bytes());
        let mut put = |name: &str, value: Option<&str>| {
            if let Some(value) = value {
                for part in [",\"", name, "\":", value] {
                    line.extend_from_slice(part.as_bytes());
                }
            }
        };
        put("id", id);
        put("method", method.as_deref());
        put("params", params);
        put("result", self.result.map(RawJson::get));
        put("error", self.error.map(RawJson::get));
        line.push(b'}');
        one_line(&mut line);
        line.into()
    }

    /// The member of that name of `params._meta`, as raw JSON, where all of its names are written plainly and
    /// that one at most once. `Err`: that has to be looked at in another way.
    pub fn plain_meta(&self, name: &str) -> Result<Option<&'a str>, Unlisted> {
        let listed = self.listed.as_ref().filter(|listed| listed.is_plain);
        let mut found = listed
            .ok_or(Unlisted)?
            .meta()
            .filter(|(found, _)| *found == name);
        match (found.next(), found.next()) {
            (None, _) => Ok(None),
            (Some((_, value)), None) => Ok(Some(value)),
            (Some(_), Some(_)) => Err(Unlisted),
        }
    }

    /// Whether the message is a notification whose method is one of requests: it asks for something and wants no answer, so that
    /// nobody would be told what became of it (JSON-RPC 2.0, section 4.1; the methods of MCP's notifications all begin
    /// with `notifications/`).
    pub fn lacks_id(&self) -> bool {
        let method = self.method.as_deref();
        self.id.is_none() && method.is_some_and(|method| !method.starts_with("notifications/"))
    }

    /// Whether the message asks, tells or answers.
    pub fn kind(&self) -> Kind {
        match (&self.method, self.id) {
            (None, _) => Kind::Response,
            (Some(_), Some(_)) => Kind::Request,
            (Some(_), None) => Kind::Notification,
        }
    }
}

/// A text as JSON.
pub fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Where `part`, a view into `whole`, stands in it.
///
/// # Panics
/// When `part` is not a view into `whole`: a fault of the caller, not of any input.
pub fn span_of(whole: &[u8], part: &str) -> Range<usize> {
    let start = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
    assert!(
        start <= whole.len() && part.len() <= whole.len() - start,
        "span_of: not a part of the whole"
    );
    start..start + part.len()
}

/// Length from which a text is changed in place rather than copied, in bytes: a copy of exact size is
/// better kept than the buffer a short line was read into.
const WORTH_KEEPING: usize = 64 << 10;

/// `whole` with `span` replaced.
pub fn splice(whole: &[u8], span: Range<usize>, with: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(whole.len() - span.len() + with.len());
    out.extend_from_slice(&whole[..span.start]);
    out.extend_from_slice(with);
    out.extend_from_slice(&whole[span.end..]);
    out.into()
}

/// `whole` with `span`, a value in JSON, replaced, without a second copy of a long text that nobody else holds: where the
/// new value is shorter, spaces follow it (RFC 8259, 2: around a value they mean nothing).
pub fn replaced(whole: Bytes, span: Range<usize>, with: &[u8]) -> Bytes {
    if whole.len() < WORTH_KEEPING {
        return splice(&whole, span, with);
    }
    let mut whole = match whole.try_into_mut() {
        Ok(whole) => whole,
        Err(shared) => return splice(&shared, span, with),
    };
    let len = whole.len();
    if let Some(more) = with.len().checked_sub(span.len()) {
        whole.resize(len + more, 0);
        whole.copy_within(span.end..len, span.end + more);
    } else {
        whole[span.clone()].fill(b' ');
    }
    whole[span.start..][..with.len()].copy_from_slice(with);
    whole.freeze()
}

/// Makes valid JSON fit on one line, as stdio framing demands (basic/transports, stdio: messages
/// MUST NOT contain embedded newlines). In valid JSON a raw line break stands only between tokens,
/// where a space is as good.
pub fn one_line(json: &mut [u8]) {
    let breaks: Vec<usize> = memchr::memchr2_iter(b'\n', b'\r', json).collect();
    for at in breaks {
        json[at] = b' ';
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_views_of_the_text() {
        let text = br#"{"jsonrpc":"2.0","id":"x-1","method":"tools/call","params":{"name":"a"}}"#;
        let envelope = Envelope::parse(text).expect("valid");
        assert_eq!(envelope.kind(), Kind::Request);
        let span = span_of(text, envelope.id.expect("has id").get());
        assert_eq!(&text[span.clone()], br#""x-1""#);
        let spliced = splice(text, span, b"7");
        assert!(spliced.starts_with(br#"{"jsonrpc":"2.0","id":7,"method""#));
    }

    #[test]
    fn texts_are_borrowed_unless_they_have_escapes() {
        let parse = |text| Envelope::parse(text).expect("valid");
        let plain = parse(br#"{"jsonrpc":"2.0","method":"a"}"#);
        assert!(matches!(plain.jsonrpc, Some(Cow::Borrowed("2.0"))));
        assert!(matches!(plain.method, Some(Cow::Borrowed("a"))));
        let escaped = parse(br#"{"jsonrpc":"2.0","method":"\u0061"}"#);
        assert!(matches!(&escaped.method, Some(Cow::Owned(method)) if method == "a"));
        let answer = parse(br#"{"jsonrpc":"2.0","method":null,"id":1,"result":{}}"#);
        assert!(answer.method.is_none());
    }

    #[test]
    fn a_long_text_is_changed_in_place_and_means_the_same() {
        let long = "x".repeat(WORTH_KEEPING);
        for old in ["1", "12345"] {
            let text = format!(r#"{{"jsonrpc":"2.0","id":{old},"result":"{long}"}}"#);
            let span = 22..22 + old.len();
            for new in ["7", r#""twelve bytes""#, "12345"] {
                let mut room = Vec::with_capacity(2 * text.len());
                room.extend_from_slice(text.as_bytes());
                let spliced = splice(text.as_bytes(), span.clone(), new.as_bytes());
                let value = |text: &[u8]| serde_json::from_slice::<serde_json::Value>(text);
                let expected = value(&spliced).expect("JSON");
                let at = room.as_ptr();
                let own = replaced(room.into(), span.clone(), new.as_bytes());
                assert_eq!(value(&own).expect("JSON"), expected);
                assert_eq!(own.as_ptr(), at, "it was copied");
                let shared = Bytes::from(text.clone());
                let second = replaced(shared.clone(), span.clone(), new.as_bytes());
                assert_eq!(second, spliced);
                assert_eq!(shared, text, "someone else's is as it was");
            }
        }
    }

    #[test]
    fn what_is_not_a_message_is_told_apart() {
        let syntax = |t: &[u8]| matches!(Envelope::parse(t), Err(EnvelopeError::Syntax(_)));
        let shape = |t: &[u8]| matches!(Envelope::parse(t), Err(EnvelopeError::Shape(_)));
        assert!(syntax(b"{"));
        assert!(syntax(b"hello"));
        assert!(syntax(b"{} trailing"));
        assert!(shape(b"[]"));
        assert!(shape(b"{}"));
        assert!(shape(br#"{"jsonrpc":"1.0","id":1,"method":"a"}"#));
        assert!(shape(br#"{"jsonrpc":"2.0","id":true,"method":"a"}"#));
        assert!(shape(br#"{"jsonrpc":"2.0","id":[1],"method":"a"}"#));
        assert!(shape(br#"{"jsonrpc":"2.0","id":null,"method":"a"}"#));
        assert!(shape(br#"{"jsonrpc":"2.0","id":1}"#));
        assert!(shape(br#"{"jsonrpc":"2.0","id":1,"result":{},"error":{}}"#));
        assert!(shape(br#"{"jsonrpc":"2.0","id":1,"id":2,"method":"a"}"#));
    }

    #[test]
    fn line_breaks_between_tokens_become_spaces() {
        let mut text = b"{\n\"a\":\r\n\"x\\n\"}".to_vec();
        one_line(&mut text);
        assert_eq!(text, b"{ \"a\":  \"x\\n\"}");
    }
}

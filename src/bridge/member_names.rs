//! Names of members on which stdiopool decides, and whether a message spells them so that every decoder
//! reads equal names.
//!
//! Decoders differ. Of a name that stands twice most take the last, some the first. Go's `encoding/json`
//! matches names by the simple case folding of all Unicode (`ſ` is `s`, the Kelvin sign is `k`), its second
//! version on demand without `-` and `_` as well; .NET, Jackson and others have such modes. Libraries that keep texts as C does
//! cut them at U+0000. A
//! server that does so would act on a name that no rule of stdiopool looked at. So a name that some
//! decoder takes for one of these must be there once, and be written plainly; all other names are the server's own.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::names::{CLIENT_CONFIG, CONFIG, IDENTITY};
use super::stateless::meta;
use crate::folding;
use crate::protocol::{Listed, MAX_KEPT_ID, each_member, members_of};

/// An object of a message in which names are checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum CheckedObject {
    /// `params`.
    Params,
    /// `params._meta`.
    Meta,
    /// `params.ref` of `completion/complete`.
    Reference,
}

/// The prefix of stdiopool's own names.
const OWN: &str = "dev.stdiopool/";

/// Longest name that is looked at without an allocation, in bytes.
const SHORT: usize = 64;

impl CheckedObject {
    /// The object's path in the message, for people.
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Params => "params",
            Self::Meta => "params._meta",
            Self::Reference => "params.ref",
        }
    }

    /// The names on which stdiopool decides there.
    const fn names(self) -> &'static [&'static str] {
        match self {
            Self::Params => &[
                "name",
                "arguments",
                "_meta",
                "uri",
                "cursor",
                "level",
                "ref",
                "task",
                "requestId",
                "progressToken",
                CLIENT_CONFIG,
                "inputResponses",
                "requestState",
                "notifications",
                "protocolVersion",
                "capabilities",
                "clientInfo",
            ],
            Self::Meta => &["progressToken", CONFIG, IDENTITY],
            Self::Reference => &["type", "name", "uri"],
        }
    }

    /// The prefixes of further names that are decided on there.
    const fn prefixes(self) -> &'static [&'static str] {
        match self {
            Self::Meta => &[meta::PREFIX, OWN],
            Self::Params | Self::Reference => &[],
        }
    }

    /// Whether a name, written in ASCII, is one that some decoder may take for one that is decided on, or begins
    /// as those do.
    fn is_alike(self, name: &[u8]) -> bool {
        let mut names = self.names().iter();
        let mut prefixes = self.prefixes().iter();
        names.any(|known| ascii_folded(known.as_bytes()).eq(ascii_folded(name)))
            || prefixes.any(|prefix| {
                let mut folded = ascii_folded(name);
                ascii_folded(prefix.as_bytes()).all(|byte| folded.next() == Some(byte))
            })
    }
}

fn ascii_folded(name: &[u8]) -> impl Iterator<Item = u8> {
    let letters = name.iter().filter(|byte| !matches!(byte, b'-' | b'_'));
    letters.map(u8::to_ascii_lowercase)
}

/// A name in the form in which names are equal that some decoder takes for one: case-folded, without `-` and
/// `_`, up to U+0000.
pub(super) fn folded(name: &str) -> String {
    folding::folded(name.chars().filter(|c| !matches!(c, '-' | '_')))
}

/// Why the names of a message cannot be accepted.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum BadName {
    /// The name is there twice.
    #[error("`{object}` has `{name}` more than once; give it once", object = .0.text(), name = .1)]
    Twice(CheckedObject, String),
    /// The name is another spelling of a known one.
    #[error("`{object}` has a name that some servers read as `{name}`: write it plainly, or leave it out", object = .0.text(), name = .1)]
    Lookalike(CheckedObject, String),
}

/// A member as it stands in an object.
#[derive(Debug)]
pub(in crate::bridge) struct WrittenMember<'a> {
    /// The name, quotes and escapes included.
    pub(in crate::bridge) spelling: &'a str,
    /// The name.
    pub(in crate::bridge) name: Cow<'a, str>,
    /// The value.
    pub(in crate::bridge) value: &'a str,
}

/// The members of an object as they stand there.
#[derive(Debug, Default)]
pub(in crate::bridge) struct WrittenMembers<'a>(pub(in crate::bridge) Vec<WrittenMember<'a>>);

impl<'a> WrittenMembers<'a> {
    /// Reads an object; `None` if the text is none, or a name is no Unicode text.
    pub(in crate::bridge) fn read(text: &'a str) -> Option<Self> {
        let member = |name: &'a RawValue, value| {
            let spelling = name.get();
            Ok(WrittenMember {
                spelling,
                name: Cow::Owned(serde_json::from_str(spelling)?),
                value,
            })
        };
        Some(Self(members_of(text, member).ok()?))
    }

    /// Checks the names on which stdiopool decides in that object. The reference for [`are_usual`].
    pub(super) fn check(&self, object: CheckedObject) -> Result<(), BadName> {
        let names: Vec<_> = object
            .names()
            .iter()
            .map(|name| (*name, folded(name)))
            .collect();
        let prefixes = object.prefixes().iter();
        let prefixes: Vec<_> = prefixes.map(|prefix| (*prefix, folded(prefix))).collect();
        let mut seen = Vec::new();
        for member in &self.0 {
            let own = folded(&member.name);
            let decided = names.iter().find(|(_, folded)| *folded == own);
            let begins = || prefixes.iter().find(|(_, folded)| own.starts_with(folded));
            let is_plain = match (decided, decided.is_none().then(begins).flatten()) {
                (Some((name, _)), _) => member.name == *name,
                (None, Some((prefix, _))) => member.name.starts_with(prefix),
                (None, None) => continue,
            };
            // PHP writes every slash with a backslash, and nothing reads that as anything else.
            let spelling = member.spelling.replace("\\/", "/");
            if !is_plain || spelling.contains('\\') {
                let name = decided.map_or(&*member.name, |(name, _)| name);
                return Err(BadName::Lookalike(object, name.to_owned()));
            }
            if seen.contains(&own) {
                return Err(BadName::Twice(object, member.name.to_string()));
            }
            seen.push(own);
        }
        Ok(())
    }
}

/// Whether the parameters of a message are as those of nearly every one: plainly written, each of the names on
/// which stdiopool decides there at most once, and nothing in them that is for stdiopool or has to be taken out.
/// Messages for which it is not `true` are looked at closely.
pub(super) fn are_usual(listed: &Listed<'_>) -> bool {
    let mut has = 0;
    let params = listed.params().all(|(name, value)| {
        is_first(CheckedObject::Params, &mut has, name)
            && match name {
                "_meta" => value.starts_with('{'),
                "ref" => is_usual_reference(value),
                "name" | "uri" => !may_have_nul(value),
                CLIENT_CONFIG => false,
                _ => true,
            }
    });
    let mut has = 0;
    params
        && listed.meta().all(|(name, value)| {
            is_first(CheckedObject::Meta, &mut has, name)
                // Decided on for their type too, or taken out.
                && match name {
                    "progressToken" => is_token(value),
                    meta::RELATED_TASK => false,
                    name => !name.starts_with(OWN),
                }
        })
}

fn is_usual_reference(value: &str) -> bool {
    let mut has = 0;
    // Of another type it is the server's to refuse.
    !value.starts_with('{')
        || each_member(value, |name, value| {
            let is_usual = is_first(CheckedObject::Reference, &mut has, name);
            (is_usual && !may_have_nul(value)).then_some(())
        })
        .is_some()
}

/// Whether U+0000 may stand in a text, as raw JSON: in valid JSON, U+0000 has this one spelling.
pub(super) fn may_have_nul(raw: &str) -> bool {
    raw.contains("\\u0000")
}

/// Whether a value is what a progress token can be: a string or a number, not longer than is kept.
pub(super) fn is_token(raw: &str) -> bool {
    raw.len() <= MAX_KEPT_ID && matches!(raw.as_bytes().first(), Some(b'"' | b'-' | b'0'..=b'9'))
}

/// Whether a name is plain, and if stdiopool decides on it the first of its kind.
fn is_first(object: CheckedObject, has: &mut u32, name: &str) -> bool {
    // Exactly one of those, in nearly all cases.
    let names = object.names();
    let at = names.iter().position(|known| *known == name).or_else(|| {
        let of_protocol = object == CheckedObject::Meta;
        let at = meta::NAMES.iter().position(|known| *known == name);
        at.filter(|_| of_protocol).map(|at| names.len() + at)
    });
    if let Some(at) = at {
        let bit = 1 << at;
        let is_first = *has & bit == 0;
        *has |= bit;
        return is_first;
    }
    name.len() <= SHORT
        && name.bytes().all(|byte| byte.is_ascii() && byte != b'\\')
        && !object.is_alike(name.as_bytes())
}

#[cfg(test)]
#[path = "member_names_tests.rs"]
mod tests;

//! The members of a JSON object as views into its text: what is looked at is read, the rest passes
//! as it is.

use std::borrow::Cow;

use serde_json::Value;

use crate::protocol::members_of;

/// The members of an object in the order of its text; a name that stands twice is there twice.
#[derive(Debug, Default)]
pub(in crate::bridge) struct Members<'a>(pub(in crate::bridge) Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Members<'a> {
    /// Reads an object; `None` if the text is none.
    pub(in crate::bridge) fn read(text: &'a str) -> Option<Self> {
        let member = |name: String, value| Ok((Cow::Owned(name), Cow::Borrowed(value)));
        Some(Self(members_of(text, member).ok()?))
    }

    /// The raw value of that name: the last, if there are several.
    pub(in crate::bridge) fn get(&self, name: &str) -> Option<&str> {
        let mut members = self.0.iter().rev();
        members
            .find(|(found, _)| found == name)
            .map(|(_, value)| &**value)
    }

    /// Takes every member of that name out; returns the last.
    pub(in crate::bridge) fn take(&mut self, name: &str) -> Option<Cow<'a, str>> {
        let taken = self.0.extract_if(.., |(found, _)| found == name).last();
        taken.map(|(_, value)| value)
    }

    /// Puts a raw value in the place of that name, or at the end.
    pub(in crate::bridge) fn set(&mut self, name: &str, value: impl Into<Cow<'a, str>>) {
        let at = self.0.iter().position(|(found, _)| found == name);
        let value = value.into();
        match at {
            Some(at) => self.0[at].1 = value,
            None => self.0.push((Cow::Owned(name.to_owned()), value)),
        }
    }

    /// The object as text.
    pub(in crate::bridge) fn write(&self) -> String {
        let len = self
            .0
            .iter()
            .map(|(name, value)| name.len() + value.len() + 4);
        let mut text = String::with_capacity(len.sum::<usize>() + 2);
        text.push('{');
        for (name, value) in &self.0 {
            if text.len() > 1 {
                text.push(',');
            }
            text.push_str(&Value::from(&**name).to_string());
            text.push(':');
            text.push_str(value);
        }
        text.push('}');
        text
    }
}

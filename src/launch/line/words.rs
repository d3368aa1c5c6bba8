//! The words of a command line, and flags among them.

use super::not_understood::NotUnderstood;

/// The words of a command line, read one after the other.
pub(super) struct Words<'a> {
    pub(super) args: &'a [Option<&'a str>],
    pub(super) at: usize,
}

impl<'a> Words<'a> {
    /// The next word and its place; `None` at the end.
    pub(super) fn next(&mut self) -> Option<Result<(usize, &'a str), NotUnderstood>> {
        let word = self.args.get(self.at)?;
        let at = self.at;
        self.at += 1;
        Some(
            word.map(|word| (at, word))
                .ok_or(NotUnderstood::KnownAtStart(at)),
        )
    }

    /// The value of a flag: behind its `=`, or the next word.
    pub(super) fn value(
        &mut self,
        flag: &str,
        inline: Option<&'a str>,
    ) -> Result<&'a str, NotUnderstood> {
        if let Some(value) = inline {
            return Ok(value);
        }
        match self.next() {
            Some(word) => Ok(word?.1),
            None => Err(NotUnderstood::NoValue(flag.to_owned())),
        }
    }

    /// The places of what is left.
    pub(super) fn rest(&self) -> Vec<usize> {
        (self.at..self.args.len()).collect()
    }
}

/// A flag's name and what stands behind its `=`.
pub(super) fn split(word: &str) -> (&str, Option<&str>) {
    match word.split_once('=') {
        Some((flag, value)) => (flag, Some(value)),
        None => (word, None),
    }
}

pub(super) fn refused_flag(flag: &str, why: &'static str) -> NotUnderstood {
    let flag = flag.to_owned();
    NotUnderstood::RefusedFlag { flag, why }
}

pub(super) fn not_its_value(flag: &str, value: &str) -> NotUnderstood {
    NotUnderstood::NotItsValue {
        flag: flag.to_owned(),
        value: value.to_owned(),
    }
}

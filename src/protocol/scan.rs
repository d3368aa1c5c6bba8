//! Finds the members of a JSON-RPC message in one pass, without taking their values apart.
//!
//! Every message is read this way, those of clients and those of workers, and it is most of what is
//! done with them; hence code of its own (docs/performance.md). The scan is sound and not complete: what it
//! accepts is JSON (RFC 8259) and means what `serde_json` reads in it. Whatever is wrong or unusual, a member
//! that is there twice, an escape in a name, deep nesting, it leaves to that, which also says best
//! what is wrong.

use std::ops::Range;

/// Deepest nesting of a value that is followed, in levels.
const MAX_DEPTH: u32 = 64;

/// Longest number, in bytes, of which every decoder makes one.
const PLAIN_NUMBER: usize = 200;

/// The members of a message: each as it stands there, quotes included.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct EnvelopeMembers<'a> {
    /// Without its quotes.
    pub(super) jsonrpc: Option<&'a str>,
    pub(super) id: Option<&'a str>,
    /// Without its quotes.
    pub(super) method: Option<&'a str>,
    pub(super) params: Option<&'a str>,
    pub(super) result: Option<&'a str>,
    pub(super) error: Option<&'a str>,
    /// The members of `params`, if they are an object.
    pub(super) listed: Option<Listed<'a>>,
    /// The message has members beside these.
    pub(super) has_others: bool,
    /// Whether a text in it has a surrogate's escape, or a number is long: decoders differ on some of those.
    pub(super) is_doubtful: bool,
}

/// A member of an object: its name as it stands between the quotes, and its value.
pub type Named<'a> = (&'a str, &'a str);

/// Most members of an object that are listed. Few messages have more; they are looked at in another way.
const MOST_LISTED: usize = 6;

/// A few members of an object, in their order: where the name begins and ends in the text, and the value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Few {
    spans: [[u32; 4]; MOST_LISTED],
    len: usize,
}

impl Few {
    /// `None` if there are too many, or the text is too long for this.
    fn push(&mut self, name: Range<usize>, value: Range<usize>) -> Option<()> {
        let span = self.spans.get_mut(self.len)?;
        let whole = [name.start, name.end, value.start, value.end];
        for (part, at) in span.iter_mut().zip(whole) {
            *part = u32::try_from(at).ok()?;
        }
        self.len += 1;
        Some(())
    }

    fn iter<'a>(&self, text: &'a str) -> impl Iterator<Item = Named<'a>> + use<'a, '_> {
        let part = |from: u32, to: u32| text.get(from as usize..to as usize).unwrap_or_default();
        let spans = self.spans[..self.len].iter();
        spans.map(move |[name, name_end, value, end]| (part(*name, *name_end), part(*value, *end)))
    }
}

/// The members of a message's `params`, and of the first `_meta` in them, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed<'a> {
    text: &'a str,
    params: Few,
    meta: Few,
    /// Whether there is no escape in any of the names, and one `_meta` at most.
    pub is_plain: bool,
}

impl<'a> Listed<'a> {
    /// The members of `params`.
    pub fn params(&self) -> impl Iterator<Item = Named<'a>> + use<'a, '_> {
        self.params.iter(self.text)
    }

    /// The members of `_meta`.
    pub fn meta(&self) -> impl Iterator<Item = Named<'a>> + use<'a, '_> {
        self.meta.iter(self.text)
    }
}

/// The members of a message that is an object; `None` if it is left to others to judge.
pub(super) fn members(text: &str) -> Option<EnvelopeMembers<'_>> {
    let mut scan = Scan::of(text);
    let mut found = EnvelopeMembers::default();
    scan.blanks();
    scan.expect(b'{')?;
    scan.blanks();
    if !scan.take(b'}') {
        loop {
            let name = scan.name()?;
            let start = scan.at;
            if name == b"params" && scan.peek() == Some(b'{') && found.listed.is_none() {
                found.listed = scan.params(text)?;
            } else {
                scan.value()?;
            }
            let value = text.get(start..scan.at)?;
            let before = match name {
                b"jsonrpc" => found.jsonrpc.replace(plain(value)?),
                b"id" => found.id.replace(value),
                b"method" => found.method.replace(plain(value)?),
                b"params" => found.params.replace(value),
                b"result" => found.result.replace(value),
                b"error" => found.error.replace(value),
                // The name may be that of one of these, in other words.
                name if name.contains(&b'\\') => return None,
                _ => {
                    found.has_others = true;
                    None
                }
            };
            if before.is_some() {
                return None;
            }
            scan.blanks();
            match scan.next()? {
                b',' => scan.blanks(),
                b'}' => break,
                _ => return None,
            }
        }
    }
    scan.blanks();
    found.is_doubtful = scan.is_doubtful;
    (scan.at == text.len()).then_some(found)
}

/// Hands each member of an object to `each`, in their order: its name as it stands between the quotes, and
/// its value. `None` if `each` says so, or if the text is none of the usual objects (as `members`).
pub fn each_member<'a>(
    object: &'a str,
    mut each: impl FnMut(&'a str, &'a str) -> Option<()>,
) -> Option<()> {
    let mut scan = Scan::of(object);
    scan.blanks();
    scan.object(|scan, name| {
        let start = scan.at;
        scan.value()?;
        each(object.get(name)?, object.get(start..scan.at)?)
    })?;
    scan.blanks();
    (scan.at == object.len()).then_some(())
}

/// A string without escapes, without its quotes.
fn plain(value: &str) -> Option<&str> {
    let text = value.strip_prefix('"')?.strip_suffix('"')?;
    (!text.as_bytes().contains(&b'\\')).then_some(text)
}

struct Scan<'a> {
    text: &'a [u8],
    at: usize,
    is_doubtful: bool,
}

impl<'a> Scan<'a> {
    fn of(text: &'a str) -> Self {
        Self {
            text: text.as_bytes(),
            at: 0,
            is_doubtful: false,
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn take(&mut self, byte: u8) -> bool {
        let is_there = self.peek() == Some(byte);
        self.at += usize::from(is_there);
        is_there
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        self.take(byte).then_some(())
    }

    fn blanks(&mut self) {
        while let Some(b' ' | b'\n' | b'\t' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// The name of a member, as it stands between its quotes; what follows is its value.
    fn name(&mut self) -> Option<&'a [u8]> {
        self.name_at().map(|name| &self.text[name])
    }

    /// As [`Self::name`]: where it stands.
    fn name_at(&mut self) -> Option<Range<usize>> {
        self.expect(b'"')?;
        let start = self.at;
        self.rest_of_string()?;
        let name = start..self.at - 1;
        self.blanks();
        self.expect(b':')?;
        self.blanks();
        Some(name)
    }

    /// The object that `params` are, member by member; without a list of them if there are too many.
    fn params(&mut self, text: &'a str) -> Option<Option<Listed<'a>>> {
        let (mut params, mut meta) = (Few::default(), Few::default());
        let (mut fits, mut is_plain, mut has_meta) = (true, true, false);
        self.object(|scan, name| {
            let start = scan.at;
            is_plain &= !scan.text[name.clone()].contains(&b'\\');
            if &scan.text[name.clone()] == b"_meta" {
                is_plain &= !has_meta;
                if !std::mem::replace(&mut has_meta, true) && scan.peek() == Some(b'{') {
                    scan.object(|scan, name| {
                        let start = scan.at;
                        scan.value()?;
                        is_plain &= !scan.text[name.clone()].contains(&b'\\');
                        fits &= meta.push(name, start..scan.at).is_some();
                        Some(())
                    })?;
                } else {
                    scan.value()?;
                }
            } else {
                scan.value()?;
            }
            fits &= params.push(name, start..scan.at).is_some();
            Some(())
        })?;
        let listed = Listed {
            text,
            params,
            meta,
            is_plain,
        };
        Some(fits.then_some(listed))
    }

    /// An object; `each` is told the name of each member and passes its value.
    fn object(
        &mut self,
        mut each: impl FnMut(&mut Self, Range<usize>) -> Option<()>,
    ) -> Option<()> {
        self.expect(b'{')?;
        self.blanks();
        if self.take(b'}') {
            return Some(());
        }
        loop {
            let name = self.name_at()?;
            each(self, name)?;
            self.blanks();
            match self.next()? {
                b',' => self.blanks(),
                b'}' => return Some(()),
                _ => return None,
            }
        }
    }

    fn value(&mut self) -> Option<()> {
        // The levels around what is read: a bit each, set for an object. The last is the lowest.
        let (mut levels, mut depth) = (0_u64, 0_u32);
        loop {
            match self.next()? {
                b'"' => self.rest_of_string()?,
                open @ (b'{' | b'[') => {
                    let is_object = open == b'{';
                    self.blanks();
                    if !self.take(if is_object { b'}' } else { b']' }) {
                        if depth == MAX_DEPTH {
                            return None;
                        }
                        depth += 1;
                        levels = levels << 1 | u64::from(is_object);
                        if is_object {
                            self.name()?;
                        }
                        continue;
                    }
                }
                b't' => self.rest_of_literal(b"rue")?,
                b'f' => self.rest_of_literal(b"alse")?,
                b'n' => self.rest_of_literal(b"ull")?,
                b'-' => self.number()?,
                b'0'..=b'9' => {
                    self.at -= 1;
                    self.number()?;
                }
                _ => return None,
            }
            // A value has ended, and with it perhaps those around it.
            loop {
                if depth == 0 {
                    return Some(());
                }
                self.blanks();
                let is_object = levels & 1 == 1;
                match self.next()? {
                    b',' => {
                        self.blanks();
                        if is_object {
                            self.name()?;
                        }
                        break;
                    }
                    b'}' if is_object => {}
                    b']' if !is_object => {}
                    _ => return None,
                }
                depth -= 1;
                levels >>= 1;
            }
        }
    }

    fn rest_of_literal(&mut self, rest: &[u8]) -> Option<()> {
        let is_there = self.text[self.at..].starts_with(rest);
        self.at += rest.len();
        is_there.then_some(())
    }

    /// A number, after its sign.
    fn number(&mut self) -> Option<()> {
        let start = self.at;
        match self.next()? {
            b'0' => {}
            b'1'..=b'9' => self.digits(),
            _ => return None,
        }
        if self.take(b'.') {
            self.some_digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            let exponent = self.at;
            self.some_digits()?;
            // Of two digits at most it leads out of no range.
            self.is_doubtful |= self.at - exponent > 2;
        }
        self.is_doubtful |= self.at - start > PLAIN_NUMBER;
        Some(())
    }

    fn digits(&mut self) {
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
    }

    fn some_digits(&mut self) -> Option<()> {
        let start = self.at;
        self.digits();
        (self.at > start).then_some(())
    }

    /// A string, after its first quote.
    fn rest_of_string(&mut self) -> Option<()> {
        loop {
            self.at += plain_len(&self.text[self.at..]);
            match self.next()? {
                b'"' => return Some(()),
                b'\\' => match self.next()? {
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
                    b'u' => {
                        let digits = self.text.get(self.at..self.at + 4)?;
                        if !digits.iter().all(u8::is_ascii_hexdigit) {
                            return None;
                        }
                        // U+D800 to U+DFFF.
                        self.is_doubtful |= matches!(
                            digits,
                            [b'd' | b'D', b'8'..=b'9' | b'a'..=b'f' | b'A'..=b'F', ..]
                        );
                        self.at += 4;
                    }
                    _ => return None,
                },
                // A control character, which must be escaped.
                _ => return None,
            }
        }
    }
}

/// How many bytes stand for themselves before a quote, a backslash or a control character.
///
/// Eight at a time, as one number: what is subtracted borrows from the highest bit of a byte where that is
/// what is looked for, and the first byte for which it does is right.
fn plain_len(text: &[u8]) -> usize {
    const EACH: u64 = u64::MAX / 255;
    let equals = |word: u64, byte: u8| {
        let same = word ^ (EACH * u64::from(byte));
        same.wrapping_sub(EACH) & !same
    };
    let mut len = 0;
    while let Some(eight) = text[len..].first_chunk::<8>() {
        let word = u64::from_le_bytes(*eight);
        let control = word.wrapping_sub(EACH * 0x20) & !word;
        let special = (control | equals(word, b'"') | equals(word, b'\\')) & (EACH << 7);
        if special != 0 {
            return len + special.trailing_zeros() as usize / 8;
        }
        len += 8;
    }
    let rest = text[len..].iter();
    len + rest
        .take_while(|byte| !matches!(byte, b'"' | b'\\' | 0..0x20))
        .count()
}

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;

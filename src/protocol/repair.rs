//! Messages of workers that are slightly off: what is unambiguous is taken, as the SDKs take it.
//!
//! Only what the strict reader does not accept as it is comes here. What comes out is a message of the envelope's
//! members and nothing else, or what could be found out about one that nothing can be made of: its
//! id, so that whoever waits for it need not wait until a time-out.

use std::borrow::Cow;
use std::sync::LazyLock;

use bytes::Bytes;
use memchr::memmem::Finder;
use serde_json::Value;
use serde_json::value::RawValue;

use super::envelope::{Envelope, quoted};
use super::id_scanner::{IdScanner, MAX_ID_LEN};
use super::portable::portable;

/// Most places of a line at which a message is looked for.
const MAX_STARTS: usize = 16;

macro_rules! flaws {
    ($($(#[$doc:meta])* $variant:ident = $label:literal, $text:literal;)*) => {
        /// How a worker's message can be off.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Flaw { $($(#[$doc])* $variant,)* }

        impl Flaw {
            /// Every one.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// As it stands in metric labels.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $label,)* }
            }

            /// In words, as what follows "the message".
            pub const fn text(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

flaws! {
    /// A byte that is no UTF-8, read as U+FFFD.
    Encoding = "encoding", "is not UTF-8";
    /// A byte order mark before it.
    ByteOrderMark = "byte_order_mark", "begins with a byte order mark";
    /// Other text on its line, such as a prompt.
    Surrounded = "surrounded", "shares its line with other text";
    /// A control character in a string, which must be escaped.
    ControlCharacter = "control_character", "has a raw control character in a string";
    /// `NaN` or `Infinity`, read as `null`.
    NotANumber = "not_a_number", "has `NaN` or `Infinity` in it, which JSON does not know";
    /// No `jsonrpc`, or another version than 2.0.
    Version = "version", "does not say `\"jsonrpc\":\"2.0\"`";
    /// A member that is `null` where it must not be there.
    NullMember = "null_member", "has a member that is `null` where there must be none";
    /// A member that is there twice.
    DuplicateMember = "duplicate_member", "has a member twice";
    /// A JSON array of messages.
    Batch = "batch", "is an array of messages";
    /// Both `result` and `error`.
    ResultAndError = "result_and_error", "has both a `result` and an `error`";
    /// A `result` that is no object.
    Result = "result", "has a `result` that is no object";
    /// An `error` without code or message.
    Error = "error", "has an `error` without a number as `code` and a text as `message`";
    /// No id, or one of another type than string or number.
    Id = "id", "has no id that could be a request's";
    /// Not JSON.
    Syntax = "syntax", "is not JSON";
    /// JSON that is no message.
    Shape = "shape", "is JSON, and no message of JSON-RPC";
}

/// What could be made of a line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mended {
    /// The messages, each readable by [`Envelope::parse`] and exact.
    pub messages: Vec<Bytes>,
    /// How the line was off; empty if only members were left out that no message has.
    pub flaws: Vec<Flaw>,
    /// Messages on the line, beside those, of which nothing can be made.
    pub lost: Vec<Unmendable>,
}

/// What is known of a line of which nothing can be made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unmendable {
    /// What is wrong with it.
    pub flaw: Flaw,
    /// Whether it is a message at all: other lines are noise.
    pub is_message: bool,
    /// Ids that it may be about, as raw JSON, each once, the one that it would have by itself last.
    pub ids: Vec<String>,
    /// Whether it is a request or notification.
    pub has_method: bool,
    /// Whether it has a result or an error, and may be an answer though it is a request or notification too.
    pub has_answer: bool,
    /// The error that it tells without saying of which request, as raw JSON.
    pub error: Option<String>,
}

impl Unmendable {
    const fn noise(flaw: Flaw) -> Self {
        Self {
            flaw,
            is_message: false,
            ids: Vec::new(),
            has_method: false,
            has_answer: false,
            error: None,
        }
    }

    /// Whether it says more of what is wrong than another does.
    fn tells_more_than(&self, other: &Self) -> bool {
        (self.is_message, !self.ids.is_empty()) > (other.is_message, !other.ids.is_empty())
    }
}

/// Whether a line is no message and has none in it, as a worker's log has many. True only where [`Envelope::parse`] and
/// [`mended`] make nothing of it, and the latter says that it is none.
pub fn is_noise(line: &[u8]) -> bool {
    static VERSION: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("jsonrpc"));
    static NAMES: LazyLock<[Finder<'static>; 4]> = LazyLock::new(|| {
        // A name may be written with escapes, which all begin so.
        ["result", "method", "error", "\\u00"].map(Finder::new)
    });
    if VERSION.find(line).is_some() {
        return false;
    }
    // What has none of the names needs no reading.
    let has_name = || NAMES.iter().any(|name| name.find(line).is_some());
    memchr::memchr(b'{', line).is_none()
        || !has_name()
        || mended(line).is_err_and(|why| !why.is_message)
}

/// Makes messages of a worker's line.
///
/// # Errors
/// [`Unmendable`] when nothing can be made of it, or of a part of it.
pub fn mended(line: &[u8]) -> Result<Mended, Unmendable> {
    let mut mended = Mended {
        messages: vec![],
        flaws: vec![],
        lost: vec![],
    };
    let text = String::from_utf8_lossy(line);
    if matches!(text, Cow::Owned(_)) {
        mended.note(Flaw::Encoding);
    }
    let mut text = text.trim_ascii();
    if let Some(rest) = text.strip_prefix('\u{feff}') {
        mended.note(Flaw::ByteOrderMark);
        text = rest.trim_ascii();
    }
    if text.starts_with('[') && mended.batch(text) {
        mended.lost.retain(|why| why.is_message);
        if !mended.messages.is_empty() || mended.lost.len() > 1 {
            return Ok(mended);
        }
        // Nothing else is in it.
        let only = mended.lost.pop();
        return Err(only.unwrap_or(Unmendable::noise(Flaw::Shape)));
    }
    let mut failed = Unmendable::noise(Flaw::Syntax);
    let mut at = 0;
    for _ in 0..MAX_STARTS {
        let Some(start) = memchr::memchr(b'{', &text.as_bytes()[at..]) else {
            break;
        };
        let (before, rest) = text.split_at(at + start);
        match mended.read_start(before, rest) {
            Ok(true) => return Ok(mended),
            Ok(false) => {}
            // The first that looks like a message says best what is wrong.
            Err(why) if why.tells_more_than(&failed) => failed = why,
            Err(_) => {}
        }
        at += start + object_len(rest);
    }
    Err(failed)
}

/// How much of a text that begins with a brace is one object: what is within it is a part of it, whatever is wrong with
/// it. A brace that no name follows is one for itself.
fn object_len(text: &str) -> usize {
    let inner = text[1..].trim_ascii_start();
    match inner.starts_with('"') {
        true => cleaned(text).len,
        false => 1,
    }
}

impl Mended {
    fn note(&mut self, flaw: Flaw) {
        if !self.flaws.contains(&flaw) {
            self.flaws.push(flaw);
        }
    }

    /// The messages of an array; false if it is none.
    fn batch(&mut self, text: &str) -> bool {
        let read = cleaned(text);
        let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(&read.text) else {
            return false;
        };
        if items.is_empty() || read.len < text.len() {
            return false;
        }
        for item in items {
            match self.message(item.get()) {
                Some(Ok(message)) => self.messages.push(message),
                // One that is lost takes no other with it.
                Some(Err(why)) => self.lost.push(why),
                None => self.lost.push(Unmendable::noise(Flaw::Shape)),
            }
        }
        if !self.messages.is_empty() {
            // Of the whole line, and so before what is off in a part of it.
            let of_parts = std::mem::take(&mut self.flaws);
            self.note(Flaw::Batch);
            for flaw in read.flaws().chain(of_parts) {
                self.note(flaw);
            }
        } else {
            self.flaws.clear();
        }
        true
    }

    /// The messages that begin at the start of `rest`; false if there are none.
    fn read_start(&mut self, before: &str, mut rest: &str) -> Result<bool, Unmendable> {
        // A prompt says nothing. What has words in it may quote what it was sent, and only an answer is
        // taken from there.
        let quotes = before.contains(char::is_alphanumeric);
        if !before.trim_ascii().is_empty() {
            self.note(Flaw::Surrounded);
        }
        loop {
            let read = cleaned(rest);
            for flaw in read.flaws() {
                self.note(flaw);
            }
            let message = self.message(&read.text);
            let message = match message.unwrap_or_else(|| Err(unreadable(rest))) {
                Ok(message) => message,
                // What came before it is taken all the same.
                Err(why) if !self.messages.is_empty() => {
                    self.lost.extend(Some(why).filter(|why| why.is_message));
                    return Ok(true);
                }
                Err(why) => {
                    self.flaws.clear();
                    return Err(why);
                }
            };
            let is_taken = !quotes || is_answer(&message);
            if !is_taken {
                self.flaws.clear();
                return Ok(false);
            }
            self.messages.push(message);
            rest = rest[read.len..].trim_ascii();
            if rest.is_empty() {
                return Ok(true);
            }
            self.note(Flaw::Surrounded);
            if quotes || !rest.starts_with('{') {
                return Ok(true);
            }
        }
    }

    /// The message that an object is; `None` if the text is no object.
    fn message(&mut self, object: &str) -> Option<Result<Bytes, Unmendable>> {
        let found = Found::read(object, self)?;
        Some(found.message(self))
    }
}

fn is_answer(message: &[u8]) -> bool {
    Envelope::parse(message).is_ok_and(|envelope| envelope.method.is_none())
}

/// What is wrong with a text that is no JSON from its first brace on.
fn unreadable(text: &str) -> Unmendable {
    let mut scanner = IdScanner::new();
    scanner.feed(text.as_bytes());
    let scanned = scanner.finish();
    let mut ids = scanned.ids;
    ids.retain(|id| id != "null");
    // A quote too many hides what follows it. Names have quotes that nothing escapes, which no text within a string has.
    if ids.is_empty() && scanned.ends_in_string {
        ids.extend(last_id(text));
    }
    Unmendable {
        flaw: Flaw::Syntax,
        is_message: memchr::memmem::find(text.as_bytes(), b"\"jsonrpc\"").is_some(),
        ids,
        has_method: scanned.has_method,
        has_answer: scanned.has_answer,
        error: None,
    }
}

/// The id where it is the last member of a text.
fn last_id(text: &str) -> Option<String> {
    let members = text.trim_ascii_end().strip_suffix('}')?.trim_ascii_end();
    let at = members.rfind("\"id\"")?;
    let (before, last) = members.split_at(at);
    let id = last["\"id\"".len()..]
        .trim_ascii_start()
        .strip_prefix(':')?;
    let id = id.trim_ascii();
    let is_json = || serde_json::from_str::<serde::de::IgnoredAny>(id).is_ok();
    let is_plain = !before.ends_with('\\') && id.len() <= MAX_ID_LEN && is_id(id);
    (is_plain && is_json()).then(|| id.to_owned())
}

/// The first value of a text, with what JSON does not allow in it written as it does.
struct Cleaned<'a> {
    text: Cow<'a, str>,
    /// How much of the text it was.
    len: usize,
    has_controls: bool,
    has_no_numbers: bool,
}

impl Cleaned<'_> {
    fn flaws(&self) -> impl Iterator<Item = Flaw> + use<> {
        let controls = self.has_controls.then_some(Flaw::ControlCharacter);
        let numbers = self.has_no_numbers.then_some(Flaw::NotANumber);
        controls.into_iter().chain(numbers)
    }
}

fn cleaned(text: &str) -> Cleaned<'_> {
    let bytes = text.as_bytes();
    let (mut out, mut copied, mut at) = (String::new(), 0, 0);
    let (mut depth, mut in_string) = (0_usize, false);
    let (mut has_controls, mut has_no_numbers) = (false, false);
    while let Some(&byte) = bytes.get(at) {
        match (in_string, byte) {
            (true, b'\\') => at += 1,
            (true, b'"') => in_string = false,
            (true, 0..0x20) => {
                has_controls = true;
                out.push_str(&text[copied..at]);
                out.push_str(&format!("\\u{byte:04x}"));
                copied = at + 1;
            }
            (true, _) => {}
            (false, b'"') => in_string = true,
            (false, b'{' | b'[') => depth += 1,
            (false, b'}' | b']') => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    at += 1;
                    break;
                }
            }
            (false, b'N' | b'I' | b'-') => {
                let words = ["NaN", "Infinity", "-Infinity", "-NaN"];
                let word = words
                    .into_iter()
                    .find(|word| bytes[at..].starts_with(word.as_bytes()));
                if let Some(word) = word {
                    has_no_numbers = true;
                    out.push_str(&text[copied..at]);
                    out.push_str("null");
                    at += word.len();
                    copied = at;
                    continue;
                }
            }
            (false, _) => {}
        }
        at += 1;
    }
    let len = at.min(text.len());
    let text = match copied {
        0 => Cow::Borrowed(&text[..len]),
        _ => {
            out.push_str(&text[copied..len]);
            Cow::Owned(out)
        }
    };
    Cleaned {
        text,
        len,
        has_controls,
        has_no_numbers,
    }
}

/// The members of a message as they stand there, `null` for those that are not.
#[derive(Default)]
struct Found<'a> {
    jsonrpc: Option<&'a str>,
    id: Option<&'a str>,
    method: Option<&'a str>,
    params: Option<&'a str>,
    result: Option<&'a str>,
    error: Option<&'a str>,
    has_others: bool,
    /// A member is there twice, and not the same.
    is_ambiguous: bool,
    /// What is there as the id.
    ids: Vec<&'a str>,
    /// What is there under a name that some take for that of the id.
    near_ids: Vec<&'a str>,
}

impl<'a> Found<'a> {
    fn read(object: &'a str, noted: &mut Mended) -> Option<Self> {
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

    /// The message, if there is one in it.
    fn message(self, noted: &mut Mended) -> Result<Bytes, Unmendable> {
        let is_there = |member: Option<&str>| member.is_some_and(|value| value != "null");
        let is_version = self.jsonrpc == Some("\"2.0\"");
        let has_method = is_there(self.method);
        let some = has_method || self.result.is_some() || self.error.is_some();
        let has_answer = is_there(self.result) || is_there(self.error);
        let fault = |flaw: Flaw| Unmendable {
            flaw,
            // A log may be JSON too, and have an id.
            is_message: self.jsonrpc.is_some() || some && !self.has_others,
            ids: self.all_ids(),
            has_method,
            has_answer,
            error: None,
        };
        if !some || !fault(Flaw::Shape).is_message {
            return Err(fault(Flaw::Shape));
        }
        if self.is_ambiguous {
            return Err(fault(Flaw::DuplicateMember));
        }
        if !is_version {
            noted.note(Flaw::Version);
        }
        if has_method && has_answer {
            return Err(fault(Flaw::Shape));
        }
        if has_method {
            return self.asked(noted).ok_or_else(|| fault(Flaw::Id));
        }
        let nulls = [self.method, self.params];
        if nulls.iter().any(Option::is_some) {
            noted.note(Flaw::NullMember);
        }
        let (result, error) = match (is_there(self.result), is_there(self.error)) {
            (true, true) => return Err(fault(Flaw::ResultAndError)),
            (true, false) | (false, false) => (self.result.or(Some("null")), None),
            (false, true) => (None, self.error),
        };
        if self.result.is_some() && self.error.is_some() {
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
        let id = self.id.filter(|id| is_id(id));
        let Some(id) = id else {
            let error = error.map(Cow::into_owned);
            return Err(Unmendable {
                error,
                ..fault(Flaw::Id)
            });
        };
        Ok(written(Some(id), None, None, result, error.as_deref()))
    }

    /// Each id that is one, the last one last. Where nothing else says whose the message is, one under another spelling
    /// of the name is as good.
    fn all_ids(&self) -> Vec<String> {
        let each_once = |all: &[&str]| {
            let mut ids: Vec<String> = Vec::new();
            for id in all.iter().filter(|id| is_id(id)) {
                ids.retain(|known| known != id);
                ids.push((*id).to_owned());
            }
            ids
        };
        let ids = each_once(&self.ids);
        match ids.is_empty() {
            true => each_once(&self.near_ids),
            false => ids,
        }
    }

    /// A request or notification. One whose id is `null` can only be a notification.
    fn asked(&self, noted: &mut Mended) -> Option<Bytes> {
        let method: String = serde_json::from_str(self.method?).ok()?;
        let id = match self.id {
            Some("null") if method.starts_with("notifications/") => {
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
        Some(written(id, Some(&quoted(&method)), params, None, None))
    }
}

fn is_id(raw: &str) -> bool {
    matches!(raw.as_bytes().first(), Some(b'"' | b'-' | b'0'..=b'9'))
}

/// Members of an object, a name decoded.
fn object_members(object: &str) -> Option<Vec<(String, &str)>> {
    use std::fmt;

    use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

    struct Reading;
    impl<'de> Visitor<'de> for Reading {
        type Value = Vec<(String, &'de str)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = Vec::new();
            while let Some((name, value)) = map.next_entry::<&RawValue, &RawValue>()? {
                // A name that is no text is none that is known here.
                let name = serde_json::from_str(name.get()).unwrap_or_default();
                members.push((name, value.get()));
            }
            Ok(members)
        }
    }
    struct Read<'a>(Vec<(String, &'a str)>);
    impl<'de: 'a, 'a> Deserialize<'de> for Read<'a> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_map(Reading).map(Read)
        }
    }
    let read: Read<'_> = serde_json::from_str(object).ok()?;
    Some(read.0)
}

/// Whether an error object has what every client looks for.
pub fn is_usual_error(error: &str) -> bool {
    #[derive(serde::Deserialize)]
    struct View {
        #[allow(dead_code, reason = "only its type is looked at")]
        code: i64,
        #[allow(dead_code, reason = "only its type is looked at")]
        message: Cow<'static, str>,
    }
    serde_json::from_str::<View>(error).is_ok()
}

/// An error with the code and message that clients look for.
fn usual_error(error: &str) -> Cow<'_, str> {
    if is_usual_error(error) {
        return Cow::Borrowed(error);
    }
    let told: Value = serde_json::from_str(error).unwrap_or_default();
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let code = told["code"].as_f64().filter(|code| code.fract() == 0.0);
    #[allow(
        clippy::cast_possible_truncation,
        reason = "a whole number, cut to what a code can be"
    )]
    let code = code.map_or(super::code::INTERNAL_ERROR, |code| code as i32);
    let message = match &told {
        Value::Object(members) => members.get("message").map_or("unknown error".into(), text),
        other => text(other),
    };
    let mut usual = serde_json::json!({ "code": code, "message": message });
    if let Some(data) = told.get("data") {
        usual["data"] = data.clone();
    }
    Cow::Owned(usual.to_string())
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
            // What is too deep or too large for some is not for others: it goes on.
            let value = portable(value).unwrap_or(Cow::Borrowed(value));
            text.push_str(&format!(",\"{name}\":"));
            text.push_str(&value);
        }
    }
    text.push('}');
    let mut text = text.into_bytes();
    super::one_line(&mut text);
    text.into()
}

#[cfg(test)]
#[path = "repair_tests.rs"]
mod tests;

//! W3C Trace Context, Level 2 (<https://www.w3.org/TR/trace-context-2/>): what a request says of the trace that it is part of, read and
//! written.
//!
//! MCP has the same values in `params._meta` (SEP-414). Read strictly: what is not as the recommendation says is no context, and
//! whoever gets it begins a trace of its own.

use std::fmt;

/// Most members of `tracestate` (section 3.3.1.1).
const MAX_MEMBERS: usize = 32;
/// Longest `tracestate` that goes on, in bytes; at least that has to (section 3.3.1.5).
const MAX_STATE: usize = 512;
/// A member of `tracestate` that is longer, in bytes, is left out first where the whole is too long (section 3.3.1.5).
const LONG_MEMBER: usize = 128;
/// The length of a `traceparent` of version `00`, in bytes.
const PARENT_LEN: usize = 55;

/// Names one trace: 16 bytes, not all of them zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TraceId([u8; 16]);

impl TraceId {
    /// The id of those bytes; `None` if all are zero, which names nothing.
    pub fn new(bytes: [u8; 16]) -> Option<Self> {
        (bytes != [0; 16]).then_some(Self(bytes))
    }

    /// The id's bytes.
    pub fn bytes(self) -> [u8; 16] {
        self.0
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

/// Names one span of a trace: 8 bytes, not all of them zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SpanId([u8; 8]);

impl SpanId {
    /// The id of those bytes; `None` if all are zero, which names nothing.
    pub fn new(bytes: [u8; 8]) -> Option<Self> {
        (bytes != [0; 8]).then_some(Self(bytes))
    }

    /// The id's bytes.
    pub fn bytes(self) -> [u8; 8] {
        self.0
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

/// What is said of a whole trace (section 3.2.2.5). Flags that Level 2 does not know do not go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TraceFlags {
    /// The caller may have recorded its part.
    pub is_sampled: bool,
    /// At least the last 7 bytes of the trace's id are random.
    pub is_random: bool,
}

impl TraceFlags {
    const SAMPLED: u8 = 1;
    const RANDOM: u8 = 2;

    fn of(byte: u8) -> Self {
        Self {
            is_sampled: byte & Self::SAMPLED != 0,
            is_random: byte & Self::RANDOM != 0,
        }
    }

    /// The flags as a byte.
    pub fn byte(self) -> u8 {
        (u8::from(self.is_sampled) * Self::SAMPLED) | (u8::from(self.is_random) * Self::RANDOM)
    }
}

/// A span, as whoever comes after it knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TraceContext {
    /// The trace.
    pub trace: TraceId,
    /// The span.
    pub span: SpanId,
    /// What is said of the trace.
    pub flags: TraceFlags,
    /// `tracestate`, as it may go on; `None` if there is none.
    pub state: Option<Box<str>>,
}

impl TraceContext {
    /// The context in a `traceparent` and the `tracestate` beside it; `None` if the first is not valid. The second is left out
    /// if it is not, or if it is empty.
    pub fn parse(traceparent: &str, tracestate: Option<&str>) -> Option<Self> {
        let text = traceparent.as_bytes();
        let version: [u8; 1] = hex(text.get(..2)?)?;
        let [version] = version;
        // 255 is no version; what comes after the known parts in a later one is none of ours (section 4.3).
        let has_end = match version {
            u8::MAX => return None,
            0 => text.len() == PARENT_LEN,
            _ => text.get(PARENT_LEN).is_none_or(|byte| *byte == b'-'),
        };
        let has_dashes = [2, 35, 52].iter().all(|at| text.get(*at) == Some(&b'-'));
        if !has_end || !has_dashes {
            return None;
        }
        let [flags] = hex(text.get(53..PARENT_LEN)?)?;
        Some(Self {
            trace: TraceId::new(hex(text.get(3..35)?)?)?,
            span: SpanId::new(hex(text.get(36..52)?)?)?,
            flags: TraceFlags::of(flags),
            state: tracestate.and_then(state),
        })
    }

    /// The context as a `traceparent` of version `00`.
    pub fn traceparent(&self) -> String {
        let flags = self.flags.byte();
        format!("00-{}-{}-{flags:02x}", self.trace, self.span)
    }
}

/// The bytes of hexadecimal digits, lower-case ones only; `None` if that is not what the text is, or not as many.
fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let encoding = &data_encoding::HEXLOWER;
    let fits = encoding.decode_len(text.len()).ok()? == N;
    let decoded = fits.then(|| encoding.decode_mut(text, &mut bytes))?;
    decoded.ok().map(|_len| bytes)
}

/// A `tracestate` as it may go on (section 3.3); `None` if nothing of it may.
fn state(text: &str) -> Option<Box<str>> {
    let is_blank = |c: char| matches!(c, ' ' | '\t');
    let mut members: Vec<&str> = text
        .split(',')
        .map(|member| member.trim_matches(is_blank))
        .filter(|member| !member.is_empty())
        .collect();
    let keys: Option<Vec<&str>> = members.iter().map(|member| key_of(member)).collect();
    let mut keys = keys?;
    keys.sort_unstable();
    let is_there_twice = keys.windows(2).any(|pair| pair[0] == pair[1]);
    if is_there_twice || members.len() > MAX_MEMBERS {
        return None;
    }
    let len = |members: &[&str]| members.iter().map(|member| member.len() + 1).sum::<usize>();
    if len(&members) > MAX_STATE + 1 {
        members.retain(|member| member.len() <= LONG_MEMBER);
    }
    while len(&members) > MAX_STATE + 1 {
        members.pop();
    }
    (!members.is_empty()).then(|| members.join(",").into())
}

/// The key of a member of `tracestate`; `None` if the member is not as section 3.3.1.3 says.
fn key_of(member: &str) -> Option<&str> {
    let (key, value) = member.split_once('=')?;
    let is_first = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_further = |byte: &u8| is_first(byte) || matches!(byte, b'_' | b'-' | b'*' | b'/' | b'@');
    let is_of_value = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b',' | b'=');
    let is_key = key.len() <= 256
        && key.as_bytes().first().is_some_and(is_first)
        && key.as_bytes().iter().all(is_further);
    // Blanks at its end are not the value's: they have been cut off.
    let is_value = matches!(value.len(), 1..=256) && value.as_bytes().iter().all(is_of_value);
    (is_key && is_value).then_some(key)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn parsed(parent: &str) -> Option<TraceContext> {
        TraceContext::parse(parent, None)
    }

    fn passed_on(state: &str) -> Option<String> {
        let context = TraceContext::parse(PARENT, Some(state)).expect("valid");
        context.state.map(String::from)
    }

    #[test]
    fn a_valid_parent_is_read_and_written_as_it_was() {
        let context = parsed(PARENT).expect("valid");
        assert_eq!(
            context.trace.to_string(),
            "4bf92f3577b34da6a3ce929d0e0e4736"
        );
        assert_eq!(context.span.to_string(), "00f067aa0ba902b7");
        assert!(context.flags.is_sampled && !context.flags.is_random);
        assert_eq!(context.traceparent(), PARENT);
        let with = |flags: &str| parsed(&format!("{}{flags}", &PARENT[..53]));
        for (flags, byte) in [("00", 0), ("02", 2), ("03", 3), ("fc", 0), ("ff", 3)] {
            assert_eq!(with(flags).expect("valid").flags.byte(), byte, "{flags}");
        }
    }

    #[test]
    fn what_comes_in_a_later_version_is_read_as_far_as_it_is_known() {
        for later in [
            format!("cc{}", &PARENT[2..]),
            format!("01{}-what-comes", &PARENT[2..]),
            format!("01{}-", &PARENT[2..]),
        ] {
            let read = parsed(&later).expect("valid");
            assert_eq!(read.traceparent(), PARENT, "{later}");
        }
        for odd in [
            format!("01{}.what-comes", &PARENT[2..]),
            format!("01{}a", &PARENT[2..]),
        ] {
            assert_eq!(parsed(&odd), None, "{odd}");
        }
    }

    #[test]
    fn what_is_not_as_the_recommendation_says_is_no_parent() {
        for odd in [
            "",
            "00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-011",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0x",
            "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "0x-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            " 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01, 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(parsed(odd), None, "{odd}");
        }
    }

    #[test]
    fn a_valid_state_goes_on_and_any_other_is_left_out() {
        for (state, goes_on) in [
            ("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE", None),
            ("a=1 , \tb=2,,", Some("a=1,b=2")),
            ("1a@b-c_d*e/f=x y!<>", None),
        ] {
            assert_eq!(passed_on(state).as_deref(), Some(goes_on.unwrap_or(state)));
        }
        for odd in [
            "", ",", "a", "a=", "=1", "A=1", "a=1,a=2", "a=1=2", "a=ä", "a b=1", "@a=1", "a=\u{7f}",
        ] {
            assert_eq!(passed_on(odd), None, "{odd}");
        }
        let many = |count: usize| {
            let members: Vec<_> = (0..count).map(|n| format!("k{n}=1")).collect();
            members.join(",")
        };
        assert_eq!(passed_on(&many(32)), Some(many(32)));
        assert_eq!(passed_on(&many(33)), None);
    }

    #[test]
    fn of_a_long_state_long_members_go_first_and_then_the_last() {
        let long = format!("long={}", "x".repeat(200));
        let fill: Vec<_> = (0..5).map(|n| format!("k{n}={}", "y".repeat(97))).collect();
        let whole = format!("{long},{}", fill.join(","));
        assert_eq!(passed_on(&whole), Some(fill.join(",")));
        let fill: Vec<_> = (0..6).map(|n| format!("k{n}={}", "y".repeat(97))).collect();
        assert_eq!(passed_on(&fill.join(",")), Some(fill[..5].join(",")));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_not_and_what_is_read_is_written_so_that_it_is_read_again(
            parent in "(00|01|ff|[0-9a-f]{2})-([0-9a-f]{32}|0{32}|[0-9A-Fg-]{30,34})-([0-9a-f]{16}|0{16})-[0-9a-f]{2}(-.*)?|.*",
            state in "([a-z0-9@*/_-]{1,9}=[ -~]{1,200},?[ \t]*){0,40}|.*",
        ) {
            if let Some(context) = TraceContext::parse(&parent, Some(&state)) {
                let again = TraceContext::parse(&context.traceparent(), context.state.as_deref());
                prop_assert_eq!(again.as_ref(), Some(&context));
                prop_assert!(context.state.as_ref().is_none_or(|state| state.len() <= MAX_STATE));
                prop_assert_eq!(&parent[2..53], &context.traceparent()[2..53]);
            }
        }
    }
}
